//! Gives a disk and its partitions identifiers of their own, in place.
//!
//! Copies of one image have the same GUIDs, and two disks of one GUID in one machine confuse it. What
//! a table says of a disk is there twice; the two are changed one after the other, so that at every
//! moment one of them is whole and says where the partitions are. The header of the primary table is
//! written last, and alone: while it has the old GUID, the work is to be done (again).

use std::io::{Read, Seek};

use super::header::{Entry, Header};
use super::reader::Gpt;
use crate::container::BlockSource;
use crate::device::{self, Device};
use crate::field::{array, index, put};
use crate::guid::Guid;
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

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

/// A header's sector and the entries it speaks of, as bytes, both checksums right.
#[derive(Clone)]
struct TableCopy {
    header: Header,
    sector: [u8; 512],
    entries: Vec<u8>,
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

struct Readable<'a, D: ?Sized> {
    device: &'a mut D,
    len: u64,
}

impl<D: Read + Seek + ?Sized> BlockSource for Readable<'_, D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        crate::container::check_range("disk", offset, buffer.len(), self.len)?;
        device::read_at(self.device, offset, buffer)
    }
}

/// Gives the disk and each partition the next GUID that `new` gives, the disk's first. Both tables
/// are written; a damaged one is made whole from the other. A disk on which this was interrupted
/// is finished with the GUIDs that it had begun to get.
///
/// # Errors
/// [`Error::Malformed`] when neither table is intact, [`Error::Io`] when the disk cannot be read or
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

fn header_at(device: &mut dyn Device, lba: u64) -> Result<(Header, [u8; 512])> {
    let offset = lba.saturating_mul(SECTOR);
    let mut sector = [0; 512];
    device::read_at(device, offset, &mut sector)?;
    let malformed = |reason| Error::malformed("gpt", offset, format!("LBA {lba}: {reason}"));
    let header = Header::parse(&sector).map_err(malformed)?;
    if header.own_lba != lba {
        return Err(malformed(format!("the header says that it is at LBA {}", header.own_lba)));
    }
    Ok((header, sector))
}

fn with_entries(
    device: &mut dyn Device,
    (header, sector): (Header, [u8; 512]),
    limits: &Limits,
) -> Result<TableCopy> {
    let len = device::len(device)?;
    let mut source = Readable { device: &mut *device, len };
    let entries = super::reader::entries(&mut source, &header, limits)?;
    Ok(TableCopy { header, sector, entries })
}

impl TableCopy {
    fn entry_len(&self) -> usize {
        index(u64::from(self.header.entry_len))
    }

    fn used(&self) -> impl Iterator<Item = (u32, Entry)> {
        (1..)
            .zip(self.entries.chunks_exact(self.entry_len().max(1)))
            .filter_map(|(number, bytes)| Some((number, Entry::parse(bytes)?)))
    }

    fn give(&mut self, new: &mut dyn FnMut() -> Guid) {
        let disk = new();
        let len = self.entry_len().max(1);
        for bytes in self.entries.chunks_exact_mut(len) {
            if Entry::parse(bytes).is_some() {
                put(bytes, 16, &new().to_disk());
            }
        }
        self.set_disk(disk);
    }

    /// Sets the disk's GUID and both checksums.
    fn set_disk(&mut self, guid: Guid) {
        put(&mut self.sector, 56, &guid.to_disk());
        self.seal();
    }

    fn seal(&mut self) {
        put(&mut self.sector, 88, &crc32fast::hash(&self.entries).to_le_bytes());
        put(&mut self.sector, 16, &[0; 4]);
        let len = array(&self.sector, 12).map_or(92, u32::from_le_bytes);
        let crc = crc32fast::hash(self.sector.get(..index(len.into())).unwrap_or_default());
        put(&mut self.sector, 16, &crc.to_le_bytes());
        if let Ok(header) = Header::parse(&self.sector) {
            self.header = header;
        }
    }

    /// The other table of the disk, as this one says it should be.
    fn mirrored(&self, own: u64, other: u64) -> Self {
        let mut copy = self.clone();
        let sectors = (self.entries.len() as u64).div_ceil(SECTOR);
        // Entries follow the primary header and precede the backup's.
        let entries = if other == 1 { 2 } else { other.saturating_sub(sectors) };
        put(&mut copy.sector, 24, &other.to_le_bytes());
        put(&mut copy.sector, 32, &own.to_le_bytes());
        put(&mut copy.sector, 72, &entries.to_le_bytes());
        copy.seal();
        copy
    }

    fn write_entries(&self, device: &mut dyn Device) -> Result<()> {
        device::write_at(device, self.header.entries_lba.saturating_mul(SECTOR), &self.entries)
    }

    fn write_header(&self, device: &mut dyn Device) -> Result<()> {
        device::write_at(device, self.header.own_lba.saturating_mul(SECTOR), &self.sector)
    }
}
