//! What is in an image, for people and programs.

use std::fmt;
use std::io::{Read, Seek};

use crate::container::{self, BlockSource, Format, Window};
use crate::ext4;
use crate::fat;
use crate::gpt::{self, PartitionType};
use crate::guid::Guid;
use crate::mbr::{self, Mbr};
use crate::plan::Table;
use crate::units::{ByteLen, Lba, SECTOR};
use crate::{Limits, Result};

mod boot;
mod iso;
mod squashfs;
mod svg;

pub use boot::BootEntry;
pub use iso::{BootReport, IsoReport};

/// What was found in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// How the disk is stored.
    pub container: Format,
    /// Length of the disk.
    pub len: ByteLen,
    /// Bytes of the disk that are stored, as far as the format says.
    pub stored: ByteLen,
    /// The partition table; `None` when there is none (the disk may be a file system).
    pub table: Option<TableReport>,
    /// The file system of a disk without a table.
    pub file_system: Option<FileSystem>,
    /// The ISO image that the disk is, with a table or without.
    pub iso: Option<IsoReport>,
}

/// A partition table.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TableReport {
    /// Which kind.
    pub kind: Table,
    /// Identifier: a GUID or a signature of eight digits.
    pub id: String,
    /// Whether there is boot code in the first sector.
    pub boot_code: bool,
    /// The partitions.
    pub partitions: Vec<PartitionReport>,
    /// What a GPT disk's MBR has beside the entry that protects it (a hybrid MBR).
    pub hybrid: Vec<HybridReport>,
    /// What is wrong with it.
    pub complaints: Vec<String>,
}

/// An entry of a hybrid MBR.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct HybridReport {
    /// Number, from 1.
    pub number: u32,
    /// What it is for: a name or a byte.
    pub kind: String,
    /// First sector.
    pub first: Lba,
    /// How many sectors.
    pub sectors: u64,
    /// Whether boot code in the MBR starts it.
    pub bootable: bool,
    /// The number of the GPT partition with the same sectors; `None` when there is none.
    pub mirrors: Option<u32>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PartitionReport {
    /// Number, from 1.
    pub number: u32,
    /// Name (GPT).
    pub name: String,
    /// What it is for: a name, a GUID or a byte.
    pub kind: String,
    /// Identifier (GPT).
    pub guid: Option<Guid>,
    /// First sector.
    pub first: Lba,
    /// How many sectors.
    pub sectors: u64,
    /// Whether boot code in the MBR starts it.
    pub bootable: bool,
    /// GPT attribute bits.
    pub attributes: u64,
    /// What is in it, when that is known.
    pub file_system: Option<FileSystem>,
    /// Why the file system could not be read.
    pub problem: Option<String>,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FileSystem {
    /// Which kind ("FAT32", "ext4").
    pub kind: String,
    /// Label.
    pub label: Option<String>,
    /// Serial number or UUID.
    pub id: String,
    /// Who made it or starts from it (the OEM name of FAT, else nothing).
    pub oem: String,
    /// Bytes of the whole file system, where it records that.
    pub len: Option<ByteLen>,
    /// Bytes of a cluster, or of a block.
    pub cluster: ByteLen,
    /// Bytes that are free, where it records that.
    pub free: Option<ByteLen>,
    /// What loaders and firmware would start of it.
    pub boot: Vec<BootEntry>,
    /// Its files and directories, by path; none of SquashFS.
    pub files: Vec<FileReport>,
}

/// A file or directory.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct FileReport {
    /// Path.
    pub path: String,
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes.
    pub len: u64,
}

/// Looks into an image of any format.
///
/// # Errors
/// Those of [`container::open`]. What is wrong inside of the disk is part of the report, as far as
/// something can be said at all.
pub fn inspect<R: Read + Seek>(reader: R, limits: &Limits) -> Result<Report> {
    let mut image = container::open(reader, limits)?;
    let mut stored = 0;
    let mut position = 0;
    while let Some((offset, count)) = image.next_data(position)? {
        stored += count;
        position = offset.saturating_add(count);
    }
    let table = table(&mut image, limits)?;
    let file_system = match &table {
        None => file_system(&mut image, limits).and_then(Result::ok),
        Some(_) => None,
    };
    let iso = iso::report(&mut image, limits);
    Ok(Report {
        container: image.format(),
        len: ByteLen(image.len()),
        stored: ByteLen(stored),
        table,
        file_system,
        iso,
    })
}

fn table(source: &mut dyn BlockSource, limits: &Limits) -> Result<Option<TableReport>> {
    if source.len() < SECTOR {
        return Ok(None);
    }
    let mut sector = [0; 512];
    source.read_at(0, &mut sector)?;
    // A FAT volume ends its boot sector as an MBR does; what is before tells them apart.
    if fat::Reader::open(&mut sector.to_vec(), limits).is_ok() {
        return Ok(None);
    }
    let Some(mbr) = Mbr::parse(&sector) else { return Ok(None) };
    let boot_code = mbr.boot_code.iter().any(|byte| *byte != 0);
    let mut report = if mbr.is_protective() {
        gpt_report(source, &mbr, limits)?
    } else {
        mbr_report(&mbr, source.len())
    };
    report.boot_code = boot_code;
    for partition in &mut report.partitions {
        let start = partition.first.offset().unwrap_or(u64::MAX);
        let len = partition.sectors.saturating_mul(SECTOR);
        match file_system(&mut Window::new(source, start, len), limits) {
            Some(Ok(found)) => partition.file_system = Some(found),
            Some(Err(error)) => partition.problem = Some(error.to_string()),
            None => {}
        }
    }
    Ok(Some(report))
}

fn gpt_report(source: &mut dyn BlockSource, mbr: &Mbr, limits: &Limits) -> Result<TableReport> {
    let gpt = gpt::read(source, limits)?;
    let partitions = gpt
        .entries
        .iter()
        .map(|(number, entry)| PartitionReport {
            number: *number,
            name: entry.name.clone(),
            kind: PartitionType::from_guid(entry.kind).to_string(),
            guid: Some(entry.guid),
            first: Lba(entry.first),
            sectors: entry.last.saturating_sub(entry.first).saturating_add(1),
            bootable: entry.attributes & gpt::LEGACY_BIOS_BOOTABLE != 0,
            attributes: entry.attributes,
            file_system: None,
            problem: None,
        })
        .collect();
    let mut complaints = gpt.complaints;
    let mut hybrid = Vec::new();
    for (number, entry) in (1..).zip(&mbr.entries) {
        let Some(mbr::Entry { active, kind, first, sectors }) = *entry else { continue };
        let (first, sectors) = (u64::from(first), u64::from(sectors));
        if kind == mbr::TYPE_PROTECTIVE {
            continue;
        }
        let same = |entry: &gpt::Entry| {
            entry.first == first && entry.last == first.saturating_add(sectors).saturating_sub(1)
        };
        let mirrors = gpt.entries.iter().find(|(_, entry)| same(entry)).map(|(number, _)| *number);
        if mirrors.is_none() {
            complaints.push(format!("entry {number} of the MBR is none of the partitions"));
        }
        hybrid.push(HybridReport {
            number,
            kind: byte_name(kind),
            first: Lba(first),
            sectors,
            bootable: active,
            mirrors,
        });
    }
    Ok(TableReport {
        kind: Table::Gpt,
        id: gpt.header.disk_guid.to_string(),
        boot_code: false,
        partitions,
        hybrid,
        complaints,
    })
}

fn mbr_report(mbr: &Mbr, len: u64) -> TableReport {
    let mut complaints = Vec::new();
    let mut partitions: Vec<PartitionReport> = Vec::new();
    for (number, entry) in (1..).zip(&mbr.entries) {
        let Some(mbr::Entry { active, kind, first, sectors }) = *entry else { continue };
        let end = u64::from(first) + u64::from(sectors);
        if end > len / SECTOR {
            complaints.push(format!("partition {number} ends at LBA {end}, beyond the disk"));
        }
        for other in &partitions {
            if u64::from(first) < other.first.0 + other.sectors && other.first.0 < end {
                complaints.push(format!("partitions {} and {number} overlap", other.number));
            }
        }
        partitions.push(PartitionReport {
            number,
            name: String::new(),
            kind: byte_name(kind),
            guid: None,
            first: Lba(u64::from(first)),
            sectors: u64::from(sectors),
            bootable: active,
            attributes: 0,
            file_system: None,
            problem: None,
        });
    }
    let id = format!("{:08x}", mbr.signature);
    let hybrid = Vec::new();
    TableReport { kind: Table::Mbr, id, boot_code: false, partitions, hybrid, complaints }
}

fn byte_name(kind: u8) -> String {
    PartitionType::name_of_byte(kind).map_or_else(|| format!("0x{kind:02x}"), str::to_owned)
}

/// The file system at the start of a source; `None` when it is none that is known.
fn file_system(source: &mut dyn BlockSource, limits: &Limits) -> Option<Result<FileSystem>> {
    if let Some(found) = crate::erofs::report(source, limits) {
        return Some(found);
    }
    if let Some(found) = squashfs::report(source) {
        return Some(found);
    }
    if let Ok(reader) = ext4::Reader::open(source, limits) {
        return Some(ext4_report(reader, limits));
    }
    let mut reader = fat::Reader::open(source, limits).ok()?;
    let free = reader.free_clusters().ok().flatten();
    let files = match reader.list() {
        Ok(files) => files,
        Err(error) => return Some(Err(error)),
    };
    let geometry = *reader.geometry();
    let id = reader.volume_id();
    let reports: Vec<FileReport> = files
        .iter()
        .map(|file| FileReport {
            path: file.path.to_string(),
            directory: file.directory,
            len: file.len,
        })
        .collect();
    let boot = boot::entries(&reports, limits, |at| match files.get(at) {
        Some(file) => reader.read(file),
        None => Ok(Vec::new()),
    });
    Some(Ok(FileSystem {
        kind: geometry.kind.to_string(),
        label: reader.label(),
        id: format!("{:04x}-{:04x}", id >> 16, id & 0xffff),
        oem: reader.oem(),
        len: Some(ByteLen(geometry.sectors.saturating_mul(SECTOR))),
        cluster: ByteLen(geometry.cluster_len()),
        free: free.map(|free| ByteLen(free.saturating_mul(geometry.cluster_len()))),
        boot,
        files: reports,
    }))
}

fn ext4_report(mut reader: ext4::Reader<'_>, limits: &Limits) -> Result<FileSystem> {
    let files = reader.list()?;
    let reports: Vec<FileReport> = files
        .iter()
        .map(|file| FileReport {
            path: file.path.to_string(),
            directory: file.kind == ext4::FileKind::Directory,
            len: file.len,
        })
        .collect();
    let boot = boot::entries(&reports, limits, |at| match files.get(at) {
        Some(file) if file.kind == ext4::FileKind::File => reader.read(file),
        _ => Ok(Vec::new()),
    });
    let info = reader.info();
    Ok(FileSystem {
        kind: info.kind.to_owned(),
        label: info.label.clone(),
        id: info.uuid.to_string(),
        oem: String::new(),
        len: Some(ByteLen(info.blocks.saturating_mul(info.block.0))),
        cluster: info.block,
        free: Some(ByteLen(info.free_blocks.saturating_mul(info.block.0))),
        boot,
        files: reports,
    })
}

/// Text from an image, made harmless for a terminal.
fn shown(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{} image, disk of {}, {} stored", self.container, self.len, self.stored)?;
        if let Some(file_system) = &self.file_system {
            file_system.write(out, "")?;
        }
        if let Some(iso) = &self.iso {
            iso.write(out)?;
        }
        let Some(table) = &self.table else {
            if self.file_system.is_none() && self.iso.is_none() {
                writeln!(out, "no partition table and no known file system")?;
            }
            return Ok(());
        };
        let boot_code = if table.boot_code { ", with boot code" } else { "" };
        writeln!(out, "{} table {}{boot_code}", table.kind, table.id)?;
        for complaint in &table.complaints {
            writeln!(out, "! {}", shown(complaint))?;
        }
        for entry in &table.hybrid {
            write!(
                out,
                "mbr {} {}: {} + {} sectors",
                entry.number, entry.kind, entry.first, entry.sectors
            )?;
            if let Some(number) = entry.mirrors {
                write!(out, ", partition {number}")?;
            }
            writeln!(out, "{}", if entry.bootable { ", bootable" } else { "" })?;
        }
        for partition in &table.partitions {
            write!(
                out,
                "partition {} {:?} {}: {} + {} sectors",
                partition.number,
                partition.name,
                partition.kind,
                partition.first,
                partition.sectors
            )?;
            if partition.bootable {
                write!(out, ", bootable")?;
            }
            for name in gpt::attribute_names(partition.attributes & !gpt::LEGACY_BIOS_BOOTABLE) {
                write!(out, ", {name}")?;
            }
            if let Some(guid) = partition.guid {
                write!(out, ", {guid}")?;
            }
            writeln!(out)?;
            if let Some(problem) = &partition.problem {
                writeln!(out, "  ! {}", shown(problem))?;
            }
            if let Some(file_system) = &partition.file_system {
                file_system.write(out, "  ")?;
            }
        }
        Ok(())
    }
}

impl FileSystem {
    fn write(&self, out: &mut fmt::Formatter<'_>, indent: &str) -> fmt::Result {
        write!(out, "{indent}{} {}", self.kind, self.id)?;
        if let Some(label) = &self.label {
            write!(out, " {label:?}")?;
        }
        if !self.oem.is_empty() {
            write!(out, ", made by {:?}", self.oem)?;
        }
        if let Some(len) = self.len {
            write!(out, ", {len}")?;
        }
        write!(out, ", clusters of {}", self.cluster)?;
        if let Some(free) = self.free {
            write!(out, ", {free} free")?;
        }
        writeln!(out)?;
        for entry in &self.boot {
            writeln!(out, "{indent}  {entry}")?;
        }
        write_files(out, &self.files, indent)
    }
}

fn write_files(out: &mut fmt::Formatter<'_>, files: &[FileReport], indent: &str) -> fmt::Result {
    for file in files {
        if file.directory {
            writeln!(out, "{indent}  {:>12}  {}/", "", file.path)?;
        } else {
            writeln!(out, "{indent}  {:>12}  {}", file.len, file.path)?;
        }
    }
    Ok(())
}
