//! A layout written over whatever is on a disk, so that at every moment firmware finds the old table
//! before anything of it is lost, no table at all, or the new one with all that it leads to.

use crate::device::{self, Device, read_at, seek_write};
use crate::error::Problems;
use crate::field::index;
use crate::units::SECTOR;
use crate::{Error, Layout, Result, Sink};

/// How much of a hole is looked at, at once.
const CHUNK: u64 = 1 << 20;

/// Writes a layout over what is on a disk.
///
/// 1. The first two sectors and the last one become zeroes: nothing starts from the disk any more.
/// 2. The partitions' contents are written; where the disk has zeroes, holes are left alone. What is
///    between partitions, and behind a content that is shorter than its partition, stays.
/// 3. The tables are written, of the first two sectors the first one last.
///
/// Each is kept before the next begins. A plan for the disk has its [size](crate::DiskPlan::size); one
/// that is shorter leaves the rest of the disk to nobody.
///
/// # Errors
/// [`Error::Plan`] when the disk is too small, before anything is written; [`Error::Io`].
pub fn install(layout: &Layout, disk: &mut dyn Device) -> Result<()> {
    let len = device::len(disk)?;
    if len < layout.len.0 {
        let missing = layout.len.0.saturating_sub(len);
        let problem =
            format!("the disk has {len} bytes, {missing} too few for what is to be on it");
        return Err(Error::Plan { what: "installation", problems: Problems(vec![problem]) });
    }
    let persist = |disk: &mut dyn Device| {
        disk.flush().and_then(|()| disk.persist()).map_err(Error::io("wait for the disk"))
    };
    let zeroes = [0; 512];
    seek_write(disk, (len / SECTOR).saturating_sub(1).saturating_mul(SECTOR), &zeroes)?;
    seek_write(disk, SECTOR, &zeroes)?;
    seek_write(disk, 0, &zeroes)?;
    persist(disk)?;
    for placed in &layout.partitions {
        if let Some(content) = &placed.partition.content {
            let at = placed.first.0.saturating_mul(SECTOR);
            content.write_to(&mut Writer { disk: &mut *disk, at })?;
        }
    }
    persist(disk)?;
    let (first, rest) = layout.head().split_at(512.min(layout.head().len()));
    let (second, entries) = rest.split_at(512.min(rest.len()));
    let tail = layout.tail();
    seek_write(disk, layout.len.0.saturating_sub(tail.len() as u64), tail)?;
    seek_write(disk, 2 * SECTOR, entries)?;
    persist(disk)?;
    seek_write(disk, SECTOR, second)?;
    persist(disk)?;
    seek_write(disk, 0, first)?;
    persist(disk)
}

struct Writer<'a> {
    disk: &'a mut dyn Device,
    at: u64,
}

impl Sink for Writer<'_> {
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        seek_write(self.disk, self.at, bytes)?;
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        let end = self.at.saturating_add(len);
        let mut buffer = vec![0; index(CHUNK.min(len))];
        while self.at < end {
            let count = (end - self.at).min(buffer.len() as u64);
            let chunk = buffer.get_mut(..index(count)).unwrap_or_default();
            read_at(self.disk, self.at, chunk)?;
            if chunk.iter().any(|byte| *byte != 0) {
                chunk.fill(0);
                seek_write(self.disk, self.at, chunk)?;
            }
            self.at = self.at.saturating_add(count);
        }
        Ok(())
    }
}
