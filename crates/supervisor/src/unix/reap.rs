//! Who has ended: found while still a zombie, reaped afterwards.

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, WaitStatus as Raw};

use crate::vocabulary::{ExitStatus, Pid};

fn raw(pid: Pid) -> Option<rustix::process::Pid> {
    rustix::process::Pid::from_raw(pid.0)
}

/// How a child has ended, if it has; it stays a zombie. A child that is none is `Unknown`.
pub(super) fn look(pid: Pid) -> Option<ExitStatus> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    match rustix::process::waitid(WaitId::Pid(raw(pid)?), options) {
        Ok(None) => None,
        Ok(Some(status)) => Some(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, Some(signal)) => ExitStatus::Signal(signal),
            (None, None) => ExitStatus::Unknown,
        }),
        Err(_) => Some(ExitStatus::Unknown),
    }
}

/// Lets the zombie go.
pub(super) fn reap(pid: Pid) {
    if let Some(pid) = raw(pid) {
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// Some child that has ended.
pub(super) enum Ended {
    /// Still a zombie.
    Zombie(Pid, ExitStatus),
    /// Already reaped, because it could only be found that way.
    Reaped(Pid, ExitStatus),
    /// There is none.
    Nobody,
}

/// Looks for any child that has ended.
pub(super) fn look_for_any() -> Ended {
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    match waitid(Id::All, flags) {
        Ok(WaitStatus::Exited(pid, code)) => {
            Ended::Zombie(Pid(pid.as_raw()), ExitStatus::Code(code))
        }
        Ok(WaitStatus::Signaled(pid, signal, _)) => {
            Ended::Zombie(Pid(pid.as_raw()), ExitStatus::Signal(signal as i32))
        }
        // a real-time signal, for which that function has no word
        Err(nix::errno::Errno::EINVAL) => reap_any(),
        _ => Ended::Nobody,
    }
}

/// Reaps any child that has ended.
pub(super) fn reap_any() -> Ended {
    match rustix::process::wait(WaitOptions::NOHANG) {
        Ok(Some((pid, status))) => Ended::Reaped(Pid(pid.as_raw_nonzero().get()), convert(status)),
        _ => Ended::Nobody,
    }
}

fn convert(status: Raw) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Code(code),
        (None, Some(signal)) => ExitStatus::Signal(signal),
        (None, None) => ExitStatus::Unknown,
    }
}
