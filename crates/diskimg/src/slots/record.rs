//! What is in a slot, in one sector, which is written whole or not at all.
//!
//! Numbers are little-endian.
//!
//! | at | what |
//! |---|---|
//! | 0 | `KILNSLOT` |
//! | 8 | 4 bytes: version of this format |
//! | 12 | `a` or `b`; then 1 when the system has said that it is healthy |
//! | 16 | 8 bytes: generation |
//! | 24 | lengths of kernel and initramfs, 8 bytes each |
//! | 40 | SHA-256 of kernel, initramfs and entries |
//! | 136 | 2 bytes: length of the version; the version |
//! | 508 | CRC-32 of what is before |

use super::{Part, Slot};
use crate::field::{array, put, u16_le, u32_le, u64_le};

const MAGIC: &[u8; 8] = b"KILNSLOT";
const VERSION: u32 = 1;
const CHECKSUM: usize = 508;
/// Bytes that a version may have.
pub(super) const VERSION_LEN: usize = 128;

/// What is in a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// The version of the system.
    pub version: String,
    /// The higher, the later it was written.
    pub generation: u64,
    /// Whether it has said that it is healthy.
    pub good: bool,
    /// The kernel.
    pub kernel: Part,
    /// The initramfs.
    pub initrd: Part,
    /// SHA-256 of its entries for the loaders.
    pub entries: [u8; 32],
}

impl Record {
    pub(super) fn emit(&self, slot: Slot) -> [u8; 512] {
        let mut sector = [0; 512];
        put(&mut sector, 0, MAGIC);
        put(&mut sector, 8, &VERSION.to_le_bytes());
        put(&mut sector, 12, slot.to_string().as_bytes());
        put(&mut sector, 13, &[u8::from(self.good)]);
        put(&mut sector, 16, &self.generation.to_le_bytes());
        put(&mut sector, 24, &self.kernel.len.to_le_bytes());
        put(&mut sector, 32, &self.initrd.len.to_le_bytes());
        let digests = [self.kernel.sha256, self.initrd.sha256, self.entries];
        put(&mut sector, 40, &digests.concat());
        let version = self.version.as_bytes();
        let version = version.get(..VERSION_LEN).unwrap_or(version);
        put(&mut sector, 136, &crate::field::narrow16(version.len() as u64).to_le_bytes());
        put(&mut sector, 138, version);
        let checksum = crc32fast::hash(sector.get(..CHECKSUM).unwrap_or_default());
        put(&mut sector, CHECKSUM, &checksum.to_le_bytes());
        sector
    }

    /// `None` for a sector that is no record of this slot: an empty one, one that is being replaced.
    pub(super) fn parse(slot: Slot, sector: &[u8; 512]) -> Option<Self> {
        let checksum = crc32fast::hash(sector.get(..CHECKSUM)?);
        let sound = sector.starts_with(MAGIC)
            && u32_le(sector, 8) == Some(VERSION)
            && sector.get(12).copied().map(char::from) == Some(slot.letter())
            && u32_le(sector, CHECKSUM) == Some(checksum);
        let len = usize::from(u16_le(sector, 136).filter(|_| sound)?);
        let version = sector.get(138..138_usize.checked_add(len.min(VERSION_LEN))?)?;
        Some(Self {
            version: String::from_utf8(version.to_vec()).ok()?,
            generation: u64_le(sector, 16)?,
            good: sector.get(13) == Some(&1),
            kernel: Part { len: u64_le(sector, 24)?, sha256: array(sector, 40)? },
            initrd: Part { len: u64_le(sector, 32)?, sha256: array(sector, 72)? },
            entries: array(sector, 104)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_its_sector_and_no_other_slots() {
        let record = Record {
            version: "1.2~rc3".to_owned(),
            generation: 7,
            good: true,
            kernel: Part::of(b"kernel"),
            initrd: Part::of(b"initrd"),
            entries: [9; 32],
        };
        let sector = record.emit(Slot::B);
        assert_eq!(sector[..16], *b"KILNSLOT\x01\0\0\0b\x01\0\0");
        assert_eq!(Record::parse(Slot::B, &sector), Some(record));
        assert_eq!(Record::parse(Slot::A, &sector), None);
        assert_eq!(Record::parse(Slot::B, &[0; 512]), None);
        for at in [0, 13, 16, 139, 400, 511] {
            let mut sector = sector;
            sector[at] ^= 1;
            assert_eq!(Record::parse(Slot::B, &sector), None, "{at}");
        }
    }
}
