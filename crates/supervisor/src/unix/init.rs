//! A container's first process: one command, to which signals are passed on, and all who end reaped.
//!
//! Nothing else is decided here: no restart, no log, no shutdown. It waits in one place, a signalfd,
//! and uses no time while nothing happens. The command's process has
//!
//! * a process group of its own, in the foreground of the terminal if there is one that is ours;
//! * the signal mask and dispositions that this process was started with, except that `SIGPIPE` and
//!   `SIGCHLD` are never ignored (Rust's runtime ignores the one, and keeps no trace of what was
//!   before; nobody could tell how children end while the other is).
//!
//! # What is passed on
//! Every signal that can be caught, real-time ones included, except `SIGCHLD`, `SIGTTIN`, `SIGTTOU`
//! and those of faults. When the command is stopped from its terminal, or by a `SIGTSTP` that was
//! passed on, this process stops too, so that a shell above sees it; the `SIGCONT` that wakes this one
//! is passed on. As PID 1 there is no shell above, and it goes on.
//!
//! # Example: what `kiln-supervisor init -g -- server` does
//! ```no_run
//! use kiln_supervisor::unix::init::{self, Options};
//!
//! let mut options = Options::new(["server"]);
//! options.group = true;
//! let code = init::run(&options, &mut |event| eprintln!("{event}"))?;
//! # Ok::<(), init::Error>(())
//! ```
#![warn(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::ffi::OsString;
use std::fmt;
use std::os::fd::AsFd;
use std::process::Command;

use nix::libc;
use nix::sys::signal::{SigSet, SigmaskHow, Signal as NixSignal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{getpgrp, tcgetpgrp, tcsetpgrp};
use rustix::process::{WaitOptions, WaitStatus};

use super::sys;
use crate::spec::Signal;
use crate::vocabulary::{Errno, ExitStatus, Pid, SpawnError, SpawnStep};

/// What to run, and how.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Program and arguments. A program without `/` is looked up in `PATH`.
    pub command: Vec<OsString>,
    /// Whether signals go to the command's whole process group (default: to its process alone).
    pub group: bool,
    /// Whether this process takes in the orphans among its descendants, as PID 1 does anyway.
    pub subreaper: bool,
    /// The signal that this process gets, and passes on, when its parent ends (default: none).
    pub parent_death: Option<Signal>,
    /// Codes of the command that count as success: 143, if `SIGTERM` is the way to end it.
    pub success: Vec<u8>,
}

impl Options {
    /// Runs this command; everything else as by default.
    #[must_use]
    pub fn new<S: Into<OsString>>(command: impl IntoIterator<Item = S>) -> Self {
        Self { command: command.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

/// Why the command was not run, or not to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no command.
    #[error("no command to run")]
    NoCommand,
    /// The command cannot be started.
    #[error("{0}")]
    Spawn(SpawnError),
    /// A system call that everything rests on.
    #[error(transparent)]
    System(#[from] super::Error),
}

impl Error {
    /// The code to exit with: 127 if there is no such program, 126 if it cannot be executed, as POSIX
    /// has it for shells; else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Spawn(error) => match error.errno.0 {
                libc::ENOENT | libc::ENOTDIR => 127,
                libc::EACCES | libc::ENOEXEC | libc::EISDIR | libc::ELIBBAD => 126,
                _ => 1,
            },
            Self::NoCommand | Self::System(_) => 1,
        }
    }
}

/// What happens meanwhile, for whoever wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Orphans will not come here: this is neither PID 1 nor a subreaper.
    ReapsNobody,
    /// The command runs.
    Started(Pid),
    /// A signal came, and was passed on.
    PassedOn(Signal),
    /// A signal came, and could not be passed on.
    NotPassedOn(Signal, Errno),
    /// An orphan has ended.
    Reaped(Pid, ExitStatus),
    /// The command has ended.
    Ended(ExitStatus),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReapsNobody => {
                f.write_str("orphans are not reaped: this is neither PID 1 nor a subreaper (-s)")
            }
            Self::Started(pid) => write!(f, "started as {pid}"),
            Self::PassedOn(signal) => write!(f, "{signal} passed on"),
            Self::NotPassedOn(signal, errno) => write!(f, "{signal} not passed on: {errno}"),
            Self::Reaped(pid, status) => write!(f, "reaped orphan {pid}: {status}"),
            Self::Ended(status) => write!(f, "the command ended: {status}"),
        }
    }
}

/// Runs the command to its end, and gives the code to exit with: the command's own, or 128 and the
/// number of the signal that ended it.
///
/// Blocks all signals in the calling thread, which should be the process's only one, and leaves them
/// blocked: what follows is the end of the process.
///
/// # Errors
/// There is no such command, or a system call fails without which nothing can be done.
pub fn run(options: &Options, on_event: &mut dyn FnMut(Event)) -> Result<u8, Error> {
    let system = |what| move |errno| Error::System(super::Error::system(what)(errno));
    if options.subreaper {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(|errno| system("become a child subreaper")(std::io::Error::from(errno)))?;
    }
    let is_first = rustix::process::getpid().is_init();
    if !is_first && !options.subreaper {
        on_event(Event::ReapsNobody);
    }
    sys::hear_of_children();
    let caught = caught();
    let inherited = caught
        .thread_swap_mask(SigmaskHow::SIG_BLOCK)
        .map_err(|errno| system("block signals")(errno.into()))?;
    let signals = SignalFd::with_flags(&caught, SfdFlags::SFD_CLOEXEC)
        .map_err(|errno| system("make a signalfd")(errno.into()))?;
    if let Some(signal) = options.parent_death {
        die_with_parent(signal)
            .map_err(|errno| system("ask for the parent's end")(std::io::Error::from(errno)))?;
    }
    let terminal = is_in_foreground();
    let child = spawn(&options.command, inherited, terminal)?;
    on_event(Event::Started(child));
    let mut init =
        Init { child, group: options.group, terminal, suspends: !is_first, stop_passed_on: false };
    loop {
        let number = match signals.read_signal() {
            Ok(Some(info)) => i32::try_from(info.ssi_signo).unwrap_or(0),
            Ok(None) | Err(nix::errno::Errno::EINTR) => continue,
            Err(errno) => return Err(system("read signals")(errno.into())),
        };
        match number {
            libc::SIGCHLD => {
                if let Some(status) = init.reap(on_event) {
                    on_event(Event::Ended(status));
                    return Ok(exit_code(status, &options.success));
                }
            }
            libc::SIGTTIN | libc::SIGTTOU => {}
            number => init.pass_on(number, on_event),
        }
    }
}

/// All signals but those that a fault of our own would raise.
pub(super) fn caught() -> SigSet {
    let mut set = SigSet::all();
    for signal in [
        NixSignal::SIGFPE,
        NixSignal::SIGILL,
        NixSignal::SIGSEGV,
        NixSignal::SIGBUS,
        NixSignal::SIGABRT,
        NixSignal::SIGTRAP,
        NixSignal::SIGSYS,
    ] {
        set.remove(signal);
    }
    set
}

fn die_with_parent(signal: Signal) -> rustix::io::Result<()> {
    let parent = rustix::process::getppid();
    let named =
        rustix::process::Signal::from_named_raw(signal.as_raw()).ok_or(rustix::io::Errno::INVAL)?;
    rustix::process::set_parent_process_death_signal(Some(named))?;
    // It may have ended just before, and then nobody would tell.
    if rustix::process::getppid() != parent {
        rustix::process::kill_process(rustix::process::getpid(), named)?;
    }
    Ok(())
}

/// Starts the command, and waits for its exec, so that what went wrong is known here.
fn spawn(command: &[OsString], mask: SigSet, terminal: bool) -> Result<Pid, Error> {
    let (program, arguments) = command.split_first().ok_or(Error::NoCommand)?;
    let mut command = Command::new(program);
    command.args(arguments);
    sys::in_own_group(&mut command, mask, terminal);
    let child = command.spawn().map_err(|error| {
        let errno = Errno(error.raw_os_error().unwrap_or(libc::EINVAL));
        let subject = program.to_string_lossy().into_owned();
        Error::Spawn(SpawnError { step: SpawnStep::Exec, errno, subject })
    })?;
    Ok(Pid(i32::try_from(child.id()).unwrap_or(0)))
}

/// Whether we are in the foreground of a terminal.
fn is_in_foreground() -> bool {
    tcgetpgrp(std::io::stdin().as_fd()) == Ok(getpgrp())
}

struct Init {
    child: Pid,
    group: bool,
    /// Whether the command has our terminal.
    terminal: bool,
    /// Whether there may be a shell above that wants to know of a stop.
    suspends: bool,
    /// Whether a `SIGTSTP` was passed on and nothing woke the command since.
    stop_passed_on: bool,
}

impl Init {
    fn pass_on(&mut self, number: i32, on_event: &mut dyn FnMut(Event)) {
        let Some(signal) = Signal::from_raw(number) else { return };
        if number == libc::SIGCONT {
            self.stop_passed_on = false;
            if is_in_foreground() {
                // A shell above gave us the terminal again, and it is ours to give.
                self.terminal = self.give_terminal(nix::unistd::Pid::from_raw(self.child.0));
            }
        }
        self.stop_passed_on |= number == libc::SIGTSTP;
        on_event(match self.send(number) {
            Ok(()) => Event::PassedOn(signal),
            Err(errno) => Event::NotPassedOn(signal, errno),
        });
    }

    fn send(&self, number: i32) -> Result<(), Errno> {
        let target = if self.group { self.child.0.saturating_neg() } else { self.child.0 };
        sys::kill(target, number)
    }

    /// Reaps all that have ended; gives how the command did, if it is among them.
    fn reap(&mut self, on_event: &mut dyn FnMut(Event)) -> Option<ExitStatus> {
        let mut ended = None;
        loop {
            let found = match rustix::process::wait(WaitOptions::NOHANG | WaitOptions::UNTRACED) {
                Ok(found) => found,
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return ended,
            };
            let Some((pid, status)) = found else { return ended };
            let pid = Pid(pid.as_raw_nonzero().get());
            match (status.stopping_signal(), pid == self.child) {
                (Some(signal), true) => self.stopped(signal),
                (Some(_), false) => {}
                (None, true) => ended = Some(convert(status)),
                (None, false) => on_event(Event::Reaped(pid, convert(status))),
            }
        }
    }

    /// The command was stopped, perhaps by its terminal.
    fn stopped(&self, signal: i32) {
        let by_terminal = matches!(signal, libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU);
        if !by_terminal || !self.suspends || !(self.terminal || self.stop_passed_on) {
            return;
        }
        let foreground = tcgetpgrp(std::io::stdin().as_fd());
        if foreground.is_ok_and(|group| group.as_raw() == self.child.0) {
            self.give_terminal(getpgrp());
        }
        // Returns when somebody sends SIGCONT, which is then read as any other.
        let own = rustix::process::getpid();
        let _ = rustix::process::kill_process(own, rustix::process::Signal::STOP);
    }

    /// SIGTTOU is blocked, so that this is allowed from the background too.
    fn give_terminal(&self, group: nix::unistd::Pid) -> bool {
        tcsetpgrp(std::io::stdin().as_fd(), group).is_ok()
    }
}

pub(super) fn convert(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Unknown,
    }
}

fn exit_code(status: ExitStatus, success: &[u8]) -> u8 {
    let code = match status {
        ExitStatus::Code(code) => u8::try_from(code).unwrap_or(u8::MAX),
        ExitStatus::Signal(signal) => u8::try_from(signal.saturating_add(128)).unwrap_or(u8::MAX),
        ExitStatus::Unknown => 1,
    };
    if success.contains(&code) { 0 } else { code }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes() {
        assert_eq!(exit_code(ExitStatus::Code(7), &[]), 7);
        assert_eq!(exit_code(ExitStatus::Signal(15), &[]), 143);
        assert_eq!(exit_code(ExitStatus::Signal(15), &[143]), 0);
        assert_eq!(exit_code(ExitStatus::Signal(64), &[]), 192);
    }

    #[test]
    fn faults_are_not_caught() {
        assert!(!caught().contains(NixSignal::SIGSEGV));
        assert!(caught().contains(NixSignal::SIGTSTP));
    }
}
