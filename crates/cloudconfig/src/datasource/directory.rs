//! The files of a mounted medium.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Files, ReadError};

/// A directory. Links in it are not followed and nothing but plain files is opened: a medium is whoever's
/// made it, and a link on it would be read with the rights of process 1.
#[derive(Debug)]
pub struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory.
    ///
    /// # Errors
    /// Where it is not there, or no directory.
    pub fn open(path: &Path) -> Result<Self, ReadError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(path, flags, Mode::empty());
        opened.map(Self).map_err(|error| ReadError::new(path.display().to_string(), error))
    }
}

impl Files for Directory {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, ReadError> {
        let wrong = |why: &dyn std::fmt::Display| ReadError::new(path, why);
        // Without NONBLOCK a FIFO would wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = match rustix::fs::openat2(&self.0, path, flags, Mode::empty(), resolve) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
            Err(Errno::LOOP) => return Err(wrong(&"a symbolic link, which is not followed")),
            Err(error) => return Err(wrong(&error)),
        };
        let kind = file.metadata().map_err(|error| wrong(&error))?;
        if !kind.is_file() {
            return Err(wrong(&"no plain file"));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
        file.take(limit).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
        if bytes.len() > most {
            return Err(wrong(&format_args!("more than {most} bytes")));
        }
        Ok(Some(bytes))
    }
}
