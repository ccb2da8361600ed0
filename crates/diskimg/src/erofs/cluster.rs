//! Files as physical clusters: each a few blocks that decompress to as much as fits into them.

use super::codec::Codec;
use super::index::{advice, entry};
use super::{BLOCK, Compression};
use crate::field::{index, narrow16, narrow32};

/// A stretch of a file that one physical cluster holds. Its length in bytes is until the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where in the file it begins.
    pub(super) start: u64,
    /// Its first block: while compressing, counted from the start of the unit.
    pub(super) block: u64,
    pub(super) blocks: u64,
    /// As it is, in one block.
    pub(super) raw: bool,
}

/// Bytes before the index: the map header and as many that nobody uses.
pub(super) const INDEX_HEADER: u64 = 16;

/// Compresses a part of a file that begins at `from`, a multiple of a block, and is its rest or a
/// multiple of a block. Appends blocks and extents.
pub(super) fn compress(
    input: &[u8],
    from: u64,
    compression: &Compression,
    codec: &mut dyn Codec,
    blocks: &mut Vec<u8>,
    extents: &mut Vec<Extent>,
) {
    let budget = compression.cluster.max(index(BLOCK));
    let block = index(BLOCK);
    let mut at = 0;
    while at < input.len() {
        let rest = input.get(at..).unwrap_or_default();
        let start = from + at as u64;
        let here = blocks.len() as u64 / BLOCK;
        // What fits a block gains nothing.
        let packed = if rest.len() > block { codec.fill(rest, budget) } else { None };
        if let Some((consumed, bytes)) = packed {
            let count = bytes.len().div_ceil(block);
            if consumed > count * block {
                // The decompressor skips the zeroes; no compressed stream begins with one.
                blocks.resize(blocks.len() + count * block - bytes.len(), 0);
                blocks.extend_from_slice(bytes);
                extents.push(Extent { start, block: here, blocks: count as u64, raw: false });
                at += consumed;
                continue;
            }
        }
        // As much as the attempt was for is not tried again.
        let raw = rest.get(..rest.len().min(budget)).unwrap_or_default();
        for (number, chunk) in (0..).zip(raw.chunks(block)) {
            let start = start + number * BLOCK;
            extents.push(Extent { start, block: here + number, blocks: 1, raw: true });
            blocks.extend_from_slice(chunk);
        }
        blocks.resize(blocks.len().next_multiple_of(block), 0);
        at += raw.len();
    }
}

/// Bytes of the index of a file, with what is before it.
pub(super) fn index_len(len: u64, compression: &Compression) -> u64 {
    INDEX_HEADER + 8 * (len.div_ceil(BLOCK) + u64::from(compression.is_big()))
}

/// The index of a file (Linux, `fs/erofs/erofs_fs.h`, `z_erofs_map_header` and
/// `z_erofs_lcluster_index`): an entry of eight bytes for each logical cluster of 4096 bytes, the
/// "full" form, which every kernel reads.
pub(super) fn emit_index(extents: &[Extent], len: u64, compression: &Compression) -> Vec<u8> {
    let big = compression.is_big();
    let mut bytes = vec![0; 4];
    bytes.extend_from_slice(&if big { advice::BIG_CLUSTERS } else { 0 }.to_le_bytes());
    bytes.extend_from_slice(&[compression.algorithm(), 0]);
    bytes.resize(index(INDEX_HEADER), 0);
    let mut push = |kind: u16, offset: u64, rest: [u8; 4]| {
        bytes.extend_from_slice(&kind.to_le_bytes());
        bytes.extend_from_slice(&narrow16(offset).to_le_bytes());
        bytes.extend_from_slice(&rest);
    };
    let ends = extents.iter().skip(1).map(|next| next.start).chain([len]);
    let mut open_end = false;
    for (extent, end) in extents.iter().zip(ends) {
        let offset = extent.start % BLOCK;
        // Entries that are this extent's: one at least, and the one in which it ends is the next's.
        let covers = (end / BLOCK).saturating_sub(extent.start / BLOCK);
        let kind = if extent.raw { entry::PLAIN } else { entry::HEAD };
        push(kind, offset, narrow32(extent.block).to_le_bytes());
        for back in 1..covers {
            let first = if back == 1 && big {
                entry::BLOCK_COUNT | narrow16(extent.blocks)
            } else {
                narrow16(back).min(entry::BLOCK_COUNT - 1)
            };
            let [a, b] = first.to_le_bytes();
            let [c, d] = narrow16(covers - back).to_le_bytes();
            push(entry::NONHEAD, 0, [a, b, c, d]);
        }
        open_end = covers > 0;
    }
    if open_end && !len.is_multiple_of(BLOCK) {
        // The file ends inside of a cluster in which no extent begins.
        push(entry::PLAIN, len % BLOCK, [0; 4]);
    }
    if big {
        // A kernel looks one entry further for a block count; zeroes say that there is none.
        bytes.extend_from_slice(&[0; 8]);
    }
    debug_assert_eq!(bytes.len() as u64, index_len(len, compression));
    bytes
}
