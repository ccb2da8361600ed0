//! A machine's first process: what has to be done before services and after them.
//!
//! ```no_run
//! use kiln_supervisor::pid1::{self, Boot, PowerButton, console, mounts, power, switch_root};
//! use kiln_supervisor::unix::{self, OnPanic, Options};
//! use kiln_supervisor::{Kill, Outcome, Readiness, ServiceSpec};
//!
//! fn main() {
//!     // the same binary is also the network service's program
//!     if std::env::args().nth(1).as_deref() == Some("dhcp") {
//!         return; // … a DHCP client that writes a newline to descriptor 3 when it has a lease
//!     }
//!     pid1::start(|boot| {
//!         boot.mounts(mounts::STANDARD)
//!             .console()
//!             .hostname("nomados")
//!             .loopback()
//!             .modules(&["overlay"], 8)
//!             .switch_root(switch_root::Method::Bind);
//!         for step in boot.steps() {
//!             eprintln!("{step}");
//!         }
//!
//!         let mut network = ServiceSpec::daemon("network", ["/init", "dhcp"]);
//!         network.readiness = Readiness::NotifyFd(3);
//!         let mut nomad = ServiceSpec::daemon("nomad", ["/bin/nomad", "agent", "-dev"]);
//!         nomad.requires = vec!["network".into()];
//!         nomad.kill = Kill::Process;
//!         let mut services = vec![network, nomad];
//!         if boot.argument("dev").is_some() {
//!             services.push(console::shell(["/bin/sh"]));
//!         }
//!
//!         let mut options = Options::default();
//!         options.on_panic = OnPanic::Reexec { limit: 5 };
//!         options.sources.push(Box::new(PowerButton::open()?));
//!         let outcome = unix::run(services, options, &mut |event| eprintln!("{event}"))?;
//!         Ok(outcome) // start() then ends the machine with power::finish(outcome)
//!     })
//! }
//! ```

pub mod block;
pub mod console;
pub mod device_mapper;
pub mod grow;
pub mod host;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod switch_root;
mod sys;
mod uevent;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

pub use modules::Loader;
pub use mounts::Mount;
pub use power::{PowerButton, finish};

use crate::unix;
use crate::vocabulary::Outcome;
use mounts::timed;

/// One thing done at boot. `Display` gives a line.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Step {
    /// What.
    pub what: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<String>,
}

impl Step {
    pub(crate) fn done(what: &dyn fmt::Display, took: Duration) -> Self {
        Self { what: what.to_string(), took, error: None }
    }

    pub(crate) fn failed(what: &dyn fmt::Display, took: Duration, error: String) -> Self {
        Self { what: what.to_string(), took, error: Some(error) }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:.1?})", self.what, self.took)?;
        match &self.error {
            Some(error) => write!(f, ": FAILED: {error}"),
            None => Ok(()),
        }
    }
}

/// The boot: each method does one thing, notes what and how long, and goes on after a failure,
/// for most machines are of more use half booted than not.
#[derive(Debug, Default)]
pub struct Boot {
    steps: Vec<Step>,
    resumed: bool,
    arguments: String,
}

impl Boot {
    /// Begins: working directory `/`, no umask, exempt from the out-of-memory killer.
    #[must_use]
    pub fn begin() -> Self {
        unix::install_hook();
        let _ = std::env::set_current_dir("/");
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        Self { resumed: unix::resumed(), ..Self::default() }
    }

    /// Whether this is a new process image that goes on after a panic of another: everything
    /// below then finds its work done.
    #[must_use]
    pub fn resumed(&self) -> bool {
        self.resumed
    }

    /// What was done so far.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Those that failed.
    pub fn problems(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.error.is_some())
    }

    /// A word of the kernel's command line: `Some("")` for `name`, `Some("x")` for `name=x`.
    /// The last one counts. Known once /proc is mounted.
    #[must_use]
    pub fn argument(&self, name: &str) -> Option<&str> {
        self.arguments.split_whitespace().rev().find_map(|word| match word.split_once('=') {
            Some((key, value)) => (key == name).then_some(value),
            None => (word == name).then_some(""),
        })
    }

    /// Does something of the caller's own as a step.
    pub fn step(
        &mut self,
        what: impl fmt::Display,
        work: impl FnOnce() -> Result<(), String>,
    ) -> &mut Self {
        let (result, took) = timed(work);
        self.steps.push(match result {
            Ok(()) => Step::done(&what, took),
            Err(error) => Step::failed(&what, took, error),
        });
        self
    }

    /// Mounts a table, usually [`mounts::STANDARD`], and lets the cgroups below the root have all
    /// controllers.
    pub fn mounts(&mut self, table: &[Mount]) -> &mut Self {
        self.steps.extend(mounts::perform(table));
        self.arguments = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        let _ = host::never_kill_for_memory();
        if table.iter().any(|mount| mount.fstype == "cgroup2")
            && Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
        {
            self.step("cgroup controllers", || mounts::delegate_controllers().map(|_| ()));
        }
        self
    }

    /// Opens the console as descriptors 0 to 2 (or `/dev/null` without one), and has ctrl-alt-del
    /// sent to this process.
    pub fn console(&mut self) -> &mut Self {
        self.step("console", || match console::open() {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        });
        self.step("catch ctrl-alt-del", || host::catch_ctrl_alt_del().map_err(|e| e.to_string()))
    }

    /// Names the machine.
    pub fn hostname(&mut self, name: &str) -> &mut Self {
        self.step(format_args!("hostname {name}"), || {
            host::set_hostname(name).map_err(|e| e.to_string())
        })
    }

    /// Brings the loopback interface up.
    pub fn loopback(&mut self) -> &mut Self {
        self.step("loopback", || host::loopback_up().map_err(|e| e.to_string()))
    }

    /// Loads modules by name, and those that the devices ask for in at most `rounds` rounds. A
    /// kernel without modules is no problem.
    pub fn modules<S: AsRef<str>>(&mut self, names: &[S], rounds: u32) -> &mut Self {
        if self.resumed || !Path::new("/proc/modules").exists() {
            return self;
        }
        let mut loader = match timed(Loader::of_running_kernel) {
            (Ok(loader), took) => {
                self.steps.push(Step::done(&"module index", took));
                loader
            }
            (Err(error), took) => {
                self.steps.push(Step::failed(&"module index", took, error));
                return self;
            }
        };
        for (what, work) in [("modules by name", true), ("modules for devices", false)] {
            let (report, took) =
                timed(|| if work { loader.load(names) } else { loader.cold_plug(rounds) });
            let loaded: Vec<&str> = report.loaded.iter().map(|(name, _)| name.as_str()).collect();
            let what = format!("{what}: {}", loaded.join(" "));
            let sound = report.failed.is_empty() && report.unknown.is_empty();
            self.steps.push(if sound {
                Step::done(&what, took)
            } else {
                Step::failed(&what, took, report.to_string())
            });
        }
        self
    }

    /// Leaves rootfs, so that containers can pivot_root(2).
    pub fn switch_root(&mut self, method: switch_root::Method) -> &mut Self {
        if self.resumed {
            return self;
        }
        self.step("leave rootfs", || switch_root::perform(method).map(|_| ()))
    }
}

/// What went wrong in the closure of [`start`].
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Runs a machine: begins a [`Boot`], calls `init`, and ends the machine as its outcome says
/// ([`finish`]). As PID 1 this never ends the process, whatever happens: an error or a panic of
/// `init` is told, and the process stays alive and reaps, so that the kernel does not panic and
/// people can still look.
pub fn start(init: impl FnOnce(&mut Boot) -> Result<Outcome, BoxError>) -> ! {
    let mut boot = Boot::begin();
    let why = match catch_unwind(AssertUnwindSafe(|| init(&mut boot))) {
        Ok(Ok(outcome)) => finish(outcome),
        Ok(Err(error)) => format!("init: {error}"),
        Err(_) => "init panicked".to_owned(),
    };
    if !rustix::process::getpid().is_init() {
        unix::console::write(format!("{why}\n").as_bytes());
        power::leave(1);
    }
    unix::emergency(&why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let boot = Boot { arguments: "a=1 dev a=2 ro.b=3\n".into(), ..Boot::default() };
        assert_eq!(boot.argument("dev"), Some(""));
        assert_eq!(boot.argument("a"), Some("2"));
        assert_eq!(boot.argument("b"), None);
    }

    #[test]
    fn a_failed_step_is_told_and_the_next_is_done() {
        let mut boot = Boot::default();
        boot.step("one", || Err("no".into())).step("two", || Ok(()));
        assert_eq!(boot.problems().count(), 1);
        let lines: Vec<_> = boot.steps().iter().map(ToString::to_string).collect();
        assert!(lines[0].starts_with("one (") && lines[0].ends_with("): FAILED: no"));
    }
}
