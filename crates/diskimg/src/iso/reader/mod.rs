//! Reads an image that may be hostile: every length is bounded by the caller's limits, no directory
//! is read twice.

mod record;
mod susp;

use std::collections::BTreeSet;

use kiln_tree::{Metadata, TreePath};

use super::boot::{self, ENTRY_LEN};
use super::descriptor::{self, JOLIET_ESCAPE, STANDARD_ID};
use super::{SECTOR, SECTOR_LEN, SYSTEM_AREA};
use crate::container::BlockSource;
use crate::field::{index, u16_le, u32_le};
use crate::found::FileKind;
use crate::{Error, Limits, Result};
use record::Record;
use susp::Attributes;

/// Which names of an image are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// The tree's own, with owners, modes and links.
    RockRidge,
    /// Those for Windows.
    Joliet,
    /// Those that every reader knows, without their versions.
    Iso,
}

/// A node of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its path.
    pub path: TreePath,
    /// What it is.
    pub kind: FileKind,
    /// Owner, mode and time; without Rock Ridge root's, readable, and the record's time.
    pub meta: Metadata,
    /// Bytes of a file; 0 for everything else.
    pub len: u64,
    /// The number by which names of one file are known; `None` when there is none.
    pub serial: Option<u32>,
    /// Where a file is: first sectors and bytes.
    pub extents: Vec<(u64, u64)>,
}

/// A boot image of an image's catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BootImage {
    /// Whom it is for: 0 BIOS, 1 PowerPC, 2 Mac, 0xef UEFI.
    pub platform: u8,
    /// Whether it is marked as bootable.
    pub bootable: bool,
    /// What drive is emulated: 0 none, 1 to 3 floppy disks, 4 a hard disk.
    pub emulation: u8,
    /// First sector.
    pub sector: u32,
    /// Sectors of 512 bytes that are loaded.
    pub count: u16,
}

/// A volume descriptor's part.
#[derive(Debug, Clone)]
struct Volume {
    descriptor: Box<[u8]>,
    root: Record,
}

/// An image that can be listed and read.
pub struct Reader<'source> {
    source: &'source mut dyn BlockSource,
    limits: Limits,
    primary: Volume,
    joliet: Option<Volume>,
    catalog: Option<u32>,
    /// How many bytes precede Rock Ridge's entries in each record, when there are any.
    rock_ridge: Option<usize>,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").field("volume_id", &self.volume_id()).finish_non_exhaustive()
    }
}

/// How many descriptors are looked at.
const MOST_DESCRIPTORS: u64 = 64;

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("iso 9660", offset, reason)
}

impl<'source> Reader<'source> {
    /// Reads the volume descriptors of an image that begins at the source's first byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no ISO 9660 image.
    pub fn open(source: &'source mut dyn BlockSource, limits: &Limits) -> Result<Self> {
        let (mut primary, mut joliet, mut catalog) = (None, None, None);
        for number in 0..MOST_DESCRIPTORS {
            let offset = (SYSTEM_AREA + number) * SECTOR;
            let mut sector = vec![0; SECTOR_LEN];
            source.read_at(offset, &mut sector)?;
            if sector.get(1..6) != Some(STANDARD_ID) {
                if number == 0 {
                    return Err(malformed(offset + 1, "expected the standard identifier CD001"));
                }
                break;
            }
            match sector.first() {
                Some(&descriptor::TYPE_PRIMARY) if primary.is_none() => {
                    primary = Some(Volume::parse(sector, offset)?);
                }
                Some(&descriptor::TYPE_SUPPLEMENTARY) if joliet.is_none() => {
                    let escape = sector.get(88..91).unwrap_or_default();
                    if [&b"%/@"[..], b"%/C", JOLIET_ESCAPE].contains(&escape) {
                        joliet = Some(Volume::parse(sector, offset)?);
                    }
                }
                Some(&descriptor::TYPE_BOOT)
                    if catalog.is_none() && sector.get(7..30) == Some(boot::SYSTEM_ID) =>
                {
                    catalog = u32_le(&sector, boot::CATALOG_AT);
                }
                Some(&descriptor::TYPE_TERMINATOR) => break,
                _ => {}
            }
        }
        let Some(primary) = primary else {
            return Err(malformed(SYSTEM_AREA * SECTOR, "there is no primary volume descriptor"));
        };
        let limits = limits.clone();
        let mut reader = Self { source, limits, primary, joliet, catalog, rock_ridge: None };
        reader.rock_ridge = reader.find_rock_ridge();
        Ok(reader)
    }

    /// `SP` at the start of the root's first record (SUSP 5.3).
    fn find_rock_ridge(&mut self) -> Option<usize> {
        let mut sector = vec![0; SECTOR_LEN];
        let offset = u64::from(self.primary.root.extent) * SECTOR;
        self.source.read_at(offset, &mut sector).ok()?;
        let (record, _) = Record::parse(&sector)?;
        let entry = record.system_use.get(..7)?;
        let is_sharing = entry.starts_with(b"SP\x07") && entry.get(4..6) == Some(&[0xbe, 0xef]);
        is_sharing.then(|| entry.get(6).copied().map(usize::from)).flatten()
    }

    fn text(&self, at: usize, len: usize) -> String {
        let bytes = self.primary.descriptor.get(at..at.saturating_add(len)).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches([' ', '\0']).to_owned()
    }

    /// The volume's label.
    #[must_use]
    pub fn volume_id(&self) -> String {
        let (at, len) = descriptor::VOLUME_ID;
        self.text(at, len)
    }

    /// What is on it, as its maker says.
    #[must_use]
    pub fn application(&self) -> String {
        self.text(574, 128)
    }

    /// Who prepared it.
    #[must_use]
    pub fn preparer(&self) -> String {
        self.text(446, 128)
    }

    /// When it was changed last, as Linux gives a volume's UUID: `2024-02-29-12-34-56-00`.
    #[must_use]
    pub fn uuid(&self) -> String {
        let digits = self.text(830, 16);
        let parts = [0..4, 4..6, 6..8, 8..10, 10..12, 12..14, 14..16];
        let parts: Vec<&str> = parts.into_iter().filter_map(|part| digits.get(part)).collect();
        parts.join("-")
    }

    /// Bytes of the volume, as it says.
    #[must_use]
    pub fn volume_len(&self) -> u64 {
        u64::from(u32_le(&self.primary.descriptor, 80).unwrap_or(0)) * SECTOR
    }

    /// Whether the image has such names.
    #[must_use]
    pub fn has(&self, names: Names) -> bool {
        match names {
            Names::RockRidge => self.rock_ridge.is_some(),
            Names::Joliet => self.joliet.is_some(),
            Names::Iso => true,
        }
    }

    /// The best names that the image has.
    #[must_use]
    pub fn best(&self) -> Names {
        let mut all = [Names::RockRidge, Names::Joliet].into_iter();
        all.find(|names| self.has(*names)).unwrap_or(Names::Iso)
    }

    /// What is started from a CD.
    ///
    /// # Errors
    /// [`Error::Malformed`] when the catalog is not where it is said to be or its sum is wrong.
    pub fn boot_images(&mut self) -> Result<Vec<BootImage>> {
        let Some(catalog) = self.catalog else { return Ok(Vec::new()) };
        let offset = u64::from(catalog) * SECTOR;
        let mut sector = vec![0; SECTOR_LEN];
        self.source.read_at(offset, &mut sector)?;
        let sum = (0..ENTRY_LEN)
            .step_by(2)
            .filter_map(|at| u16_le(&sector, at))
            .fold(0_u16, u16::wrapping_add);
        if sector.first() != Some(&1) || u16_le(&sector, 30) != Some(0xaa55) || sum != 0 {
            return Err(malformed(offset, "the boot catalog does not begin with its validation"));
        }
        let mut platform = sector.get(1).copied().unwrap_or(0);
        let mut entries = sector.chunks_exact(ENTRY_LEN).skip(1);
        let mut images: Vec<BootImage> =
            entries.next().and_then(|entry| boot_image(entry, platform)).into_iter().collect();
        let mut left = 0;
        let mut last = false;
        for entry in entries {
            if left > 0 {
                // What extends an entry is none.
                if entry.first() != Some(&0x44) {
                    left -= 1;
                    images.extend(boot_image(entry, platform));
                }
                continue;
            }
            match entry.first() {
                Some(&kind @ (boot::HEADER | boot::LAST_HEADER)) if !last => {
                    last = kind == boot::LAST_HEADER;
                    platform = entry.get(1).copied().unwrap_or(0);
                    left = u16_le(entry, 2).unwrap_or(0);
                }
                _ => break,
            }
        }
        Ok(images)
    }

    /// Everything in the image under such names, sorted by path.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has no such names, [`Error::Malformed`] for directories that are
    /// cut short or in the image twice, [`Error::Limit`] for too many files, too long or too deep
    /// directories.
    pub fn list(&mut self, names: Names) -> Result<Vec<Found>> {
        let root = match (names, &self.joliet) {
            (Names::Joliet, Some(joliet)) => &joliet.root,
            (Names::RockRidge, _) if self.rock_ridge.is_some() => &self.primary.root,
            (Names::Iso, _) => &self.primary.root,
            _ => {
                let what = format!("{names:?} names");
                return Err(Error::NotFound { what, place: "the image".to_owned() });
            }
        };
        let mut pending = vec![(TreePath::root(), root.extent, u64::from(root.len))];
        let mut found: Vec<Found> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut read = 0_u64;
        while let Some((path, extent, len)) = pending.pop() {
            let offset = u64::from(extent) * SECTOR;
            let depth = path.components().count() as u64;
            self.limit("depth", depth, self.limits.depth as u64)?;
            read = read.saturating_add(len);
            self.limit("length of all directories", read, self.limits.tables)?;
            if !seen.insert(extent) {
                let reason = format!("{path}: the directory is in the image twice");
                return Err(malformed(offset, reason));
            }
            // Before memory is taken for what is not there.
            crate::container::check_range("iso 9660", offset, index(len), self.source.len())?;
            let mut bytes = vec![0; index(len)];
            self.source.read_at(offset, &mut bytes)?;
            self.directory(&path, &bytes, names, &mut found, &mut pending)?;
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    fn limit(&self, what: &'static str, found: u64, limit: u64) -> Result<()> {
        if found > limit {
            return Err(Error::Limit { format: "iso 9660", what, found, limit });
        }
        Ok(())
    }

    fn directory(
        &mut self,
        directory: &TreePath,
        bytes: &[u8],
        names: Names,
        found: &mut Vec<Found>,
        pending: &mut Vec<(TreePath, u32, u64)>,
    ) -> Result<()> {
        let mut parts: Vec<(u64, u64)> = Vec::new();
        for sector in bytes.chunks(SECTOR_LEN) {
            let mut rest = sector;
            while let Some((record, later)) = Record::parse(rest) {
                rest = later;
                if record.is_dot() || record.is_associated() {
                    continue;
                }
                parts.push((u64::from(record.extent), u64::from(record.len)));
                self.limit("extents of a file", parts.len() as u64, self.limits.files as u64)?;
                if record.has_more_extents() {
                    continue;
                }
                let extents = std::mem::take(&mut parts);
                let attributes = match (names, self.rock_ridge) {
                    (Names::RockRidge, Some(skip)) => {
                        Attributes::read(self.source, record.system_use.get(skip..))?
                    }
                    _ => Attributes::default(),
                };
                if attributes.relocated {
                    continue;
                }
                let name = match names {
                    Names::Joliet => record.joliet_name(),
                    _ => attributes.name.clone().unwrap_or_else(|| record.iso_name()),
                };
                // What is no name (with a slash, too long) is left out.
                let Ok(path) = directory.join(&name) else { continue };
                if path.parent().as_ref() != Some(directory) || path.file_name().is_none() {
                    continue;
                }
                self.limit("number of files", found.len() as u64 + 1, self.limits.files as u64)?;
                let (mut extent, mut len) = (record.extent, u64::from(record.len));
                if let Some(moved) = attributes.child {
                    // A directory that stands elsewhere says itself how long it is.
                    let mut sector = vec![0; SECTOR_LEN];
                    self.source.read_at(u64::from(moved) * SECTOR, &mut sector)?;
                    extent = moved;
                    len = Record::parse(&sector).map_or(0, |(dot, _)| u64::from(dot.len));
                }
                let kind = if record.is_directory() || attributes.child.is_some() {
                    pending.push((path.clone(), extent, len));
                    FileKind::Directory
                } else {
                    attributes.kind().unwrap_or(FileKind::File)
                };
                let is_file = kind == FileKind::File;
                let extents = if is_file { extents } else { Vec::new() };
                found.push(Found {
                    path,
                    meta: attributes.meta(&record),
                    len: extents.iter().map(|(_, len)| len).sum(),
                    serial: attributes.serial,
                    kind,
                    extents,
                });
            }
        }
        Ok(())
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// [`Error::Limit`] when it is too long, [`Error::Malformed`] when the image ends before it.
    pub fn read(&mut self, file: &Found) -> Result<Vec<u8>> {
        self.limit("length of a file", file.len, self.limits.file_len)?;
        let mut bytes = Vec::new();
        for (sector, len) in &file.extents {
            let offset = sector.saturating_mul(SECTOR);
            // Before memory is taken for what is not there.
            crate::container::check_range("iso 9660", offset, index(*len), self.source.len())?;
            let start = bytes.len();
            self.limit("length of a file", start as u64 + len, self.limits.file_len)?;
            bytes.resize(start + index(*len), 0);
            self.source.read_at(offset, bytes.get_mut(start..).unwrap_or_default())?;
        }
        Ok(bytes)
    }
}

fn boot_image(entry: &[u8], platform: u8) -> Option<BootImage> {
    Some(BootImage {
        platform,
        bootable: *entry.first()? == boot::BOOTABLE,
        emulation: entry.get(1)? & 0x0f,
        sector: u32_le(entry, 8)?,
        count: u16_le(entry, 6)?,
    })
}

impl Volume {
    fn parse(descriptor: Vec<u8>, offset: u64) -> Result<Self> {
        let block = u16_le(&descriptor, 128);
        if block != Some(2048) {
            return Err(Error::unsupported(
                "iso 9660",
                format!("a block length of {} bytes", block.unwrap_or(0)),
            ));
        }
        let root = descriptor.get(156..190).and_then(Record::parse);
        let Some(root) = root.map(|(root, _)| root).filter(Record::is_directory) else {
            return Err(malformed(offset + 156, "expected the record of the root directory"));
        };
        Ok(Self { descriptor: descriptor.into(), root })
    }
}
