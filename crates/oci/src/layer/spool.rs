//! Where contents of layers are kept that are too large for memory.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use kiln_tree::Source;

use crate::{Error, Result};

/// Contents shorter than this stay in memory.
const IN_MEMORY: u64 = 4 << 10;

/// A file in which the contents of many files lie one after the other. It must stay for as long as a
/// tree refers to it.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    file: BufWriter<File>,
    at: u64,
}

impl Spool {
    /// Makes a new file.
    ///
    /// # Errors
    /// [`Error::Io`], also when the file is there already.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        Ok(Self { path, file: BufWriter::with_capacity(128 << 10, file), at: 0 })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes a content in. The error of the inner result is the reader's.
    pub(super) fn take(&mut self, content: &mut dyn Read, len: u64) -> Result<io::Result<Source>> {
        if len < IN_MEMORY {
            let mut bytes = Vec::new();
            return Ok(content.read_to_end(&mut bytes).map(|_| bytes.into()));
        }
        let mut buffer = [0; 32 << 10];
        let offset = self.at;
        loop {
            let count = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Ok(Err(error)),
            };
            let written = self.file.write_all(buffer.get(..count).unwrap_or_default());
            written.map_err(Error::io("write", &self.path))?;
            self.at = self.at.saturating_add(count as u64);
        }
        Ok(Ok(Source::Range {
            path: self.path.clone(),
            offset,
            len: self.at.saturating_sub(offset),
        }))
    }

    /// Sees to it that what was taken in can be read from the file.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(Error::io("write", &self.path))
    }
}
