//! Header and entries: fixed blocks, read without I/O.

use crate::field::{array, u16_le, u32_le, u64_le};
use crate::guid::Guid;

/// Attribute bit 0: the platform needs the partition; leave it alone.
pub const REQUIRED: u64 = 1;
/// Attribute bit 1: firmware must not look into the partition.
pub const NO_BLOCK_IO: u64 = 1 << 1;
/// Attribute bit 2: boot code in the MBR should start this partition.
pub const LEGACY_BIOS_BOOTABLE: u64 = 1 << 2;
/// Attribute bit 59: the file system is to be grown to the partition's length when it is mounted
/// (Discoverable Partitions Specification).
pub const GROW_FILE_SYSTEM: u64 = 1 << 59;
/// Attribute bit 60: to be mounted read-only (Discoverable Partitions Specification).
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute bit 63: not to be mounted without being asked for (Discoverable Partitions
/// Specification).
pub const NO_AUTO: u64 = 1 << 63;

/// The header (UEFI 2.10, table 5-5), its checksum verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Where this header is.
    pub own_lba: u64,
    /// Where the other one is.
    pub other_lba: u64,
    /// First sector a partition may use.
    pub first_usable: u64,
    /// Last sector a partition may use.
    pub last_usable: u64,
    /// The disk's identifier.
    pub disk_guid: Guid,
    /// Where the entries begin.
    pub entries_lba: u64,
    /// How many entries there are, used or not.
    pub entry_count: u32,
    /// Bytes of an entry, at least 128.
    pub entry_len: u32,
    /// CRC-32 of all entries.
    pub entries_crc: u32,
}

impl Header {
    /// Reads a sector.
    ///
    /// # Errors
    /// What is wrong with it, as text.
    pub fn parse(sector: &[u8]) -> Result<Self, String> {
        let short = || "the sector is cut short".to_owned();
        if sector.get(..8) != Some(b"EFI PART") {
            return Err("expected the signature 'EFI PART'".to_owned());
        }
        let len = crate::field::index(u64::from(u32_le(sector, 12).ok_or_else(short)?));
        let Some(bytes) = sector.get(..len).filter(|_| len >= 92) else {
            return Err(format!("the header's length is {len}, expected 92 to {}", sector.len()));
        };
        let stored = u32_le(sector, 16).ok_or_else(short)?;
        let mut crc = crc32fast::Hasher::new();
        crc.update(bytes.get(..16).unwrap_or_default());
        crc.update(&[0; 4]);
        crc.update(bytes.get(20..).unwrap_or_default());
        let computed = crc.finalize();
        if stored != computed {
            return Err(format!("the header's checksum is {stored:08x}, expected {computed:08x}"));
        }
        let number = |at| u64_le(sector, at).ok_or_else(short);
        let word = |at| u32_le(sector, at).ok_or_else(short);
        Ok(Self {
            own_lba: number(24)?,
            other_lba: number(32)?,
            first_usable: number(40)?,
            last_usable: number(48)?,
            disk_guid: Guid::from_disk(array(sector, 56).ok_or_else(short)?),
            entries_lba: number(72)?,
            entry_count: word(80)?,
            entry_len: word(84)?,
            entries_crc: word(88)?,
        })
    }
}

/// A used entry (UEFI 2.10, table 5-6).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the partition is for.
    pub kind: Guid,
    /// Which one it is.
    pub guid: Guid,
    /// First sector.
    pub first: u64,
    /// Last sector, which belongs to the partition.
    pub last: u64,
    /// Attribute bits, such as [`LEGACY_BIOS_BOOTABLE`].
    pub attributes: u64,
    /// Name, at most 36 UTF-16 units.
    pub name: String,
}

impl Entry {
    /// Reads an entry; `None` when it is unused or cut short.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let kind = Guid::from_disk(array(bytes, 0)?);
        if kind == Guid::NIL {
            return None;
        }
        let units: Vec<u16> = (56..128)
            .step_by(2)
            .map_while(|at| u16_le(bytes, at))
            .take_while(|unit| *unit != 0)
            .collect();
        Some(Self {
            kind,
            guid: Guid::from_disk(array(bytes, 16)?),
            first: u64_le(bytes, 32)?,
            last: u64_le(bytes, 40)?,
            attributes: u64_le(bytes, 48)?,
            name: String::from_utf16_lossy(&units),
        })
    }
}
