//! The superblock (Linux, `fs/erofs/erofs_fs.h`), all numbers little-endian.

use crate::field::{array, put, u16_le, u32_le, u64_le};
use crate::{Error, Result};

/// Where the superblock begins.
pub(super) const OFFSET: u64 = 1024;
/// Its length without the configurations of compressors that may follow.
pub(super) const LEN: usize = 128;
pub(super) const MAGIC: u32 = 0xe0f5_e1e2;
/// Feature (compatible): the checksum is there.
pub(super) const CHECKSUM: u32 = 1;
/// Feature (compatible): extended inodes have modification times.
pub(super) const MTIME: u32 = 2;
/// Feature (incompatible): compressed data end at the end of their blocks, zeroes before.
pub(super) const ZERO_PADDING: u32 = 1;
/// Feature (incompatible): configurations of compressors follow the superblock, and physical
/// clusters may have more than a block.
pub(super) const COMPRESSOR_CONFIGS: u32 = 2;
/// Feature (incompatible): files in chunks.
pub(super) const CHUNKS: u32 = 4;
/// Feature (incompatible): a second kind of head; also the table of further devices.
pub(super) const HEAD2: u32 = 8;
/// Feature (incompatible): ends of compressed files inside of the metadata.
pub(super) const INLINE_CLUSTERS: u32 = 0x10;

/// What a superblock says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Superblock {
    pub(super) checksum: u32,
    pub(super) compatible: u32,
    pub(super) incompatible: u32,
    /// Power of two.
    pub(super) block_bits: u8,
    /// Slots of 16 bytes after the superblock.
    pub(super) extension_slots: u8,
    pub(super) root: u16,
    pub(super) inodes: u64,
    /// The time of compact inodes, seconds since 1970.
    pub(super) build_time: u64,
    pub(super) blocks: u32,
    /// The block that inode numbers count from.
    pub(super) meta_block: u32,
    pub(super) xattr_block: u32,
    pub(super) uuid: [u8; 16],
    pub(super) label: [u8; 16],
    /// Bits of algorithms, or the greatest distance of LZ4 where there are no configurations.
    pub(super) algorithms: u16,
}

impl Superblock {
    /// Writes it into the volume's first block, with the checksum of all of that block.
    pub(super) fn emit(&self, block: &mut [u8]) {
        let at = crate::field::index(OFFSET);
        let mut bytes = [0; LEN];
        put(&mut bytes, 0, &MAGIC.to_le_bytes());
        put(&mut bytes, 8, &self.compatible.to_le_bytes());
        put(&mut bytes, 12, &[self.block_bits, self.extension_slots]);
        put(&mut bytes, 14, &self.root.to_le_bytes());
        put(&mut bytes, 16, &self.inodes.to_le_bytes());
        put(&mut bytes, 24, &self.build_time.to_le_bytes());
        put(&mut bytes, 36, &self.blocks.to_le_bytes());
        put(&mut bytes, 40, &self.meta_block.to_le_bytes());
        put(&mut bytes, 44, &self.xattr_block.to_le_bytes());
        put(&mut bytes, 48, &self.uuid);
        put(&mut bytes, 64, &self.label);
        put(&mut bytes, 80, &self.incompatible.to_le_bytes());
        put(&mut bytes, 84, &self.algorithms.to_le_bytes());
        put(block, at, &bytes);
        let sum = checksum(block.get(at..).unwrap_or_default());
        put(block, at + 4, &sum.to_le_bytes());
    }

    /// Reads what is at byte 1024.
    pub(super) fn parse(bytes: &[u8; LEN]) -> Result<Self> {
        let malformed = |at: u64, reason: String| Error::malformed("erofs", OFFSET + at, reason);
        let number = |at| u32_le(bytes, at).unwrap_or(0);
        if number(0) != MAGIC {
            let reason = format!("the magic is {:#010x}, expected {MAGIC:#010x}", number(0));
            return Err(malformed(0, reason));
        }
        let [block_bits, extension_slots] = array(bytes, 12).unwrap_or_default();
        if !(9..=16).contains(&block_bits) {
            let reason = format!("blocks of 2^{block_bits} bytes, expected 2^9 to 2^16");
            return Err(malformed(12, reason));
        }
        Ok(Self {
            checksum: number(4),
            compatible: number(8),
            incompatible: number(80),
            block_bits,
            extension_slots,
            root: u16_le(bytes, 14).unwrap_or(0),
            inodes: u64_le(bytes, 16).unwrap_or(0),
            build_time: u64_le(bytes, 24).unwrap_or(0),
            blocks: number(36),
            meta_block: number(40),
            xattr_block: number(44),
            uuid: array(bytes, 48).unwrap_or_default(),
            label: array(bytes, 64).unwrap_or_default(),
            algorithms: u16_le(bytes, 84).unwrap_or(0),
        })
    }
}

/// The CRC-32C of what is from the superblock to the end of its block, its own field taken as zero.
/// Linux does not invert the result, as the usual CRC-32C does.
pub(super) fn checksum(rest: &[u8]) -> u32 {
    let (before, after) = rest.split_at(rest.len().min(4));
    let after = after.get(4..).unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[0; 4]);
    !crc32c::crc32c_append(sum, after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let wanted = Superblock {
            checksum: 0,
            compatible: CHECKSUM | MTIME,
            incompatible: ZERO_PADDING,
            block_bits: 12,
            extension_slots: 0,
            root: 36,
            inodes: 1 << 40,
            build_time: 7,
            blocks: 9,
            meta_block: 1,
            xattr_block: 2,
            uuid: [3; 16],
            label: [b'k'; 16],
            algorithms: 0,
        };
        let mut block = [0; 4096];
        wanted.emit(&mut block);
        let found = Superblock::parse(&array(&block, 1024).unwrap()).unwrap();
        assert_eq!(found.checksum, checksum(&block[1024..]));
        assert_eq!(Superblock { checksum: 0, ..found }, wanted);
        block[1024] ^= 1;
        let error = Superblock::parse(&array(&block, 1024).unwrap()).unwrap_err().to_string();
        assert_eq!(error, "erofs: byte 1024: the magic is 0xe0f5e1e3, expected 0xe0f5e1e2");
    }
}
