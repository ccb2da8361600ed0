//! Where the bytes of a file come from.

use std::fmt;
use std::io::{self, Read};
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
            Self::File { len, .. } => *len,
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
            Self::File { .. } | Self::Concat(_) => {
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
