//! A system as it is carried to where it is installed, or where it replaces another: a directory of a CD
//! or of a container image.
//!
//! | file | what |
//! |---|---|
//! | `vmlinuz` | the kernel |
//! | `initramfs` | its initramfs |
//! | `release` | [what they are](Release): version, lengths, digests, command line |
//! | `release.sig` | where it is [signed](Keys): the signature of `release`, and so of all |

#[cfg(feature = "signed")]
mod bundle;
#[cfg(feature = "signed")]
mod signed;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kiln_diskimg::slots::{Part, Release, Slot};
use kiln_tree::Source;

#[cfg(feature = "signed")]
pub use bundle::unpack;
#[cfg(feature = "signed")]
pub use signed::Keys;

use crate::slots::{self, Options, Slots};

/// Names of the files.
pub const KERNEL: &str = "vmlinuz";
/// The same of the initramfs.
pub const INITRD: &str = "initramfs";
/// The same of what they are.
pub const RELEASE: &str = "release";

/// The same of the signature.
pub const SIGNATURE: &str = "release.sig";

/// No such text is longer.
const LONGEST: u64 = 64 << 10;

/// Why there is no system in a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that is not there or cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file that says what the others are is not understood.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: kiln_diskimg::Error,
    },
    /// A kernel or an initramfs is not what it is said to be.
    #[error("{}: {source}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How it is.
        source: slots::Error,
    },
    /// Nobody who is trusted has signed it.
    #[error("{}: {problem}", path.display())]
    Unsigned {
        /// The signature.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// An archive that is none of a system.
    #[error("the archive: {0}")]
    Archive(String),
}

/// A directory with a system.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
    release: Release,
}

impl Directory {
    /// Reads what the files are said to be.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Malformed`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let text = read(&path.join(RELEASE))?;
        Self::said(path, &text)
    }

    /// The same, if somebody who is trusted says it.
    ///
    /// # Errors
    /// [`Error::Unsigned`], [`Error::Read`], [`Error::Malformed`].
    #[cfg(feature = "signed")]
    pub fn open_signed(path: impl Into<PathBuf>, keys: &Keys) -> Result<Self, Error> {
        let path = path.into();
        // what is verified is what is believed: it is read once
        let (text, signature) = (read(&path.join(RELEASE))?, path.join(SIGNATURE));
        let unsigned = |problem| Error::Unsigned { path: signature.clone(), problem };
        let found = match read(&signature) {
            Err(Error::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(unsigned("there is none: nobody says what this is"));
            }
            found => found?,
        };
        keys.verify(&text, &found).map_err(unsigned)?;
        Self::said(path, &text)
    }

    fn said(path: PathBuf, text: &[u8]) -> Result<Self, Error> {
        let release = Release::parse(text);
        let malformed = |source| Error::Malformed { path: path.join(RELEASE), source };
        Ok(Self { release: release.map_err(malformed)?, path })
    }

    /// What the files are said to be.
    #[must_use]
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Its command line and these words.
    #[must_use]
    pub fn command_line(&self, more: &str) -> String {
        format!("{} {}", self.release.command_line.trim(), more.trim()).trim().to_owned()
    }

    /// Reads kernel and initramfs, which are found to be what they are said to be.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Damaged`].
    pub fn check(&self) -> Result<(), Error> {
        let parts =
            [("kernel", KERNEL, self.release.kernel), ("initramfs", INITRD, self.release.initrd)];
        for (what, name, part) in parts {
            let mut file = self.file(name)?;
            slots::part(what, &mut file, Some(part))
                .map_err(|source| Error::Damaged { path: self.path.join(name), source })?;
        }
        Ok(())
    }

    /// The kernel.
    #[must_use]
    pub fn kernel(&self) -> Source {
        self.source(KERNEL, self.release.kernel)
    }

    /// The initramfs.
    #[must_use]
    pub fn initrd(&self) -> Source {
        self.source(INITRD, self.release.initrd)
    }

    /// Puts it into the slot that does not run, and has it started once; with these words more on its
    /// command line.
    ///
    /// # Errors
    /// As [`Slots::upgrade`].
    pub fn upgrade(
        &self,
        slots: &mut Slots,
        more: &str,
        allow_older: bool,
    ) -> Result<Slot, slots::Error> {
        let unread =
            |what| move |error: Error| slots::Error::Damaged { what, problem: error.to_string() };
        let mut kernel = self.file(KERNEL).map_err(unread("kernel"))?;
        let mut initrd = self.file(INITRD).map_err(unread("initramfs"))?;
        let options = Options {
            allow_older,
            kernel: Some(self.release.kernel),
            initrd: Some(self.release.initrd),
        };
        let line = self.command_line(more);
        slots.upgrade(&mut kernel, &mut initrd, &self.release.version, &line, &options)
    }

    fn source(&self, name: &str, part: Part) -> Source {
        Source::File { path: self.path.join(name), len: part.len }
    }

    fn file(&self, name: &str) -> Result<File, Error> {
        let path = self.path.join(name);
        File::open(&path).map_err(|source| Error::Read { path, source })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A small file.
fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|found| found.take(LONGEST).read_to_end(&mut bytes));
    read.map_err(|source| Error::Read { path: path.to_owned(), source })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_are_what_they_are_said_to_be_or_it_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let write =
            |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        let said = |found: Result<(), Error>| found.unwrap_err().to_string();
        let open = || Directory::open(directory.path());
        assert!(said(open().map(drop)).contains("release: No such file"));
        write(RELEASE, b"version 1\n");
        assert!(said(open().map(drop)).contains("there is no line \"kernel\""));
        let mut release = Release::new("1", Part::of(b"kernel"), Part::of(b"initramfs"));
        release.command_line = "quiet".into();
        write(RELEASE, release.to_string().as_bytes());
        let found = open().unwrap();
        assert!(said(found.check()).contains("vmlinuz: No such file"));
        write(KERNEL, b"kernel");
        write(INITRD, b"initramfS");
        assert!(said(found.check()).contains("the new initramfs: its digest is another one"));
        write(INITRD, b"initramfs");
        found.check().unwrap();
        assert_eq!(found.command_line(" panic=1 "), "quiet panic=1");
        assert_eq!(found.command_line(""), "quiet");
    }
}
