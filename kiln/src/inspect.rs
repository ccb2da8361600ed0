//! What is in an image that is at hand: a disk of any format, or an initramfs. It is told by its
//! first bytes, not by its name, and no manifest is needed.

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use kiln_diskimg::dump;
use kiln_initramfs::cpio;
use kiln_initramfs::manifest::{self, FileRecord};

use crate::{Error, Result};

/// How archives and compressed archives begin: cpio, gzip, zstd.
const ARCHIVES: [&[u8]; 3] = [b"07070", &[0x1f, 0x8b], &[0x28, 0xb5, 0x2f, 0xfd]];

/// What an image turned out to be. With `{}` it is text for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Image {
    /// A disk or a file system: its container, partitions and what is in them.
    Disk(Box<dump::Report>),
    /// An initramfs: what a kernel would unpack.
    Initramfs(Vec<FileRecord>),
}

impl Image {
    /// Reads an image, within the default limits of `kiln_diskimg` and `kiln_initramfs`.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] when it is no image or is damaged, with where, and when a
    /// kernel would unpack less than the archive holds.
    pub fn read(path: &Path) -> Result<Self> {
        let name = || path.display().to_string();
        let mut file = File::open(path).map_err(Error::io("open", path))?;
        let mut start = Vec::new();
        (&mut file).take(6).read_to_end(&mut start).map_err(Error::io("read", path))?;
        file.seek(SeekFrom::Start(0)).map_err(Error::io("read", path))?;
        if ARCHIVES.iter().any(|magic| start.starts_with(magic)) {
            let unpacked = cpio::unpack(BufReader::new(file), cpio::Limits::default())
                .map_err(|error| Error::input(name(), format!("damaged: {error}")))?;
            if let Some(lost) = unpacked.lost.first() {
                let reason = format!(
                    "a kernel would drop {} of its entries without a word, first {lost}",
                    unpacked.lost.len()
                );
                return Err(Error::input(name(), reason));
            }
            return Ok(Self::Initramfs(manifest::files(&unpacked.tree)?));
        }
        let report = dump::inspect(file, &kiln_diskimg::Limits::default()).map_err(|error| {
            Error::input(name(), format!("not an image that can be read: {error}"))
        })?;
        if report.table.is_none() && report.file_system.is_none() {
            let reason = "neither an archive nor a disk with a partition table or file system";
            return Err(Error::input(name(), reason));
        }
        Ok(Self::Disk(Box::new(report)))
    }

    /// As JSON, with a line break at the end: the disk's report, or the archive's `files`.
    ///
    /// # Errors
    /// [`Error::Input`] if a part of it has no form in JSON.
    pub fn to_json(&self) -> Result<String> {
        let text = match self {
            Self::Disk(report) => serde_json::to_string_pretty(&**report),
            Self::Initramfs(files) => {
                serde_json::to_string_pretty(&serde_json::json!({ "files": files }))
            }
        };
        Ok(text.map_err(|error| Error::input("report", error.to_string()))? + "\n")
    }
}

impl fmt::Display for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(report) => report.fmt(out),
            Self::Initramfs(files) => files.iter().try_for_each(|file| {
                let size = file.size.map(|size| size.to_string()).unwrap_or_default();
                write!(out, "{} {size:>10} {}", file.mode, file.path)?;
                match &file.target {
                    Some(target) => writeln!(out, " -> {}", target.escape_debug()),
                    None => writeln!(out),
                }
            }),
        }
    }
}

/// What is in an image, as text.
///
/// # Errors
/// Those of [`Image::read`].
pub fn text(image: &Path) -> Result<String> {
    Ok(Image::read(image)?.to_string())
}

/// What is in an image, as JSON.
///
/// # Errors
/// Those of [`Image::read`] and [`Image::to_json`].
pub fn json(image: &Path) -> Result<String> {
    Image::read(image)?.to_json()
}
