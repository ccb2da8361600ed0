//! An ISO image in a report.

use std::fmt;

use super::FileReport;
use super::boot::{self, BootEntry};
use crate::container::BlockSource;
use crate::iso::{FileKind, Names, Reader};
use crate::units::ByteLen;
use crate::{Limits, Result};

/// An ISO 9660 image; the disk may have a partition table beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct IsoReport {
    /// Label.
    pub label: String,
    /// When it was changed last, as Linux gives a volume's UUID.
    pub uuid: String,
    /// Bytes of the volume.
    pub len: ByteLen,
    /// What is on it, as its maker says.
    pub application: String,
    /// Which names it has beside the plain ones.
    pub extensions: Vec<String>,
    /// What is started from a CD.
    pub boot: Vec<BootReport>,
    /// What loaders would start of it.
    pub entries: Vec<BootEntry>,
    /// Its files and directories, by path, under the best names that it has.
    pub files: Vec<FileReport>,
    /// What could not be read.
    pub problems: Vec<String>,
}

/// An image that firmware starts from a CD.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct BootReport {
    /// `bios`, `uefi` or a byte.
    pub platform: String,
    /// Whether it is marked as bootable.
    pub bootable: bool,
    /// Where it begins.
    pub offset: u64,
    /// Bytes that are loaded.
    pub loaded: ByteLen,
    /// The file that it is, when it is one.
    pub path: Option<String>,
}

/// The image at the start of a source; `None` when it is none.
pub(super) fn report(source: &mut dyn BlockSource, limits: &Limits) -> Option<IsoReport> {
    let mut reader = Reader::open(source, limits).ok()?;
    let mut problems = Vec::new();
    let mut taken = |problem: crate::Error| problems.push(problem.to_string());
    let found = reader.list(reader.best()).unwrap_or_else(|error| {
        taken(error);
        Vec::new()
    });
    let images: Result<_> = reader.boot_images();
    let images = images.unwrap_or_else(|error| {
        taken(error);
        Vec::new()
    });
    let volume_len = reader.volume_len();
    let boot = images
        .into_iter()
        .map(|image| {
            let sector = u64::from(image.sector);
            let is = |extents: &[(u64, u64)]| extents.first().is_some_and(|it| it.0 == sector);
            let path = found.iter().find(|found| found.len > 0 && is(&found.extents));
            BootReport {
                platform: match image.platform {
                    0 => "bios".to_owned(),
                    0xef => "uefi".to_owned(),
                    other => format!("0x{other:02x}"),
                },
                bootable: image.bootable,
                offset: sector * crate::iso::SECTOR,
                loaded: ByteLen(match image.count {
                    // All that follows (UEFI 2.10, 13.3.2.1).
                    0 | 1 if image.platform == 0xef => {
                        volume_len.saturating_sub(sector.saturating_mul(crate::iso::SECTOR))
                    }
                    count => u64::from(count) * 512,
                }),
                path: path.map(|found| found.path.to_string()),
            }
        })
        .collect();
    let named = [(Names::RockRidge, "Rock Ridge"), (Names::Joliet, "Joliet")];
    let extensions = named.into_iter().filter(|(names, _)| reader.has(*names));
    let extensions = extensions.map(|(_, name)| name.to_owned()).collect();
    let files: Vec<FileReport> = found
        .iter()
        .map(|found| FileReport {
            path: found.path.to_string(),
            directory: found.kind == FileKind::Directory,
            len: found.len,
        })
        .collect();
    let entries = boot::entries(&files, limits, |at| match found.get(at) {
        Some(file) if file.kind == FileKind::File => reader.read(file),
        _ => Ok(Vec::new()),
    });
    Some(IsoReport {
        label: reader.volume_id(),
        uuid: reader.uuid(),
        len: ByteLen(reader.volume_len()),
        application: reader.application(),
        extensions,
        boot,
        entries,
        files,
        problems,
    })
}

impl IsoReport {
    pub(super) fn write(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ISO 9660 {:?} of {}, {}", self.label, self.len, super::shown(&self.uuid))?;
        for extension in &self.extensions {
            write!(out, ", {extension}")?;
        }
        if !self.application.is_empty() {
            write!(out, ", {:?}", self.application)?;
        }
        writeln!(out)?;
        for problem in &self.problems {
            writeln!(out, "! {}", super::shown(problem))?;
        }
        for boot in &self.boot {
            write!(out, "  {} starts {} at byte {}", boot.platform, boot.loaded, boot.offset)?;
            if let Some(path) = &boot.path {
                write!(out, ", {path}")?;
            }
            writeln!(out, "{}", if boot.bootable { "" } else { ", not bootable" })?;
        }
        for entry in &self.entries {
            writeln!(out, "  {entry}")?;
        }
        super::write_files(out, &self.files, "")
    }
}
