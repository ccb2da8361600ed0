//! The thin shell: configurations from files and into files.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use super::{DotConfig, Limits};
use crate::error::{Error, Result};

impl DotConfig {
    /// Reads the file at `path`, whose name becomes the origin.
    ///
    /// # Errors
    ///
    /// [`Error::Read`]; [`Error::TooLarge`] above 64 MiB.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let limits = Limits::default();
        let bytes = read_bounded(path, limits.max_bytes)?;
        let origin = path.display().to_string();
        Ok(Self::build(bytes, origin.into(), None, &limits))
    }

    /// Writes the bytes to `path`: beside it first, then renamed, so that there is never half a
    /// file.
    ///
    /// # Errors
    ///
    /// [`Error::Write`]; what stood at `path` is then untouched.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let failed = |source| Error::Write { path: path.to_owned(), source };
        let name = path.file_name().ok_or_else(|| {
            failed(io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))
        })?;
        let mut beside = std::ffi::OsString::from(".");
        beside.push(name);
        beside.push(format!(".{}.tmp", std::process::id()));
        let beside = path.with_file_name(beside);
        let written = fs::write(&beside, self.as_bytes()).and_then(|()| fs::rename(&beside, path));
        written.map_err(|source| {
            // Only tidying up: the first error is the one to tell.
            let _ = fs::remove_file(&beside);
            failed(source)
        })
    }
}

pub(crate) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        Ok(bytes)
    } else {
        Err(Error::TooLarge { path: path.to_owned(), limit })
    }
}
