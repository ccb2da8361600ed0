//! Memory for when the kernel gives none: who may have of it, and what the loop has to know.
//!
//! The [allocator](super::Reserve) is the program's, and so there is one of all this in a process.

mod map;
mod share;

pub(super) use map::{Map, PIECE};
pub(crate) use share::try_grow;
#[cfg(test)]
pub(super) use share::with;
pub(super) use share::{Share, own_share, share_of_all};

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::event::EventfdFlags;
use rustix::thread::Timespec;

use super::sys;

/// What a kernel must give at once to be one that gives memory again.
const ENOUGH: usize = 1 << 20;
/// What a thread takes beside its stack: another for when that has no end, what the C library keeps.
const OF_THREAD: usize = 64 << 10;

/// How long who finds nothing waits before it asks again.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// Whether somebody has drawn on it since the loop looked.
static DRAWN: AtomicBool = AtomicBool::new(false);
/// Bytes in use, and of how many.
static USED: AtomicUsize = AtomicUsize::new(0);
static SIZE: AtomicUsize = AtomicUsize::new(0);
/// Whether services would be left to nobody if this process ended.
static SUPERVISES: AtomicBool = AtomicBool::new(false);
/// Whether it has found that memory is short.
static SHORT: AtomicBool = AtomicBool::new(false);
/// What wakes it. Never closed: another thread may write to it at any time.
static WAKE: OnceLock<OwnedFd> = OnceLock::new();

/// How much of a reserve is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) used: usize,
    pub(super) size: usize,
}

impl Level {
    /// Whether more than half is gone.
    pub(super) fn is_low(self) -> bool {
        self.used > self.size / 2
    }
}

/// This thread runs the loop from now on. Gives what becomes readable when others draw on the reserve.
pub(super) fn supervise() -> std::io::Result<BorrowedFd<'static>> {
    share::share_of_loop();
    must_not_end();
    if WAKE.get().is_none() {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let _ = WAKE.set(rustix::event::eventfd(0, flags)?);
    }
    WAKE.get().map(AsFd::as_fd).ok_or_else(|| std::io::ErrorKind::Other.into())
}

/// Services would be left to nobody if this process ended.
pub(super) fn must_not_end() {
    SUPERVISES.store(true, Ordering::Relaxed);
}

/// Whether who finds even the reserve empty waits for memory: a supervisor that ends leaves its services
/// to nobody, and as process 1 takes the machine with it. Other programs have an end.
pub(super) fn is_waited_for() -> bool {
    SUPERVISES.load(Ordering::Relaxed) || rustix::process::getpid().is_init()
}

/// Waiting for what the kernel does not give now.
#[derive(Debug, Default)]
pub(super) struct Wait {
    rounds: u32,
}

impl Wait {
    pub(super) fn is_first(&self) -> bool {
        self.rounds == 0
    }

    /// Waits a little. What takes longer than that is told, once; nothing can be formatted now.
    pub(super) fn pause(&mut self, what: &[u8]) {
        if self.rounds == 1 {
            let _ = super::console::write(what);
        }
        self.rounds = self.rounds.saturating_add(1);
        let _ = rustix::thread::nanosleep(&PAUSE);
    }
}

/// Somebody has had of it.
pub(super) fn note_drawn(level: Level) {
    note_level(level);
    if !DRAWN.swap(true, Ordering::Relaxed)
        && own_share() != Share::Loop
        && let Some(wake) = WAKE.get()
    {
        let _ = rustix::io::write(wake, &1_u64.to_ne_bytes());
    }
}

pub(super) fn note_level(Level { used, size }: Level) {
    USED.store(used, Ordering::Relaxed);
    SIZE.store(size, Ordering::Relaxed);
}

/// The loop has been woken.
pub(super) fn forget_wake() {
    if let Some(wake) = WAKE.get() {
        let _ = rustix::io::read(wake, &mut [0_u8; 8]);
    }
}

/// Whether somebody has drawn on it since this was last asked.
pub(super) fn was_drawn_on() -> bool {
    DRAWN.load(Ordering::Relaxed) && DRAWN.swap(false, Ordering::Relaxed)
}

pub(super) fn level() -> Level {
    Level { used: USED.load(Ordering::Relaxed), size: SIZE.load(Ordering::Relaxed) }
}

/// Whether the kernel gives memory again.
pub(super) fn is_given_memory() -> bool {
    sys::is_given(ENOUGH)
}

/// An error where the kernel would not give what a new thread takes, with a stack of so many bytes. One
/// that has begun and is not given the rest of what it needs ends the process.
pub(super) fn check_thread(stack: usize) -> std::io::Result<()> {
    match sys::is_given(stack.saturating_add(OF_THREAD)) {
        true => Ok(()),
        false => Err(rustix::io::Errno::AGAIN.into()),
    }
}

/// Whether memory is short, as the loop has found.
pub(super) fn is_short() -> bool {
    SHORT.load(Ordering::Relaxed)
}

pub(super) fn set_short(short: bool) {
    SHORT.store(short, Ordering::Relaxed);
}
