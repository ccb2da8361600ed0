//! The superblock, the descriptors of groups and the journal's superblock (`fs/ext4/ext4.h` and
//! `include/linux/jbd2.h` of Linux). Little-endian, except for the journal.

use super::checksum::{Sums, crc};
use super::geometry::{FLEX_LOG, PER_GROUP, Places};
use super::{BLOCK, DESCRIPTOR, DESCRIPTOR_LEN, Geometry, INODE, htree, inode, special};
use crate::field::{array, narrow16, narrow32, put, u16_le, u32_le};

/// Where the superblock is, in bytes, and how long.
pub(super) const OFFSET: u64 = 1024;
pub(super) const LEN: usize = 1024;
const MAGIC: u16 = 0xef53;
/// Where its checksum is.
const SUM: usize = 0x3fc;

/// Feature bits.
pub(super) mod feature {
    pub(in crate::ext4) const HAS_JOURNAL: u32 = 0x4;
    pub(super) const EXT_ATTR: u32 = 0x8;
    pub(super) const RESIZE_INODE: u32 = 0x10;
    pub(super) const DIR_INDEX: u32 = 0x20;

    pub(super) const FILETYPE: u32 = 0x2;
    pub(in crate::ext4) const JOURNAL_DEV: u32 = 0x8;
    pub(in crate::ext4) const META_BG: u32 = 0x10;
    pub(super) const EXTENTS: u32 = 0x40;
    pub(super) const BIT64: u32 = 0x80;
    pub(super) const FLEX_BG: u32 = 0x200;

    pub(in crate::ext4) const SPARSE_SUPER: u32 = 0x1;
    pub(super) const LARGE_FILE: u32 = 0x2;
    pub(super) const HUGE_FILE: u32 = 0x8;
    pub(super) const DIR_NLINK: u32 = 0x20;
    pub(super) const EXTRA_ISIZE: u32 = 0x40;
    pub(in crate::ext4) const METADATA_CSUM: u32 = 0x400;

    /// The names that `dumpe2fs` has for them: compatible, incompatible, compatible for reading.
    pub(super) const NAMES: [&[(u32, &str)]; 3] = [
        &[
            (HAS_JOURNAL, "has_journal"),
            (EXT_ATTR, "ext_attr"),
            (RESIZE_INODE, "resize_inode"),
            (DIR_INDEX, "dir_index"),
            (0x200, "sparse_super2"),
            (0x400, "fast_commit"),
            (0x800, "stable_inodes"),
            (0x1000, "orphan_file"),
        ],
        &[
            (0x1, "compression"),
            (FILETYPE, "filetype"),
            (0x4, "needs_recovery"),
            (JOURNAL_DEV, "journal_dev"),
            (META_BG, "meta_bg"),
            (EXTENTS, "extent"),
            (BIT64, "64bit"),
            (0x100, "mmp"),
            (FLEX_BG, "flex_bg"),
            (0x400, "ea_inode"),
            (0x2000, "metadata_csum_seed"),
            (0x4000, "large_dir"),
            (0x8000, "inline_data"),
            (0x1_0000, "encrypt"),
            (0x2_0000, "casefold"),
        ],
        &[
            (SPARSE_SUPER, "sparse_super"),
            (LARGE_FILE, "large_file"),
            (HUGE_FILE, "huge_file"),
            (0x10, "uninit_bg"),
            (DIR_NLINK, "dir_nlink"),
            (EXTRA_ISIZE, "extra_isize"),
            (0x100, "quota"),
            (0x200, "bigalloc"),
            (METADATA_CSUM, "metadata_csum"),
            (0x1000, "read-only"),
            (0x2000, "project"),
            (0x8000, "verity"),
            (0x1_0000, "orphan_present"),
        ],
    ];
}

/// What a superblock says beside the geometry.
#[derive(Debug, Clone)]
pub(super) struct Super {
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    pub(super) hash_seed: [u32; 4],
    pub(super) created: u32,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u64,
    pub(super) reserved_blocks: u64,
    pub(super) kbytes: u64,
    /// What the journal's inode has in its body, which is kept here a second time.
    pub(super) journal: Option<[u8; 60]>,
}

impl Super {
    /// The superblock of a group: the first one or a copy.
    pub(super) fn emit(&self, geometry: &Geometry, group: u32) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        let mut put32 = |at: usize, value: u64| {
            put(&mut bytes, at, &narrow32(value & 0xffff_ffff).to_le_bytes());
        };
        put32(0x00, geometry.inodes());
        put32(0x04, geometry.blocks);
        put32(0x08, self.reserved_blocks);
        put32(0x0c, self.free_blocks);
        put32(0x10, self.free_inodes);
        // Lengths of blocks and of clusters, as powers of two of 1024.
        put32(0x18, 2);
        put32(0x1c, 2);
        put32(0x20, PER_GROUP);
        put32(0x24, PER_GROUP);
        put32(0x28, u64::from(geometry.inodes_per_group));
        put32(0x30, u64::from(self.created));
        put32(0x40, u64::from(self.created));
        put32(0x4c, 1);
        put32(0x54, u64::from(special::LOST_AND_FOUND));
        let journal = self.journal.is_some();
        let compatible = feature::EXT_ATTR | feature::RESIZE_INODE | feature::DIR_INDEX;
        put32(0x5c, u64::from(compatible | if journal { feature::HAS_JOURNAL } else { 0 }));
        let incompatible = feature::FILETYPE | feature::EXTENTS | feature::BIT64 | feature::FLEX_BG;
        put32(0x60, u64::from(incompatible));
        let for_writing = feature::SPARSE_SUPER
            | feature::LARGE_FILE
            | feature::HUGE_FILE
            | feature::DIR_NLINK
            | feature::EXTRA_ISIZE
            | feature::METADATA_CSUM;
        put32(0x64, u64::from(for_writing));
        put32(0xe0, if journal { u64::from(special::JOURNAL) } else { 0 });
        for (seed, at) in self.hash_seed.iter().zip((0xec..).step_by(4)) {
            put32(at, u64::from(*seed));
        }
        // Attributes and access control lists are on, as mke2fs has them.
        put32(0x100, 0xc);
        put32(0x108, u64::from(self.created));
        put32(0x150, geometry.blocks >> 32);
        put32(0x154, self.reserved_blocks >> 32);
        put32(0x158, self.free_blocks >> 32);
        // Characters are signed numbers in the hashes of names.
        put32(0x160, 1);
        put32(0x178, self.kbytes);
        put32(0x17c, self.kbytes >> 32);

        let mut put16 = |at: usize, value: u16| put(&mut bytes, at, &value.to_le_bytes());
        // No check after so many mounts.
        put16(0x36, u16::MAX);
        put16(0x38, MAGIC);
        // Clean; copies are not, so that they are not taken for what was unmounted last.
        put16(0x3a, u16::from(group == 0));
        // On errors continue, as mke2fs has it.
        put16(0x3c, 1);
        put16(0x58, narrow16(INODE));
        put16(0x5a, narrow16(u64::from(group)));
        put16(0xce, narrow16(u64::from(geometry.reserved_descriptor_blocks)));
        put16(0xfe, narrow16(DESCRIPTOR));
        put16(0x15c, inode::EXTRA);
        put16(0x15e, inode::EXTRA);
        put(&mut bytes, 0x68, &self.uuid);
        put(&mut bytes, 0x78, &self.label);
        // The hash of names; that the journal's inode follows, with its length after its body.
        put(&mut bytes, 0xfc, &[htree::HALF_MD4, u8::from(journal)]);
        if let Some(body) = &self.journal {
            put(&mut bytes, 0x10c, body);
            let len = u64::from(geometry.journal) * BLOCK;
            put(&mut bytes, 0x10c + 60, &narrow32(len >> 32).to_le_bytes());
            put(&mut bytes, 0x10c + 64, &narrow32(len & 0xffff_ffff).to_le_bytes());
        }
        // Sixteen groups together; checksums are CRC-32C.
        put(&mut bytes, 0x174, &[FLEX_LOG, 1]);
        let sum = crc(u32::MAX, bytes.get(..SUM).unwrap_or_default());
        put(&mut bytes, SUM, &sum.to_le_bytes());
        bytes
    }
}

/// A group's state.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Descriptor {
    pub(super) places: Places,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    pub(super) unused_inodes: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_sum: u32,
    pub(super) inode_bitmap_sum: u32,
}

impl Descriptor {
    /// No inode is used, and the inode bitmap is not written.
    pub(super) const INODE_UNINIT: u16 = 1;
    /// No block is used beside backups, and the block bitmap is not written.
    pub(super) const BLOCK_UNINIT: u16 = 2;
    /// What is not used of the inode table is zero.
    pub(super) const INODE_ZEROED: u16 = 4;

    pub(super) fn emit(&self, group: u32, sums: Sums) -> [u8; DESCRIPTOR_LEN] {
        let mut bytes = [0; DESCRIPTOR_LEN];
        let places = [self.places.block_bitmap, self.places.inode_bitmap, self.places.inode_table];
        for (place, at) in places.into_iter().zip((0..).step_by(4)) {
            put(&mut bytes, at, &narrow32(place & 0xffff_ffff).to_le_bytes());
            put(&mut bytes, at + 0x20, &narrow32(place >> 32).to_le_bytes());
        }
        for (value, low, high) in [
            (narrow32(self.free_blocks), 0x0c, 0x2c),
            (self.free_inodes, 0x0e, 0x2e),
            (self.directories, 0x10, 0x30),
            (self.unused_inodes, 0x1c, 0x32),
            (self.block_bitmap_sum, 0x18, 0x38),
            (self.inode_bitmap_sum, 0x1a, 0x3a),
        ] {
            put(&mut bytes, low, &narrow16(u64::from(value & 0xffff)).to_le_bytes());
            put(&mut bytes, high, &narrow16(u64::from(value >> 16)).to_le_bytes());
        }
        put(&mut bytes, 0x12, &self.flags.to_le_bytes());
        let sum = crc(sums.group(group), &bytes) & 0xffff;
        put(&mut bytes, 0x1e, &narrow16(u64::from(sum)).to_le_bytes());
        bytes
    }
}

/// The first block of an empty journal, big-endian.
pub(super) fn journal(blocks: u32) -> Vec<u8> {
    let mut block = vec![0; crate::field::index(BLOCK)];
    for (at, value) in [
        (0x00, 0xc03b_3998),
        // A superblock of version 2.
        (0x04, 4),
        (0x0c, narrow32(BLOCK)),
        (0x10, blocks),
        // The log begins at block 1 with sequence 1; at block 0 begins what is to be replayed:
        // nothing.
        (0x14, 1),
        (0x18, 1),
        // One file system uses it.
        (0x40, 1),
    ] {
        put(&mut block, at, &u32::to_be_bytes(value));
    }
    block
}

/// What a reader needs of a superblock.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) inodes: u32,
    pub(super) blocks: u64,
    pub(super) reserved_blocks: u64,
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) first_data_block: u32,
    /// Bytes.
    pub(super) block: u64,
    pub(super) blocks_per_group: u32,
    pub(super) inodes_per_group: u32,
    pub(super) inode_len: u64,
    pub(super) descriptor_len: u64,
    pub(super) first_meta_bg: u32,
    pub(super) state: u16,
    pub(super) created: u32,
    /// Compatible, incompatible, compatible for reading.
    pub(super) features: [u32; 3],
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
}

impl Parsed {
    /// The features' names, unknown ones as numbers.
    pub(super) fn feature_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (bits, known) in self.features.iter().zip(feature::NAMES) {
            let mut rest = *bits;
            for (bit, name) in known {
                if bits & bit != 0 {
                    names.push((*name).to_owned());
                    rest &= !bit;
                }
            }
            if rest != 0 {
                names.push(format!("{rest:#x}"));
            }
        }
        names
    }

    pub(super) fn is_incompatible(&self, bit: u32) -> bool {
        self.features[1] & bit != 0
    }
}

/// Reads a superblock. The error has the offset in it, and the reason.
pub(super) fn parse(bytes: &[u8; LEN]) -> Result<Parsed, (u64, String)> {
    let long = |at| u32_le(bytes, at).unwrap_or(0);
    let short = |at| u16_le(bytes, at).unwrap_or(0);
    if short(0x38) != MAGIC {
        return Err((0x38, format!("the magic number is {:#06x}, expected 0xef53", short(0x38))));
    }
    let features = [long(0x5c), long(0x60), long(0x64)];
    if features[2] & feature::METADATA_CSUM != 0 {
        let sum = crc(u32::MAX, bytes.get(..SUM).unwrap_or_default());
        if sum != long(SUM) {
            let reason = format!("the checksum is {:#010x}, expected {sum:#010x}", long(SUM));
            return Err((SUM as u64, reason));
        }
    }
    let shift = long(0x18);
    if shift > 6 {
        return Err((0x18, format!("blocks of 1024 << {shift} bytes, expected at most 65536")));
    }
    let block = 1024_u64 << shift;
    let bit64 = features[1] & feature::BIT64 != 0;
    let high = |at| if bit64 { u64::from(long(at)) << 32 } else { 0 };
    // The first revision had no such fields.
    let dynamic = long(0x4c) > 0;
    let inode_len = if dynamic { u64::from(short(0x58)) } else { 128 };
    if !inode_len.is_power_of_two() || !(128..=block).contains(&inode_len) {
        return Err((0x58, format!("inodes of {inode_len} bytes, expected 128 to {block}")));
    }
    let descriptor_len = if bit64 { u64::from(short(0xfe)) } else { 32 };
    if !descriptor_len.is_power_of_two() || !(32..=1024).contains(&descriptor_len) {
        return Err((0xfe, format!("descriptors of {descriptor_len} bytes, expected 32 to 1024")));
    }
    let (blocks_per_group, inodes_per_group) = (long(0x20), long(0x28));
    for (at, value) in [(0x20, blocks_per_group), (0x28, inodes_per_group)] {
        if value == 0 {
            return Err((at, "groups of nothing".to_owned()));
        }
    }
    Ok(Parsed {
        inodes: long(0x00),
        blocks: u64::from(long(0x04)) | high(0x150),
        reserved_blocks: u64::from(long(0x08)) | high(0x154),
        free_blocks: u64::from(long(0x0c)) | high(0x158),
        free_inodes: long(0x10),
        first_data_block: long(0x14),
        block,
        blocks_per_group,
        inodes_per_group,
        inode_len,
        descriptor_len,
        first_meta_bg: long(0x104),
        state: short(0x3a),
        created: long(0x108),
        features: if dynamic { features } else { [0; 3] },
        uuid: array(bytes, 0x68).unwrap_or_default(),
        label: array(bytes, 0x78).unwrap_or_default(),
    })
}
