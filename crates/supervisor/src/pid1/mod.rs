//! A machine's first process: what has to be done before services and after them.
//!
//! ```no_run
//! use kiln_supervisor::pid1::{self, Boot, PowerButton, console, mounts, power, switch_root};
//! use kiln_supervisor::unix::{self, OnPanic, Options, Reserve, Unsound};
//! use kiln_supervisor::{Kill, Outcome, Readiness, ServiceSpec};
//!
//! // for when the kernel gives no memory
//! #[global_allocator]
//! static ALLOCATOR: Reserve = Reserve::new();
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
//!         // a machine that lacks a service is better than none
//!         options.unsound = Unsound::LeaveOut;
//!         options.sources.push(Box::new(PowerButton::open()?));
//!         let outcome = unix::run(services, options, &mut |event| eprintln!("{event}"))?;
//!         Ok(outcome) // start() then ends the machine with power::finish(outcome)
//!     })
//! }
//! ```

pub mod block;
pub mod console;
pub mod device_mapper;
mod emergency;
mod ending;
mod file;
pub mod grow;
pub mod host;
pub mod hotplug;
pub mod kexec;
pub mod loop_device;
pub mod machine_id;
pub mod modules;
pub mod mounts;
pub mod power;
pub mod random_seed;
mod storage;
pub mod swap;
pub mod switch_root;
mod sys;
pub mod sysctl;
mod uevent;
pub mod watchdog;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

pub use emergency::Emergency;
pub use ending::{Ending, finish};
pub use modules::Loader;
pub use mounts::Mount;
pub use power::PowerButton;
pub use watchdog::Watchdog;

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
    /// Whether it was only said, as of a [`Boot::rehearsal`].
    pub planned: bool,
}

impl Step {
    pub(crate) fn done(what: &dyn fmt::Display, took: Duration) -> Self {
        Self { what: what.to_string(), took, error: None, planned: false }
    }

    fn planned(what: &dyn fmt::Display) -> Self {
        Self { planned: true, ..Self::done(what, Duration::ZERO) }
    }

    pub(crate) fn failed(what: &dyn fmt::Display, took: Duration, error: String) -> Self {
        Self { what: what.to_string(), took, error: Some(error), planned: false }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.planned {
            return write!(f, "would {}", self.what);
        }
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
    rehearsed: bool,
    ending: Ending,
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

    /// A boot of which nothing is done: every step is noted as it would be, for people to read. Needs
    /// no rights.
    ///
    /// ```
    /// use kiln_supervisor::pid1::{Boot, mounts};
    /// let mut boot = Boot::rehearsal();
    /// boot.mounts(mounts::STANDARD).hostname("nomados").sysctl();
    /// assert!(boot.steps().iter().all(|step| step.planned));
    /// assert!(boot.steps()[0].to_string().starts_with("would mount -t proc"));
    /// ```
    #[must_use]
    pub fn rehearsal() -> Self {
        let arguments = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Self { rehearsed: true, arguments, ..Self::default() }
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
        if self.rehearsed {
            self.steps.push(Step::planned(&what));
            return self;
        }
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
        if self.rehearsed {
            self.steps.extend(table.iter().map(|mount| Step::planned(&mount.describe())));
            return self;
        }
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
        if self.rehearsed {
            let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
            let what = format!("load modules {}, then those of devices", names.join(" "));
            self.steps.push(Step::planned(&what));
            return self;
        }
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

    /// Sets kernel parameters as sysctl.d(5) says: the files of [`sysctl::DIRECTORIES`] and
    /// [`sysctl::FILE`]. What cannot be set is told, all else is set.
    pub fn sysctl(&mut self) -> &mut Self {
        if self.resumed {
            return self;
        }
        let files = sysctl::files(&sysctl::DIRECTORIES.map(Path::new), Path::new(sysctl::FILE));
        if files.is_empty() && !self.rehearsed {
            return self;
        }
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        self.step(format_args!("sysctl {}", names.join(" ")), || {
            let complaints = sysctl::apply(&files, Path::new("/proc/sys"));
            if complaints.is_empty() { Ok(()) } else { Err(complaints.join("; ")) }
        })
    }

    /// Gives the machine its identifier ([`machine_id::set`]), which `kept` keeps between boots where
    /// the image has none.
    pub fn machine_id(&mut self, kept: Option<&Path>) -> &mut Self {
        let argument = self.argument("systemd.machine_id").map(str::to_owned);
        self.step("machine-id", || machine_id::set(argument.as_deref(), kept).map(|_| ()))
    }

    /// Gives the kernel the random seed that the last boot left in a file ([`random_seed::load`]), and
    /// has another one kept when the machine ends.
    pub fn random_seed(&mut self, path: impl Into<std::path::PathBuf>) -> &mut Self {
        let path = path.into();
        if !self.resumed {
            self.step("random seed", || match random_seed::load(&path, Duration::ZERO) {
                Ok(_) => Ok(()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            });
        }
        self.ending.at_end("keep a random seed", move || {
            random_seed::save(&path).map_err(|error| format!("{}: {error}", path.display()))
        });
        self
    }

    /// Arms a watchdog, or waits for its driver. The answer goes to
    /// [`Options::sources`](crate::unix::Options::sources), so that the loop feeds it.
    pub fn watchdog(&mut self, settings: watchdog::Settings) -> Option<Box<Watchdog>> {
        let mut opened = None;
        let what = format!("watchdog {} {:?}", settings.device.display(), settings.timeout);
        self.step(what, || {
            opened = Some(Watchdog::open(settings).map_err(|error| error.to_string())?);
            Ok(())
        });
        let watchdog = opened?;
        self.ending.watchdog = Some(watchdog.device());
        emergency::set_watchdog(watchdog.device());
        Some(Box::new(watchdog))
    }

    /// Says whether people get a shell when nothing else goes any more. Default: no.
    pub fn emergency(&mut self, emergency: Emergency) -> &mut Self {
        if !self.rehearsed {
            emergency::set(emergency);
        }
        self
    }

    /// How the machine ends when the closure of [`start`] gives an outcome.
    pub fn ending(&mut self) -> &mut Ending {
        &mut self.ending
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
        Ok(Ok(outcome)) => boot.ending.finish(outcome),
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
