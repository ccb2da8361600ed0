//! One of a disk's two tables, as bytes that are changed and written back.

use super::header::{Entry, Header};
use crate::device::{self, Device, Readable};
use crate::field::{array, index, put};
use crate::guid::Guid;
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// A header's sector and the entries it speaks of, as bytes, both checksums right.
#[derive(Clone)]
pub(super) struct TableCopy {
    pub(super) header: Header,
    pub(super) sector: [u8; 512],
    pub(super) entries: Vec<u8>,
}

pub(super) fn header_at(device: &mut dyn Device, lba: u64) -> Result<(Header, [u8; 512])> {
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

pub(super) fn with_entries(
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
    /// Whether both would be written alike.
    pub(super) fn same_as(&self, other: &Self) -> bool {
        self.sector == other.sector && self.entries == other.entries
    }

    pub(super) fn entry_len(&self) -> usize {
        index(u64::from(self.header.entry_len))
    }

    pub(super) fn used(&self) -> impl Iterator<Item = (u32, Entry)> {
        (1..)
            .zip(self.entries.chunks_exact(self.entry_len().max(1)))
            .filter_map(|(number, bytes)| Some((number, Entry::parse(bytes)?)))
    }

    pub(super) fn give(&mut self, new: &mut dyn FnMut() -> Guid) {
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
    pub(super) fn set_disk(&mut self, guid: Guid) {
        put(&mut self.sector, 56, &guid.to_disk());
        self.seal();
    }

    pub(super) fn seal(&mut self) {
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
    pub(super) fn mirrored(&self, own: u64, other: u64) -> Self {
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

    /// Fails when header or entries would be written where the disk has something else or ends:
    /// their places are those that a table names, whose checksums anybody can make right.
    fn check_places(&self, device: &mut dyn Device) -> Result<()> {
        let Header { own_lba, entries_lba, first_usable, last_usable, .. } = self.header;
        let sectors = device::len(device)? / SECTOR;
        let end = entries_lba.saturating_add((self.entries.len() as u64).div_ceil(SECTOR));
        let free = |from: u64, to: u64| {
            from > 0 && to <= sectors && (to <= first_usable || from > last_usable)
        };
        let apart = end <= own_lba || entries_lba > own_lba;
        if free(own_lba, own_lba.saturating_add(1)) && free(entries_lba, end) && apart {
            return Ok(());
        }
        let reason = format!(
            "the table at LBA {own_lba}, its entries at LBA {entries_lba}, would be on the \
             partitions' sectors, on each other or after the disk's end"
        );
        Err(Error::malformed("gpt", own_lba.saturating_mul(SECTOR), reason))
    }

    pub(super) fn write_entries(&self, device: &mut dyn Device) -> Result<()> {
        self.check_places(device)?;
        device::write_at(device, self.header.entries_lba.saturating_mul(SECTOR), &self.entries)
    }

    pub(super) fn write_header(&self, device: &mut dyn Device) -> Result<()> {
        device::write_at(device, self.header.own_lba.saturating_mul(SECTOR), &self.sector)
    }
}
