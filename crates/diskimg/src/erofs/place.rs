//! Finds places for inodes in blocks of metadata.

use std::collections::BTreeMap;

use super::BLOCK;
use super::inode::SLOT;

/// Fills blocks with items of which none crosses a block, unless it is longer than one: the
/// fullest block that has room takes it (best fit), which leaves few percent free.
#[derive(Debug, Default)]
pub(super) struct Packer {
    blocks: u64,
    /// Blocks by the bytes that are free at their end.
    free: BTreeMap<u64, Vec<u64>>,
}

impl Packer {
    /// A place for so many bytes, in bytes from the first block; a multiple of a slot.
    pub(super) fn place(&mut self, len: u64) -> u64 {
        let found = self.free.range_mut(len..).find_map(|(free, blocks)| {
            let block = blocks.pop()?;
            Some((*free, block))
        });
        let (start, free) = match found {
            Some((free, block)) => {
                if self.free.get(&free).is_some_and(Vec::is_empty) {
                    self.free.remove(&free);
                }
                ((block + 1) * BLOCK - free, free)
            }
            None => {
                let more = len.div_ceil(BLOCK);
                let start = self.blocks * BLOCK;
                self.blocks += more;
                (start, more * BLOCK)
            }
        };
        let left = (free - len) / SLOT * SLOT;
        if left > 0 {
            let block = (start + len) / BLOCK;
            self.free.entry(left).or_default().push(block);
        }
        start
    }

    /// How many blocks there are.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_neither_overlap_nor_cross_blocks() {
        let mut packer = Packer::default();
        let mut used = BTreeMap::new();
        let mut state = 1_u64;
        let mut total = 0;
        for _ in 0..5000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let len = if state >> 60 == 0 { state >> 50 } else { (state >> 40) % 4096 + 1 };
            let len = len.max(1);
            let start = packer.place(len);
            assert!(start.is_multiple_of(SLOT));
            assert!(start + len <= packer.blocks() * BLOCK);
            if len <= BLOCK {
                assert_eq!(start / BLOCK, (start + len - 1) / BLOCK);
            } else {
                assert!(start.is_multiple_of(BLOCK));
            }
            assert!(used.insert(start, start + len).is_none());
            total += len;
        }
        let ends: Vec<u64> = used.values().copied().collect();
        let starts: Vec<u64> = used.keys().copied().skip(1).collect();
        assert!(ends.iter().zip(&starts).all(|(end, start)| end <= start));
        assert!(packer.blocks() * BLOCK < total * 115 / 100, "{} {total}", packer.blocks());
    }
}
