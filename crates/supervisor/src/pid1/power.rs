//! The power button, and the last steps of a machine's life.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::system::RebootCommand;

use super::mounts;
use super::uevent::Uevents;
use crate::unix::{Request, Source};
use crate::vocabulary::Outcome;

/// Key codes of `include/uapi/linux/input-event-codes.h`.
const KEY_POWER: u16 = 116;
const KEY_RESTART: u16 = 408;
const EV_KEY: u16 = 1;
/// `struct input_event` where `long` has 64 bits: time (16), type (2), code (2), value (4).
const EVENT_SIZE: usize = 24;
/// The epoll key of the kernel's announcements; the rest are numbers of event devices.
const UEVENTS: u64 = u64::MAX;

/// Waits for power buttons: every input device that has `KEY_POWER` or `KEY_RESTART`, those that
/// are there and those that appear later (the kernel announces them on a netlink socket).
#[derive(Debug)]
pub struct PowerButton {
    epoll: OwnedFd,
    uevents: Option<Uevents>,
    devices: BTreeMap<u64, std::fs::File>,
}

impl PowerButton {
    /// Opens what there is.
    ///
    /// # Errors
    /// Not even an epoll set can be had.
    pub fn open() -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let uevents = Uevents::listen().ok();
        if let Some(socket) = &uevents {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(UEVENTS), epoll::EventFlags::IN)?;
        }
        let mut button = Self { epoll, uevents, devices: BTreeMap::new() };
        button.rescan();
        Ok(button)
    }

    /// How many devices are listened to.
    #[must_use]
    pub fn devices(&self) -> usize {
        self.devices.len()
    }

    /// Looks for devices that are not listened to yet.
    pub fn rescan(&mut self) {
        let Ok(entries) = std::fs::read_dir("/sys/class/input") else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(number) = name.strip_prefix("event").and_then(|n| n.parse().ok()) else {
                continue;
            };
            let keys = std::fs::read_to_string(entry.path().join("device/capabilities/key"));
            let wanted = keys.is_ok_and(|k| has_key(&k, KEY_POWER) || has_key(&k, KEY_RESTART));
            if !wanted || self.devices.contains_key(&number) {
                continue;
            }
            let flags = nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC;
            let file = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(format!("/dev/input/{name}"));
            let Ok(file) = file else { continue };
            let data = epoll::EventData::new_u64(number);
            if epoll::add(&self.epoll, &file, data, epoll::EventFlags::IN).is_ok() {
                self.devices.insert(number, file);
            }
        }
    }

    fn announced(&self) -> bool {
        let Some(socket) = &self.uevents else { return false };
        let mut input = false;
        let taken = socket.take(|news| input |= news.get("SUBSYSTEM") == Some(b"input"));
        // some were lost: look
        input || taken.is_err()
    }
}

impl Source for PowerButton {
    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn take(&mut self) -> std::io::Result<Vec<Request>> {
        let mut requests = Vec::new();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(16);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&now))?;
        for event in events {
            let number = event.data.u64();
            if number == UEVENTS {
                if self.announced() {
                    self.rescan();
                }
                continue;
            }
            let Some(device) = self.devices.get_mut(&number) else { continue };
            let mut buffer = [0_u8; EVENT_SIZE * 32];
            match device.read(&mut buffer) {
                Ok(length @ 1..) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    requests.extend(bytes.chunks_exact(EVENT_SIZE).filter_map(pressed));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                // unplugged
                _ => drop(self.devices.remove(&number)),
            }
        }
        // a bouncing or impatient button is one request, or it would force the shutdown
        requests.dedup();
        Ok(requests)
    }
}

/// What an event asks for: the press of a key (value 1), not its release or repeat.
fn pressed(event: &[u8]) -> Option<Request> {
    let half = |at: usize| match event.get(at..at + 2) {
        Some(&[a, b]) => Some(u16::from_ne_bytes([a, b])),
        _ => None,
    };
    let value = match event.get(20..24)? {
        &[a, b, c, d] => i32::from_ne_bytes([a, b, c, d]),
        _ => return None,
    };
    match (half(16)?, half(18)?, value) {
        (EV_KEY, KEY_POWER, 1) => Some(Request::Shutdown(Outcome::PowerOff)),
        (EV_KEY, KEY_RESTART, 1) => Some(Request::Shutdown(Outcome::Reboot)),
        _ => None,
    }
}

/// Whether a bitmap as sysfs shows it (words of 64 bits in hexadecimal, the highest first) has a
/// bit.
fn has_key(bitmap: &str, key: u16) -> bool {
    let word = bitmap.split_whitespace().rev().nth(usize::from(key / 64));
    word.and_then(|word| u64::from_str_radix(word, 16).ok())
        .is_some_and(|word| word >> (key % 64) & 1 == 1)
}

/// How long processes that are left have between `SIGTERM` and `SIGKILL`, and after it.
const LAST_WAIT: Duration = Duration::from_secs(3);
/// How long writing back and unmounting may take.
const DISK_WAIT: Duration = Duration::from_secs(20);

/// Ends the machine: `SIGTERM` to all that is left, a bounded wait, `SIGKILL`, write back, unmount
/// or remount read-only (bounded), and reboot(2). Never returns. If this is not PID 1, only the
/// process is left.
pub fn finish(outcome: Outcome) -> ! {
    if !rustix::process::getpid().is_init() {
        leave(0);
    }
    everyone_goes();
    let (done, wait) = mpsc::channel();
    let worker = std::thread::Builder::new().spawn(move || {
        rustix::fs::sync();
        unmount_all();
        let _ = done.send(());
    });
    if worker.is_ok() && wait.recv_timeout(DISK_WAIT).is_err() {
        say("disks do not answer; going anyway");
    }
    let command = match outcome {
        Outcome::PowerOff | Outcome::Exit => RebootCommand::PowerOff,
        Outcome::Reboot => RebootCommand::Restart,
        Outcome::Halt => RebootCommand::Halt,
    };
    let result = rustix::system::reboot(command);
    // a kernel without a way to power off returns
    crate::unix::emergency(&format_args!("cannot {outcome}: {result:?}"))
}

#[expect(
    clippy::exit,
    reason = "finish never returns; without PID 1's powers this is what is left"
)]
pub(super) fn leave(code: i32) -> ! {
    std::process::exit(code)
}

fn say(text: &str) {
    crate::unix::console::write(format!("supervisor: {text}\n").as_bytes());
}

fn everyone_goes() {
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
        let deadline = Instant::now() + LAST_WAIT;
        while Instant::now() < deadline {
            match rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => std::thread::sleep(Duration::from_millis(10)),
                // no child at all; every process is a descendant of PID 1
                Err(_) => return,
            }
        }
    }
}

/// The kernel's own file systems: nothing of them is on a disk.
const VIRTUAL: [&str; 18] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup2",
    "cgroup",
    "mqueue",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "bpf",
    "hugetlbfs",
    "binfmt_misc",
    "pstore",
];

fn unmount_all() {
    // what was mounted last goes first
    for entry in mounts::table().into_iter().rev() {
        if VIRTUAL.contains(&entry.fstype.as_str()) {
            continue;
        }
        let target = entry.target.as_str();
        let flags = rustix::mount::UnmountFlags::NOFOLLOW;
        if target != "/" && rustix::mount::unmount(target, flags).is_ok() {
            continue;
        }
        let read_only = rustix::mount::MountFlags::RDONLY;
        if let Err(error) = rustix::mount::mount_remount(target, read_only, c"") {
            say(&format!("{target} stays as it is: {error}"));
        }
    }
    rustix::fs::sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_press_of_the_right_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0_u8; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            assert_eq!(bytes.len(), EVENT_SIZE);
            bytes
        };
        assert_eq!(pressed(&event(1, 116, 1)), Some(Request::Shutdown(Outcome::PowerOff)));
        assert_eq!(pressed(&event(1, 408, 1)), Some(Request::Shutdown(Outcome::Reboot)));
        for (kind, code, value) in [(1, 116, 0), (1, 116, 2), (0, 116, 1), (1, 30, 1)] {
            assert_eq!(pressed(&event(kind, code, value)), None);
        }
        assert_eq!(pressed(&[0; 5]), None);
    }

    #[test]
    fn bitmaps_have_the_highest_word_first() {
        // an ACPI power button's: bit 116 is bit 52 of the second word from the right
        assert!(has_key("10000000000000 0\n", KEY_POWER));
        assert!(!has_key("0 10000000000000\n", KEY_POWER));
        assert!(!has_key("", KEY_POWER));
        assert!(!has_key("zz zz", KEY_POWER));
    }
}
