//! Writes both tables with the `gpt` crate, on a disk of which only the two ends exist.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use gpt::GptConfig;
use gpt::partition::Partition;
use uuid::Uuid;

use super::{Entry, HEAD_SECTORS, TAIL_SECTORS};
use crate::field::index;
use crate::guid::Guid;
use crate::units::SECTOR;
use crate::{Error, Result};

/// The two ends of a GPT disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tables {
    /// Sectors 0 to 33. Sector 0 is blank: the protective MBR is put there by the caller.
    pub head: Vec<u8>,
    /// The last 33 sectors.
    pub tail: Vec<u8>,
}

/// Both tables of a disk of so many sectors.
///
/// # Errors
/// [`Error::Plan`] when the disk is too small for its tables or there are too many entries.
pub fn emit(sectors: u64, disk_guid: Guid, entries: &[Entry]) -> Result<Tables> {
    let device = Ends::new(sectors);
    let refused = |error: gpt::GptError| Error::Plan {
        what: "gpt",
        problems: crate::error::Problems(vec![format!("{error:?}")]),
    };
    let mut disk = GptConfig::new()
        .writable(true)
        .create_from_device(device, Some(Uuid::from_bytes(disk_guid.0)))
        .map_err(refused)?;
    let partitions: BTreeMap<u32, Partition> = (1..)
        .zip(entries)
        .map(|(number, entry)| {
            let partition = Partition {
                part_type_guid: Uuid::from_bytes(entry.kind.0).into(),
                part_guid: Uuid::from_bytes(entry.guid.0),
                first_lba: entry.first,
                last_lba: entry.last,
                flags: entry.attributes,
                name: entry.name.clone(),
            };
            (number, partition)
        })
        .collect();
    disk.update_partitions(partitions).map_err(refused)?;
    let Ends { head, tail, .. } = disk.write().map_err(refused)?;
    Ok(Tables { head, tail })
}

/// A disk that stores its two ends and nothing in between.
#[derive(Debug)]
struct Ends {
    head: Vec<u8>,
    tail: Vec<u8>,
    len: u64,
    position: u64,
}

impl Ends {
    fn new(sectors: u64) -> Self {
        Self {
            head: vec![0; index(HEAD_SECTORS * SECTOR)],
            tail: vec![0; index(TAIL_SECTORS * SECTOR)],
            len: sectors.saturating_mul(SECTOR),
            position: 0,
        }
    }

    /// What is stored from the current position on.
    fn here(&mut self) -> io::Result<&mut [u8]> {
        let tail_at = self.len.saturating_sub(TAIL_SECTORS * SECTOR);
        let found = if self.position < HEAD_SECTORS * SECTOR {
            self.head.get_mut(index(self.position)..)
        } else {
            self.position
                .checked_sub(tail_at)
                .and_then(|position| self.tail.get_mut(index(position)..))
        };
        found.ok_or_else(|| io::Error::other("outside of the tables"))
    }
}

impl Read for Ends {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), here.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count as u64;
        Ok(count)
    }
}

impl Write for Ends {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let here = self.here()?;
        let count = here.len().min(bytes.len());
        if let (Some(to), Some(from)) = (here.get_mut(..count), bytes.get(..count)) {
            to.copy_from_slice(from);
        }
        self.position += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Ends {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.len.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or_else(|| io::Error::other("seek out of range"))?;
        Ok(self.position)
    }
}
