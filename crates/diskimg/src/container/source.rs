//! Any part of a disk, whatever it is stored in.

use std::io::{Read, Seek, SeekFrom, Write};

use super::{Format, Options};
use crate::content::Sink;
use crate::{Error, Result};

/// A disk that can be read at any place. Reading needs `&mut self` because it moves a file's
/// position and fills caches.
pub trait BlockSource {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there is not a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills the buffer from an offset on.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the offset when the disk or the file that stores it ends before.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The first stretch at or after an offset that may hold something other than zeroes: its
    /// offset and length. `None` when there is none.
    ///
    /// # Errors
    /// As [`BlockSource::read_at`].
    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        Ok((offset < self.len()).then(|| (offset, self.len() - offset)))
    }
}

impl BlockSource for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("disk", offset, buffer.len(), BlockSource::len(self))?;
        let start = crate::field::index(offset);
        if let Some(from) = self.get(start..start.saturating_add(buffer.len())) {
            buffer.copy_from_slice(from);
        }
        Ok(())
    }
}

/// A part of a disk, as a disk: a partition.
pub struct Window<'source> {
    source: &'source mut dyn BlockSource,
    start: u64,
    len: u64,
}

impl std::fmt::Debug for Window<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Window({}..+{})", self.start, self.len)
    }
}

impl<'source> Window<'source> {
    /// So many bytes from an offset on. What lies beyond the source's end fails to be read.
    pub fn new(source: &'source mut dyn BlockSource, start: u64, len: u64) -> Self {
        Self { source, start, len }
    }
}

impl BlockSource for Window<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("partition", offset, buffer.len(), self.len)?;
        self.source.read_at(self.start.saturating_add(offset), buffer)
    }
}

/// Fails when a range is not within a length.
pub(crate) fn check_range(what: &'static str, offset: u64, len: usize, end: u64) -> Result<()> {
    if offset.checked_add(len as u64).is_some_and(|stop| stop <= end) {
        return Ok(());
    }
    let reason = format!("{len} bytes were to be read from here, but it ends at byte {end}");
    Err(Error::malformed(what, offset, reason))
}

pub(crate) fn read_exact_at(
    reader: &mut (impl Read + Seek),
    offset: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let action = || format!("read {} bytes at byte {offset}", buffer.len());
    reader.seek(SeekFrom::Start(offset)).map_err(Error::io(action()))?;
    let action = action();
    reader.read_exact(buffer).map_err(Error::io(action))
}

/// How much is converted at once.
const CHUNK: u64 = 1 << 20;

/// Stores a disk that was read in another format.
///
/// # Errors
/// Those of the source and of [`write()`](super::write()).
pub fn convert<W: Write + Seek>(
    source: &mut dyn BlockSource,
    format: Format,
    writer: W,
) -> Result<W> {
    convert_with(source, format, writer, &Options::default())
}

/// Stores a disk that was read in another format, with options.
///
/// # Errors
/// As [`convert()`].
pub fn convert_with<W: Write + Seek>(
    source: &mut dyn BlockSource,
    format: Format,
    writer: W,
    options: &Options,
) -> Result<W> {
    super::store(format, source.len(), writer, options, |sink| pump(source, sink))
}

/// Pushes a disk into a sink.
fn pump(source: &mut dyn BlockSource, sink: &mut dyn Sink) -> Result<()> {
    let len = source.len();
    let mut position = 0;
    let mut buffer = vec![0; crate::field::index(CHUNK)];
    while let Some((offset, count)) = source.next_data(position)? {
        sink.hole(offset.saturating_sub(position))?;
        let end = offset.saturating_add(count).min(len);
        position = offset;
        while position < end {
            let count = CHUNK.min(end - position);
            let part = buffer.get_mut(..crate::field::index(count)).unwrap_or_default();
            source.read_at(position, part)?;
            sink.data(part)?;
            position += count;
        }
    }
    sink.hole(len.saturating_sub(position))
}
