//! Where the bytes of a file come from.

use std::fmt;
use std::io::{self, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

/// The content of a regular file, of a length known before it is read.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// Bytes in memory.
    Bytes(Arc<[u8]>),
    /// A file of the host, read when an image is written.
    File {
        /// The path on the host.
        path: PathBuf,
        /// Its length in bytes when the tree was made; a reader fails if that has changed.
        len: u64,
    },
    /// A part of a file of the host: a member of an archive that is read where it lies.
    Range {
        /// The path on the host.
        path: PathBuf,
        /// Where the part begins, in bytes from the start of the file.
        offset: u64,
        /// How many bytes it has; a reader fails if the file ends before.
        len: u64,
    },
    /// Several, one right after the other: a file that is put together while it is read, so that its
    /// large parts are never copied.
    Concat(Arc<[Self]>),
}

impl Source {
    /// The content's length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::File { len, .. } | Self::Range { len, .. } => *len,
            Self::Concat(parts) => parts.iter().map(Self::len).fold(0, u64::saturating_add),
        }
    }

    /// Whether the content is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Opens the content for reading. The reader gives exactly [`Source::len`] bytes or an error
    /// that names the file: one that shrank or grew since the tree was made is never silently
    /// padded or cut.
    ///
    /// # Errors
    /// The host's, with the path in the message.
    pub fn open(&self) -> io::Result<Box<dyn Read + Send>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(io::Cursor::new(Arc::clone(bytes)))),
            Self::File { path, len } => {
                let file = std::fs::File::open(path)
                    .map_err(|error| named(&error, &format!("open {}", path.display())))?;
                Ok(Box::new(Exact { file, path: path.clone(), planned: *len, read: 0 }))
            }
            Self::Range { path, offset, len } => {
                let mut file = std::fs::File::open(path)
                    .map_err(|error| named(&error, &format!("open {}", path.display())))?;
                file.seek(io::SeekFrom::Start(*offset))
                    .map_err(|error| named(&error, &format!("seek in {}", path.display())))?;
                let end = offset.saturating_add(*len);
                Ok(Box::new(Part { file, path: path.clone(), at: *offset, end }))
            }
            Self::Concat(parts) => {
                Ok(Box::new(Chain { parts: Arc::clone(parts), next: 0, current: None }))
            }
        }
    }

    /// Reads the whole content into memory.
    ///
    /// # Errors
    /// As [`Source::open`].
    pub fn read(&self) -> io::Result<Arc<[u8]>> {
        match self {
            Self::Bytes(bytes) => Ok(Arc::clone(bytes)),
            Self::File { .. } | Self::Range { .. } | Self::Concat(_) => {
                let mut bytes = Vec::new();
                self.open()?.read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }
}

impl From<Vec<u8>> for Source {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<&[u8]> for Source {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.into())
    }
}

impl From<String> for Source {
    fn from(text: String) -> Self {
        Self::Bytes(text.into_bytes().into())
    }
}

impl From<&str> for Source {
    fn from(text: &str) -> Self {
        Self::Bytes(text.as_bytes().into())
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(out, "Bytes({} bytes)", bytes.len()),
            Self::File { path, len } => write!(out, "File({}, {len} bytes)", path.display()),
            Self::Range { path, offset, len } => {
                write!(out, "Range({}, {len} bytes at {offset})", path.display())
            }
            Self::Concat(parts) => out.debug_tuple("Concat").field(parts).finish(),
        }
    }
}

fn named(error: &io::Error, what: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Parts, each opened when its turn has come.
struct Chain {
    parts: Arc<[Source]>,
    next: usize,
    current: Option<Box<dyn Read + Send>>,
}

impl Read for Chain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some(current) = &mut self.current {
                let count = current.read(buffer)?;
                if count > 0 {
                    return Ok(count);
                }
            }
            let Some(part) = self.parts.get(self.next) else { return Ok(0) };
            self.current = Some(part.open()?);
            self.next += 1;
        }
    }
}

/// A file that must be as long as it was.
struct Exact {
    file: std::fs::File,
    path: PathBuf,
    planned: u64,
    read: u64,
}

impl Exact {
    fn changed(&self, found: u64) -> io::Error {
        io::Error::new(
            io::ErrorKind::InvalidData,
            crate::Error::SizeChanged { path: self.path.clone(), planned: self.planned, found },
        )
    }
}

impl Read for Exact {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = self
            .file
            .read(buffer)
            .map_err(|error| named(&error, &format!("read {}", self.path.display())))?;
        self.read += count as u64;
        if self.read > self.planned || (count == 0 && self.read < self.planned) {
            return Err(self.changed(self.read));
        }
        Ok(count)
    }
}

/// A part of a file, which may be longer but not shorter.
struct Part {
    file: std::fs::File,
    path: PathBuf,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(buffer) = buffer.get_mut(..wanted).filter(|buffer| !buffer.is_empty()) else {
            return Ok(0);
        };
        let count = self
            .file
            .read(buffer)
            .map_err(|error| named(&error, &format!("read {}", self.path.display())))?;
        if count == 0 {
            let (path, planned) = (self.path.clone(), self.end);
            let changed = crate::Error::SizeChanged { path, planned, found: self.at };
            return Err(io::Error::new(io::ErrorKind::InvalidData, changed));
        }
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_changed_size_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("content");
        for (now, planned) in [("grown longer", 3), ("cut", 30)] {
            std::fs::write(&path, now).unwrap();
            let source = Source::File { path: path.clone(), len: planned };
            let message = source.read().unwrap_err().to_string();
            assert!(message.contains("content"), "{message}");
        }
        let source = Source::File { path, len: 3 };
        assert_eq!(&*source.read().unwrap(), b"cut");
    }

    #[test]
    fn a_part_of_a_file_is_that_part_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("archive");
        std::fs::write(&path, "head body tail").unwrap();
        let part = |offset, len| Source::Range { path: path.clone(), offset, len };
        assert_eq!((part(5, 4).len(), &*part(5, 4).read().unwrap()), (4, b"body".as_slice()));
        assert_eq!(&*part(14, 0).read().unwrap(), b"");
        for (offset, len) in [(10, 5), (99, 1), (u64::MAX, u64::MAX)] {
            let error = part(offset, len).read().unwrap_err().to_string();
            assert!(error.contains("archive"), "{error}");
        }
    }

    #[test]
    fn parts_are_read_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("part");
        std::fs::write(&path, "file").unwrap();
        let inner = Source::Concat([Source::from("a "), "".into()].into());
        let mut parts = vec![inner, Source::File { path, len: 4 }, "".into(), " end".into()];
        let source = Source::Concat(parts.clone().into());
        assert_eq!((source.len(), &*source.read().unwrap()), (10, b"a file end".as_slice()));
        parts[1] = Source::File { path: "/nowhere".into(), len: 4 };
        let error = Source::Concat(parts.into()).read().unwrap_err().to_string();
        assert!(error.contains("/nowhere"), "{error}");
    }
}
