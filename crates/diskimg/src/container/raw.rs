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
    /// Where the file has something, in order: first bytes and ends. `None` when nobody knows.
    extents: Option<Vec<(u64, u64)>>,
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn new(reader: R, len: u64) -> Self {
        Self { reader, len, extents: None }
    }
}

#[cfg(feature = "host")]
impl Reader<std::fs::File> {
    /// Asks the file system for the file's holes. One that knows none, or too many to be held, is
    /// read from end to end.
    pub(crate) fn find_holes(&mut self) {
        use rustix::fs::{SeekFrom, seek};
        const MANY: usize = 1 << 20;
        let mut extents = Vec::new();
        let mut position = 0;
        while position < self.len {
            let Ok(start) = seek(&self.reader, SeekFrom::Data(position)) else {
                // There is no more data, or no answer: the file's length tells which.
                let at_end = seek(&self.reader, SeekFrom::Hole(position)) == Ok(position);
                if at_end {
                    break;
                }
                return;
            };
            let Ok(end) = seek(&self.reader, SeekFrom::Hole(start)) else { return };
            if end <= start || extents.len() >= MANY {
                return;
            }
            extents.push((start.min(self.len), end.min(self.len)));
            position = end;
        }
        self.extents = Some(extents);
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

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        let Some(extents) = &self.extents else {
            return Ok((offset < self.len).then(|| (offset, self.len - offset)));
        };
        let next = extents.partition_point(|(_, end)| *end <= offset);
        Ok(extents.get(next).map(|(start, end)| {
            let start = (*start).max(offset);
            (start, end - start)
        }))
    }
}
