//! The index of a compressed file as it is read: full entries of eight bytes, or packed ones
//! (Linux, `fs/erofs/zmap.c`).

use super::inode::{Inode, Storage};
use super::superblock::{self, Superblock};
use crate::field::{index, u16_le, u32_le};
use crate::{Error, Result};

/// Kinds of entries.
pub(super) mod entry {
    /// An extent begins here and is not compressed.
    pub(in crate::erofs) const PLAIN: u16 = 0;
    /// A compressed extent begins here.
    pub(in crate::erofs) const HEAD: u16 = 1;
    /// No extent begins here.
    pub(in crate::erofs) const NONHEAD: u16 = 2;
    /// In the first entry that is no head: the rest is the number of blocks.
    pub(in crate::erofs) const BLOCK_COUNT: u16 = 1 << 11;
}

/// Bits of the header: entries of two bytes, clusters of several blocks, an end among the
/// metadata, uncompressed extents that are rotated, an end in a shared fragment.
pub(super) mod advice {
    pub(in crate::erofs) const TWO_BYTES: u16 = 1;
    pub(in crate::erofs) const BIG_CLUSTERS: u16 = 2;
    pub(in crate::erofs) const INLINE_END: u16 = 8;
    pub(in crate::erofs) const ROTATED: u16 = 0x10;
    pub(in crate::erofs) const FRAGMENT: u16 = 0x20;
}

/// A part of a file and where it is stored.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    /// Where in the file.
    pub(super) start: u64,
    pub(super) end: u64,
    /// Where in the volume, and how many bytes.
    pub(super) at: u64,
    pub(super) len: u64,
    /// The algorithm's number; `None` for what is as it is.
    pub(super) algorithm: Option<u8>,
    /// Whether what is as it is stands at the same offset of its block as of its cluster.
    pub(super) rotated: bool,
}

/// Which form an index has and where its parts are.
#[derive(Debug)]
pub(super) struct Index {
    full: bool,
    advice: u16,
    algorithms: u8,
    block_bits: u8,
    /// Bytes of the end among the metadata.
    inline_len: u64,
    /// Where the entries begin.
    start: u64,
    file_len: u64,
    count: u64,
    /// Packed entries: four bytes each until a boundary, then two, then four.
    four_first: u64,
    two: u64,
}

/// An entry, unpacked.
#[derive(Debug, Clone, Copy)]
struct Entry {
    kind: u16,
    offset: u64,
    block: u64,
    /// In the first entry that is no head.
    blocks: Option<u64>,
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("erofs", offset, reason)
}

impl Index {
    /// From the map header of eight bytes, at an offset of the volume that is a multiple of eight.
    pub(super) fn open(
        superblock: &Superblock,
        inode: &Inode,
        at: u64,
        header: &[u8],
    ) -> Result<Self> {
        let full = inode.storage == Storage::CompressedFull;
        let features = superblock::COMPRESSOR_CONFIGS | superblock::INLINE_CLUSTERS;
        // Full entries had no header at first.
        let has_header = !full || superblock.incompatible & features != 0;
        let number = |at| if has_header { u16_le(header, at).unwrap_or(0) } else { 0 };
        let (advice, [algorithms, bits]) = (number(4), number(6).to_le_bytes());
        if bits != 0 || advice & advice::FRAGMENT != 0 {
            let what = "a compressed file with a shared fragment or other cluster sizes";
            return Err(Error::unsupported("erofs", what));
        }
        if superblock.incompatible & superblock::ZERO_PADDING == 0 {
            let what = "compressed data that begin at the start of their blocks";
            return Err(Error::unsupported("erofs", what));
        }
        if !full && superblock.block_bits > 14 {
            return Err(malformed(at, "packed entries with clusters of more than 16 KiB"));
        }
        let count = inode.len.div_ceil(1 << superblock.block_bits);
        let start = at.saturating_add(if full { 16 } else { 8 });
        let four_first = (((32 - start % 32) / 4) & 7).min(count);
        let two = if advice & advice::TWO_BYTES != 0 && superblock.block_bits <= 12 {
            (count - four_first) / 16 * 16
        } else {
            0
        };
        let inline = advice & advice::INLINE_END != 0;
        Ok(Self {
            full,
            advice,
            algorithms,
            block_bits: superblock.block_bits,
            inline_len: if inline { u64::from(number(2)) } else { 0 },
            start,
            file_len: inode.len,
            count,
            four_first,
            two,
        })
    }

    pub(super) fn start(&self) -> u64 {
        // A pack begins at a boundary, which may be before the first entry.
        if self.full { self.start } else { self.start / 8 * 8 }
    }

    pub(super) fn len(&self) -> u64 {
        if self.full {
            return self.count * 8;
        }
        let last = self.count - self.four_first - self.two;
        // The base of a pack is at its end, even when not all of its entries are there.
        self.four_first.next_multiple_of(2) * 4 + self.two * 2 + last.next_multiple_of(2) * 4
    }

    fn entry(&self, table: &[u8], number: u64) -> Option<Entry> {
        if self.full {
            let at = index(number * 8);
            let kind = u16_le(table, at)? & 3;
            let first = u16_le(table, at + 4)?;
            let counted = kind == entry::NONHEAD && first & entry::BLOCK_COUNT != 0;
            return Some(Entry {
                kind,
                offset: u64::from(u16_le(table, at + 2)?),
                block: u64::from(u32_le(table, at + 4)?),
                blocks: counted.then(|| u64::from(first & !entry::BLOCK_COUNT)),
            });
        }
        let (per_pack, width, at) = if number < self.four_first {
            (2, 4, number * 4)
        } else if number < self.four_first + self.two {
            (16, 2, self.four_first * 4 + (number - self.four_first) * 2)
        } else {
            let rest = number - self.four_first - self.two;
            (2, 4, self.four_first * 4 + self.two * 2 + rest * 4)
        };
        let pack_len = per_pack * width;
        // Packs lie at multiples of their length in the volume.
        let absolute = self.start.checked_add(at)?;
        let base = (absolute / pack_len * pack_len).checked_sub(self.start())?;
        let pack = table.get(index(base)..index(base + pack_len))?;
        Pack { bytes: pack, bits: (pack_len - 4) * 8 / per_pack, block_bits: self.block_bits }
            .entry((absolute % pack_len) / width, self.advice & advice::BIG_CLUSTERS != 0)
    }

    /// The extents of the file in order. They may not fit each other: who reads them looks.
    pub(super) fn stretches(&self, table: &[u8]) -> Result<Vec<Stretch>> {
        let cluster = 1_u64 << self.block_bits;
        let cut = || malformed(self.start, "an index entry makes no sense");
        let mut stretches: Vec<Stretch> = Vec::new();
        for number in 0..self.count {
            let Entry { kind, offset, block, blocks } =
                self.entry(table, number).ok_or_else(cut)?;
            if kind == entry::NONHEAD {
                if let Some(last) = stretches.last_mut().filter(|it| it.algorithm.is_some())
                    && let Some(blocks) = blocks
                {
                    last.len = blocks.saturating_mul(cluster);
                }
                continue;
            }
            if offset >= cluster {
                return Err(cut());
            }
            let start = number * cluster + offset;
            if let Some(last) = stretches.last_mut() {
                last.end = start.min(self.file_len);
            }
            if start >= self.file_len {
                break;
            }
            let algorithm = match kind {
                entry::PLAIN => None,
                entry::HEAD => Some(self.algorithms & 15),
                // A head of the second kind.
                _ => Some(self.algorithms >> 4),
            };
            stretches.push(Stretch {
                start,
                end: self.file_len,
                at: block << self.block_bits,
                len: cluster,
                algorithm,
                rotated: self.advice & advice::ROTATED != 0,
            });
        }
        if self.inline_len > 0
            && let Some(last) = stretches.last_mut()
        {
            last.at = self.start.saturating_add(if self.full {
                self.len()
            } else {
                self.len() - (self.start - self.start())
            });
            last.len = self.inline_len;
        }
        Ok(stretches)
    }
}

/// Packed entries: fields of as many bits, then the block that they count from.
struct Pack<'bytes> {
    bytes: &'bytes [u8],
    bits: u64,
    block_bits: u8,
}

impl Pack<'_> {
    /// The kind and the rest of an entry.
    fn field(&self, number: u64) -> Option<(u16, u16)> {
        let at = number * self.bits;
        let from = index(at / 8);
        // The last field may end before four bytes do.
        let word = self.bytes.get(from..)?.iter().take(4).rev();
        let value = word.fold(0_u32, |value, byte| value << 8 | u32::from(*byte)) >> (at % 8);
        let rest = u16::try_from(value & ((1 << self.block_bits) - 1)).ok()?;
        Some((u16::try_from(value >> self.block_bits & 3).ok()?, rest))
    }

    fn entry(&self, number: u64, big: bool) -> Option<Entry> {
        let (kind, rest) = self.field(number)?;
        if kind == entry::NONHEAD {
            let counted = rest & entry::BLOCK_COUNT != 0;
            let blocks = counted.then(|| u64::from(rest & !entry::BLOCK_COUNT));
            return Some(Entry { kind, offset: 0, block: 0, blocks });
        }
        // The base is the block before that of the pack's first head; the heads between count.
        let mut blocks = u64::from(!big);
        let mut at = number;
        while at > 0 {
            at -= 1;
            let (kind, rest) = self.field(at)?;
            if kind != entry::NONHEAD {
                blocks += 1;
            } else if !big {
                // So far back is the head.
                match at.checked_sub(u64::from(rest)) {
                    Some(head) => {
                        at = head;
                        blocks += 1;
                    }
                    None => break,
                }
            } else if rest & entry::BLOCK_COUNT != 0 {
                at = at.saturating_sub(1);
                blocks += u64::from(rest & !entry::BLOCK_COUNT);
            } else {
                at = at.saturating_sub(u64::from(rest).checked_sub(2)?);
            }
        }
        let base = u32_le(self.bytes, self.bytes.len().checked_sub(4)?)?;
        let block = u64::from(base.wrapping_add(u32::try_from(blocks).ok()?));
        Some(Entry { kind, offset: u64::from(rest), block, blocks: None })
    }
}
