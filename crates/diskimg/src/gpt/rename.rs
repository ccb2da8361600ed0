//! Gives a disk and its partitions identifiers of their own, in place.
//!
//! Copies of one image have the same GUIDs, and two disks of one GUID in one machine confuse it. What
//! a table says of a disk is there twice; the two are changed one after the other, so that at every
//! moment one of them is whole and says where the partitions are. The header of the primary table is
//! written last, and alone: while it has the old GUID, the work is to be done (again).

use std::io::{Read, Seek};

use super::copy::{header_at, with_entries};
use super::header::Header;
use super::reader::Gpt;
use crate::device::{self, Device, Readable};
use crate::guid::Guid;
use crate::units::SECTOR;
use crate::{Limits, Result};

/// What became of the identifiers.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Renamed {
    /// The disk's GUID before.
    pub before: Guid,
    /// The disk's GUID.
    pub disk: Guid,
    /// The partitions' GUIDs by number, counted from 1.
    pub partitions: Vec<(u32, Guid)>,
}

/// The GUID in the primary header, whatever the state of the entries; `None` when there is no intact
/// header.
///
/// # Errors
/// When the disk cannot be read.
pub fn primary_disk_guid(device: &mut (impl Read + Seek)) -> Result<Option<Guid>> {
    if device::len(device)? < 2 * SECTOR {
        return Ok(None);
    }
    let mut sector = [0; 512];
    device::read_at(device, SECTOR, &mut sector)?;
    Ok(Header::parse(&sector).ok().map(|header| header.disk_guid))
}

/// Reads the table of a device, as [`read`](super::read) does that of an image.
///
/// # Errors
/// As there.
pub fn read_device(device: &mut (impl Read + Seek), limits: &Limits) -> Result<Gpt> {
    let len = device::len(device)?;
    super::reader::read(&mut Readable { device, len }, limits)
}

/// Gives the disk and each partition the next GUID that `new` gives, the disk's first. Both tables
/// are written; a damaged one is made whole from the other. A disk on which this was interrupted
/// is finished with the GUIDs that it had begun to get.
///
/// # Errors
/// [`Error::Malformed`](crate::Error::Malformed) when neither table is intact, [`Error::Io`](crate::Error::Io) when the disk cannot be read or
/// written: then at least one table is whole, and the call can be repeated.
pub fn rename(
    device: &mut dyn Device,
    limits: &Limits,
    new: &mut dyn FnMut() -> Guid,
) -> Result<Renamed> {
    match attempt(device, limits, new)? {
        // Nothing had been interrupted, but the primary table was damaged: now it is whole again.
        renamed if renamed.disk == renamed.before => attempt(device, limits, new),
        renamed => Ok(renamed),
    }
}

fn attempt(
    device: &mut dyn Device,
    limits: &Limits,
    new: &mut dyn FnMut() -> Guid,
) -> Result<Renamed> {
    let last = (device::len(device)? / SECTOR).saturating_sub(1);
    let (primary_header, primary) = match header_at(device, 1) {
        Ok(found) => (Some(found.0), with_entries(device, found, limits)),
        Err(error) => (None, Err(error)),
    };
    // Where the primary says that it is; on a larger disk than the image's that is not at the end.
    let backup_lba = primary_header.map_or(last, |header| header.other_lba).min(last);
    let backup =
        header_at(device, backup_lba).and_then(|found| with_entries(device, found, limits));
    let before = primary_header
        .or_else(|| backup.as_ref().ok().map(|backup| backup.header))
        .map(|header| header.disk_guid)
        .unwrap_or_default();

    let source = match (primary, backup) {
        (Ok(primary), backup) => {
            let mut copy = primary.clone();
            let lba = primary.header.other_lba;
            let backup = backup.unwrap_or_else(|_| primary.mirrored(1, lba));
            copy.give(new);
            let mut mirrored = backup;
            mirrored.entries.clone_from(&copy.entries);
            mirrored.set_disk(copy.header.disk_guid);
            // The primary is whole until the backup is.
            mirrored.write_entries(device)?;
            mirrored.write_header(device)?;
            copy
        }
        // Interrupted before: the backup is the only whole one, and is left alone.
        (Err(_), Ok(backup)) => {
            let lba = backup.header.own_lba;
            backup.mirrored(lba, 1)
        }
        (Err(error), Err(_)) => return Err(error),
    };
    source.write_entries(device)?;
    source.write_header(device)?;
    Ok(Renamed {
        before,
        disk: source.header.disk_guid,
        partitions: source.used().map(|(number, entry)| (number, entry.guid)).collect(),
    })
}
