//! The first sector: boot code, disk signature and four partition entries.
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 440 | boot code |
//! | 440 | 4 | disk signature, little-endian |
//! | 446 | 4 × 16 | entries: status, CHS of the first sector, type, CHS of the last, first LBA, sectors |
//! | 510 | 2 | `55 AA` |
//!
//! The plain table is the PC's of old; the protective one (UEFI 2.10, section 5.2.3) covers a GPT
//! disk with one entry of type `EE` so that old tools keep their hands off.

use crate::field::{narrow32, put, u16_le, u32_le};
use crate::units::SECTOR;

/// Length of the boot code.
pub const BOOT_CODE_LEN: usize = 440;
/// How many entries there are; extended partitions are not made.
pub const ENTRIES: usize = 4;
/// The type of a protective entry.
pub const TYPE_PROTECTIVE: u8 = 0xee;
const FIRST_ENTRY: usize = 446;
const ENTRY_LEN: usize = 16;

/// One used entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Whether the boot code should start this partition (status `80`).
    pub active: bool,
    /// What is in it.
    pub kind: u8,
    /// First sector.
    pub first: u32,
    /// How many sectors.
    pub sectors: u32,
}

/// The sector as a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mbr {
    /// Boot code, zeroes when there is none.
    pub boot_code: [u8; BOOT_CODE_LEN],
    /// Number by which Windows and `PARTUUID=` know the disk.
    pub signature: u32,
    /// The entries; unused ones are `None`.
    pub entries: [Option<Entry>; ENTRIES],
}

impl Mbr {
    /// A table that protects a GPT disk of so many sectors.
    #[must_use]
    pub fn protective(boot_code: [u8; BOOT_CODE_LEN], sectors: u64) -> Self {
        let sectors = narrow32(sectors.saturating_sub(1));
        let all = Entry { active: false, kind: TYPE_PROTECTIVE, first: 1, sectors };
        Self { boot_code, signature: 0, entries: [Some(all), None, None, None] }
    }

    /// Whether this is a protective table.
    #[must_use]
    pub fn is_protective(&self) -> bool {
        self.entries.iter().flatten().any(|entry| entry.kind == TYPE_PROTECTIVE)
    }

    /// The sector's bytes.
    #[must_use]
    pub fn emit(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        put(&mut sector, 0, &self.boot_code);
        put(&mut sector, 440, &self.signature.to_le_bytes());
        for (slot, entry) in self.entries.iter().enumerate() {
            let Some(entry) = entry else { continue };
            let at = FIRST_ENTRY + slot * ENTRY_LEN;
            let last = entry.first.saturating_add(entry.sectors.saturating_sub(1));
            put(&mut sector, at, &[if entry.active { 0x80 } else { 0 }]);
            put(&mut sector, at + 1, &chs(entry.first));
            put(&mut sector, at + 4, &[entry.kind]);
            put(&mut sector, at + 5, &chs(last));
            put(&mut sector, at + 8, &entry.first.to_le_bytes());
            put(&mut sector, at + 12, &entry.sectors.to_le_bytes());
        }
        put(&mut sector, 510, &[0x55, 0xaa]);
        sector
    }

    /// Reads a sector; `None` when it does not end in `55 AA`, or is a file system's boot sector
    /// (an entry whose status is neither `00` nor `80`).
    #[must_use]
    pub fn parse(sector: &[u8]) -> Option<Self> {
        if u16_le(sector, 510)? != 0xaa55 {
            return None;
        }
        let mut entries = [None; ENTRIES];
        for (slot, entry) in entries.iter_mut().enumerate() {
            let at = FIRST_ENTRY + slot * ENTRY_LEN;
            let (status, kind) = (*sector.get(at)?, *sector.get(at + 4)?);
            if status & 0x7f != 0 {
                return None;
            }
            let (first, sectors) = (u32_le(sector, at + 8)?, u32_le(sector, at + 12)?);
            if kind != 0 {
                *entry = Some(Entry { active: status == 0x80, kind, first, sectors });
            }
        }
        let boot_code = crate::field::array(sector, 0)?;
        Some(Self { boot_code, signature: u32_le(sector, 440)?, entries })
    }
}

/// Changes how many sectors an entry of a sector has, and where it ends by the old addresses.
pub(crate) fn set_sectors(sector: &mut [u8; 512], slot: usize, sectors: u32) {
    let at = FIRST_ENTRY + slot.min(ENTRIES - 1) * ENTRY_LEN;
    let first = u32_le(sector, at + 8).unwrap_or(0);
    let last = first.saturating_add(sectors.saturating_sub(1));
    put(sector, at + 5, &chs(last));
    put(sector, at + 12, &sectors.to_le_bytes());
}

/// Cylinder, head and sector of an LBA under the translation of 255 heads and 63 sectors; what is
/// beyond cylinder 1023 is `FE FF FF`.
fn chs(lba: u32) -> [u8; 3] {
    let (heads, sectors) = (255, 63);
    let cylinder = lba / (heads * sectors);
    let (head, sector) = (lba / sectors % heads, lba % sectors + 1);
    match (u8::try_from(head), u8::try_from(sector | cylinder >> 2 & 0xc0)) {
        (Ok(head), Ok(sector)) if cylinder < 1024 => [head, sector, cylinder.to_le_bytes()[0]],
        _ => [0xfe, 0xff, 0xff],
    }
}

/// The largest number of sectors that an entry can name.
pub(crate) const MAX_SECTORS: u64 = u32::MAX as u64;
const _: () = assert!(SECTOR == 512);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_protective() {
        // UEFI 2.10, table 5-4: type EE, from LBA 1, size of the disk less one.
        let sector = Mbr::protective([0; BOOT_CODE_LEN], 4096).emit();
        assert_eq!(sector[446..462], [0, 0, 2, 0, 0xee, 65, 1, 0, 1, 0, 0, 0, 0xff, 0x0f, 0, 0]);
        assert_eq!(sector[510..], [0x55, 0xaa]);
        let huge = Mbr::protective([0; BOOT_CODE_LEN], 1 << 40).emit();
        assert_eq!(huge[458..462], [0xff; 4]);
    }

    #[test]
    fn chs_of_known_sectors() {
        assert_eq!(chs(0), [0, 1, 0]);
        assert_eq!(chs(2048), [32, 33, 0]);
        assert_eq!(chs(1023 * 255 * 63 + 254 * 63 + 62), [254, 255, 255]);
        assert_eq!(chs(1024 * 255 * 63), [0xfe, 0xff, 0xff]);
    }

    #[test]
    fn round_trip() {
        let entry = Entry { active: true, kind: 0x0c, first: 2048, sectors: 131_072 };
        let mbr = Mbr {
            boot_code: [7; BOOT_CODE_LEN],
            signature: 0xdead_beef,
            entries: [Some(entry), None, Some(Entry { active: false, ..entry }), None],
        };
        assert_eq!(Mbr::parse(&mbr.emit()), Some(mbr));
        assert_eq!(Mbr::parse(&[0; 512]), None);
        assert_eq!(Mbr::parse(&[0x55; 100]), None);
    }
}
