//! The last steps of a machine's life, each of them bounded: what is left is killed, written back and
//! unmounted, and the machine is switched off; by force where the kernel does not do it.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::system::RebootCommand;

use super::storage;
use super::{kexec, watchdog};
use crate::vocabulary::Outcome;

/// How long the kernel has between being asked by sysrq to switch off and to reset.
const SYSRQ_WAIT: Duration = Duration::from_secs(5);
/// `PROC_PID_INIT_INO` of linux/proc_ns.h: the namespace of processes of the machine itself.
const MACHINE: &str = "pid:[4026531836]";

type Work = Box<dyn FnOnce() -> Result<(), String> + Send>;

/// How a machine ends. Two waits of `last_wait`, `disk_wait` and `reboot_wait` together are the
/// longest that it takes.
#[non_exhaustive]
pub struct Ending {
    /// How long processes that are left have between `SIGTERM` and `SIGKILL`, and after it
    /// (default: 3 s).
    pub last_wait: Duration,
    /// How long writing back and unmounting may take (default: 20 s).
    pub disk_wait: Duration,
    /// How long reboot(2) may take before the machine is reset by sysrq (default: 10 s).
    pub reboot_wait: Duration,
    /// The watchdog, which stays armed until the machine is off.
    pub watchdog: Option<watchdog::Device>,
    last: Vec<(String, Work)>,
}

impl Default for Ending {
    fn default() -> Self {
        Self {
            last_wait: Duration::from_secs(3),
            disk_wait: Duration::from_secs(20),
            reboot_wait: Duration::from_secs(10),
            watchdog: None,
            last: Vec::new(),
        }
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last: Vec<&String> = self.last.iter().map(|(what, _)| what).collect();
        f.debug_struct("Ending")
            .field("last_wait", &self.last_wait)
            .field("disk_wait", &self.disk_wait)
            .field("reboot_wait", &self.reboot_wait)
            .field("watchdog", &self.watchdog)
            .field("last", &last)
            .finish()
    }
}

impl Ending {
    /// Does something of the caller's own when all processes are gone and disks are still mounted,
    /// such as [`random_seed::save`](super::random_seed::save). It has a share of `disk_wait`.
    pub fn at_end(
        &mut self,
        what: impl fmt::Display,
        work: impl FnOnce() -> Result<(), String> + Send + 'static,
    ) {
        self.last.push((what.to_string(), Box::new(work)));
    }

    /// Ends the machine: `SIGTERM` to all that is left, a bounded wait, `SIGKILL`; what was to be done
    /// last; write back and unmount; reboot(2), and sysrq if that does not return. Never returns. If
    /// this is not PID 1, only the process is left.
    pub fn finish(mut self, outcome: Outcome) -> ! {
        if !rustix::process::getpid().is_init() {
            super::power::leave(0);
        }
        let took = self.watchdog.as_ref().and_then(watchdog::Device::last_time);
        if let Some(took) = took {
            say(&format!("the watchdog resets the machine in {took:?} unless it is off"));
        }
        let waits = [self.last_wait, self.last_wait, self.disk_wait, self.reboot_wait];
        let all = waits.iter().fold(Duration::ZERO, |sum, wait| sum.saturating_add(*wait));
        force_after(all, outcome);
        everyone_goes(self.last_wait);
        self.feed();
        let last = std::mem::take(&mut self.last);
        storage::put_away(last, self.disk_wait);
        self.feed();
        self.leave_to_kernel(outcome)
    }

    fn feed(&self) {
        if let Some(Err(error)) = self.watchdog.as_ref().map(watchdog::Device::feed) {
            say(&format!("feed the watchdog: {error}"));
        }
    }

    fn leave_to_kernel(&self, outcome: Outcome) -> ! {
        let command = match outcome {
            Outcome::PowerOff | Outcome::Exit => RebootCommand::PowerOff,
            Outcome::Reboot => RebootCommand::Restart,
            Outcome::Halt => RebootCommand::Halt,
            Outcome::Kexec if kexec::is_loaded() => RebootCommand::Kexec,
            Outcome::Kexec => {
                say("no kernel is loaded: the machine starts again by its firmware");
                RebootCommand::Restart
            }
        };
        // What is halted stays, and the next kernel may know nothing of a watchdog.
        if matches!(command, RebootCommand::Halt | RebootCommand::Kexec)
            && let Some(Err(error)) = self.watchdog.as_ref().map(watchdog::Device::disarm)
        {
            say(&format!("disarm the watchdog: {error}"));
        }
        let mut result = rustix::system::reboot(command);
        if command == RebootCommand::Kexec {
            say(&format!("cannot start the kernel that is loaded: {result:?}"));
            result = rustix::system::reboot(RebootCommand::Restart);
        }
        // a kernel without a way to power off returns
        crate::unix::emergency(&format_args!("cannot {outcome}: {result:?}"))
    }
}

/// Ends the machine with what [`Ending`] has by default.
pub fn finish(outcome: Outcome) -> ! {
    Ending::default().finish(outcome)
}

pub(super) fn say(text: &str) {
    crate::unix::console::write(format!("supervisor: {text}\n").as_bytes());
}

/// Resets the machine when that much time is over, whatever hangs by then: the key comes to the
/// kernel without any lock that reboot(2) holds (drivers/tty/sysrq.c). In a container it would be the
/// host's, so there nothing is forced.
fn force_after(wait: Duration, outcome: Outcome) {
    let keys: &[u8] = match outcome {
        Outcome::PowerOff | Outcome::Exit => b"ob",
        Outcome::Reboot | Outcome::Kexec => b"b",
        Outcome::Halt => return,
    };
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    if !namespace.is_ok_and(|name| name.as_os_str() == MACHINE) {
        return;
    }
    let Ok(mut trigger) = OpenOptions::new().write(true).open("/proc/sysrq-trigger") else {
        return say("there is no sysrq: an end that hangs is not forced");
    };
    let thread = std::thread::Builder::new().spawn(move || {
        std::thread::sleep(wait);
        say(&format!("not off after {wait:?}: forced"));
        for key in keys {
            let _ = trigger.write_all(&[*key]);
            std::thread::sleep(SYSRQ_WAIT);
        }
    });
    if let Err(error) = thread {
        say(&format!("no thread to force the end: {error}"));
    }
}

fn everyone_goes(wait: Duration) {
    use nix::sys::signal::{Signal, kill};
    let all = nix::unistd::Pid::from_raw(-1);
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // ESRCH: nobody is left
        if kill(all, signal).is_err() {
            return;
        }
        if signal == Signal::SIGTERM {
            // a stopped process does not see it otherwise
            let _ = kill(all, Signal::SIGCONT);
        }
        let began = Instant::now();
        while began.elapsed() < wait {
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                // no child at all; every process is a descendant of PID 1
                Err(_) => return,
            }
        }
    }
    say("processes are left that cannot be killed");
}

/// Does something on another thread, and waits for so long; `None` if it is not done by then. It may
/// go on, which a process that ends soon need not mind.
pub(super) fn bounded<T: Send + 'static>(
    wait: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (done, answer) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().spawn(move || {
        let _ = done.send(work());
    });
    // There are threads to be had: everybody else is gone.
    thread.ok().and_then(|_| answer.recv_timeout(wait).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_that_hangs_is_left_behind() {
        let (_hold, never) = mpsc::channel::<()>();
        assert_eq!(bounded(Duration::from_millis(20), move || never.recv().is_ok()), None);
        assert_eq!(bounded(Duration::from_secs(60), || 7), Some(7));
        let failed: Option<()> = bounded(Duration::from_secs(60), || panic!("no"));
        assert_eq!(failed, None);
    }

    #[test]
    fn what_is_done_last_is_named() {
        let mut ending = Ending::default();
        ending.at_end("keep the seed", || Ok(()));
        assert!(format!("{ending:?}").contains("keep the seed"));
    }
}
