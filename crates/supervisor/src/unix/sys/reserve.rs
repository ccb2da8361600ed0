//! The allocator with a reserve.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::fmt;
use std::mem::MaybeUninit;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::unix::reserve::{self, Level, Map, PIECE, Share};

/// How exactly what is in the reserve can be aligned: as pages are.
const ALIGN: usize = 4096;

/// More than anything of ours takes: who asks for it must know what to do without.
const MOST_AWAITED: usize = 128 << 20;

/// A program's allocator that has a reserve for when the kernel gives no more memory: without one, Rust
/// ends the program then, and a machine whose process 1 it is ends with it.
///
/// ```
/// use kiln_supervisor::unix::Reserve;
///
/// #[global_allocator]
/// static ALLOCATOR: Reserve = Reserve::new();
/// # fn main() {}
/// ```
///
/// The reserve is `KIB` KiB (default: 2 MiB, enough to take 2,000 services over to a new process image)
/// of the program's own data. The kernel promises them when the program is executed; they take no
/// memory before they are needed. What is freed can be had again.
///
/// [`run`](super::super::run) notices when it is drawn on: it lets go of what can be done without, tells
/// [`Event::MemoryShort`](crate::Event::MemoryShort), and when more than half is gone goes on as a new
/// process image, where [`Options::on_panic`](super::super::Options::on_panic) or
/// [`Options::reexec`](super::super::Options::reexec) says that it may. When all is gone, whoever wants
/// memory waits until there is some: process 1, and a process in which `run` has begun. Other programs
/// end, as they would without.
///
/// Other allocators than the system's have a reserve by [`Reserve::over`].
pub struct Reserve<const KIB: usize = 2048, A = System> {
    usual: A,
    map: Mutex<Map<KIB>>,
    bytes: Bytes<KIB>,
}

#[repr(C, align(4096))]
struct Bytes<const KIB: usize>(UnsafeCell<MaybeUninit<[[u8; 1024]; KIB]>>);

// SAFETY: nobody reads or writes the bytes but who has been given them by the map, which gives each of
// them to one at a time.
unsafe impl<const KIB: usize> Sync for Bytes<KIB> {}

impl<const KIB: usize> Reserve<KIB> {
    /// The system's allocator with a reserve.
    #[must_use]
    pub const fn new() -> Self {
        Self::over(System)
    }
}

impl<const KIB: usize, A> Reserve<KIB, A> {
    /// Another allocator with a reserve. It must give null when there is no memory.
    #[must_use]
    pub const fn over(usual: A) -> Self {
        let bytes = Bytes(UnsafeCell::new(MaybeUninit::uninit()));
        Self { usual, map: Mutex::new(Map::new()), bytes }
    }

    /// Where in the reserve an address is, in bytes.
    fn offset(&self, address: *mut u8) -> Option<usize> {
        let offset = address.addr().wrapping_sub(self.bytes.0.get().addr());
        (offset < size_of::<[[u8; 1024]; KIB]>()).then_some(offset)
    }

    /// Nothing allocates or panics while it is held.
    fn map(&self) -> MutexGuard<'_, Map<KIB>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn level(map: &Map<KIB>) -> Level {
        Level { used: map.taken(), size: size_of::<[[u8; 1024]; KIB]>() }
    }

    /// Whether this thread may have so many more bytes.
    fn may_have(map: &Map<KIB>, bytes: usize) -> bool {
        let Level { used, size } = Self::level(map);
        match reserve::own_share() {
            Share::Loop | Share::Helper => true,
            Share::Half | Share::Sparing => used.saturating_add(bytes) <= size / 2,
            Share::Nothing => false,
        }
    }

    /// Takes bytes of the reserve; null if there are none for this thread.
    fn take(&self, layout: Layout) -> *mut u8 {
        if layout.align() > ALIGN {
            return std::ptr::null_mut();
        }
        let mut map = self.map();
        let (count, align) = (pieces(layout.size()), pieces(layout.align()));
        let place = Self::may_have(&map, layout.size()).then(|| map.take(count, align)).flatten();
        let level = Self::level(&map);
        drop(map);
        let Some(place) = place else { return std::ptr::null_mut() };
        reserve::note_drawn(level);
        let start: *mut u8 = self.bytes.0.get().cast();
        start.wrapping_add(place.saturating_mul(PIECE))
    }

    fn give(&self, offset: usize, size: usize) {
        let mut map = self.map();
        map.give(offset / PIECE, pieces(size));
        reserve::note_level(Self::level(&map));
    }

    /// Makes what lies at an offset longer or shorter where it is.
    fn resize(&self, offset: usize, old: usize, new: usize) -> bool {
        let more = new.saturating_sub(old);
        let (place, old, new) = (offset / PIECE, pieces(old), pieces(new));
        let mut map = self.map();
        let done = new <= old || Self::may_have(&map, more) && map.extend(place, old, new);
        if let Some(less @ 1..) = old.checked_sub(new) {
            map.give(place.saturating_add(new), less);
        }
        reserve::note_level(Self::level(&map));
        done
    }
}

fn pieces(bytes: usize) -> usize {
    bytes.div_ceil(PIECE)
}

impl<const KIB: usize, A: GlobalAlloc> Reserve<KIB, A> {
    /// The kernel has given nothing. Null only where nothing is to be waited for.
    #[cold]
    fn draw(&self, layout: Layout) -> *mut u8 {
        let mut wait = reserve::Wait::default();
        loop {
            let taken = self.take(layout);
            if !taken.is_null() {
                return taken;
            }
            let is_without = matches!(reserve::own_share(), Share::Sparing | Share::Nothing);
            let is_too_much = layout.size() > MOST_AWAITED;
            if is_without || is_too_much || !reserve::is_waited_for() {
                return taken;
            }
            if wait.is_first() {
                // the loop may know what to let go of
                reserve::note_drawn(Self::level(&self.map()));
            }
            wait.pause(b"supervisor: no memory, and none left in reserve: waits for some\n");
            // SAFETY: our caller's layout, which is not empty.
            let given = unsafe { self.usual.alloc(layout) };
            if !given.is_null() {
                return given;
            }
        }
    }
}

// SAFETY: memory is the other allocator's, or bytes of the reserve that the map has given to nobody else,
// as long and as aligned as was asked for; by its address it is told which, and given back where it is
// from. Nothing in it panics or allocates.
unsafe impl<const KIB: usize, A: GlobalAlloc> GlobalAlloc for Reserve<KIB, A> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's promise.
        let given = unsafe { self.usual.alloc(layout) };
        if given.is_null() { self.draw(layout) } else { given }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller's promise.
        let given = unsafe { self.usual.alloc_zeroed(layout) };
        if !given.is_null() {
            return given;
        }
        let drawn = self.draw(layout);
        if !drawn.is_null() {
            // SAFETY: it is as long as that, and nobody else's.
            unsafe { drawn.write_bytes(0, layout.size()) };
        }
        drawn
    }

    #[inline]
    unsafe fn dealloc(&self, address: *mut u8, layout: Layout) {
        match self.offset(address) {
            Some(offset) => self.give(offset, layout.size()),
            // SAFETY: our caller's promise, and it is not of the reserve.
            None => unsafe { self.usual.dealloc(address, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, address: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let offset = self.offset(address);
        if offset.is_none() {
            // SAFETY: our caller's promise, and it is not of the reserve.
            let moved = unsafe { self.usual.realloc(address, layout, new_size) };
            if !moved.is_null() {
                return moved;
            }
        }
        // SAFETY: our caller's promise.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        if let Some(offset) = offset {
            // SAFETY: our caller's promise: it is not empty.
            let given = unsafe { self.usual.alloc(new) };
            if !given.is_null() {
                // SAFETY: both are at least as long as that, and not the same.
                unsafe { given.copy_from_nonoverlapping(address, layout.size().min(new_size)) };
                self.give(offset, layout.size());
                return given;
            }
            if self.resize(offset, layout.size(), new_size) {
                return address;
            }
        }
        let drawn = self.draw(new);
        if !drawn.is_null() {
            // SAFETY: both are at least as long as that, and not the same.
            unsafe { drawn.copy_from_nonoverlapping(address, layout.size().min(new_size)) };
            // SAFETY: our caller's promise.
            unsafe { self.dealloc(address, layout) };
        }
        drawn
    }
}

impl<const KIB: usize> Default for Reserve<KIB> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const KIB: usize, A> fmt::Debug for Reserve<KIB, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // whoever formats may allocate
        f.debug_struct("Reserve").field("kib", &KIB).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
