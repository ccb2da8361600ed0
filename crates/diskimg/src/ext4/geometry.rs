//! How a volume is divided into groups, and where its metadata are.
//!
//! As `flex_bg` allows, the bitmaps and inode tables of sixteen groups stand together in the first
//! of them. Backups of the superblock and of the group descriptors are in groups 1 and the powers
//! of 3, 5 and 7 (`sparse_super`), each with room for more descriptors (`resize_inode`).

use super::{BLOCK, DESCRIPTOR, INODE, INODES_PER_BLOCK};
use crate::field::narrow32;

/// Blocks of a group: as many as one block of bitmap has bits.
pub(super) const PER_GROUP: u64 = BLOCK * 8;
/// Groups whose metadata stand together.
pub(super) const FLEX: u32 = 16;
/// Its logarithm.
pub(super) const FLEX_LOG: u8 = 4;
/// The most inodes of a group, for the same reason as [`PER_GROUP`].
const MAX_INODES: u64 = BLOCK * 8;
/// Numbers in a block of the resize inode, which bounds the reserved descriptors.
pub(super) const ADDRESSES: u64 = BLOCK / 4;
/// The last group has at least so many blocks beyond the backups in it.
const LAST_GROUP: u64 = 64;
/// Every volume can grow to this many blocks (64 GiB) without changing its format.
const GROWTH: u64 = 16 << 20;
/// And at least so many times its size, as `mke2fs` has it.
const GROWTH_FACTOR: u64 = 1024;
/// The most blocks: their numbers have 32 bits in the resize inode.
pub(super) const MAX_BLOCKS: u64 = u32::MAX as u64;

/// The division of a volume. Blocks have 4096 bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// All blocks.
    pub blocks: u64,
    /// How many groups they are divided into.
    pub groups: u32,
    /// Inodes of each group.
    pub inodes_per_group: u32,
    /// Blocks of group descriptors.
    pub descriptor_blocks: u32,
    /// Blocks kept free after them, for the descriptors of groups that are added later.
    pub reserved_descriptor_blocks: u32,
    /// Blocks of the journal; 0 when there is none.
    pub journal: u32,
}

/// A stretch of blocks with metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed {
    pub(super) start: u64,
    pub(super) len: u64,
    pub(super) group: u32,
    pub(super) what: Metadata,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metadata {
    /// A superblock, the descriptors, the reserve.
    Base,
    BlockBitmap,
    InodeBitmap,
    InodeTable,
}

/// Where a group's metadata are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Places {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
}

impl Geometry {
    /// Divides so many blocks, with at least so many inodes.
    pub(super) fn new(blocks: u64, inodes: u64, journal: u32) -> Self {
        let groups = blocks.div_ceil(PER_GROUP).max(1);
        let descriptor_blocks = groups.div_ceil(BLOCK / DESCRIPTOR);
        let growth = blocks.saturating_mul(GROWTH_FACTOR).clamp(GROWTH, MAX_BLOCKS);
        let reserve = growth
            .div_ceil(PER_GROUP)
            .div_ceil(BLOCK / DESCRIPTOR)
            .saturating_sub(descriptor_blocks)
            .min(ADDRESSES);
        let per_group = inodes.div_ceil(groups).next_multiple_of(INODES_PER_BLOCK);
        Self {
            blocks,
            groups: narrow32(groups),
            inodes_per_group: narrow32(per_group.max(INODES_PER_BLOCK)),
            descriptor_blocks: narrow32(descriptor_blocks),
            reserved_descriptor_blocks: narrow32(reserve),
            journal,
        }
    }

    /// So many blocks or some fewer, so that the last group is not too small to be one.
    pub(super) fn round_down(blocks: u64) -> u64 {
        match Self::shortfall(blocks) {
            Some(_) if blocks > PER_GROUP => blocks / PER_GROUP * PER_GROUP,
            _ => blocks,
        }
    }

    /// So many blocks or some more, as [`Geometry::round_down`].
    pub(super) fn round_up(blocks: u64) -> u64 {
        blocks.saturating_add(Self::shortfall(blocks).unwrap_or(0))
    }

    fn shortfall(blocks: u64) -> Option<u64> {
        let rest = blocks % PER_GROUP;
        let geometry = Self::new(blocks, 0, 0);
        let least = geometry.base_len(geometry.groups.saturating_sub(1)) + LAST_GROUP;
        least.checked_sub(rest).filter(|missing| *missing > 0 && rest > 0)
    }

    /// All inodes.
    #[must_use]
    pub fn inodes(&self) -> u64 {
        u64::from(self.inodes_per_group) * u64::from(self.groups)
    }

    /// How many blocks more the inodes need, which have at most so many to a group.
    pub(super) fn missing_for_inodes(&self) -> Option<u64> {
        let groups = self.inodes().div_ceil(MAX_INODES);
        let blocks = (groups * PER_GROUP).saturating_sub(self.blocks);
        (u64::from(self.inodes_per_group) > MAX_INODES).then_some(blocks.max(1))
    }

    /// Blocks of one group's inode table.
    pub(super) fn table_len(&self) -> u64 {
        u64::from(self.inodes_per_group) * INODE / BLOCK
    }

    /// The first block of a group.
    pub(super) fn start(group: u32) -> u64 {
        u64::from(group) * PER_GROUP
    }

    /// The end of a group: only the last can be shorter than the others.
    pub(super) fn end(&self, group: u32) -> u64 {
        (Self::start(group) + PER_GROUP).min(self.blocks)
    }

    /// Whether a group begins with a superblock.
    pub(super) fn has_super(group: u32) -> bool {
        let power = |base: u32| {
            let mut power = 1_u32;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        group <= 1 || [3, 5, 7].into_iter().any(power)
    }

    /// The groups after the first that begin with a superblock.
    pub(super) fn backups(&self) -> impl Iterator<Item = u32> {
        (1..self.groups).filter(|group| Self::has_super(*group))
    }

    /// Blocks of superblock, descriptors and reserve at a group's start.
    pub(super) fn base_len(&self, group: u32) -> u64 {
        if Self::has_super(group) {
            1 + u64::from(self.descriptor_blocks) + u64::from(self.reserved_descriptor_blocks)
        } else {
            0
        }
    }

    /// All metadata in the order of their blocks, and by group. They may reach beyond the last
    /// block, when there are too few.
    pub(super) fn metadata(&self) -> (Vec<Fixed>, Vec<Places>) {
        let groups = crate::field::index(u64::from(self.groups));
        let mut fixed = Vec::with_capacity(groups.saturating_mul(3).saturating_add(8));
        let mut places = vec![Places::default(); groups];
        for (group, what) in (0..self.groups).map(|group| (group, Metadata::Base)) {
            let len = self.base_len(group);
            if len > 0 {
                fixed.push(Fixed { start: Self::start(group), len, group, what });
            }
        }
        let bases = fixed.clone();
        for first in (0..self.groups).step_by(FLEX as usize) {
            let last = first.saturating_add(FLEX).min(self.groups);
            let mut cursor = Self::start(first) + self.base_len(first);
            let at = bases.partition_point(|base| base.start < cursor);
            let mut ahead = bases.get(at..).unwrap_or_default().iter().peekable();
            let kinds = [Metadata::BlockBitmap, Metadata::InodeBitmap, Metadata::InodeTable];
            for what in kinds {
                let len = if what == Metadata::InodeTable { self.table_len() } else { 1 };
                for group in first..last {
                    while let Some(base) = ahead.next_if(|base| cursor + len > base.start) {
                        cursor = base.start + base.len;
                    }
                    fixed.push(Fixed { start: cursor, len, group, what });
                    if let Some(place) = places.get_mut(group as usize) {
                        match what {
                            Metadata::BlockBitmap => place.block_bitmap = cursor,
                            Metadata::InodeBitmap => place.inode_bitmap = cursor,
                            _ => place.inode_table = cursor,
                        }
                    }
                    cursor += len;
                }
            }
        }
        fixed.sort_unstable_by_key(|fixed| fixed.start);
        (fixed, places)
    }
}

/// Blocks of the journal that `mke2fs` makes for so many blocks of 4096 bytes
/// (`ext2fs_default_journal_size` of e2fsprogs).
pub(super) fn default_journal(blocks: u64) -> u32 {
    const SIZES: [(u64, u32); 8] = [
        (2 << 10, 0),
        (32 << 10, 1 << 10),
        (256 << 10, 4 << 10),
        (512 << 10, 8 << 10),
        (4 << 20, 16 << 10),
        (8 << 20, 32 << 10),
        (16 << 20, 64 << 10),
        (32 << 20, 128 << 10),
    ];
    SIZES.into_iter().find(|(limit, _)| blocks < *limit).map_or(256 << 10, |(_, len)| len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_where_sparse_super_has_them() {
        let geometry = Geometry::new(130 * PER_GROUP, 1000, 0);
        let groups: Vec<u32> = geometry.backups().collect();
        assert_eq!(groups, [1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn metadata_do_not_overlap() {
        for (blocks, inodes) in
            [(100, 16), (40_000, 9000), (40 * PER_GROUP, 40 * MAX_INODES), (1 << 24, 1 << 22)]
        {
            let geometry = Geometry::new(blocks, inodes, 0);
            let (fixed, places) = geometry.metadata();
            assert_eq!(places.len(), geometry.groups as usize);
            for pair in fixed.windows(2) {
                assert!(pair[0].start + pair[0].len <= pair[1].start, "{pair:?}");
            }
        }
    }
}
