//! The shell: one process that performs what the machine asks for.
//!
//! # Signals
//! As PID 1 (the convention of busybox and finit, so their `poweroff`, `halt` and `reboot` work):
//!
//! | signal | meaning |
//! |---|---|
//! | `SIGTERM` | reboot |
//! | `SIGINT` | reboot: ctrl-alt-del, once [`crate::pid1`] has told the kernel to send it |
//! | `SIGUSR1` | halt |
//! | `SIGUSR2`, `SIGPWR` | power off |
//! | `SIGHUP` | open the log files anew, make the control socket anew if its file is gone, and reload the services ([`Options::spec_source`]) |
//!
//! As any other process: `SIGTERM` and `SIGINT` stop everything in order and leave; `SIGHUP` as
//! above; `SIGUSR1`, `SIGUSR2` and `SIGPWR`, which would end it and leave its services to nobody,
//! mean nothing. A second request while the first is carried out kills what is left at once.

pub(crate) mod account;
mod cgroup;
mod child;
mod conditions;
pub(crate) mod console;
#[cfg(feature = "oci")]
pub mod container;
#[cfg(feature = "control")]
mod control;
mod credentials;
pub(crate) mod fault;
#[cfg(feature = "seccomp")]
mod filter;
mod image;
pub mod init;
mod log;
mod mounts;
mod notify;
mod panic;
mod priority;
mod reap;
pub(crate) mod reserve;
mod run;
mod socket;
mod spawn;
mod spawner;
mod sys;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

pub use console::console_line;
#[cfg(feature = "fault")]
pub use fault::panic_after;
pub(crate) use panic::emergency;
#[cfg(feature = "pid1")]
pub(crate) use panic::on_emergency;
pub use panic::{install_hook, resumed};
pub use run::run;
pub use sys::Reserve;

use crate::graph::Problems;
use crate::vocabulary::{Outcome, Time};

/// Why [`run`] could not begin or go on. A service's troubles are never a reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The specs are unsound.
    #[error("unsound services:\n{0}")]
    Problems(#[from] Problems),
    /// A system call that everything rests on.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// The kernel's answer.
        source: std::io::Error,
    },
}

impl Error {
    fn system<E: Into<std::io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::System { what, source: error.into() }
    }
}

/// How [`run`] behaves.
#[derive(Debug)]
#[non_exhaustive]
pub struct Options {
    /// Where services with [`Log::Auto`](crate::Log) have their files (default: nowhere).
    pub log_dir: Option<PathBuf>,
    /// Bounds of those files: bytes each (default 1 MiB).
    pub log_max_bytes: u64,
    /// Bounds of those files: how many old ones (default 3).
    pub log_keep: u32,
    /// Whether their lines begin with the time (default: yes).
    pub log_timestamps: bool,
    /// The directory below a mounted cgroup2 where each service gets a control group of its own
    /// (default: none, and none has one).
    pub cgroup: Option<PathBuf>,
    /// Where credentials of services are kept while they run, preferably a tmpfs (default:
    /// /run/kiln/credentials).
    pub credentials_dir: PathBuf,
    /// What begins the command of a service that is a [container](crate::Container): words after which
    /// [`container::main`] is called with what follows (default: this program, with `container`).
    #[cfg(feature = "oci")]
    pub container_command: Vec<String>,
    /// Where containers have what the supervisor gives them while they run: a directory each, with the
    /// notification socket and the bundle's `config.json` that names it. Preferably a tmpfs (default:
    /// /run/kiln/containers).
    #[cfg(feature = "oci")]
    pub container_dir: PathBuf,
    /// How long a whole shutdown may take (default 60 s).
    pub shutdown_timeout: Duration,
    /// What is written to standard error (default: nothing; the caller has the events).
    pub console: Console,
    /// Whether to leave with [`Outcome::Exit`] when nothing runs and nothing will by itself.
    pub exit_when_ended: bool,
    /// What becomes of services that are not sound (default: nothing starts).
    pub unsound: Unsound,
    /// Whether more services were meant than [`run`] is given, since the caller could not understand
    /// what is said of them, and has told so: what is given is then not gone over to from services that
    /// run (default: no). See [`Unsound`].
    pub incomplete: bool,
    /// What signals mean (default: by whether this is PID 1).
    pub role: Role,
    /// The niceness of the thread that calls [`run`], and of its session if it leads one: less is
    /// more of a busy machine's time (default: −15 for PID 1, else unchanged). Services and other
    /// threads keep what was before.
    pub nice: Option<i32>,
    /// Whether the processes of others that fall to this one are reaped (default: by role). With
    /// `Some(true)` in an ordinary process it also becomes a child subreaper.
    pub reap_orphans: Option<bool>,
    /// What a panic does (default: it unwinds out of [`run`]).
    pub on_panic: OnPanic,
    /// Whether and how the process replaces itself when somebody asks for it
    /// ([`Request::Reexec`], `svc reexec`; default: it refuses). One that may does so, as the program
    /// that it is, where memory is short, too ([`Reserve`]).
    pub reexec: Option<Reexec>,
    /// The control socket (default: none).
    #[cfg(feature = "control")]
    pub control: Option<crate::control::ControlOptions>,
    /// Where the services are read from again when a reload is asked for, by `SIGHUP`,
    /// [`Request::Reload`] or the control socket (default: nowhere, and none can be). A reload changes
    /// nothing unless all of them are sound, whatever [`Options::unsound`] says. With one, a
    /// process image that takes over after a panic goes on with the services as they were read
    /// last (feature `control`), whatever [`run`] is given.
    pub spec_source: Option<Box<dyn SpecSource>>,
    /// More to wait for: the power button.
    pub sources: Vec<Box<dyn Source>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            log_dir: None,
            log_max_bytes: 1 << 20,
            log_keep: 3,
            log_timestamps: true,
            cgroup: None,
            credentials_dir: "/run/kiln/credentials".into(),
            #[cfg(feature = "oci")]
            container_command: vec!["/proc/self/exe".into(), "container".into()],
            #[cfg(feature = "oci")]
            container_dir: "/run/kiln/containers".into(),
            shutdown_timeout: Duration::from_secs(60),
            console: Console::Quiet,
            exit_when_ended: false,
            unsound: Unsound::Refuse,
            incomplete: false,
            role: Role::Auto,
            nice: None,
            reap_orphans: None,
            on_panic: OnPanic::Unwind,
            reexec: None,
            #[cfg(feature = "control")]
            control: None,
            spec_source: None,
            sources: Vec::new(),
        }
    }
}

/// What [`run`] writes to standard error, without ever waiting for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Console {
    /// Nothing.
    #[default]
    Quiet,
    /// Events that are problems.
    Problems,
    /// All events except reaped orphans and ignored inputs.
    Events,
}

/// What [`run`] does with services that are not sound: rings, unknown names, no command.
///
/// This is about the beginning, when there is nothing else to run. Who reloads, or goes on as a
/// process image that somebody has asked for, has services that run, and these are not stopped for what
/// somebody else has got wrong: other services are gone over to only if all of them are sound, and
/// else all goes on as it was, which is told ([`Options::spec_source`] and feature `control` hand on
/// how that was). Without these, a new image goes on with what of the services that it is given can
/// start; if one that runs cannot, it becomes the program again that it was before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unsound {
    /// Nothing starts: [`Error::Problems`].
    #[default]
    Refuse,
    /// Those that are not sound are left out with those that require them, as
    /// [`Sound`](crate::Sound) says, each with a warning before anything starts; the rest starts. What
    /// the first process of a machine wants.
    LeaveOut,
}

/// What signals mean; see the [module](self).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// `Init` if this is PID 1, else `Process`.
    #[default]
    Auto,
    /// The machine's first process.
    Init,
    /// Any other process.
    Process,
}

/// What a panic inside [`run`] does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnPanic {
    /// It unwinds to the caller.
    #[default]
    Unwind,
    /// The process executes its own program again, with the same arguments and the last committed
    /// state, and [`run`] there takes the services over as they run: no service is restarted.
    /// After `limit` such panics in less than a minute each, PID 1 stays in a loop that only
    /// reaps; another process unwinds. It does the same where memory is short ([`Reserve`]), which
    /// is no panic and counts as none.
    Reexec {
        /// At most so many in a row.
        limit: u32,
    },
}

/// How the process goes on as a new image, with all services as they run: a newer version of the
/// program, for example.
///
/// The program gets the same arguments and has to come to [`run`] again. If it cannot be executed
/// nothing changes. If what it finds in `run` cannot be understood or its services are unsound, it
/// becomes the program again that it was.
#[non_exhaustive]
pub struct Reexec {
    /// `/proc/self/exe` is the program that runs, even if its file is gone.
    pub program: PathBuf,
    /// Asked first whether the new image could come to [`run`]; an error is told, and all stays as
    /// it is. Must not wait for anything.
    pub check: Box<dyn Fn() -> Result<(), String>>,
}

impl Reexec {
    /// As this program, with nothing to check.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into(), check: Box::new(|| Ok(())) }
    }
}

impl fmt::Debug for Reexec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reexec").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Something else to wait for.
pub trait Source: fmt::Debug {
    /// What becomes readable when there is something.
    fn fd(&self) -> BorrowedFd<'_>;
    /// Takes what there is, without waiting, and says what it asks for.
    ///
    /// # Errors
    /// The source is given up and the error told as a warning.
    fn take(&mut self) -> std::io::Result<Vec<Request>>;
}

/// Where services are read from: files, usually.
pub trait SpecSource: fmt::Debug + Send {
    /// All services as they are to be now. Called in a thread of its own, so it may wait.
    ///
    /// # Errors
    /// Everything that is wrong, a line each: nothing is changed then.
    fn load(&mut self) -> Result<Vec<crate::ServiceSpec>, String>;
}

/// What a [`Source`] may ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// Stop everything.
    Shutdown(Outcome),
    /// Start the service of this name.
    Start(String),
    /// Stop the service of this name.
    Stop(String),
    /// Restart the service of this name.
    Restart(String),
    /// Read the services again, and go over to them.
    Reload,
    /// Tell this as a warning.
    Warn(String),
    /// Go on as a new process image: [`Options::reexec`].
    Reexec,
    /// Panic: to prove that a panic is survived.
    #[doc(hidden)]
    Panic,
}

/// Whether [`run`] has found that memory is short, and goes on from the [`Reserve`]: what takes much of it
/// is better put off.
#[must_use]
pub fn is_memory_short() -> bool {
    reserve::is_short()
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn now() -> Time {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanos)
}
