//! Lets a table know that its disk has become larger.
//!
//! An image that was written to a larger disk has its backup table somewhere in the middle, and the
//! space after it belongs to nobody. The new backup is written first, at the disk's end; from then on
//! one of two whole tables is always found, at the start or at the end. The primary header is written
//! last: while it puts the backup elsewhere than at the end, the work is to be done (again).

use super::copy::{TableCopy, header_at, with_entries};
use crate::device::{self, Device};
use crate::field::{index, narrow32, put};
use crate::mbr::{self, Mbr};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// What is done with the space that is won.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Extend {
    /// It stays free.
    #[default]
    Nothing,
    /// It goes to the partition that ends last.
    Last,
    /// It goes to the partition of this number, counted from 1, which must be the one that ends
    /// last.
    Partition(u32),
}

/// What became of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grown {
    /// Whether anything was written.
    pub changed: bool,
    /// The last sector that a partition could have before.
    pub last_usable_before: u64,
    /// The last sector that a partition can have.
    pub last_usable: u64,
    /// The partition that was extended.
    pub extended: Option<Extended>,
}

/// A partition that was extended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extended {
    /// Its number, counted from 1.
    pub number: u32,
    /// Its first sector.
    pub first: u64,
    /// Its last sector before.
    pub before: u64,
    /// Its last sector.
    pub last: u64,
}

/// What a partition's end is made a multiple of, in sectors: 4 KiB.
const END: u64 = 8;

/// Moves the backup table to the end of the disk, and lets the protective MBR cover it. No entry is
/// lost; with `extend` one is changed. Nothing is written when all is in order already.
///
/// # Errors
/// [`Error::Malformed`] when neither table is intact, when the disk is smaller than its table says
/// or when the partition to be extended is not the last; [`Error::Io`] when the disk cannot be read
/// or written: then at least one table is whole, and the call can be repeated.
pub fn grow(device: &mut dyn Device, limits: &Limits, extend: Extend) -> Result<Grown> {
    let last = (device::len(device)? / SECTOR).saturating_sub(1);
    let (primary, table) = whole(device, limits, last)?;
    let before = table.header.last_usable;
    let entry_sectors = (table.entries.len() as u64).div_ceil(SECTOR);
    let last_usable = last.saturating_sub(entry_sectors).saturating_sub(1);
    let end = table.used().map(|(_, entry)| entry.last).max().unwrap_or(0);
    if last_usable < before.max(end) {
        let reason = format!(
            "the disk ends at LBA {last}, its table and partitions need {} sectors more",
            before.max(end) - last_usable
        );
        return Err(Error::malformed("gpt", SECTOR + 48, reason));
    }
    let mut new = table;
    let extended = extend_entry(&mut new, extend, last_usable)?;
    put(&mut new.sector, 32, &last.to_le_bytes());
    put(&mut new.sector, 48, &last_usable.to_le_bytes());
    new.seal();

    let mut changed = false;
    let backup = new.mirrored(1, last);
    if read(device, limits, last).is_none_or(|found| !found.same_as(&backup)) {
        backup.write_entries(device)?;
        backup.write_header(device)?;
        changed = true;
    }
    if cover(device, last, extended)? {
        changed = true;
    }
    // The primary is whole until the backup is.
    if primary.as_ref().is_none_or(|found| found.entries != new.entries) {
        new.write_entries(device)?;
        changed = true;
    }
    if primary.is_none_or(|found| !found.same_as(&new)) {
        new.write_header(device)?;
        changed = true;
    }
    Ok(Grown { changed, last_usable_before: before, last_usable, extended })
}

/// A table whose checksums are right; `None` when there is none.
fn read(device: &mut dyn Device, limits: &Limits, lba: u64) -> Option<TableCopy> {
    let found = header_at(device, lba).ok()?;
    with_entries(device, found, limits).ok()
}

/// The primary table, when it is whole, and what is to be the primary table.
fn whole(
    device: &mut dyn Device,
    limits: &Limits,
    last: u64,
) -> Result<(Option<TableCopy>, TableCopy)> {
    let header = header_at(device, 1);
    let stated = header.as_ref().ok().map(|(header, _)| header.other_lba);
    let error = match header.and_then(|found| with_entries(device, found, limits)) {
        Ok(primary) => return Ok((Some(primary.clone()), primary)),
        Err(error) => error,
    };
    // The backup is at the end when this was interrupted before, and otherwise where it was.
    let mut places = [Some(last), stated].into_iter().flatten();
    match places.find_map(|lba| read(device, limits, lba)) {
        Some(backup) => Ok((None, backup.mirrored(backup.header.own_lba, 1))),
        None => Err(error),
    }
}

/// Lets the partition that ends last end where it can.
fn extend_entry(
    table: &mut TableCopy,
    extend: Extend,
    last_usable: u64,
) -> Result<Option<Extended>> {
    let at_end = table.used().max_by_key(|(_, entry)| entry.last);
    let wanted = match extend {
        Extend::Nothing => return Ok(None),
        Extend::Last => None,
        Extend::Partition(number) => Some(number),
    };
    let Some((number, entry)) = at_end.filter(|(number, _)| wanted.is_none_or(|it| it == *number))
    else {
        let what = match wanted {
            Some(number) => format!("partition {number}"),
            None => "a partition".to_owned(),
        };
        return Err(Error::NotFound { what, place: "the last place of the disk".to_owned() });
    };
    let now = (last_usable.saturating_add(1) / END * END).saturating_sub(1).max(entry.last);
    let len = table.entry_len();
    let at = index(u64::from(number).saturating_sub(1)).saturating_mul(len);
    put(table.entries.get_mut(at..).unwrap_or_default(), 40, &now.to_le_bytes());
    Ok(Some(Extended { number, first: entry.first, before: entry.last, last: now }))
}

/// Lets the MBR's protective entry reach to the end of the disk and, in a hybrid MBR, the extended
/// partition's to its new end. All else stays as it is. Says whether anything was written.
fn cover(device: &mut dyn Device, last: u64, extended: Option<Extended>) -> Result<bool> {
    let mut sector = [0; 512];
    device::read_at(device, 0, &mut sector)?;
    let Some(found) = Mbr::parse(&sector).filter(Mbr::is_protective) else { return Ok(false) };
    let before = sector;
    let is_hybrid = found.entries.iter().flatten().count() > 1;
    for (slot, entry) in found.entries.iter().enumerate() {
        let sectors = match (entry, extended) {
            (Some(entry), _) if entry.kind == mbr::TYPE_PROTECTIVE && !is_hybrid => {
                last.saturating_add(1).saturating_sub(u64::from(entry.first))
            }
            (Some(entry), Some(partition))
                if entry.kind != mbr::TYPE_PROTECTIVE
                    && u64::from(entry.first) == partition.first =>
            {
                partition.last.saturating_sub(partition.first).saturating_add(1)
            }
            _ => continue,
        };
        mbr::set_sectors(&mut sector, slot, narrow32(sectors));
    }
    if sector != before {
        device::write_at(device, 0, &sector)?;
    }
    Ok(sector != before)
}
