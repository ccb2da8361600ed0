//! Image formats: how a disk is stored in a file.
//!
//! Writers take the disk front to back and store what is not zero; readers give any part of it.
//!
//! | format | written | read |
//! |---|---|---|
//! | [`Format::Raw`] | holes stay holes | yes |
//! | [`Format::RawZst`] | zstd frames of 1 MiB and a seek table | with a seek table |
//! | [`Format::Qcow2`] | version 3, 64 KiB clusters, 16-bit refcounts | versions 2 and 3, any cluster size, no backing file |
//! | [`Format::Qcow2Zlib`], [`Format::Qcow2Zstd`] | compressed by several threads, packed byte by byte | yes |
//! | [`Format::Vmdk`] | monolithic sparse, 64 KiB grains, both grain directories | hosted sparse, one file |
//! | [`Format::VmdkStream`] | stream-optimized, as vSphere imports it | yes |
//! | [`Format::Vdi`] | dynamic, 1 MiB blocks | dynamic and fixed, no parent |
//! | [`Format::Vhd`] | dynamic, 2 MiB blocks | dynamic, any block size |
//! | [`Format::VhdFixed`] | whole MiB, as Azure wants it | yes |
//! | [`Format::Vhdx`] | dynamic, blocks by the disk's length | fixed and dynamic with an empty log, no parent |
//!
//! Compression needs the cargo features `zlib` and `zstd`. It is done by several threads, and what
//! is under way is bounded, so that memory does not grow with the disk: beside the tables (8 bytes
//! per 512 MiB in qcow2, 4 bytes per MiB in VDI, and the like) there are at most 34 jobs of a few
//! hundred kilobytes.
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
mod codec;
#[cfg(feature = "zlib")]
mod deflate;
mod format;
#[cfg(feature = "zlib")]
mod gzip;
mod mapped;
mod options;
mod out;
mod parallel;
mod qcow2;
mod raw;
mod raw_zst;
mod source;
mod vdi;
mod vhd;
mod vhdx;
mod vmdk;

use std::fmt;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

pub(crate) use blocks::{Blocks, Store};
use codec::{Method, Wrapping};
pub use format::{Format, ParseFormatError};
#[cfg(feature = "zlib")]
pub(crate) use gzip::Deflated;
pub use options::{Adapter, Options, ParseAdapterError};
use parallel::Compressing;
#[cfg(feature = "zstd")]
pub(crate) use raw_zst::Writer as RawZstWriter;
pub(crate) use source::check_range;
pub use source::{BlockSource, Window, convert, convert_with};

use crate::content::{Content, Sink};
use crate::{Error, Limits, Result};

/// Stores a disk. The writer must be at its start and empty: what is skipped is taken to read as
/// zeroes.
///
/// # Errors
/// Those of the content; [`Error::Io`] of the writer; [`Error::Unsupported`] when the format cannot
/// hold a disk of that length or needs a cargo feature that this build lacks.
pub fn write<W: Write + Seek>(format: Format, content: &dyn Content, writer: W) -> Result<W> {
    write_with(format, content, writer, &Options::default())
}

/// Stores a disk, with options.
///
/// # Errors
/// As [`write()`].
pub fn write_with<W: Write + Seek>(
    format: Format,
    content: &dyn Content,
    writer: W,
    options: &Options,
) -> Result<W> {
    store(format, content.len(), writer, options, |sink| content.write_to(sink))
}

/// Stores what is pushed into the sink, exactly `len` bytes.
fn store<W: Write + Seek>(
    format: Format,
    len: u64,
    writer: W,
    options: &Options,
    fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<W> {
    let name = format.name();
    let zstd = Method::Zstd(options.zstd_level);
    match format {
        Format::Raw => through(raw::Writer::new(writer), len, name, fill)?.finish(len),
        Format::RawZst => {
            through(raw_zst::Writer::new(writer, len, options)?, len, name, fill)?.finish()
        }
        Format::Qcow2 => through(qcow2::Writer::new(writer, len)?, len, name, fill)?.finish(),
        Format::Qcow2Zlib | Format::Qcow2Zstd => {
            let is_zstd = format == Format::Qcow2Zstd;
            let method = if is_zstd { zstd } else { Method::Deflate4k };
            let store = compressing(format, method, options, || {
                qcow2::PackedWriter::new(writer, len, is_zstd)
            })?;
            through(store, len, name, fill)?.finish()?.finish()
        }
        Format::Vmdk => {
            let adapter = options.adapter.unwrap_or(Adapter::Ide);
            through(vmdk::Writer::new(writer, len, adapter)?, len, name, fill)?.finish()
        }
        Format::VmdkStream => store_vmdk_stream(len, writer, options, fill),
        Format::Vdi => through(vdi::Writer::new(writer, len, options)?, len, name, fill)?.finish(),
        Format::Vhd => through(vhd::Writer::new(writer, len, options)?, len, name, fill)?.finish(),
        Format::VhdFixed => {
            let raw = through(raw::Writer::new(writer), len, name, fill)?;
            vhd::finish_fixed(raw, len, options)
        }
        Format::Vhdx => {
            through(vhdx::Writer::new(writer, len, options)?, len, name, fill)?.finish()
        }
    }
}

fn compressing<P: parallel::Packed>(
    format: Format,
    method: Method,
    options: &Options,
    store: impl FnOnce() -> Result<P>,
) -> Result<Compressing<P>> {
    method.check(format.name())?;
    Compressing::new(store()?, options.threads(), method)
}

fn through<S: Store>(
    store: S,
    len: u64,
    name: &'static str,
    fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<S> {
    let mut blocks = Blocks::new(store, len, name);
    fill(&mut blocks)?;
    blocks.finish()
}

/// Stores a disk as a stream-optimized VMDK, for which the writer need not seek.
pub(crate) fn store_vmdk_stream<W: Write>(
    len: u64,
    writer: W,
    options: &Options,
    fill: impl FnOnce(&mut dyn Sink) -> Result<()>,
) -> Result<W> {
    let format = Format::VmdkStream;
    let store = compressing(format, Method::Zlib, options, || {
        vmdk::StreamWriter::new(writer, len, options)
    })?;
    through(store, len, format.name(), fill)?.finish()?.finish()
}

/// Stores a disk as a file of the host: written beside it under another name, then renamed, so that
/// there is never half an image under the name.
///
/// # Errors
/// As [`write()`]; the unfinished file is removed.
pub fn write_file(format: Format, content: &dyn Content, path: impl AsRef<Path>) -> Result<()> {
    write_file_with(format, content, path, &Options::default())
}

/// Stores a disk as a file of the host, with options.
///
/// # Errors
/// As [`write_file()`].
pub fn write_file_with(
    format: Format,
    content: &dyn Content,
    path: impl AsRef<Path>,
    options: &Options,
) -> Result<()> {
    create_file(path.as_ref(), |file| write_with(format, content, file, options).map(drop))
}

/// Makes a file under another name and renames it when it is whole.
pub(crate) fn create_file(
    path: &Path,
    fill: impl FnOnce(std::fs::File) -> Result<()>,
) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    let beside = PathBuf::from(beside);
    let written = std::fs::File::create(&beside)
        .map_err(Error::io(format!("create {}", beside.display())))
        .and_then(|file| fill(file).map_err(|error| of_file(path, error)))
        .and_then(|()| {
            let action = format!("rename {} to {}", beside.display(), path.display());
            std::fs::rename(&beside, path).map_err(Error::io(action))
        });
    if written.is_err() {
        // The first error is the one to report; a file that could not be made cannot be removed.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

/// The error with the image's name: a disk that is full is one of several.
fn of_file(path: &Path, error: Error) -> Error {
    match error {
        Error::Io { action, source } => {
            Error::Io { action: format!("{}: {action}", path.display()), source }
        }
        other => other,
    }
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
    RawZst(Box<raw_zst::Reader<R>>),
    Qcow2(Box<qcow2::Reader<R>>),
    Vmdk(Box<vmdk::Reader<R>>),
    Vdi(vdi::Reader<R>),
    Vhd(vhd::Reader<R>),
    Vhdx(vhdx::Reader<R>),
}

/// Opens an image, its format told by its content: the first bytes, or for a fixed VHD the footer.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] with the byte at which the image is not as its format
/// demands or ends too early; [`Error::Unsupported`] for encryption, backing files and the like;
/// [`Error::Limit`].
pub fn open<R: Read + Seek>(mut reader: R, limits: &Limits) -> Result<Image<R>> {
    let len = reader.seek(SeekFrom::End(0)).map_err(Error::io("find the image's length"))?;
    let mut head = [0; 80];
    let have = head.len().min(crate::field::index(len));
    source::read_exact_at(&mut reader, 0, head.get_mut(..have).unwrap_or_default())?;
    if head.starts_with(qcow2::MAGIC) {
        let mut opened = qcow2::Reader::open(reader, len, limits)?;
        let format = match opened.compression() {
            Some(Wrapping::Zstd) => Format::Qcow2Zstd,
            Some(_) => Format::Qcow2Zlib,
            None => Format::Qcow2,
        };
        return Ok(Image { format, inner: Inner::Qcow2(Box::new(opened)) });
    }
    if head.starts_with(vmdk::MAGIC) {
        let opened = vmdk::Reader::open(reader, len, limits)?;
        let format = if opened.is_packed() { Format::VmdkStream } else { Format::Vmdk };
        return Ok(Image { format, inner: Inner::Vmdk(Box::new(opened)) });
    }
    if head.starts_with(&raw_zst::MAGIC) {
        let opened = raw_zst::Reader::open(reader, len, limits)?;
        return Ok(Image { format: Format::RawZst, inner: Inner::RawZst(Box::new(opened)) });
    }
    if head.starts_with(vhdx::MAGIC) {
        let inner = Inner::Vhdx(vhdx::Reader::open(reader, len, limits)?);
        return Ok(Image { format: Format::Vhdx, inner });
    }
    if head.get(64..).is_some_and(|rest| rest.starts_with(&vdi::SIGNATURE)) {
        let inner = Inner::Vdi(vdi::Reader::open(reader, len, limits)?);
        return Ok(Image { format: Format::Vdi, inner });
    }
    if head.starts_with(vhd::COOKIE) {
        let inner = Inner::Vhd(vhd::Reader::open(reader, len, limits)?);
        return Ok(Image { format: Format::Vhd, inner });
    }
    match vhd::fixed_len(&mut reader, len)? {
        Some(disk) => Ok(Image {
            format: Format::VhdFixed,
            inner: Inner::Raw(raw::Reader::new(reader, disk)),
        }),
        None => Ok(Image { format: Format::Raw, inner: Inner::Raw(raw::Reader::new(reader, len)) }),
    }
}

/// Opens an image that is a file of the host. With the feature `host`, the holes of a raw one are
/// found and need not be read.
///
/// # Errors
/// As [`open()`].
pub fn open_file(path: impl AsRef<Path>, limits: &Limits) -> Result<Image<std::fs::File>> {
    let path = path.as_ref();
    let file = std::fs::File::open(path).map_err(Error::io(format!("open {}", path.display())))?;
    #[cfg_attr(not(feature = "host"), expect(unused_mut, reason = "holes need the feature"))]
    let mut image = open(file, limits)?;
    #[cfg(feature = "host")]
    if let Inner::Raw(reader) = &mut image.inner {
        reader.find_holes();
    }
    Ok(image)
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
            Inner::RawZst(reader) => reader.len(),
            Inner::Qcow2(reader) => reader.len(),
            Inner::Vmdk(reader) => reader.len(),
            Inner::Vdi(reader) => reader.len(),
            Inner::Vhd(reader) => reader.len(),
            Inner::Vhdx(reader) => reader.len(),
        }
    }

    fn source(&mut self) -> &mut dyn BlockSource {
        match &mut self.inner {
            Inner::Raw(reader) => reader,
            Inner::RawZst(reader) => reader.as_mut(),
            Inner::Qcow2(reader) => reader.as_mut(),
            Inner::Vmdk(reader) => reader.as_mut(),
            Inner::Vdi(reader) => reader,
            Inner::Vhd(reader) => reader,
            Inner::Vhdx(reader) => reader,
        }
    }
}

impl<R: Read + Seek> BlockSource for Image<R> {
    fn len(&self) -> u64 {
        Self::len(self)
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.source().read_at(offset, buffer)
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        self.source().next_data(offset)
    }
}
