//! CRC-32C as ext4 chains it: from a seed, without the final inversion (`ext4_chksum` of Linux's
//! `fs/ext4/ext4.h`).

/// The checksum of bytes that follow what the seed is the checksum of.
pub(super) fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// What every checksum of a volume begins with: that of its UUID.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums(u32);

impl Sums {
    pub(super) fn new(uuid: &[u8; 16]) -> Self {
        Self(crc(u32::MAX, uuid))
    }

    /// Of a bitmap.
    pub(super) fn bitmap(self, bits: &[u8]) -> u32 {
        crc(self.0, bits)
    }

    /// The seed of what belongs to a group.
    pub(super) fn group(self, group: u32) -> u32 {
        crc(self.0, &group.to_le_bytes())
    }

    /// The seed of what belongs to an inode. Generations, the second part of it, are 0 here.
    pub(super) fn inode(self, number: u32) -> u32 {
        crc(crc(self.0, &number.to_le_bytes()), &[0; 4])
    }

    /// The seed of a block of extended attributes.
    pub(super) fn block(self, number: u64) -> u32 {
        crc(self.0, &number.to_le_bytes())
    }
}
