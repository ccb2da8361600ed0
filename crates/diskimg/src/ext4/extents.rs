//! Extents: which blocks a file consists of (`fs/ext4/ext4_extents.h` of Linux).

use super::BLOCK;
use super::checksum::crc;
use crate::field::{narrow16, narrow32, put};

pub(super) const MAGIC: u16 = 0xf30a;
/// Bytes of a header, of an extent and of an index entry.
pub(super) const ENTRY: usize = 12;
/// Extents in an inode.
const IN_INODE: usize = 4;
/// Extents in a block, which ends in a checksum.
const IN_BLOCK: usize = 340;
/// The most blocks of an extent that is initialised.
const LONGEST: u64 = 1 << 15;

/// Neighbouring blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The blocks of an inode: those that list the others, and the others.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocks {
    /// Of the tree of extents, its lowest level first.
    pub(super) tree: Vec<u64>,
    /// Of the content, in its order.
    pub(super) runs: Vec<Run>,
}

impl Blocks {
    /// How many there are altogether.
    pub(super) fn count(&self) -> u64 {
        self.tree.len() as u64 + self.runs.iter().map(|run| run.len).sum::<u64>()
    }
}

/// How many extents these stretches are.
fn count(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.len.div_ceil(LONGEST)).sum()
}

/// How many blocks the tree of extents has beside the inode.
pub(super) fn tree_len(runs: &[Run]) -> u64 {
    let mut level = count(runs);
    let mut blocks = 0;
    while level > IN_INODE as u64 {
        level = level.div_ceil(IN_BLOCK as u64);
        blocks += level;
    }
    blocks
}

/// The tree: what the inode holds, and the blocks in the order of [`Blocks::tree`].
pub(super) fn emit(blocks: &Blocks, seed: u32) -> ([u8; 60], Vec<Vec<u8>>) {
    let mut entries: Vec<(u64, [u8; ENTRY])> = Vec::new();
    let mut logical = 0;
    for run in &blocks.runs {
        let mut start = run.start;
        let end = run.start + run.len;
        while start < end {
            let len = LONGEST.min(end - start);
            let mut entry = [0; ENTRY];
            put(&mut entry, 0, &narrow32(logical).to_le_bytes());
            put(&mut entry, 4, &narrow16(len).to_le_bytes());
            put(&mut entry, 6, &narrow16(start >> 32).to_le_bytes());
            put(&mut entry, 8, &narrow32(start & 0xffff_ffff).to_le_bytes());
            entries.push((logical, entry));
            start += len;
            logical += len;
        }
    }
    let mut tree = Vec::new();
    let mut depth = 0;
    let mut numbers = blocks.tree.iter();
    while entries.len() > IN_INODE {
        let mut above = Vec::new();
        for part in entries.chunks(IN_BLOCK) {
            let mut block = vec![0; crate::field::index(BLOCK)];
            node(&mut block, part, IN_BLOCK, depth);
            let sum = block.len() - 4;
            let crc = crc(seed, block.get(..sum).unwrap_or_default());
            put(&mut block, sum, &crc.to_le_bytes());
            tree.push(block);
            let number = numbers.next().copied().unwrap_or(0);
            let first = part.first().map_or(0, |(logical, _)| *logical);
            let mut entry = [0; ENTRY];
            put(&mut entry, 0, &narrow32(first).to_le_bytes());
            put(&mut entry, 4, &narrow32(number & 0xffff_ffff).to_le_bytes());
            put(&mut entry, 8, &narrow16(number >> 32).to_le_bytes());
            above.push((first, entry));
        }
        entries = above;
        depth += 1;
    }
    let mut root = [0; 60];
    node(&mut root, &entries, IN_INODE, depth);
    (root, tree)
}

fn node(block: &mut [u8], entries: &[(u64, [u8; ENTRY])], most: usize, depth: u16) {
    put(block, 0, &MAGIC.to_le_bytes());
    put(block, 2, &narrow16(entries.len() as u64).to_le_bytes());
    put(block, 4, &narrow16(most as u64).to_le_bytes());
    put(block, 6, &depth.to_le_bytes());
    for ((_, entry), at) in entries.iter().zip((1..).map(|number| number * ENTRY)) {
        put(block, at, entry);
    }
}
