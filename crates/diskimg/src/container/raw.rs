//! The disk's bytes, as a file in which zeroes are holes.

use std::io::{Read, Seek, SeekFrom, Write};

use super::blocks::{BLOCK, Store};
use super::source::{BlockSource, check_range, read_exact_at};
use crate::{Error, Result};

pub(crate) struct Writer<W> {
    writer: W,
    /// Where the writer is, and up to where it was written.
    position: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(writer: W) -> Self {
        Self { writer, position: 0 }
    }

    /// Gives the file its length, which a hole at its end does not.
    pub(crate) fn finish(mut self, len: u64) -> Result<W> {
        if self.position < len {
            let last = SeekFrom::Start(len - 1);
            self.writer.seek(last).map_err(Error::io("seek in the raw image"))?;
            self.writer.write_all(&[0]).map_err(Error::io("write the raw image"))?;
        }
        self.writer.flush().map_err(Error::io("write the raw image"))?;
        Ok(self.writer)
    }
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let offset = block * BLOCK;
        if offset != self.position {
            self.writer
                .seek(SeekFrom::Start(offset))
                .map_err(Error::io("seek in the raw image"))?;
        }
        self.writer
            .write_all(bytes)
            .map_err(Error::io(format!("write the raw image at byte {offset}")))?;
        self.position = offset + bytes.len() as u64;
        Ok(())
    }
}

pub(crate) struct Reader<R> {
    reader: R,
    len: u64,
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn new(reader: R, len: u64) -> Self {
        Self { reader, len }
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("raw", offset, buffer.len(), self.len)?;
        read_exact_at(&mut self.reader, offset, buffer)
    }
}
