//! The main process of a service that is a container: has an OCI runtime make and start it, passes
//! signals on to it, and ends as it ends.
//!
//! # What it does
//! 1. Judges the bundle and finds the runtime, so that what is missing is named. Where there is a
//!    notification socket, the bundle goes on as a copy that has it.
//! 2. Deletes what an earlier run has left, with all that runs of it: of one identifier there is never
//!    more than one container, which `create` makes sure of once more.
//! 3. `create`, `start`, each with a bound. The container inherits output and error, thereby the
//!    service's log, and the descriptors that it was promised.
//! 4. Waits. This process is a child subreaper, so the container's first process is its child as soon
//!    as the runtime has gone, and it learns how that ends.
//! 5. `delete`, and the same end: [`leave`] exits with the code, or dies of the signal.
//!
//! # What is passed on
//! Every signal that can be caught, but `SIGCHLD`, `SIGPIPE` and those of terminals and of faults, by the
//! runtime's `kill`; straight to the process where that fails or takes too long. Those that come before
//! there is a container are passed on to it as soon as it has started.
//!
//! # When it is killed
//! It cannot delete anything then. In a control group of its service the supervisor kills all that is in
//! there, which is the container; without control groups the container lives until the service's next
//! start, which deletes it.

mod group;
mod sender;
mod words;

use std::fmt;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, WaitOptions, pidfd_open, pidfd_send_signal};

use super::sys;
use crate::container::{Bundle, Error, Request, Runtime, State, Target, runtime};
use crate::spec::{RuntimeName, Signal};
use crate::vocabulary::{ExitStatus, Pid};

pub(super) use sender::is_of;
pub use words::main;

/// How long a runtime may take to make a container: it sets up mounts and namespaces, on a busy machine.
const CREATE: Duration = Duration::from_secs(60);
/// How long it may take for anything else.
const ELSE: Duration = Duration::from_secs(15);
/// How long it may take to pass on a signal, before that is done without it.
const KILL: Duration = Duration::from_secs(5);
/// Bytes of the longest answer of `state` that is read.
const ANSWER: u64 = 1 << 20;
/// The code that says that there was no container to end with one of its own.
pub const NOT_RUN: u8 = 125;

/// Which container, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// What the container is known by.
    pub id: String,
    /// The runtime.
    pub runtime: RuntimeName,
    /// Its program (default: its name, looked up in `PATH`).
    pub program: Option<PathBuf>,
    /// Where it keeps what it knows (default: its own place).
    pub state_dir: Option<PathBuf>,
    /// How many descriptors from 3 on the container inherits.
    pub preserve_fds: u32,
    /// The file of a notification socket that the container is given (sd_notify(3)). A copy of the
    /// bundle's `config.json` that says so is written beside it.
    pub notify_socket: Option<PathBuf>,
}

impl Options {
    /// The container of a bundle under a name, run by crun.
    #[must_use]
    pub fn new(bundle: impl Into<PathBuf>, id: impl Into<String>) -> Self {
        Self {
            bundle: bundle.into(),
            id: id.into(),
            runtime: RuntimeName::default(),
            program: None,
            state_dir: None,
            preserve_fds: 0,
            notify_socket: None,
        }
    }
}

/// What happens meanwhile, for whoever wants to know.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The container's first process is waiting to be started.
    Created(Pid),
    /// It has been started.
    Started(Pid),
    /// A signal was passed on.
    PassedOn(Signal),
    /// The runtime failed at something that can be done without.
    Without(Error),
    /// The container has ended.
    Ended(ExitStatus),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Created(pid) => write!(f, "created as {pid}"),
            Self::Started(pid) => write!(f, "process {pid} started"),
            Self::PassedOn(signal) => write!(f, "{signal} passed on"),
            Self::Without(error) => write!(f, "{error}"),
            Self::Ended(status) => write!(f, "the container ended: {status}"),
        }
    }
}

/// Runs a container to its end, and gives how it ended. See the [module](self).
///
/// Blocks all signals in the calling thread, which must be the process's only one, and leaves them
/// blocked: what follows is the end of the process, by [`leave`].
///
/// # Errors
/// It could not be run; nothing of it is left then, as far as the runtime can be made to see to that.
pub fn run(options: &Options, on_event: &mut dyn FnMut(Event)) -> Result<ExitStatus, Error> {
    let system = |what| move |source| Error::System { what, source };
    // Before anything else takes one of these numbers.
    let given = given(options.preserve_fds)?;
    let mut bundle = Bundle::read(&options.bundle)?;
    if let Some(socket) = &options.notify_socket {
        bundle = bundle.copy_with_socket(socket)?;
    }
    let program = find(options)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .map_err(|errno| system("become a child subreaper")(errno.into()))?;
    sys::hear_of_children();
    let caught = super::init::caught();
    let mask = caught
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(|errno| system("block signals")(errno.into()))?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    let signals = SignalFd::with_flags(&caught, flags)
        .map_err(|errno| system("make a signalfd")(errno.into()))?;
    let caller = Caller { runtime: runtime(options.runtime), program, options, mask };
    if caller.runtime.makes_group_beside() {
        group::step_down().map_err(system("enter a control group below the service's"))?;
    }
    caller.delete_before()?;
    let result = caller.run(&bundle, given, &signals, on_event);
    if let Err(error) = caller.call(&Request::Delete, ELSE) {
        on_event(Event::Without(error));
    }
    result
}

/// Ends this process as the container has ended: dies of its signal, or gives the code to exit with.
#[must_use]
pub fn leave(status: ExitStatus) -> ExitCode {
    let code = match status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        ExitStatus::Signal(number) => {
            // The core that counts is the container's.
            let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
            let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
            let own = i32::try_from(std::process::id()).unwrap_or(0);
            let _ = sys::kill(own, number);
            // Blocked until now, so that it is this process's last one.
            let _ = SigSet::all().thread_unblock();
            u8::try_from(number.saturating_add(128)).unwrap_or(u8::MAX)
        }
        ExitStatus::Unknown => NOT_RUN,
    };
    ExitCode::from(code)
}

/// The runtime's program.
fn find(options: &Options) -> Result<PathBuf, Error> {
    let name = options.program.clone().unwrap_or_else(|| options.runtime.as_str().into());
    if name.components().count() > 1 {
        return match name.is_file() {
            true => Ok(name),
            false => {
                let program = name.display().to_string();
                Err(Error::NoRuntime { looked_in: "that place".into(), program })
            }
        };
    }
    let path = std::env::var_os("PATH");
    let path = path.unwrap_or_else(|| "/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join(&name));
    candidates.find(|candidate| candidate.is_file()).ok_or_else(|| Error::NoRuntime {
        program: name.display().to_string(),
        looked_in: path.to_string_lossy().into_owned(),
    })
}

/// What is meant for this process alone, or for one whose number would not be the container's.
const NOT_INHERITED: [&str; 5] =
    ["LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "NOTIFY_FD", "NOTIFY_SOCKET"];

/// Who has the runtime do things.
struct Caller<'a> {
    runtime: &'static dyn Runtime,
    program: PathBuf,
    options: &'a Options,
    /// The signal mask that this process was started with.
    mask: SigSet,
}

impl Caller<'_> {
    fn command(&self, request: &Request<'_>) -> Command {
        let target = Target { id: &self.options.id, state_dir: self.options.state_dir.as_deref() };
        let mut command = Command::new(&self.program);
        command.args(self.runtime.arguments(&target, request)).stdin(Stdio::null());
        NOT_INHERITED.iter().for_each(|name| {
            command.env_remove(name);
        });
        // A signal for the service's group is for this process, which passes it on.
        sys::in_own_group(&mut command, self.mask, false);
        command
    }

    /// Has the runtime do something, within a bound.
    fn call(&self, request: &Request<'_>, bound: Duration) -> Result<(), Error> {
        self.wait(self.start(self.command(request), request)?, request, bound)
    }

    fn failed(&self, request: &Request<'_>, what: String) -> Error {
        let command = format!("{} {}", self.program.display(), request.verb());
        Error::Runtime { command, what }
    }

    fn start(&self, mut command: Command, request: &Request<'_>) -> Result<Child, Error> {
        command.spawn().map_err(|error| self.failed(request, error.to_string()))
    }

    /// Waits for a runtime's process; one that takes too long is killed.
    fn wait(&self, mut child: Child, request: &Request<'_>, bound: Duration) -> Result<(), Error> {
        let failed = |what: String| Err(self.failed(request, what));
        let ended = pid_of(child.id()).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()));
        let in_time = match &ended {
            Ok(pidfd) => is_readable_within(pidfd, bound),
            Err(_) => true,
        };
        if !in_time {
            // Its helpers, too: it leads a group.
            let _ = sys::kill(i32::try_from(child.id()).map_or(0, i32::saturating_neg), 9);
        }
        match child.wait() {
            Ok(_) if !in_time => failed(format!("not done in {} s, killed", bound.as_secs())),
            Ok(status) if status.success() => Ok(()),
            Ok(status) => failed(status.to_string()),
            Err(error) => failed(error.to_string()),
        }
    }

    /// What the runtime knows of the container.
    fn state(&self) -> Result<State, Error> {
        let request = Request::State;
        let mut command = self.command(&request);
        command.stdout(Stdio::piped());
        let mut child = self.start(command, &request)?;
        let output = child.stdout.take();
        self.wait(child, &request, ELSE)?;
        let mut text = Vec::new();
        if let Some(output) = output {
            let read = output.take(ANSWER).read_to_end(&mut text);
            read.map_err(|error| self.failed(&request, error.to_string()))?;
        }
        State::parse(&text).map_err(|error| self.failed(&request, error.to_string()))
    }

    /// Lets go of what an earlier run has left.
    fn delete_before(&self) -> Result<(), Error> {
        match self.call(&Request::Delete, ELSE) {
            Ok(()) => Ok(()),
            // Some runtimes call it a failure that there is nothing to delete.
            Err(error) => match self.state() {
                Ok(_) => {
                    let (id, what) = (self.options.id.clone(), error.to_string());
                    Err(Error::StillThere { id, what })
                }
                Err(_) => Ok(()),
            },
        }
    }

    /// From `create` to the container's end.
    fn run(
        &self,
        bundle: &Bundle,
        given: Vec<OwnedFd>,
        signals: &SignalFd,
        on_event: &mut dyn FnMut(Event),
    ) -> Result<ExitStatus, Error> {
        let preserve_fds = self.options.preserve_fds;
        let request = Request::Create { bundle: &bundle.directory, preserve_fds };
        let mut command = self.command(&request);
        command.stdin(Stdio::inherit());
        self.wait(self.start(command, &request)?, &request, CREATE)?;
        // Whoever reads from them must see when the container has closed them.
        drop(given);
        let state = self.state()?;
        let ended = |state: &State| {
            let what = format!("the container is {} and has no process", state.status);
            self.failed(&Request::State, what)
        };
        let number = state.pid.ok_or_else(|| ended(&state))?;
        let first = rustix::process::Pid::from_raw(number).ok_or_else(|| ended(&state))?;
        let pidfd = pidfd_open(first, PidfdFlags::empty()).map_err(|errno| {
            self.failed(&Request::State, std::io::Error::from(errno).to_string())
        })?;
        on_event(Event::Created(Pid(number)));
        self.call(&Request::Start, ELSE)?;
        on_event(Event::Started(Pid(number)));
        let status = self.follow(first, &pidfd, signals, on_event);
        on_event(Event::Ended(status));
        Ok(status)
    }

    /// Passes signals on until the container's first process has ended.
    fn follow(
        &self,
        first: rustix::process::Pid,
        pidfd: &OwnedFd,
        signals: &SignalFd,
        on_event: &mut dyn FnMut(Event),
    ) -> ExitStatus {
        let mut status = None;
        loop {
            while let Ok(Some(info)) = signals.read_signal() {
                match i32::try_from(info.ssi_signo).unwrap_or(0) {
                    libc::SIGCHLD => status = reap(first).or(status),
                    // Ours alone: of our own output, or of a terminal that is not the container's.
                    libc::SIGPIPE | libc::SIGTTIN | libc::SIGTTOU => {}
                    number => self.pass_on(number, pidfd, on_event),
                }
            }
            let mut fds = [
                PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            let polled = poll(&mut fds, None);
            let [container, _] = &fds;
            if polled.is_ok() && container.revents().intersects(PollFlags::IN | PollFlags::HUP) {
                return reap(first).or(status).unwrap_or(ExitStatus::Unknown);
            }
        }
    }

    fn pass_on(&self, number: i32, pidfd: &OwnedFd, on_event: &mut dyn FnMut(Event)) {
        let Some(signal) = Signal::from_raw(number) else { return };
        if let Err(error) = self.call(&Request::Kill(signal), KILL) {
            // It may have ended just now. If not, it gets the signal all the same.
            let named = rustix::process::Signal::from_named_raw(number);
            let sent = named.map(|named| pidfd_send_signal(pidfd, named));
            if !matches!(sent, Some(Ok(()))) {
                return on_event(Event::Without(error));
            }
        }
        on_event(Event::PassedOn(signal));
    }
}

fn pid_of(number: u32) -> rustix::io::Result<rustix::process::Pid> {
    let number = i32::try_from(number).ok();
    number.and_then(rustix::process::Pid::from_raw).ok_or(rustix::io::Errno::SRCH)
}

/// Waits until there is something to read, at most this long.
fn is_readable_within(fd: &OwnedFd, bound: Duration) -> bool {
    let until = Instant::now().checked_add(bound);
    loop {
        let left = until.map_or(bound, |until| until.saturating_duration_since(Instant::now()));
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Reaps all that have ended; gives how the container's first process did, if it is among them.
fn reap(first: rustix::process::Pid) -> Option<ExitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == first {
            found = Some(super::init::convert(status));
        }
    }
    found
}

/// The descriptors that the container is to inherit.
fn given(count: u32) -> Result<Vec<OwnedFd>, Error> {
    let system =
        |source| Error::System { what: "inherit the descriptors of --preserve-fds", source };
    (3..count.saturating_add(3))
        .map(|number| {
            let fd = i32::try_from(number).ok().and_then(sys::adopt_fd);
            let missing = || std::io::Error::from(rustix::io::Errno::BADF);
            let fd = fd.ok_or_else(|| system(missing()))?;
            rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty())
                .map_err(|errno| system(errno.into()))?;
            Ok(fd)
        })
        .collect()
}
