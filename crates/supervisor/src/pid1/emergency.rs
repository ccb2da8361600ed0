//! What happens when PID 1 cannot do its work any more: a shell for people where that is allowed.
//!
//! Without one it stays alive and reaps, so that the kernel does not panic and what runs goes on; an
//! armed watchdog is not fed then and resets the machine. While people are at a shell it is disarmed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustix::event::Timespec;
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::ending::say;
use super::{console, finish, watchdog};
use crate::spec::Restart;
use crate::unix::{self, Options, Request, Role, Source};
use crate::vocabulary::{Event, Outcome};

/// A shell that ends sooner could not be used: nothing is gained by starting the machine again.
const USABLE: Duration = Duration::from_secs(2);

/// Whether there is a shell in an emergency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Emergency {
    /// No.
    #[default]
    Off,
    /// No, and no word of the kernel's command line changes that.
    Locked,
    /// Yes, without a password: for machines whose console is as safe as their disks.
    Shell {
        /// What is run, such as `/bin/sh`.
        command: Vec<String>,
        /// The machine starts again when nobody has typed for so long; `None` waits for ever.
        patience: Option<Duration>,
    },
}

impl Emergency {
    /// The same, or a shell where this is off and `asked` for, as by a word of the kernel's command
    /// line.
    #[must_use]
    pub fn or_shell(self, asked: bool, command: &[String], patience: Option<Duration>) -> Self {
        match self {
            Self::Off if asked => Self::Shell { command: command.to_vec(), patience },
            other => other,
        }
    }
}

static SETTINGS: Mutex<(Emergency, Option<watchdog::Device>)> = Mutex::new((Emergency::Off, None));

/// Says what happens in an emergency from now on.
pub(super) fn set(emergency: Emergency) {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner).0 = emergency;
    unix::on_emergency(enter);
}

/// The watchdog that is disarmed while there is a shell.
pub(super) fn set_watchdog(device: watchdog::Device) {
    SETTINGS.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(device);
}

/// Runs a shell if there is to be one; returns if there is none or it cannot be used.
fn enter() {
    let (emergency, device) = {
        let settings = SETTINGS.lock().unwrap_or_else(PoisonError::into_inner);
        (settings.0.clone(), settings.1.clone())
    };
    let (command, patience) = match emergency {
        Emergency::Off => return,
        Emergency::Locked => return say("the emergency shell is locked"),
        Emergency::Shell { command, patience } => (command, patience),
    };
    if let Some(Err(error)) = device.as_ref().map(watchdog::Device::disarm) {
        say(&format!("disarm the watchdog: {error}"));
    }
    say("an emergency shell; the machine starts again when it ends");
    let began = Instant::now();
    match shell(command, patience) {
        Ok(Outcome::Exit) if began.elapsed() < USABLE => say("the shell has ended at once"),
        Ok(Outcome::Exit) => finish(Outcome::Reboot),
        Ok(outcome) => finish(outcome),
        Err(error) => say(&format!("no emergency shell: {error}")),
    }
}

fn shell(command: Vec<String>, patience: Option<Duration>) -> Result<Outcome, String> {
    let mut spec = console::shell(command);
    spec.name = "emergency".into();
    spec.restart = Restart::Never;
    let mut options = Options {
        exit_when_ended: true,
        role: Role::Init,
        shutdown_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    if let (Some(patience), Some(tty)) = (patience, spec.tty.clone()) {
        let idle = Idle::new(tty, patience).map_err(|error| error.to_string())?;
        options.sources.push(Box::new(idle));
    }
    let mut tell = |event: &Event| {
        if !matches!(event, Event::Reaped { .. } | Event::Ignored { .. }) {
            say(&event.to_string());
        }
    };
    unix::run(vec![spec], options, &mut tell).map_err(|error| error.to_string())
}

/// Asks for a reboot when nobody has typed at a terminal for some time. A terminal's access time is
/// that of its last input, give or take eight seconds (drivers/tty/tty_io.c, tty_update_time()).
#[derive(Debug)]
struct Idle {
    tty: PathBuf,
    patience: Duration,
    timer: OwnedFd,
    began: Instant,
}

impl Idle {
    fn new(tty: PathBuf, patience: Duration) -> std::io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let interval = patience.checked_div(4).unwrap_or_default().max(Duration::from_millis(100));
        let interval = Timespec::try_from(interval).unwrap_or(Timespec { tv_sec: 60, tv_nsec: 0 });
        let times = Itimerspec { it_interval: interval, it_value: interval };
        rustix::time::timerfd_settime(&timer, TimerfdTimerFlags::empty(), &times)?;
        Ok(Self { tty, patience, timer, began: Instant::now() })
    }

    /// Since when nobody has typed.
    fn quiet_for(&self) -> Duration {
        let typed = std::fs::metadata(&self.tty).and_then(|data| data.accessed()).ok();
        let since = typed.and_then(|typed| SystemTime::now().duration_since(typed).ok());
        since.unwrap_or(Duration::MAX).min(self.began.elapsed())
    }
}

impl Source for Idle {
    fn fd(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        let _ = rustix::io::read(&self.timer, &mut [0_u8; 8]);
        if self.quiet_for() < self.patience {
            return Ok(Vec::new());
        }
        Ok(vec![
            Request::Warn(format!("nobody has typed for {:?}", self.patience)),
            Request::Shutdown(Outcome::Reboot),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_opens_what_is_off_and_not_what_is_locked() {
        let command = ["/bin/sh".to_owned()];
        let open = Emergency::Shell { command: command.to_vec(), patience: None };
        assert_eq!(Emergency::Off.or_shell(true, &command, None), open);
        assert_eq!(Emergency::Off.or_shell(false, &command, None), Emergency::Off);
        assert_eq!(Emergency::Locked.or_shell(true, &command, None), Emergency::Locked);
    }

    #[test]
    fn a_terminal_at_which_nobody_types_starts_the_machine_again() {
        let dir = tempfile::tempdir().unwrap();
        let tty = dir.path().join("tty");
        std::fs::write(&tty, "").unwrap();
        let mut waits = Idle::new(tty.clone(), Duration::from_secs(3600)).unwrap();
        assert_eq!(waits.take().unwrap(), []);
        let mut over = Idle::new(tty, Duration::ZERO).unwrap();
        assert_eq!(over.take().unwrap().last(), Some(&Request::Shutdown(Outcome::Reboot)));
        assert!(over.quiet_for() < Duration::from_secs(3600));
    }
}
