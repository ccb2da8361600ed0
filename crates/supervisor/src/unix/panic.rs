//! What a panic does: it is told, and the process goes on as a new image with the old state.

use std::io::Write;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Once, OnceLock};

use super::image::STATE_VARIABLE;
use super::{reap, reserve};
use crate::snapshot::Snapshot;
use crate::vocabulary::{ExitStatus, Pid, Time};

/// Whether this process image was started to go on where another was: after a panic, because memory was
/// short, or because somebody asked for it. What is done once at boot has been done.
///
/// To be asked early: from then on such an image [waits](super::Reserve) for memory rather than end.
#[must_use]
pub fn resumed() -> bool {
    let resumed = std::env::var_os(STATE_VARIABLE).is_some();
    if resumed {
        reserve::must_not_end();
    }
    resumed
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
    /// Whether somebody has asked for the new image; else it comes of a panic.
    pub(super) asked: bool,
    /// Whether it comes of a want of memory.
    pub(super) for_memory: bool,
    /// When that was so last.
    pub(super) relieved: Option<Time>,
    /// The soft limit of open files that services get, where the supervisor has raised its own.
    pub(super) nofile: Option<u64>,
    /// The niceness that services get, where the supervisor has changed its own.
    pub(super) nice: Option<i32>,
    /// Children that are no service's main process, and whether nobody waits for them any more.
    pub(super) left: Vec<(Pid, bool)>,
    /// Processes that the state may say run, and that have ended and are reaped.
    pub(super) ended: Vec<(Pid, ExitStatus)>,
    /// Services that have said to be ready, which the state may not know.
    pub(super) ready: Vec<String>,
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
    /// The connection of a client that has asked for the new image and waits for it.
    ControlAsker,
    /// A memfd with the specs, as they were read last.
    Specs,
    /// What a newer version hands on, and this one does not know.
    Unknown,
}

const KINDS: [(FdKind, &str); 10] = [
    (FdKind::Socket, "socket"),
    (FdKind::Stored, "stored"),
    (FdKind::LogRead, "log-read"),
    (FdKind::LogWrite, "log-write"),
    (FdKind::NotifyPipe, "notify-pipe"),
    (FdKind::NotifySocket, "notify-socket"),
    (FdKind::ControlSocket, "control-socket"),
    (FdKind::ControlTimes, "control-times"),
    (FdKind::ControlAsker, "control-asker"),
    (FdKind::Specs, "specs"),
];

impl Legacy {
    pub(super) fn encode(&self) -> String {
        use std::fmt::Write as _;
        let millis = |time: Time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let mut text = format!("panics {} {}\n", self.panics, millis(self.last_panic));
        if self.time_set {
            text.push_str("time-set\n");
        }
        if self.asked {
            text.push_str("asked\n");
        }
        if self.for_memory {
            text.push_str("for-memory\n");
        }
        if let Some(at) = self.relieved {
            let _ = writeln!(text, "relieved {}", millis(at));
        }
        if let Some(limit) = self.nofile {
            let _ = writeln!(text, "nofile {limit}");
        }
        if let Some(nice) = self.nice {
            let _ = writeln!(text, "nice {nice}");
        }
        for (pid, unwanted) in &self.left {
            let _ = writeln!(text, "left {pid} {}", u8::from(*unwanted));
        }
        for (pid, status) in &self.ended {
            let (word, number) = match status {
                ExitStatus::Code(code) => ("code", *code),
                ExitStatus::Signal(signal) => ("signal", *signal),
                ExitStatus::Unknown => ("unknown", 0),
            };
            let _ = writeln!(text, "ended {pid} {word} {number}");
        }
        for name in &self.ready {
            let _ = writeln!(text, "ready {name}");
        }
        for Inherited { service, kind, number, name } in &self.fds {
            let kind = KINDS.iter().find(|(known, _)| known == kind).map_or("", |(_, word)| word);
            let _ = writeln!(text, "fd {service} {kind} {number} {name}");
        }
        let _ = write!(text, "{}", self.snapshot);
        text
    }

    /// Reads what another image has left; `None` if it cannot be understood. Lines and kinds of
    /// descriptors that are not known come from a newer version of this program, which writes them so
    /// only if they can be done without.
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
                ["asked"] => legacy.asked = true,
                ["for-memory"] => legacy.for_memory = true,
                ["relieved", at] => legacy.relieved = Some(Time::from_millis(at.parse().ok()?)),
                ["nofile", limit] => legacy.nofile = Some(limit.parse().ok()?),
                ["nice", nice] => legacy.nice = Some(nice.parse().ok()?),
                ["left", pid, unwanted @ ("0" | "1")] => {
                    legacy.left.push((Pid(pid.parse().ok()?), *unwanted == "1"));
                }
                ["ready", name] => legacy.ready.push((*name).to_owned()),
                ["ended", pid, word, number] => {
                    let number = number.parse().ok()?;
                    let status = match *word {
                        "code" => ExitStatus::Code(number),
                        "signal" => ExitStatus::Signal(number),
                        "unknown" => ExitStatus::Unknown,
                        _ => return None,
                    };
                    legacy.ended.push((Pid(pid.parse().ok()?), status));
                }
                ["fd", service, kind, number, name] => legacy.fds.push(Inherited {
                    service: (*service).to_owned(),
                    kind: KINDS
                        .iter()
                        .find(|(_, word)| word == kind)
                        .map_or(FdKind::Unknown, |k| k.0),
                    number: number.parse().ok()?,
                    name: (*name).to_owned(),
                }),
                [
                    "panics" | "time-set" | "asked" | "for-memory" | "relieved" | "nofile" | "nice"
                    | "left" | "ended" | "fd",
                    ..,
                ] => {
                    return None;
                }
                _ => {}
            }
        }
        Some(legacy)
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
        let text = "panics 2 61000\ntime-set\nasked\nfor-memory\nrelieved 5000\nnofile 1024\nnice -3\nleft 77 0\nleft 78 1\n\
                    ended 79 code 3\nended 80 signal 9\nended 81 unknown 0\nready net\n\
                    fd nomad log-read 7 \nfd nomad log-write 8 \n\
                    fd web socket 10 two words\nfd net notify-pipe 9 \n\
                    fd . control-socket 10 \nfd . control-times 11 \nfd . control-asker 12 \nkiln-supervisor 2\ntoken 12\n\
                    shutdown reboot 1000 2000 1\n\
                    service nomad 1 0 1 0 5012 3 1 up 212\n\
                    service net 1 1 0 0 5 0 0 unready 213 900\n\
                    service old 0 0 1 0 0 0 0 failed exit code 1\n\
                    service b 1 0 1 0 7 2 2 backoff 88\n\
                    service s 0 0 1 1 7 2 2 stopping 9 - 1 not-ready\n";
        let legacy = Legacy::decode(text).unwrap();
        assert_eq!(legacy.encode(), text);
        for broken in [
            "",
            "kiln-supervisor 1\n",
            "left x 0\nkiln-supervisor 2\n",
            "kiln-supervisor 2\nservice a\n",
        ] {
            assert_eq!(Legacy::decode(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn what_another_version_has_left_is_understood_or_refused_as_a_whole() {
        // more than is known, of the same version: it can be done without
        let more = "panics 0 0\nweather fine\nfd . telephone 9 \nkiln-supervisor 2\nmood good\n\
                    service a 1 0 1 0 5012 3 1 up 212 with more\n";
        let legacy = Legacy::decode(more).unwrap();
        let pids: Vec<_> = legacy.snapshot.processes().collect();
        assert_eq!(pids, [("a", Pid(212))]);
        // its descriptor is known of, to be closed
        assert_eq!((legacy.fds[0].kind, legacy.fds[0].number), (FdKind::Unknown, 9));
        // a version that means something else by the same words
        assert_eq!(Legacy::decode("panics 0 0\nkiln-supervisor 3\nservice a up 212\n"), None);
    }
}
