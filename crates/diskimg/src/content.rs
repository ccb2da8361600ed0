//! What a disk, a partition or an image consists of: bytes and holes, streamed in order.

use std::fmt;
use std::sync::Arc;

use kiln_tree::{Kind, Source, Tree, TreePath};

use crate::units::Lba;
use crate::{Error, Result};

/// Takes bytes and holes in the order of the disk.
pub trait Sink {
    /// The next bytes.
    ///
    /// # Errors
    /// [`Error::Io`] when they cannot be written, [`Error::Malformed`] when they would exceed the
    /// length that was announced.
    fn data(&mut self, bytes: &[u8]) -> Result<()>;

    /// So many zero bytes that need not be stored.
    ///
    /// # Errors
    /// As [`Sink::data`].
    fn hole(&mut self, len: u64) -> Result<()>;
}

/// Something that is a fixed number of bytes, most of which may be holes.
///
/// A content pushes itself into a [`Sink`] from its first byte to its last. That suffices for every
/// image format, nothing is held in memory, and what is known to be zero stays a hole.
pub trait Content: fmt::Debug + Send + Sync {
    /// The length in bytes.
    fn len(&self) -> u64;

    /// Whether there is not a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Gives the sink exactly [`Content::len`] bytes, holes counted.
    ///
    /// # Errors
    /// The sink's; [`Error::Io`] when a file of the host cannot be read or has changed its length.
    fn write_to(&self, sink: &mut dyn Sink) -> Result<()>;

    /// The sector of the disk at which the content believes itself to begin, if it records that (a
    /// FAT volume does, in its hidden sectors). A plan that puts it elsewhere is refused.
    fn placed_at(&self) -> Option<Lba> {
        None
    }

    /// The largest files in it with their lengths, in words for whoever has to make room; empty when
    /// it holds no files or does not know.
    fn largest_files(&self) -> String {
        String::new()
    }
}

/// How many of the largest files are named when there is not enough space.
const NAMED: usize = 5;

/// The largest files of a tree, in words.
pub(crate) fn largest_files(tree: &Tree) -> String {
    let mut largest: Vec<(u64, &TreePath)> = tree
        .iter()
        .filter_map(|(path, node)| match &node.kind {
            Kind::File(source) if !source.is_empty() => Some((source.len(), path)),
            _ => None,
        })
        .collect();
    largest.sort_by(|(left, a), (right, b)| right.cmp(left).then(a.cmp(b)));
    let named = largest.iter().take(NAMED).map(|(len, path)| format!("{path} ({len} bytes)"));
    named.collect::<Vec<_>>().join(", ")
}

/// The same as the end of a sentence; nothing when there are none.
pub(crate) fn and_largest(files: &str) -> String {
    if files.is_empty() { String::new() } else { format!("; the largest files: {files}") }
}

/// Nothing but zeroes, so many bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Zeroes(pub u64);

impl Content for Zeroes {
    fn len(&self) -> u64 {
        self.0
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.hole(self.0)
    }
}

impl Content for Vec<u8> {
    fn len(&self) -> u64 {
        self.as_slice().len() as u64
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(self)
    }
}

/// Bytes in memory, or a file of the host that is read when the image is written.
impl Content for Source {
    fn len(&self) -> u64 {
        self.len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut buffer = Vec::new();
        copy_source(self, &mut buffer, sink)
    }
}

impl<T: Content + ?Sized> Content for Arc<T> {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        (**self).write_to(sink)
    }

    fn placed_at(&self) -> Option<Lba> {
        (**self).placed_at()
    }

    fn largest_files(&self) -> String {
        (**self).largest_files()
    }
}

/// How much of a file is read at once.
const CHUNK: usize = 256 << 10;

/// Streams a source; the buffer is the caller's so that thousands of files share one.
pub(crate) fn copy_source(
    source: &Source,
    buffer: &mut Vec<u8>,
    sink: &mut dyn Sink,
) -> Result<()> {
    match source {
        Source::Bytes(bytes) => return sink.data(bytes),
        Source::Concat(parts) => {
            return parts.iter().try_for_each(|part| copy_source(part, buffer, sink));
        }
        _ => {}
    }
    let mut reader = source.open().map_err(Error::io("open a file of the tree"))?;
    buffer.resize(CHUNK, 0);
    loop {
        match reader.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => sink.data(buffer.get(..count).unwrap_or_default())?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::io("read a file of the tree")(error)),
        }
    }
}

impl Sink for Vec<u8> {
    fn data(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }

    fn hole(&mut self, len: u64) -> Result<()> {
        self.resize(self.as_slice().len().saturating_add(crate::field::index(len)), 0);
        Ok(())
    }
}
