//! The system area of an image that is a disk too.
//!
//! With a GPT: the MBR protects it (`EE`, the whole disk), and has a second, active entry of type 0
//! for BIOSes that start only from disks with one. GPT entry 1 covers the ISO volume from its first
//! descriptor on, entry 2 the EFI system partition; they do not overlap.
//!
//! With an MBR alone: entry 1, active, is the ISO volume from sector 0 (so that it can be mounted),
//! entry 2 the EFI system partition.

use super::{Hybrid, SECTOR, SYSTEM_AREA};
use crate::field::{narrow32, put};
use crate::gpt::{self, Entry, PartitionType};
use crate::mbr::{self, Mbr};
use crate::plan::Table;
use crate::units;
use crate::{Guid, Result};

/// Bytes of boot code; after it stands where the BIOS boot image is.
pub(super) const CODE_LEN: usize = 432;
/// What the EFI system partition begins at a multiple of, in sectors of a CD: 1 MiB.
pub(super) const ALIGNMENT: u64 = 512;
/// Sectors of a disk in one of a CD.
pub(super) const RATIO: u64 = SECTOR / units::SECTOR;

/// Where the parts of the image are, in sectors of a CD.
pub(super) struct Places {
    /// Where the last file ends.
    pub(super) files_end: u64,
    /// Where the ISO volume ends: there, or with the EFI system partition.
    pub(super) volume_end: u64,
    /// The EFI system partition: first and number.
    pub(super) efi: Option<(u64, u64)>,
    /// The BIOS boot image.
    pub(super) bios: Option<u64>,
    /// The image's end.
    pub(super) end: u64,
}

/// What stands at the image's start and end.
pub(super) fn emit(hybrid: &Hybrid, places: &Places) -> Result<gpt::Tables> {
    let mut boot_code = [0; mbr::BOOT_CODE_LEN];
    if !hybrid.code.is_empty() {
        put(&mut boot_code, 0, hybrid.code.get(..CODE_LEN).unwrap_or(&hybrid.code));
        let image = places.bios.unwrap_or(0).saturating_mul(RATIO);
        put(&mut boot_code, CODE_LEN, &narrow32(image).to_le_bytes());
    }
    let signature = hybrid.seed.number("disk");
    let sectors = places.end.saturating_mul(RATIO);
    let range = |first: u64, count: u64| (first.saturating_mul(RATIO), count.saturating_mul(RATIO));
    match hybrid.table {
        Table::Gpt => {
            let mut entries = Vec::new();
            let volume = range(SYSTEM_AREA, places.files_end.saturating_sub(SYSTEM_AREA));
            let volume = ("ISO 9660", PartitionType::LINUX, volume, gpt::READ_ONLY | gpt::NO_AUTO);
            let efi = places.efi.map(|(first, count)| {
                ("EFI system partition", PartitionType::EFI_SYSTEM, range(first, count), 0)
            });
            for (number, (name, kind, (first, count), attributes)) in
                (1..).zip([Some(volume), efi].into_iter().flatten())
            {
                let number: u32 = number;
                entries.push(Entry {
                    kind: kind.guid.unwrap_or(Guid::NIL),
                    guid: hybrid.seed.guid(&format!("partition {number}")),
                    first,
                    last: first.saturating_add(count).saturating_sub(1),
                    attributes,
                    name: name.to_owned(),
                });
            }
            let mut tables = gpt::emit(sectors, hybrid.seed.guid("disk"), &entries)?;
            let mut mbr = Mbr::protective(boot_code, sectors);
            mbr.signature = signature;
            if !hybrid.code.is_empty()
                && let Some(second) = mbr.entries.get_mut(1)
            {
                *second = Some(mbr::Entry { active: true, kind: 0, first: 0, sectors: 1 });
            }
            put(&mut tables.head, 0, &mbr.emit());
            Ok(tables)
        }
        Table::Mbr => {
            let entry = |active, kind, (first, count): (u64, u64)| {
                let (first, sectors) = (narrow32(first), narrow32(count));
                Some(mbr::Entry { active, kind, first, sectors })
            };
            let volume = entry(true, TYPE_ISO, range(0, places.files_end));
            let efi =
                places.efi.and_then(|(first, count)| entry(false, TYPE_EFI, range(first, count)));
            let mbr = Mbr { boot_code, signature, entries: [volume, efi, None, None] };
            Ok(gpt::Tables { head: mbr.emit().to_vec(), tail: Vec::new() })
        }
    }
}

/// A hidden NTFS or IFS: what isohybrid gives an ISO volume, so that Windows does not offer to
/// format it.
const TYPE_ISO: u8 = 0x17;
const TYPE_EFI: u8 = 0xef;
