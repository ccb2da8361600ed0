//! The pieces in which a slot keeps an initramfs.
//!
//! A file of a fixed length would be read whole by every loader, however short what is in it. So the
//! room is divided in halves: files of 1/2, 1/4, … 1/128 and 1/128 of it, of which an entry names those
//! that together are just long enough. Loaders put them one behind the other, as if they were one.

/// The pieces, as parts of [`WHOLE`].
pub(super) const WEIGHTS: [u64; 8] = [64, 32, 16, 8, 4, 2, 1, 1];
pub(super) const WHOLE: u64 = 128;
/// What a room for an initramfs is a multiple of: the smallest piece has whole clusters.
pub(super) const UNIT: u64 = WHOLE * 32_768;

/// Lengths of the pieces of a room.
pub(super) fn lengths(room: u64) -> [u64; 8] {
    WEIGHTS.map(|weight| (room / WHOLE).saturating_mul(weight))
}

/// Which pieces hold so many bytes, in their order; `None` when all together do not.
pub(super) fn chosen(room: u64, len: u64) -> Option<Vec<usize>> {
    let unit = (room / WHOLE).max(1);
    let mut wanted = len.div_ceil(unit);
    let mut chosen = Vec::new();
    for (piece, weight) in WEIGHTS.iter().enumerate() {
        if *weight <= wanted {
            chosen.push(piece);
            wanted = wanted.saturating_sub(*weight);
        }
    }
    (wanted == 0 && len <= room).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pieces_that_are_chosen_hold_it_and_hardly_more() {
        let room = UNIT * 3;
        let lengths = lengths(room);
        assert_eq!(lengths.iter().sum::<u64>(), room);
        for len in (0..=room).step_by(77_777).chain([1, room / WHOLE, room / WHOLE + 1, room]) {
            let chosen = chosen(room, len).unwrap();
            let sum: u64 = chosen.iter().map(|piece| lengths[*piece]).sum();
            assert!(sum >= len && sum < len + room / WHOLE, "{len}: {chosen:?}");
            // Data reach into every one of them.
            let before: u64 = chosen.iter().rev().skip(1).map(|piece| lengths[*piece]).sum();
            assert!(chosen.is_empty() || before < len, "{len}: {chosen:?}");
        }
        assert_eq!(chosen(room, room + 1), None);
        assert_eq!(chosen(room, 0), Some(Vec::new()));
    }
}
