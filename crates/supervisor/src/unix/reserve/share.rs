//! How much of the reserve a thread may have.

use std::cell::Cell;

/// Bytes that are little: a line, a request.
const LITTLE: usize = 4 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unix) enum Share {
    /// All of it: the loop.
    Loop,
    /// All of it: a thread that the loop cannot do without.
    Helper,
    /// Half: what reads files that somebody else has written, for one. The loop goes on from the other.
    Half,
    /// Half as well, but whoever asks knows what to do without, and does not wait for it.
    Sparing,
    /// Nothing: as before, for what is too much.
    Nothing,
}

thread_local! {
    // nothing is allocated for it, nothing has to be dropped: the allocator asks for it
    static SHARE: Cell<Share> = const { Cell::new(Share::Half) };
}

/// That of this thread.
pub(in crate::unix) fn own_share() -> Share {
    SHARE.try_with(Cell::get).unwrap_or(Share::Half)
}

fn set(share: Share) {
    let _ = SHARE.try_with(|own| own.set(share));
}

/// This thread runs the loop.
pub(super) fn share_of_loop() {
    set(Share::Loop);
}

/// The loop cannot do without this thread.
pub(in crate::unix) fn share_of_all() {
    set(Share::Helper);
}

/// Does something that has another share.
pub(in crate::unix) fn with<T>(share: Share, work: impl FnOnce() -> T) -> T {
    let own = own_share();
    set(share);
    let result = work();
    set(own);
    result
}

/// Makes a list take so many bytes more, if there is memory for them. What others can make us ask for must
/// not take what we go on from: of the reserve it gets little.
pub(crate) fn try_grow(list: &mut Vec<u8>, more: usize) -> bool {
    let is_little = list.len().saturating_add(more) <= LITTLE;
    let share = if is_little { Share::Sparing } else { Share::Nothing };
    with(share, || list.try_reserve(more).is_ok())
}
