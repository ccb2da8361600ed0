//! The power button. What happens when it was pressed is `ending`'s affair.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use rustix::event::{Timespec, epoll};

pub use super::ending::finish;
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
    let half = |at: usize| match event.get(at..at.saturating_add(2)) {
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

#[expect(
    clippy::exit,
    reason = "finish never returns; without PID 1's powers this is what is left"
)]
pub(super) fn leave(code: i32) -> ! {
    std::process::exit(code)
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
