//! A disk in memory that writes down what is done to it.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use super::{Event, Log, SECTOR};
use crate::device::Device;
use crate::field::index;

/// A disk in memory that writes down what is done to it.
#[derive(Debug)]
pub struct Recorder {
    base: Vec<u8>,
    now: Cursor<Vec<u8>>,
    log: Log,
}

impl Recorder {
    /// A disk with these bytes, whole sectors.
    #[must_use]
    pub fn new(base: Vec<u8>) -> Self {
        Self { now: Cursor::new(base.clone()), base, log: Log::default() }
    }

    /// What it holds now.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.now.get_ref()
    }

    /// What it held at first, and what happened since.
    #[must_use]
    pub fn finish(self) -> (Vec<u8>, Log) {
        (self.base, self.log)
    }
}

impl Read for Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.now.read(buffer)
    }
}

impl Seek for Recorder {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.now.seek(to)
    }
}

impl Write for Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (start, len) = (index(self.now.position()), self.now.get_ref().len());
        let end = start.saturating_add(bytes.len());
        if end > len {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let count = self.now.write(bytes)?;
        // A disk writes whole sectors.
        let (first, last) = (start / SECTOR * SECTOR, end.next_multiple_of(SECTOR));
        let sectors = self.now.get_ref().get(first..last.min(len)).unwrap_or_default().to_vec();
        self.log.events.push(Event::Write { at: first as u64, bytes: sectors });
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Device for Recorder {
    fn persist(&mut self) -> io::Result<()> {
        self.log.events.push(Event::Flush);
        Ok(())
    }
}
