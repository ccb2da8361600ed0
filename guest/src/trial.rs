//! A system that replaced another one is on trial until it has been seen to work: then it says so, and is
//! what is always started. If it does not work in time it starts the machine anew, and what ran before
//! runs again.
//!
//! It runs as a service of process 1, after everything else was told to start:
//!
//! ```no_run
//! use std::time::Duration;
//! use kiln_guest::trial::{self, Trial};
//!
//! let mut trial = Trial::new(["network", "docker"]);
//! trial.patience = Duration::from_secs(120);
//! trial::run(&trial);
//! ```
//!
//! A kernel that panics starts the machine anew by `panic=` of its command line, and one that hangs by a
//! watchdog, without any of this.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use kiln_supervisor::Outcome;
use kiln_supervisor::control::{Client, ServiceStatus, socket_path};

use crate::console::tell;
use crate::slots::{self, Error, Slot, Slots, Status};

/// How often services are asked for.
const PAUSE: Duration = Duration::from_millis(250);
/// How often slots are tried that somebody else is changing.
const TRIES: usize = 40;

/// What a system has to do before it is believed to work.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Trial {
    /// Services that are up, or done where they are of that kind. One that there is not need not be.
    pub services: Vec<String>,
    /// How long that may take. Default: 5 minutes.
    pub patience: Duration,
    /// How long they must have been so. Default: 5 seconds.
    pub steady: Duration,
}

impl Trial {
    /// With these services.
    #[must_use]
    pub fn new<S: Into<String>>(services: impl IntoIterator<Item = S>) -> Self {
        Self {
            services: services.into_iter().map(Into::into).collect(),
            patience: Duration::from_secs(300),
            steady: Duration::from_secs(5),
        }
    }

    /// Which of the services do not work.
    fn missing<'a>(&'a self, found: &'a [ServiceStatus]) -> Vec<&'a ServiceStatus> {
        let wanted = found.iter().filter(|status| self.services.contains(&status.name));
        wanted.filter(|status| status.wanted && !works(status)).collect()
    }
}

/// Whether a service does what it is there for.
fn works(status: &ServiceStatus) -> bool {
    match status.state.as_str() {
        "up" => true,
        "done" => status.one_shot,
        _ => false,
    }
}

fn say(what: impl std::fmt::Display) {
    tell("trial", what);
}

/// What slots are there, while others may change them.
fn opened() -> Result<Slots, Error> {
    let mut tries = 0;
    loop {
        match Slots::of_running_system() {
            Err(Error::Busy(_)) if tries < TRIES => tries = tries.saturating_add(1),
            found => return found,
        }
        sleep(PAUSE);
    }
}

/// Sees whether the system works. One that was not started from a slot is on no trial.
pub fn run(trial: &Trial) -> ExitCode {
    let mut slots = match opened() {
        Ok(slots) => slots,
        Err(Error::NotThere(_)) => return ExitCode::SUCCESS,
        Err(error) => return failed(error),
    };
    match slots.settle() {
        Ok(true) => say("the other system was tried and did not last"),
        Ok(false) => {}
        Err(error) => say(error),
    }
    let Some((slot, version)) = on_trial(&slots.status()) else { return ExitCode::SUCCESS };
    // others may look meanwhile, or replace the other system
    drop(slots);
    say(format_args!("version {version} in slot {slot} is on trial"));
    match wait(trial) {
        Ok(()) => match opened().and_then(|mut slots| slots.mark_good()) {
            Ok(_) => {
                say(format_args!("version {version} works: it is what is started from now on"));
                ExitCode::SUCCESS
            }
            Err(error) => failed(error),
        },
        Err(why) => {
            say(format_args!("version {version} does not work: {why}; the machine starts anew"));
            let asked = Client::connect(socket_path())
                .and_then(|mut client| client.shutdown(Outcome::Reboot, false));
            asked.map_or_else(failed, |_| ExitCode::FAILURE)
        }
    }
}

fn failed(error: impl std::fmt::Display) -> ExitCode {
    say(error);
    ExitCode::FAILURE
}

/// The slot that runs and has never been seen to work, with its version.
fn on_trial(status: &Status) -> Option<(Slot, String)> {
    let slot = status.running?;
    let record = status.slot(slot).filter(|record| !record.good)?;
    Some((slot, record.version.clone()))
}

/// Waits until all services work.
///
/// # Errors
/// A sentence: which ones do not.
fn wait(trial: &Trial) -> Result<(), String> {
    let began = Instant::now();
    let mut since = None;
    let mut why = "process 1 does not answer".to_owned();
    while began.elapsed() < trial.patience {
        let found = Client::connect(socket_path()).and_then(|mut client| client.status(None));
        match found {
            Ok(found) => {
                let missing = trial.missing(&found);
                if missing.is_empty() {
                    let since = *since.get_or_insert_with(Instant::now);
                    if since.elapsed() >= trial.steady {
                        return Ok(());
                    }
                } else {
                    since = None;
                    let missing = missing.iter().map(|it| format!("{} is {}", it.name, it.state));
                    why = missing.collect::<Vec<_>>().join(", ");
                }
            }
            Err(error) => (since, why) = (None, error.to_string()),
        }
        sleep(PAUSE);
    }
    Err(why)
}

/// What is in the slots, for people: `None` where the system was not started from one.
///
/// # Errors
/// As [`slots::status`].
pub fn status() -> Result<Option<Status>, Error> {
    match slots::status() {
        Ok(status) => Ok(Some(status)),
        Err(Error::NotThere(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, state: &str, one_shot: bool, wanted: bool) -> ServiceStatus {
        let mut status = ServiceStatus::default();
        (status.name, status.state) = (name.into(), state.into());
        (status.one_shot, status.wanted) = (one_shot, wanted);
        status
    }

    #[test]
    fn services_that_are_wanted_have_to_work() {
        let trial = Trial::new(["docker", "console", "setup", "other"]);
        let mut found = vec![
            status("docker", "up", false, true),
            status("setup", "done", true, true),
            status("ntp", "failed", false, true),
            status("console", "down", false, false),
        ];
        assert!(trial.missing(&found).is_empty(), "what is disabled, or not there, need not work");
        for (name, state, one_shot) in
            [("docker", "backoff", false), ("docker", "done", false), ("setup", "failed", true)]
        {
            found.push(status(name, state, one_shot, true));
            let missing = trial.missing(&found);
            assert_eq!(missing.len(), 1, "{name} {state}");
            found.pop();
        }
    }
}
