//! What is in an image that is at hand: a disk or file system of any format, an archive with one in
//! it, an executable for UEFI, or an initramfs. It is told by its bytes, not by its name, and no
//! manifest is needed.

mod bundle;
mod map;
mod members;

use std::fmt;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use kiln_diskimg::boot::uki;
use kiln_diskimg::{container, dump};
use kiln_initramfs::cpio;
use kiln_initramfs::manifest::{self, FileRecord};

pub use bundle::Bundle;
pub use members::Member;

use crate::{Error, Result, picture};

/// How archives and compressed archives begin: cpio, gzip, zstd.
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
const CPIO: &[u8] = b"07070";
/// How a table of zstd frames ends, by which a disk is told from an archive.
const SEEKABLE: [u8; 4] = 0x8f92_eab1_u32.to_le_bytes();

/// What an image turned out to be. With `{}` it is text for people.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Image {
    /// A disk or a file system: its container, partitions and what is in them.
    Disk(Box<dump::Report>),
    /// An archive, and the disk in it.
    Bundle(Box<Bundle>),
    /// An executable for UEFI: its sections, and what of a system is in them.
    Executable(Box<uki::Report>),
    /// An initramfs: what a kernel would unpack.
    Initramfs(Vec<FileRecord>),
}

/// What the first and last bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looks {
    Disk,
    Tar,
    TarGz,
    Zip,
    Executable,
    Initramfs,
}

fn looks(file: &mut File) -> std::io::Result<Looks> {
    let mut head = Vec::new();
    file.take(512).read_to_end(&mut head)?;
    let len = file.seek(SeekFrom::End(0))?;
    let mut tail = [0; 4];
    if len >= 4 {
        file.seek(SeekFrom::End(-4))?;
        file.read_exact(&mut tail)?;
    }
    file.rewind()?;
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    if head.starts_with(GZIP) {
        let mut start = Vec::new();
        // What is damaged is told by what reads it whole.
        let _ = flate2::read::GzDecoder::new(&*file).take(512).read_to_end(&mut start);
        file.rewind()?;
        return Ok(if is_tar(&start) { Looks::TarGz } else { Looks::Initramfs });
    }
    Ok(if head.starts_with(ZSTD) && tail != SEEKABLE || head.starts_with(CPIO) {
        Looks::Initramfs
    } else if is_tar(&head) {
        Looks::Tar
    } else if head.starts_with(b"PK\x03\x04") {
        Looks::Zip
    } else if head.starts_with(b"MZ") && head.get(510..512) != Some(&[0x55, 0xaa]) {
        Looks::Executable
    } else {
        Looks::Disk
    })
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
        let looks = looks(&mut file).map_err(Error::io("read", path))?;
        let limits = kiln_diskimg::Limits::default();
        let unreadable = |error: kiln_diskimg::Error| {
            Error::input(name(), format!("not an image that can be read: {error}"))
        };
        match looks {
            Looks::Initramfs => return Self::initramfs(path, file),
            Looks::Tar | Looks::Zip => {
                let bundle = Bundle::read(path, &mut file, looks == Looks::Zip)?;
                return Ok(Self::Bundle(Box::new(bundle)));
            }
            Looks::TarGz => return Ok(Self::Bundle(Box::new(Bundle::read_gzip(path, &file)?))),
            Looks::Executable => {
                let mut image = container::open(file, &limits).map_err(unreadable)?;
                let report = uki::read(&mut image, &limits).map_err(unreadable)?;
                return Ok(Self::Executable(Box::new(report)));
            }
            Looks::Disk => {}
        }
        let report = dump::inspect(file, &limits).map_err(unreadable)?;
        if report.table.is_none() && report.file_system.is_none() && report.iso.is_none() {
            let reason = "neither an archive nor a disk with a partition table or file system";
            return Err(Error::input(name(), reason));
        }
        Ok(Self::Disk(Box::new(report)))
    }

    fn initramfs(path: &Path, file: File) -> Result<Self> {
        let name = || path.display().to_string();
        let unpacked = cpio::unpack(BufReader::new(file), cpio::Limits::default())
            .map_err(|error| Error::input(name(), format!("damaged: {error}")))?;
        if let Some(lost) = unpacked.lost.first() {
            let reason = format!(
                "a kernel would drop {} of its entries without a word, first {lost}",
                unpacked.lost.len()
            );
            return Err(Error::input(name(), reason));
        }
        Ok(Self::Initramfs(manifest::files(&unpacked.tree)?))
    }

    /// As JSON, with a line break at the end: the report of a disk, an archive or an executable, or an
    /// initramfs's `files`.
    ///
    /// # Errors
    /// [`Error::Input`] if a part of it has no form in JSON.
    pub fn to_json(&self) -> Result<String> {
        let text = match self {
            Self::Disk(report) => serde_json::to_string_pretty(&**report),
            Self::Bundle(bundle) => serde_json::to_string_pretty(&**bundle),
            Self::Executable(report) => serde_json::to_string_pretty(&**report),
            Self::Initramfs(files) => {
                serde_json::to_string_pretty(&serde_json::json!({ "files": files }))
            }
        };
        Ok(text.map_err(|error| Error::input("report", error.to_string()))? + "\n")
    }

    /// As a picture of where on it what is, in SVG; `None` of what has no places (an initramfs, an
    /// archive without a disk).
    #[must_use]
    pub fn to_svg(&self, name: &str) -> Option<String> {
        let disk = match self {
            Self::Disk(report) => map::of_disk(report, name),
            Self::Bundle(bundle) => map::of_disk(bundle.disk.as_ref()?, name),
            Self::Executable(report) => map::of_executable(report, name),
            Self::Initramfs(_) => return None,
        };
        Some(picture::disk(&disk))
    }
}

impl fmt::Display for Image {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disk(report) => report.fmt(out),
            Self::Bundle(bundle) => bundle.fmt(out),
            Self::Executable(report) => report.fmt(out),
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

/// Where on an image what is, as SVG.
///
/// # Errors
/// Those of [`Image::read`]; [`Error::Input`] when nothing in it has a place.
pub fn svg(image: &Path) -> Result<String> {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    Image::read(image)?.to_svg(&name).ok_or_else(|| {
        Error::input(image.display().to_string(), "it has no disk that could be drawn")
    })
}
