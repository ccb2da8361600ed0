//! Image formats: how a disk is stored in a file.
//!
//! Writers take the disk front to back and store what is not zero; readers give any part of it.
//!
//! | format | written | read |
//! |---|---|---|
//! | [`Format::Raw`] | holes stay holes | yes |
//! | [`Format::Qcow2`] | version 3, 64 KiB clusters, 16-bit refcounts | versions 2 and 3, uncompressed, no backing file |
//! | [`Format::Vmdk`] | monolithic sparse, 64 KiB grains, both grain directories | hosted sparse, one file |
//!
//! # Example: a disk in another format
//!
//! ```
//! use std::io::Cursor;
//! use kiln_diskimg::container::{self, Format};
//! use kiln_diskimg::Limits;
//!
//! let mut disk = vec![0; 1 << 20];
//! disk[512..520].copy_from_slice(b"EFI PART");
//! let image = container::write(Format::Qcow2, &disk, Cursor::new(Vec::new()))?;
//!
//! let mut opened = container::open(image, &Limits::default())?;
//! assert_eq!((opened.format(), opened.len()), (Format::Qcow2, 1 << 20));
//! let vmdk = container::convert(&mut opened, Format::Vmdk, Cursor::new(Vec::new()))?;
//! # Ok::<(), kiln_diskimg::Error>(())
//! ```

mod blocks;
mod qcow2;
mod raw;
mod source;
mod vmdk;

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use blocks::Blocks;
pub(crate) use source::check_range;
pub use source::{BlockSource, Window, convert};

use crate::content::Content;
use crate::{Error, Limits, Result};

/// How a disk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// VMware's, as one sparse file.
    Vmdk,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Qcow2, Self::Vmdk];

    /// The name, which is also QEMU's and the usual file extension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Vmdk => "vmdk",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A name that is no format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no image format: expected raw, qcow2 or vmdk")]
pub struct ParseFormatError(String);

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| ParseFormatError(text.chars().take(32).collect()))
    }
}

/// Stores a disk. The writer must be at its start and empty: what is skipped is taken to read as
/// zeroes.
///
/// # Errors
/// Those of the content; [`Error::Io`] of the writer; [`Error::Unsupported`] when the format cannot
/// hold a disk of that length.
pub fn write<W: Write + Seek>(format: Format, content: &dyn Content, writer: W) -> Result<W> {
    match format {
        Format::Raw => {
            let mut blocks = Blocks::new(raw::Writer::new(writer), content.len(), format.name());
            content.write_to(&mut blocks)?;
            blocks.finish()?.finish(content.len())
        }
        Format::Qcow2 => {
            let store = qcow2::Writer::new(writer, content.len())?;
            let mut blocks = Blocks::new(store, content.len(), format.name());
            content.write_to(&mut blocks)?;
            blocks.finish()?.finish()
        }
        Format::Vmdk => {
            let store = vmdk::Writer::new(writer, content.len())?;
            let mut blocks = Blocks::new(store, content.len(), format.name());
            content.write_to(&mut blocks)?;
            blocks.finish()?.finish()
        }
    }
}

/// Stores a disk as a file of the host: written beside it under another name, then renamed, so that
/// there is never half an image under the name.
///
/// # Errors
/// As [`write()`]; the unfinished file is removed.
pub fn write_file(format: Format, content: &dyn Content, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let written = std::fs::File::create(&beside)
        .map_err(Error::io(format!("create {}", beside.display())))
        .and_then(|file| write(format, content, file))
        .and_then(|_| {
            let action = format!("rename {} to {}", beside.display(), path.display());
            std::fs::rename(&beside, path).map_err(Error::io(action))
        });
    if written.is_err() {
        // The first error is the one to report; a file that could not be made cannot be removed.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// A disk image that was opened, of whatever format.
pub struct Image<R> {
    format: Format,
    inner: Inner<R>,
}

impl<R> fmt::Debug for Image<R> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Image").field("format", &self.format).finish_non_exhaustive()
    }
}

enum Inner<R> {
    Raw(raw::Reader<R>),
    Qcow2(qcow2::Reader<R>),
    Vmdk(vmdk::Reader<R>),
}

/// Opens an image, its format told by its first bytes.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] with the byte at which the image is not as its format
/// demands or ends too early; [`Error::Unsupported`] for encryption, backing files and the like;
/// [`Error::Limit`].
pub fn open<R: Read + Seek>(mut reader: R, limits: &Limits) -> Result<Image<R>> {
    let len = reader.seek(SeekFrom::End(0)).map_err(Error::io("find the image's length"))?;
    let mut magic = [0; 4];
    if len >= 4 {
        source::read_exact_at(&mut reader, 0, &mut magic)?;
    }
    let (format, inner) = match &magic {
        qcow2::MAGIC => (Format::Qcow2, Inner::Qcow2(qcow2::Reader::open(reader, len, limits)?)),
        vmdk::MAGIC => (Format::Vmdk, Inner::Vmdk(vmdk::Reader::open(reader, len, limits)?)),
        _ => (Format::Raw, Inner::Raw(raw::Reader::new(reader, len))),
    };
    Ok(Image { format, inner })
}

impl<R> Image<R> {
    /// Which format it has.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }
}

impl<R: Read + Seek> Image<R> {
    /// Length of the disk in bytes.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a disk is not a collection")]
    pub fn len(&self) -> u64 {
        match &self.inner {
            Inner::Raw(reader) => reader.len(),
            Inner::Qcow2(reader) => reader.len(),
            Inner::Vmdk(reader) => reader.len(),
        }
    }
}

impl<R: Read + Seek> BlockSource for Image<R> {
    fn len(&self) -> u64 {
        Self::len(self)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        match &mut self.inner {
            Inner::Raw(reader) => reader.read_at(offset, buffer),
            Inner::Qcow2(reader) => reader.read_at(offset, buffer),
            Inner::Vmdk(reader) => reader.read_at(offset, buffer),
        }
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        match &mut self.inner {
            Inner::Raw(reader) => reader.next_data(offset),
            Inner::Qcow2(reader) => reader.next_data(offset),
            Inner::Vmdk(reader) => reader.next_data(offset),
        }
    }
}
