//! The hardware watchdog: a clock in the machine that resets it unless it is fed
//! (`Documentation/watchdog/watchdog-api.rst`).
//!
//! It is fed by the loop of [`unix::run`](crate::unix::run) and by nothing else, so that a loop that
//! hangs ends in a reset. At the end of the machine's life it is set to a longer time and stays armed:
//! a power off that hangs ends in a reset too. At a halt, and before another kernel is started by
//! kexec, it is disarmed.
//!
//! When this process executes itself again after a panic, the kernel keeps the clock running (the
//! device is closed without the letter that disarms it), and the new image opens and feeds it: one
//! that hangs before it does is reset.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use super::sys;
use super::uevent::Uevents;
use crate::unix::{Request, Source};

/// The epoll keys.
const TIMER: u64 = 0;
const UEVENTS: u64 = 1;
/// Feeding disarms nothing; this letter before the device is closed does ("magic close").
const DISARM: &[u8] = b"V";
const FEED: &[u8] = b"\0";

/// Which watchdog, and how long it waits.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The device (default: `/dev/watchdog`). It may appear later.
    pub device: PathBuf,
    /// After how long without food it resets the machine (default: 30 s). It is fed three times as
    /// often. A driver may take another time; the one that it took counts.
    pub timeout: Duration,
    /// The same from the moment when services have stopped (default: 2 min).
    pub shutdown_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            device: "/dev/watchdog".into(),
            timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(120),
        }
    }
}

/// The device as the end of the machine's life needs it, when the loop is over.
#[derive(Debug, Clone)]
pub struct Device(Arc<Mutex<Option<File>>>, Duration);

impl Device {
    fn file(&self) -> MutexGuard<'_, Option<File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one that waits for food.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        self.file().is_some()
    }

    /// Feeds it once.
    ///
    /// # Errors
    /// The driver's.
    pub fn feed(&self) -> io::Result<()> {
        self.file().as_mut().map_or(Ok(()), |file| file.write_all(FEED))
    }

    /// Sets the time for the rest of the machine's life, feeds it once, and gives the time that the
    /// driver took; `None` without a watchdog.
    pub(super) fn last_time(&self) -> Option<Duration> {
        let mut file = self.file();
        let file = file.as_mut()?;
        let took = set(file, self.1).ok();
        let _ = file.write_all(FEED);
        took
    }

    /// Disarms and closes it, so that it does not reset the machine. Returns whether it was armed; a
    /// kernel with `nowayout` does not let it go.
    ///
    /// # Errors
    /// The driver's.
    pub fn disarm(&self) -> io::Result<bool> {
        match self.file().take() {
            Some(mut file) => file.write_all(DISARM).map(|()| true),
            None => Ok(false),
        }
    }
}

/// Asks for a time, and gives the one that counts.
fn set(file: &File, timeout: Duration) -> io::Result<Duration> {
    let wanted = i32::try_from(timeout.as_secs().max(1)).unwrap_or(i32::MAX);
    let taken = match sys::set_watchdog_timeout(file, wanted) {
        Ok(_) => sys::watchdog_timeout(file)?,
        // Not all can be told; or a smaller time only.
        Err(error) => sys::watchdog_timeout(file).map_err(|_| error)?,
    };
    Ok(Duration::from_secs(u64::try_from(taken).unwrap_or(0).max(1)))
}

/// Feeds a watchdog, as a [`Source`] of the loop. One whose driver is loaded later is found when the
/// kernel announces it.
#[derive(Debug)]
pub struct Watchdog {
    settings: Settings,
    device: Device,
    epoll: OwnedFd,
    timer: OwnedFd,
    uevents: Option<Uevents>,
}

impl Watchdog {
    /// Opens and arms the device, or waits for it.
    ///
    /// # Errors
    /// A timer cannot be had, or the device is there and cannot be opened.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let watch = |fd: BorrowedFd<'_>, key: u64| {
            epoll::add(&epoll, fd, epoll::EventData::new_u64(key), epoll::EventFlags::IN)
        };
        watch(timer.as_fd(), TIMER)?;
        let uevents = Uevents::listen().ok();
        if let Some(uevents) = &uevents {
            watch(uevents.as_fd(), UEVENTS)?;
        }
        let device = Device(Arc::default(), settings.shutdown_timeout);
        let mut watchdog = Self { settings, device, epoll, timer, uevents };
        watchdog.arm()?;
        Ok(watchdog)
    }

    /// The device, for whoever ends the machine.
    #[must_use]
    pub fn device(&self) -> Device {
        self.device.clone()
    }

    /// Opens the device, which arms it, unless it is open; `None` while there is none.
    fn arm(&mut self) -> io::Result<Option<Duration>> {
        if self.device.is_armed() {
            return Ok(None);
        }
        let mut file = match OpenOptions::new().write(true).open(&self.settings.device) {
            Ok(file) => file,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    || error.raw_os_error() == Some(nix::libc::ENODEV) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let taken = match set(&file, self.settings.timeout) {
            Ok(taken) => taken,
            Err(error) => {
                // It is armed since it was opened, and nobody will feed it.
                if file.metadata()?.file_type().is_char_device() {
                    let _ = file.write_all(DISARM);
                }
                return Err(error);
            }
        };
        let interval = taken.checked_div(3).and_then(|interval| Timespec::try_from(interval).ok());
        let interval = interval.unwrap_or(Timespec { tv_sec: 1, tv_nsec: 0 });
        let times = Itimerspec { it_interval: interval, it_value: interval };
        rustix::time::timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &times)?;
        *self.device.file() = Some(file);
        self.device.feed()?;
        Ok(Some(taken))
    }

    fn announced(&self) -> bool {
        let Some(uevents) = &self.uevents else { return false };
        let mut found = false;
        let taken = uevents.take(|news| {
            found |=
                news.get("SUBSYSTEM") == Some(b"watchdog") && news.get("ACTION") == Some(b"add");
        });
        // some were lost: look
        found || taken.is_err()
    }
}

impl Source for Watchdog {
    fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    fn take(&mut self) -> io::Result<Vec<Request>> {
        let mut told = Vec::new();
        let name = self.settings.device.display().to_string();
        match rustix::io::read(&self.timer, &mut [0_u8; 8]) {
            // Tried again next time: to give up would reset the machine.
            Ok(_) => told.extend(self.device.feed().err().map(|error| format!("{name}: {error}"))),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if self.announced() {
            match self.arm() {
                Ok(None) => {}
                Ok(Some(taken)) => told.push(format!("{name} is armed with {taken:?}")),
                Err(error) => told.push(format!("{name}: {error}")),
            }
        }
        Ok(told.into_iter().map(Request::Warn).collect())
    }
}

/// What a watchdog's driver is called, `None` without one.
#[must_use]
pub fn identity() -> Option<String> {
    let mut text = String::new();
    let file = File::open("/sys/class/watchdog/watchdog0/identity").ok()?;
    file.take(256).read_to_string(&mut text).ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_waited_for_and_what_is_no_watchdog_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { device: dir.path().join("watchdog"), ..Settings::default() };
        let mut watchdog = Watchdog::open(settings.clone()).unwrap();
        let device = watchdog.device();
        assert!(!device.is_armed());
        assert_eq!(watchdog.take().unwrap(), []);
        device.feed().unwrap();
        assert!(!device.disarm().unwrap());
        assert_eq!(device.last_time(), None);
        std::fs::write(&settings.device, "a file\n").unwrap();
        assert!(Watchdog::open(settings.clone()).is_err());
        assert_eq!(std::fs::read_to_string(&settings.device).unwrap(), "a file\n");
    }
}
