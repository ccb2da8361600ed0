//! A disk that is changed in place.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use crate::container::{BlockSource, check_range};
use crate::{Error, Result};

/// Something that can be read and written at any place, and that can be told to keep what was
/// written: a block device, a file, bytes in memory.
pub trait Device: Read + Write + Seek {
    /// Returns when what was written is kept, whatever happens to the machine.
    ///
    /// # Errors
    /// What the system says.
    fn persist(&mut self) -> io::Result<()>;
}

impl Device for File {
    fn persist(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Device for Cursor<Vec<u8>> {
    fn persist(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A device as a source of blocks, of a length that was asked for before.
pub(crate) struct Readable<'a, D: ?Sized> {
    pub(crate) device: &'a mut D,
    pub(crate) len: u64,
}

impl<D: Read + Seek + ?Sized> BlockSource for Readable<'_, D> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("disk", offset, buffer.len(), self.len)?;
        read_at(self.device, offset, buffer)
    }
}

/// The device's length in bytes. (A block device's is where its end is; its metadata says 0.)
pub(crate) fn len(device: &mut (impl Seek + ?Sized)) -> Result<u64> {
    device.seek(SeekFrom::End(0)).map_err(Error::io("find the end of the disk"))
}

pub(crate) fn read_at(
    device: &mut (impl Read + Seek + ?Sized),
    offset: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let action = format!("read {} bytes at byte {offset}", buffer.len());
    device
        .seek(SeekFrom::Start(offset))
        .and_then(|_| device.read_exact(buffer))
        .map_err(Error::io(action))
}

/// Writes, and waits until it is kept.
pub(crate) fn write_at(device: &mut dyn Device, offset: u64, bytes: &[u8]) -> Result<()> {
    seek_write(device, offset, bytes)?;
    let action = format!("keep {} bytes at byte {offset}", bytes.len());
    device.flush().and_then(|()| device.persist()).map_err(Error::io(action))
}

/// Writes, to be kept sooner or later.
pub(crate) fn seek_write(device: &mut dyn Device, offset: u64, bytes: &[u8]) -> Result<()> {
    let action = format!("write {} bytes at byte {offset}", bytes.len());
    device
        .seek(SeekFrom::Start(offset))
        .and_then(|_| device.write_all(bytes))
        .map_err(Error::io(action))
}
