//! Inodes of 256 bytes, with times beyond 2038 and checksums (`struct ext4_inode` of Linux).

use super::checksum::{Sums, crc};
use super::xattr::Attributes;
use super::{BLOCK, INODE_LEN};
use crate::field::{narrow16, narrow32, put};

/// What kind of file an inode is, in the upper bits of its mode.
pub(super) mod format {
    pub(in crate::ext4) const MASK: u16 = 0xf000;
    pub(in crate::ext4) const FIFO: u16 = 0x1000;
    pub(in crate::ext4) const CHARACTER: u16 = 0x2000;
    pub(in crate::ext4) const DIRECTORY: u16 = 0x4000;
    pub(in crate::ext4) const BLOCK: u16 = 0x6000;
    pub(in crate::ext4) const REGULAR: u16 = 0x8000;
    pub(in crate::ext4) const SYMLINK: u16 = 0xa000;
    pub(in crate::ext4) const SOCKET: u16 = 0xc000;
}

/// Flags of inodes.
pub(super) mod flag {
    /// A directory with an index.
    pub(in crate::ext4) const INDEX: u32 = 0x1000;
    /// Its blocks are found by extents.
    pub(in crate::ext4) const EXTENTS: u32 = 0x8_0000;
    pub(in crate::ext4) const ENCRYPTED: u32 = 0x800;
    /// The content is in the inode itself.
    pub(in crate::ext4) const INLINE_DATA: u32 = 0x1000_0000;
}

/// Bytes of the fields beyond the first 128.
pub(super) const EXTRA: u16 = 32;

/// An inode's fields.
#[derive(Debug)]
pub(super) struct Inode<'volume> {
    pub(super) number: u32,
    /// Kind and permissions.
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) links: u16,
    pub(super) len: u64,
    /// Seconds since 1970, for all four times.
    pub(super) time: u32,
    pub(super) flags: u32,
    /// Blocks of every purpose.
    pub(super) blocks: u64,
    /// The block of extended attributes; 0 for none.
    pub(super) xattr_block: u64,
    /// Extents, a short link's text or a device's number.
    pub(super) body: [u8; 60],
    pub(super) xattrs: Option<&'volume Attributes>,
}

impl Inode<'_> {
    pub(super) fn emit(&self, sums: Sums) -> [u8; INODE_LEN] {
        let mut bytes = [0; INODE_LEN];
        let mut put16 = |at: usize, value: u64| {
            put(&mut bytes, at, &narrow16(value & 0xffff).to_le_bytes());
        };
        let (uid, gid) = (u64::from(self.uid), u64::from(self.gid));
        let sectors = self.blocks * (BLOCK / 512);
        put16(0x00, u64::from(self.mode));
        put16(0x02, uid);
        put16(0x18, gid);
        put16(0x1a, u64::from(self.links));
        put16(0x74, sectors >> 32);
        put16(0x76, self.xattr_block >> 32);
        put16(0x78, uid >> 16);
        put16(0x7a, gid >> 16);
        put16(0x80, u64::from(EXTRA));
        let mut put32 = |at: usize, value: u64| {
            put(&mut bytes, at, &narrow32(value & 0xffff_ffff).to_le_bytes());
        };
        put32(0x04, self.len);
        put32(0x6c, self.len >> 32);
        put32(0x1c, sectors);
        put32(0x20, u64::from(self.flags));
        put32(0x68, self.xattr_block);
        // Access, change, modification, creation. The first 32 bits are a signed number, so that
        // from 2038 on the next ones count that they wrapped.
        let epoch = u64::from(self.time >> 31);
        for (at, extra) in [(0x08, 0x8c), (0x0c, 0x84), (0x10, 0x88), (0x90, 0x94)] {
            put32(at, u64::from(self.time));
            put32(extra, epoch);
        }
        put(&mut bytes, 0x28, &self.body);
        if let Some(xattrs) = self.xattrs {
            xattrs.put_in_inode(&mut bytes);
        }
        let sum = crc(sums.inode(self.number), &bytes);
        put(&mut bytes, 0x7c, &narrow16(u64::from(sum & 0xffff)).to_le_bytes());
        put(&mut bytes, 0x82, &narrow16(u64::from(sum >> 16)).to_le_bytes());
        bytes
    }
}

/// A device's number in an inode's body: the old form where it fits, else the new one in the
/// second word (`new_encode_dev` of Linux). `None` when neither holds it.
pub(super) fn device(major: u32, minor: u32) -> Option<[u8; 60]> {
    if major >= 1 << 12 || minor >= 1 << 20 {
        return None;
    }
    let mut body = [0; 60];
    if major < 256 && minor < 256 {
        put(&mut body, 0, &(major << 8 | minor).to_le_bytes());
    } else {
        let number = minor & 0xff | major << 8 | (minor & !0xff) << 12;
        put(&mut body, 4, &number.to_le_bytes());
    }
    Some(body)
}

/// The device's number from an inode's body.
pub(super) fn parse_device(body: &[u8]) -> (u32, u32) {
    match crate::field::u32_le(body, 0).unwrap_or(0) {
        0 => {
            let number = crate::field::u32_le(body, 4).unwrap_or(0);
            ((number >> 8) & 0xfff, number & 0xff | (number >> 12) & 0xf_ff00)
        }
        old => ((old >> 8) & 0xff, old & 0xff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_are_there_and_back() {
        for number in [(5, 1), (0, 0), (8, 256), (259, 3), (4095, (1 << 20) - 1)] {
            assert_eq!(parse_device(&device(number.0, number.1).unwrap()), number);
        }
        assert_eq!(device(4096, 0), None);
        assert_eq!(device(0, 1 << 20), None);
    }
}
