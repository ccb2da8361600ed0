//! Where everything is, in one sector that never changes.
//!
//! The file system says it too, and both have to agree. A file that firmware has lost while it renamed
//! it is found here alone.
//!
//! | at | what |
//! |---|---|
//! | 0 | `KILNSLTS` |
//! | 8 | 4 bytes each: version of this format, identifier |
//! | 16 | bit 0: SYSLINUX is there, bit 1: systemd-boot |
//! | 24 | rooms for kernel and initramfs, 8 bytes each |
//! | 40 | 2 bytes: length of the title; the title |
//! | 128 | runs: first sector and number of sectors, 4 bytes each; last the cluster of `loader` |
//! | 508 | CRC-32 of what is before |

use super::pieces::WEIGHTS;
use super::{FORMAT, Slot};
use crate::field::{put, u16_le, u32_le, u64_le};
use crate::units::SECTOR;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"KILNSLTS";
const VERSION: u32 = 1;
const RUNS: usize = 128;
const CHECKSUM: usize = 508;
const BIOS: u8 = 1;
const UEFI: u8 = 2;
/// Bytes that a title may have.
pub(super) const TITLE_LEN: usize = 64;

/// Sectors of the volume, one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Run {
    /// The first, counted from the start of the volume.
    pub first: u32,
    /// How many.
    pub sectors: u32,
}

impl Run {
    /// The byte at which it begins.
    #[must_use]
    pub fn offset(self) -> u64 {
        u64::from(self.first) * SECTOR
    }

    /// Bytes.
    #[must_use]
    pub fn len(self) -> u64 {
        u64::from(self.sectors) * SECTOR
    }

    /// Whether there is not a sector.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.sectors == 0
    }
}

/// Where a slot's files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SlotPlaces {
    /// The kernel.
    pub kernel: Run,
    /// The pieces of the initramfs.
    pub pieces: [Run; 8],
    /// The entry for SYSLINUX.
    pub bios_entry: Run,
    /// The entry for systemd-boot.
    pub uefi_entry: Run,
}

/// What SYSLINUX reads beside the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BiosPlaces {
    /// Its configuration: one sector.
    pub config: Run,
    /// Its vector: two sectors.
    pub vector: Run,
}

/// What systemd-boot reads beside the slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UefiPlaces {
    /// Its configuration: one sector.
    pub config: Run,
    /// The directory of the entries: the sector with all of them.
    pub entries: Run,
    /// The entry that is started once.
    pub once: Run,
    /// The cluster of the directory above.
    pub parent: u32,
}

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Places {
    /// Which disk this is.
    pub id: u32,
    /// What menus show.
    pub title: String,
    /// Bytes that a kernel may have.
    pub kernel: u64,
    /// Bytes that an initramfs may have.
    pub initrd: u64,
    /// Where this is, and after it a sector for each slot.
    pub state: Run,
    /// Where the slots' files are: a, b.
    pub slots: [SlotPlaces; 2],
    /// For a BIOS, if it can start this disk.
    pub bios: Option<BiosPlaces>,
    /// For UEFI, if it can start this disk.
    pub uefi: Option<UefiPlaces>,
}

impl Places {
    /// Where a slot's files are.
    #[must_use]
    pub fn slot(&self, slot: Slot) -> &SlotPlaces {
        let [a, b] = &self.slots;
        match slot {
            Slot::A => a,
            Slot::B => b,
        }
    }

    /// The byte at which a slot's record is.
    #[must_use]
    pub fn record(&self, slot: Slot) -> u64 {
        let sector = match slot {
            Slot::A => 1,
            Slot::B => 2,
        };
        self.state.offset() + sector * SECTOR
    }

    /// All runs, in the order in which the sector has them.
    fn runs(&self) -> Vec<Run> {
        let mut runs = vec![self.state];
        for slot in &self.slots {
            runs.push(slot.kernel);
            runs.extend(slot.pieces);
            runs.extend([slot.bios_entry, slot.uefi_entry]);
        }
        let (bios, uefi) = (self.bios.unwrap_or_default(), self.uefi.unwrap_or_default());
        runs.extend([bios.config, bios.vector, uefi.config, uefi.entries, uefi.once]);
        runs.push(Run { first: uefi.parent, sectors: 0 });
        runs
    }

    pub(super) fn emit(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        put(&mut sector, 0, MAGIC);
        put(&mut sector, 8, &VERSION.to_le_bytes());
        put(&mut sector, 12, &self.id.to_le_bytes());
        let bits = [(self.bios.is_some(), BIOS), (self.uefi.is_some(), UEFI)];
        let bits = bits.iter().filter(|(there, _)| *there).fold(0, |all, (_, bit)| all | bit);
        put(&mut sector, 16, &[bits]);
        put(&mut sector, 24, &self.kernel.to_le_bytes());
        put(&mut sector, 32, &self.initrd.to_le_bytes());
        let title = self.title.as_bytes();
        let title = title.get(..TITLE_LEN).unwrap_or(title);
        put(&mut sector, 40, &crate::field::narrow16(title.len() as u64).to_le_bytes());
        put(&mut sector, 42, title);
        for (slot, run) in self.runs().iter().enumerate() {
            put(&mut sector, RUNS + slot * 8, &run.first.to_le_bytes());
            put(&mut sector, RUNS + slot * 8 + 4, &run.sectors.to_le_bytes());
        }
        let checksum = crc32fast::hash(sector.get(..CHECKSUM).unwrap_or_default());
        put(&mut sector, CHECKSUM, &checksum.to_le_bytes());
        sector
    }

    /// Reads the sector, which is at a byte of the volume.
    pub(super) fn parse(sector: &[u8; 512], at: u64) -> Result<Self> {
        let bad = |field: usize, reason: &str| {
            Err(Error::malformed(FORMAT, at.saturating_add(field as u64), reason))
        };
        if !sector.starts_with(MAGIC) {
            return bad(0, "this does not say where slots are");
        }
        if u32_le(sector, 8) != Some(VERSION) {
            return bad(8, "places of slots in a format that is not known");
        }
        let checksum = crc32fast::hash(sector.get(..CHECKSUM).unwrap_or_default());
        if u32_le(sector, CHECKSUM) != Some(checksum) {
            return bad(CHECKSUM, "the checksum is another one");
        }
        let len = usize::from(u16_le(sector, 40).unwrap_or(0)).min(TITLE_LEN);
        let title = sector.get(42..42 + len).unwrap_or_default();
        let bits = sector.get(16).copied().unwrap_or(0);
        let mut runs = (0..).map(|slot: usize| Run {
            first: u32_le(sector, RUNS + slot * 8).unwrap_or(0),
            sectors: u32_le(sector, RUNS + slot * 8 + 4).unwrap_or(0),
        });
        let mut next = || runs.next().unwrap_or_default();
        let state = next();
        let mut slot = || SlotPlaces {
            kernel: next(),
            pieces: WEIGHTS.map(|_| next()),
            bios_entry: next(),
            uefi_entry: next(),
        };
        let slots = [slot(), slot()];
        let bios = BiosPlaces { config: next(), vector: next() };
        let uefi =
            UefiPlaces { config: next(), entries: next(), once: next(), parent: next().first };
        Ok(Self {
            id: u32_le(sector, 12).unwrap_or(0),
            title: String::from_utf8_lossy(title).into_owned(),
            kernel: u64_le(sector, 24).unwrap_or(0),
            initrd: u64_le(sector, 32).unwrap_or(0),
            state,
            slots,
            bios: (bits & BIOS != 0).then_some(bios),
            uefi: (bits & UEFI != 0).then_some(uefi),
        })
    }

    /// Stretches of the volume that hold an initramfs of so many bytes, in their order: offset and
    /// length, the last one longer than what is left. `None` when it does not fit.
    pub(super) fn initrd_of(&self, slot: Slot, len: u64) -> Option<Vec<(usize, Run)>> {
        let chosen = super::pieces::chosen(self.initrd, len)?;
        let pieces = &self.slot(slot).pieces;
        chosen.into_iter().map(|piece| Some((piece, *pieces.get(piece)?))).collect()
    }
}

/// The sectors that so many bytes take from a sector on.
pub(super) fn run(first: u64, len: u64) -> Run {
    let narrow = crate::field::narrow32;
    Run { first: narrow(first), sectors: narrow(len.div_ceil(SECTOR)) }
}

const _: () = assert!(RUNS + (1 + 2 * 11 + 6) * 8 <= CHECKSUM, "the runs fit");
