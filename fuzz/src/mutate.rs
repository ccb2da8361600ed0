//! Changes of an input that is a [`Sparse`](crate::sparse::Sparse) image: they leave the pieces
//! whole, so that one change does not move all that follows.

use std::ops::Range;

use crate::sparse::{HEAD, PIECE_HEAD};

/// xorshift, from libFuzzer's seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (end.max(1) as u64)).unwrap_or(0)
    }
}

/// The pieces with their heads.
fn pieces(input: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = HEAD;
    while let Some(&[a, b]) = input.get(at + 4..at + PIECE_HEAD) {
        let end = at + PIECE_HEAD + usize::from(u16::from_le_bytes([a, b]));
        let end = end.min(input.len());
        found.push(at..end);
        at = end;
    }
    found
}

/// A mutator for libFuzzer: the first `size` bytes of `data` are the input, and the new one's
/// length is returned.
pub fn image(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    let mut random = Random(u64::from(seed) << 16 | 0x9e37);
    let pieces = pieces(&data[..size]);
    let generic = |data: &mut [u8]| libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    if pieces.is_empty() {
        return generic(data);
    }
    let piece = pieces[random.below(pieces.len())].clone();
    match random.below(32) {
        0 => generic(data),
        1 => {
            data[0] ^= 1;
            size
        }
        2 => {
            libfuzzer_sys::fuzzer_mutate(&mut data[1..HEAD], 4, 4);
            size
        }
        3 | 4 => {
            // Elsewhere, by a power of two.
            let place = &mut data[piece.start..piece.start + 4];
            let old = place.iter().rev().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte));
            let by = 1_u32 << random.below(26);
            let new =
                if random.below(2) == 0 { old.wrapping_add(by) } else { old.wrapping_sub(by) };
            place.copy_from_slice(&new.to_le_bytes());
            size
        }
        5 => {
            data.copy_within(piece.end..size, piece.start);
            size - piece.len()
        }
        6 | 7 if size + piece.len() <= max_size => {
            // Once more, elsewhere.
            data.copy_within(piece.clone(), size);
            libfuzzer_sys::fuzzer_mutate(&mut data[size..size + 4], 4, 4);
            size + piece.len()
        }
        8 | 9 if size + PIECE_HEAD + 8 <= max_size => {
            let new = &mut data[size..size + PIECE_HEAD + 8];
            new.fill(0);
            new[4] = 8;
            libfuzzer_sys::fuzzer_mutate(new, 4, 4);
            libfuzzer_sys::fuzzer_mutate(&mut new[PIECE_HEAD..], 8, 8);
            size + PIECE_HEAD + 8
        }
        _ => {
            let (start, end) = (piece.start + PIECE_HEAD, piece.end);
            if start >= end {
                return generic(data);
            }
            let range = if random.below(2) == 0 {
                start..end
            } else {
                let from = start + random.below(end - start);
                from..end.min(from + (1 << random.below(7)))
            };
            let len = range.len();
            libfuzzer_sys::fuzzer_mutate(&mut data[range], len, len);
            size
        }
    }
}
