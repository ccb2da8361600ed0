//! What a panic does: it is told, and the process goes on as a new image with the old state.

use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

use super::spawn::STATE_VARIABLE;
use super::{reap, sys};
use crate::snapshot::Snapshot;
use crate::vocabulary::Time;

/// More state than this was not written by us: 16,384 services of some 130 bytes.
const STATE_LIMIT: u64 = 8 << 20;

/// Whether this process image was started to go on after a panic of another. What is done once at
/// boot has been done.
#[must_use]
pub fn resumed() -> bool {
    std::env::var_os(STATE_VARIABLE).is_some()
}

/// Makes a panic's message go to the kernel log (`/dev/kmsg`) too, where it is seen even if the
/// console is not. Later calls change nothing.
pub fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // one write is one record; `<2>` is the level "critical"
            let text = format!("<2>supervisor: {info}").replace('\n', " ");
            if let Ok(mut kmsg) = std::fs::OpenOptions::new().write(true).open("/dev/kmsg") {
                let _ = kmsg.write_all(text.as_bytes());
            }
            before(info);
        }));
    });
}

/// What the shell hands from image to image beside the machine's state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Legacy {
    pub(super) snapshot: Snapshot,
    pub(super) panics: u32,
    pub(super) last_panic: Time,
    /// Whether the clock has been set while somebody was looking.
    pub(super) time_set: bool,
    pub(super) fds: Vec<Inherited>,
}

/// A descriptor that is handed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inherited {
    pub(super) service: String,
    pub(super) kind: FdKind,
    pub(super) number: RawFd,
    /// What it is called, if it has a name.
    pub(super) name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FdKind {
    LogRead,
    LogWrite,
    NotifyPipe,
    NotifySocket,
    Socket,
    Stored,
    /// The control socket that is listened on.
    ControlSocket,
    /// A memfd with the services' times.
    ControlTimes,
    /// A memfd with the specs, as they were read last.
    Specs,
}

const KINDS: [(FdKind, &str); 9] = [
    (FdKind::Socket, "socket"),
    (FdKind::Stored, "stored"),
    (FdKind::LogRead, "log-read"),
    (FdKind::LogWrite, "log-write"),
    (FdKind::NotifyPipe, "notify-pipe"),
    (FdKind::NotifySocket, "notify-socket"),
    (FdKind::ControlSocket, "control-socket"),
    (FdKind::ControlTimes, "control-times"),
    (FdKind::Specs, "specs"),
];

impl Legacy {
    pub(super) fn encode(&self) -> String {
        use std::fmt::Write as _;
        let last = u64::try_from(self.last_panic.as_millis()).unwrap_or(u64::MAX);
        let mut text = format!("panics {} {last}\n", self.panics);
        if self.time_set {
            text.push_str("time-set\n");
        }
        for Inherited { service, kind, number, name } in &self.fds {
            let kind = KINDS.iter().find(|(known, _)| known == kind).map_or("", |(_, word)| word);
            let _ = writeln!(text, "fd {service} {kind} {number} {name}");
        }
        let _ = write!(text, "{}", self.snapshot);
        text
    }

    pub(super) fn decode(text: &str) -> Option<Self> {
        let start = text.find("kiln-supervisor ")?;
        let (head, body) = text.split_at_checked(start)?;
        let mut legacy = Self { snapshot: body.parse().ok()?, ..Self::default() };
        for line in head.lines() {
            let words: Vec<&str> = line.splitn(5, ' ').collect();
            match words.as_slice() {
                ["panics", count, last] => {
                    legacy.panics = count.parse().ok()?;
                    legacy.last_panic = Time::from_millis(last.parse().ok()?);
                }
                ["time-set"] => legacy.time_set = true,
                ["fd", service, kind, number, name] => legacy.fds.push(Inherited {
                    service: (*service).to_owned(),
                    kind: KINDS.iter().find(|(_, word)| word == kind)?.0,
                    number: number.parse().ok()?,
                    name: (*name).to_owned(),
                }),
                _ => return None,
            }
        }
        Some(legacy)
    }

    /// The state that the process image before this one has left, if there was one; `Err` if it
    /// cannot be understood.
    pub(super) fn inherited() -> Option<Result<Self, ()>> {
        // once: the number may be of another file by the next time
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        let number = std::env::var(STATE_VARIABLE).ok()?;
        Some(Self::read(&number).ok_or(()))
    }

    fn read(number: &str) -> Option<Self> {
        let number = number.parse().ok()?;
        let mut file = std::fs::File::from(sys::adopt_fd(number)?);
        file.rewind().ok()?;
        let mut text = String::new();
        file.take(STATE_LIMIT).read_to_string(&mut text).ok()?;
        Self::decode(&text)
    }

    /// Executes this program again, with the same arguments; returns only if that fails.
    pub(super) fn reexec(&self, keep: &[BorrowedFd<'_>]) -> std::io::Error {
        match self.prepare(keep) {
            Ok((memfd, arguments)) => {
                let mut arguments = arguments.into_iter();
                let mut command = std::process::Command::new("/proc/self/exe");
                if let Some(name) = arguments.next() {
                    command.arg0(name);
                }
                command.args(arguments).env(STATE_VARIABLE, memfd.as_raw_fd().to_string()).exec()
            }
            Err(error) => error,
        }
    }

    fn prepare(
        &self,
        keep: &[BorrowedFd<'_>],
    ) -> std::io::Result<(std::fs::File, Vec<std::ffi::OsString>)> {
        let flags = rustix::fs::MemfdFlags::empty();
        let memfd = rustix::fs::memfd_create("kiln-supervisor", flags)?;
        let mut file = std::fs::File::from(memfd);
        file.write_all(self.encode().as_bytes())?;
        for fd in keep {
            rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
        }
        Ok((file, std::env::args_os().collect()))
    }
}

/// What is tried before the last resort, once.
static ON_EMERGENCY: OnceLock<fn()> = OnceLock::new();

/// Has something done before the last resort. The first call counts.
#[cfg(feature = "pid1")]
pub(crate) fn on_emergency(work: fn()) {
    let _ = ON_EMERGENCY.set(work);
}

/// The last resort of a PID 1: stay alive and reap, so that the kernel does not panic and what
/// runs goes on. Never returns.
pub(crate) fn emergency(why: &dyn std::fmt::Display) -> ! {
    static ENTERED: AtomicBool = AtomicBool::new(false);
    super::console::write(format!("supervisor: {why}\n").as_bytes());
    if let Some(work) = ON_EMERGENCY.get()
        && !ENTERED.swap(true, Ordering::Relaxed)
    {
        let _ = std::panic::catch_unwind(work);
    }
    super::console::write(b"supervisor: nothing is supervised any more; reaping only\n");
    loop {
        // blocking; with no child at all it would return at once, hence the pause
        while !matches!(reap::reap_any(), reap::Ended::Nobody) {}
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_on_comes_back() {
        let text = "panics 2 61000\ntime-set\nfd nomad log-read 7 \nfd nomad log-write 8 \n\
                    fd web socket 10 two words\nfd net notify-pipe 9 \n\
                    fd . control-socket 10 \nfd . control-times 11 \nkiln-supervisor 2\ntoken 12\n\
                    shutdown reboot 1000 2000 1\n\
                    service nomad 1 0 1 0 5012 3 1 up 212\n\
                    service net 1 1 0 0 5 0 0 unready 213 900\n\
                    service old 0 0 1 0 0 0 0 failed exit code 1\n\
                    service b 1 0 1 0 7 2 2 backoff 88\n\
                    service s 0 0 1 1 7 2 2 stopping 9 - 1 not-ready\n";
        let legacy = Legacy::decode(text).unwrap();
        assert_eq!(legacy.encode(), text);
        for broken in
            ["", "kiln-supervisor 1\n", "x\nkiln-supervisor 2\n", "kiln-supervisor 2\nservice a\n"]
        {
            assert_eq!(Legacy::decode(broken), None, "{broken:?}");
        }
    }
}
