//! The words that the machine and its shell exchange: what happened, what to do, what to tell.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::ServiceId;
use crate::spec::{Condition, Kill, Signal};

/// A point on a clock that never goes back (`CLOCK_MONOTONIC` in the shell): time since its zero.
pub type Time = Duration;

/// A process number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Joins an [`Action`] to its completion; never used twice by one supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(crate) u64);

/// A service's name, cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub(crate) Arc<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// A Linux error number (errno(3)), shown by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(pub i32);

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1 => "EPERM",
            2 => "ENOENT",
            3 => "ESRCH",
            4 => "EINTR",
            5 => "EIO",
            6 => "ENXIO",
            7 => "E2BIG",
            8 => "ENOEXEC",
            9 => "EBADF",
            11 => "EAGAIN",
            12 => "ENOMEM",
            13 => "EACCES",
            16 => "EBUSY",
            19 => "ENODEV",
            20 => "ENOTDIR",
            21 => "EISDIR",
            22 => "EINVAL",
            23 => "ENFILE",
            24 => "EMFILE",
            26 => "ETXTBSY",
            28 => "ENOSPC",
            30 => "EROFS",
            36 => "ENAMETOOLONG",
            38 => "ENOSYS",
            40 => "ELOOP",
            80 => "ELIBBAD",
            110 => "ETIMEDOUT",
            number => return write!(f, "errno {number}"),
        };
        f.write_str(name)
    }
}

/// Which step of starting a process failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SpawnStep {
    /// Pipes, log files, accounts, control groups, sockets: before there was a process.
    Prepare,
    /// The fork itself.
    Fork,
    /// A session or process group of its own.
    Session,
    /// Opening the terminal or taking it as the controlling one.
    Terminal,
    /// Placing the descriptors.
    Descriptors,
    /// Entering the working directory.
    Directory,
    /// Limits, niceness and the like.
    Limits,
    /// Mounts of a namespace of its own.
    Isolation,
    /// Groups, group and user, and capabilities.
    Credentials,
    /// Executing the program.
    Exec,
    /// Executing a program that is there: its interpreter or loader is not.
    Interpreter,
    /// No word from the new process in time.
    Confirm,
}

/// Why a process could not be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpawnError {
    /// The step.
    pub step: SpawnStep,
    /// The kernel's answer.
    pub errno: Errno,
    /// The program, directory or terminal that the step was about.
    pub subject: String,
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { step, errno, subject } = self;
        match step {
            SpawnStep::Exec => write!(f, "cannot execute {subject}: {errno}"),
            SpawnStep::Interpreter => {
                write!(
                    f,
                    "cannot execute {subject}: {errno} (its interpreter or loader is missing)"
                )
            }
            SpawnStep::Directory => write!(f, "cannot enter directory {subject}: {errno}"),
            SpawnStep::Terminal => write!(f, "cannot take terminal {subject}: {errno}"),
            SpawnStep::Fork => write!(f, "cannot fork: {errno}"),
            SpawnStep::Session => write!(f, "cannot make a session: {errno}"),
            SpawnStep::Descriptors => write!(f, "cannot place descriptors: {errno}"),
            SpawnStep::Limits => write!(f, "cannot set limits: {errno}"),
            SpawnStep::Isolation => write!(f, "cannot isolate {subject}: {errno}"),
            SpawnStep::Credentials => write!(f, "cannot set user and groups: {errno}"),
            SpawnStep::Prepare => write!(f, "cannot prepare {subject}: {errno}"),
            SpawnStep::Confirm => write!(f, "no word from the new process for {subject}: {errno}"),
        }
    }
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// With this code.
    Code(i32),
    /// By this signal number.
    Signal(i32),
    /// It is gone and nobody can say how (a process taken over that was not a child).
    Unknown,
}

impl ExitStatus {
    /// Whether this is exit code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == Self::Code(0)
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => match Signal::from_raw(number) {
                Some(signal) => write!(f, "killed by {signal}"),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Unknown => f.write_str("gone"),
        }
    }
}

/// What the machine is to do when all services have stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Outcome {
    /// Switch the machine off.
    PowerOff,
    /// Start it again.
    Reboot,
    /// Stop it, power left on.
    Halt,
    /// Start the kernel that is loaded (kexec) in place of this one; without one, as `Reboot`.
    Kexec,
    /// Leave the supervisor's process.
    Exit,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::PowerOff => "power off",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
            Self::Kexec => "kexec",
            Self::Exit => "exit",
        })
    }
}

/// What has happened, as told by the shell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// A [`Action::Spawn`] has given this process. Told before anything else about the process.
    Spawned {
        /// The action's.
        token: Token,
        /// The new process.
        pid: Pid,
    },
    /// A [`Action::Spawn`] has given none.
    SpawnFailed {
        /// The action's.
        token: Token,
        /// Why.
        error: SpawnError,
    },
    /// A [`Action::Spawn`] was left out: a path of
    /// [`ServiceSpec::only_if`](crate::ServiceSpec::only_if) is not there.
    Skipped {
        /// The action's.
        token: Token,
    },
    /// A [`Action::Listen`] was carried out; if it failed, [`Input::SpawnFailed`] says so.
    Listening {
        /// The action's.
        token: Token,
        /// Whether somebody waits at one of the sockets already.
        waited_for: bool,
    },
    /// Somebody has turned to a socket of a service that listens.
    Demand(ServiceId),
    /// A condition holds, or holds no longer. None does until it is told.
    Condition {
        /// Which.
        condition: Condition,
        /// Whether.
        holds: bool,
    },
    /// The answer to a [`Action::Probe`].
    Probed {
        /// The action's.
        token: Token,
        /// Whether the service is ready.
        ready: bool,
    },
    /// An [`Action::Signal`] was carried out. `error` is the kernel's complaint, if any; `ESRCH`
    /// is none, since the exit will be told on its own.
    Signalled {
        /// The action's.
        token: Token,
        /// The complaint.
        error: Option<Errno>,
    },
    /// The process that came of this [`Action::Spawn`] says that it is ready.
    Ready {
        /// The spawn's.
        token: Token,
    },
    /// A process has ended. The shell tells this while the process is still a zombie
    /// (`waitid` with `WNOWAIT`), carries out what the machine then asks for, and reaps it
    /// afterwards: so a signal to its group cannot meet a recycled number. A pid that is no
    /// service's is an adopted orphan.
    Exited {
        /// Which.
        pid: Pid,
        /// How.
        status: ExitStatus,
    },
    /// An [`Action::Forget`] was carried out.
    Forgotten {
        /// The action's.
        token: Token,
    },
    /// Start a service and what it requires and wants.
    Start(ServiceId),
    /// Stop a service, and before it those that require it.
    Stop(ServiceId),
    /// Stop a service and those that require it, then start again the ones that ran.
    Restart(ServiceId),
    /// Stop everything in order, all within `timeout`. A second one, while the first is under way,
    /// kills what is left at once.
    Shutdown {
        /// What for.
        outcome: Outcome,
        /// From now to [`Event::Finished`], at most.
        timeout: Duration,
    },
    /// A [`Output::Timeout`] has come, or the caller just wants time to be looked at.
    Tick,
}

/// What the shell is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// Start a service's process; answer with [`Input::Spawned`] or [`Input::SpawnFailed`].
    Spawn {
        /// For the answer.
        token: Token,
        /// Which service.
        service: ServiceId,
    },
    /// Open a service's sockets, and tell [`Input::Demand`] when somebody turns to one; answer with
    /// [`Input::Listening`] or [`Input::SpawnFailed`]. Sockets that are open stay so.
    Listen {
        /// For the answer.
        token: Token,
        /// Which service.
        service: ServiceId,
    },
    /// Find out whether a service is ready, as its [`Readiness`](crate::Readiness) says, and answer
    /// with [`Input::Probed`] within the time given.
    Probe {
        /// For the answer.
        token: Token,
        /// Which service.
        service: ServiceId,
        /// After this it is not ready.
        timeout: Duration,
    },
    /// Nobody wants the answer to a [`Action::Probe`] any more; there is none.
    EndProbe {
        /// The probe's.
        token: Token,
    },
    /// A service has been removed and is down: let go of what is kept for it (sockets, logs, stored
    /// descriptors), and answer with [`Input::Forgotten`]. Its id may then be another service's.
    Forget {
        /// For the answer.
        token: Token,
        /// Which service.
        service: ServiceId,
    },
    /// Send a signal; answer with [`Input::Signalled`].
    Signal {
        /// For the answer.
        token: Token,
        /// Whose process it is.
        service: ServiceId,
        /// The main process, which leads the group.
        pid: Pid,
        /// What to send.
        signal: Signal,
        /// To whom.
        scope: Kill,
    },
}

/// Why a service has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// It could not be started.
    Spawn(SpawnError),
    /// It ended.
    Exited(ExitStatus),
    /// It was not ready in time.
    NotReady,
    /// A one-shot ran for too long.
    RanTooLong,
    /// It was restarted too often; what happened last.
    TooManyRestarts(Box<Self>),
    /// Something that it requires has failed.
    Requirement(Name),
    /// As an earlier process image of the supervisor put it.
    Recorded(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spawn(error) => error.fmt(f),
            Self::Exited(status) => status.fmt(f),
            Self::NotReady => f.write_str("not ready in time"),
            Self::RanTooLong => f.write_str("ran for too long"),
            Self::TooManyRestarts(last) => write!(f, "restarted too often, last: {last}"),
            Self::Requirement(name) => write!(f, "required service {name} has failed"),
            Self::Recorded(text) => f.write_str(text),
        }
    }
}

/// Why an input had no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Ignored {
    /// The token is of no action under way.
    StaleToken,
    /// No service has this id.
    UnknownService,
    /// The service is in a state in which this means nothing.
    NotNow,
    /// Nothing is started during or after a shutdown.
    ShuttingDown,
}

/// What is worth telling. `Display` gives one line for a console or log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields repeat what the variants' lines say")]
pub enum Event {
    /// A process runs.
    Started { service: Name, pid: Pid },
    /// A process could not be started.
    SpawnFailed { service: Name, error: SpawnError },
    /// It is up: those that require it may start. `after` counts from its start.
    Ready { service: Name, after: Duration },
    /// Its sockets are open; it is started on demand.
    Listening { service: Name },
    /// It was not started, since a path that it is for is not there.
    Skipped { service: Name },
    /// Its timer starts it again.
    Scheduled { service: Name, after: Duration },
    /// A one-shot has succeeded, or a daemon that is not restarted has ended with 0.
    Done { service: Name },
    /// A process has ended after `ran`.
    Exited { service: Name, pid: Pid, status: ExitStatus, ran: Duration },
    /// It will be started again after `delay`; `attempt` counts restarts without a healthy run.
    Restarting { service: Name, delay: Duration, attempt: u32 },
    /// It was asked to stop.
    Stopping { service: Name, signal: Signal },
    /// It did not stop in time, or time is up for all, and was killed.
    Killing { service: Name },
    /// Killed, and still there: blocked in the kernel. Waiting goes on, in the background.
    Stuck { service: Name, pid: Pid },
    /// It is down, as requested.
    Stopped { service: Name },
    /// It has failed for good, until it is started by request.
    Failed { service: Name, failure: Failure },
    /// A signal could not be sent.
    SignalFailed { service: Name, errno: Errno },
    /// An adopted orphan has ended and was reaped.
    Reaped { pid: Pid, status: ExitStatus },
    /// Everything is being stopped.
    ShuttingDown { outcome: Outcome, timeout: Duration },
    /// Whatever still runs is being killed: by request, or because time is nearly up.
    ShutdownForced { by_request: bool },
    /// The shutdown has ended; `left` still run (blocked in the kernel).
    Finished { outcome: Outcome, left: Vec<Name> },
    /// Nothing runs and nothing will by itself.
    AllEnded,
    /// An input had no effect.
    Ignored { reason: Ignored },
    /// Output of a service was lost because its log could not be written; `bytes` since the last
    /// such event.
    LogDropped { service: Name, bytes: u64, errno: Errno },
    /// The supervisor has replaced itself after a panic and took its services over.
    Resumed { panics: u32, services: usize },
    /// The supervisor has replaced itself because it was asked to, and took its services over.
    Reexecuted { services: usize },
    /// The kernel gives no memory: what was asked for came from the program's reserve, of which `used`
    /// of `size` bytes are in use. What can be done without has been let go of.
    MemoryShort { used: usize, size: usize },
    /// The kernel gives memory again; so much of the reserve is still in use.
    MemoryBack { used: usize, size: usize },
    /// The supervisor has replaced itself because memory was short, and took its services over.
    Relieved { services: usize },
    /// Other services have been gone over to: how many are new, gone, started again, and changed
    /// without.
    Reloaded { added: usize, removed: usize, restarted: usize, updated: usize },
    /// It has been removed and is down.
    Removed { service: Name },
    /// Something in the shell went wrong that stops nothing.
    Warning { what: String },
}

impl Event {
    /// Whether this is something that people would want to see on a quiet console.
    #[must_use]
    pub fn is_problem(&self) -> bool {
        match self {
            Self::SpawnFailed { .. }
            | Self::Restarting { .. }
            | Self::Killing { .. }
            | Self::Stuck { .. }
            | Self::Failed { .. }
            | Self::SignalFailed { .. }
            | Self::ShutdownForced { .. }
            | Self::LogDropped { .. }
            | Self::Resumed { .. }
            | Self::Relieved { .. }
            | Self::MemoryShort { .. }
            | Self::Warning { .. } => true,
            Self::Finished { left, .. } => !left.is_empty(),
            _ => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { service, pid } => write!(f, "{service}: started as {pid}"),
            Self::SpawnFailed { service, error } => write!(f, "{service}: {error}"),
            Self::Ready { service, after } => write!(f, "{service}: up after {after:.1?}"),
            Self::Listening { service } => write!(f, "{service}: listening"),
            Self::Skipped { service } => write!(f, "{service}: skipped, it has nothing to do here"),
            Self::Scheduled { service, after } => write!(f, "{service}: again in {after:.1?}"),
            Self::Done { service } => write!(f, "{service}: done"),
            Self::Exited { service, pid, status, ran } => {
                write!(f, "{service}: process {pid} ended after {ran:.1?}: {status}")
            }
            Self::Restarting { service, delay, attempt } => {
                write!(f, "{service}: restart {attempt} in {delay:.1?}")
            }
            Self::Stopping { service, signal } => write!(f, "{service}: stopping with {signal}"),
            Self::Killing { service } => write!(f, "{service}: killed, it did not stop in time"),
            Self::Stuck { service, pid } => write!(f, "{service}: process {pid} survives SIGKILL"),
            Self::Stopped { service } => write!(f, "{service}: stopped"),
            Self::Failed { service, failure } => write!(f, "{service}: failed: {failure}"),
            Self::SignalFailed { service, errno } => {
                write!(f, "{service}: no signal sent: {errno}")
            }
            Self::Reaped { pid, status } => write!(f, "orphan {pid} reaped: {status}"),
            Self::ShuttingDown { outcome, timeout } => {
                write!(f, "shutting down to {outcome} within {timeout:.1?}")
            }
            Self::ShutdownForced { by_request: true } => write!(f, "shutdown forced by request"),
            Self::ShutdownForced { by_request: false } => {
                write!(f, "shutdown: time is nearly up, killing what is left")
            }
            Self::Finished { outcome, left } if left.is_empty() => {
                write!(f, "all services stopped: {outcome}")
            }
            Self::Finished { outcome, left } => {
                let left: Vec<_> = left.iter().map(Name::as_str).collect();
                write!(f, "shutdown ends with {} still there: {outcome}", left.join(", "))
            }
            Self::AllEnded => f.write_str("nothing left to run"),
            Self::Ignored { reason } => write!(f, "input ignored: {reason:?}"),
            Self::LogDropped { service, bytes, errno } => {
                write!(f, "{service}: {bytes} bytes of output dropped: {errno}")
            }
            Self::Resumed { panics, services } => {
                write!(f, "resumed after panic {panics} with {services} processes taken over")
            }
            Self::Reexecuted { services } => {
                write!(f, "goes on as a new process image with {services} processes taken over")
            }
            Self::MemoryShort { used, size } => write!(
                f,
                "memory is short: goes on from the reserve, of which {} of {} KiB are in use",
                used.div_ceil(1024),
                size / 1024
            ),
            Self::MemoryBack { used, size } => write!(
                f,
                "memory is given again; {} of {} KiB of the reserve are in use",
                used.div_ceil(1024),
                size / 1024
            ),
            Self::Relieved { services } => write!(
                f,
                "memory was short: goes on as a new process image with {services} processes taken over"
            ),
            Self::Reloaded { added, removed, restarted, updated } => write!(
                f,
                "reloaded: {added} added, {removed} removed, {restarted} restarted, {updated} updated"
            ),
            Self::Removed { service } => write!(f, "{service}: removed"),
            Self::Warning { what } => f.write_str(what),
        }
    }
}

/// What [`Supervisor::poll`](crate::Supervisor::poll) gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Do this.
    Action(Action),
    /// Tell this.
    Event(Event),
    /// There is no more: wait for something to happen, or until this point on the clock of `now`
    /// ([`Duration::MAX`]: nothing is due), and then call `handle`.
    Timeout(Time),
}
