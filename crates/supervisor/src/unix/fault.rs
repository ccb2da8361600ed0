//! Panics at points that a test chooses. Without the feature `fault`, which no program that is for
//! use has, a point is nothing.

#[cfg(feature = "fault")]
use std::sync::atomic::{AtomicU64, Ordering};

/// How many points are passed before the panic; 0: there is none.
#[cfg(feature = "fault")]
static LEFT: AtomicU64 = AtomicU64::new(0);

/// Has the loop panic at the n-th point that it passes from now on, once.
#[cfg(feature = "fault")]
pub fn panic_after(points: u64) {
    LEFT.store(points, Ordering::Relaxed);
}

/// A point at which the loop may be made to panic: between any two things of which one could be done
/// and the other not.
#[cfg(feature = "fault")]
#[expect(clippy::panic, reason = "asked for, to prove that it is survived")]
pub(crate) fn point() {
    let left = LEFT.load(Ordering::Relaxed);
    if left > 0 {
        LEFT.store(left.saturating_sub(1), Ordering::Relaxed);
        if left == 1 {
            panic!("a point that a test has chosen");
        }
    }
}

#[cfg(not(feature = "fault"))]
#[inline]
pub(crate) const fn point() {}
