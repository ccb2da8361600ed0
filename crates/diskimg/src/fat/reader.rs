//! Reads a volume that may be hostile: every chain is bounded by the number of clusters, every
//! length by the caller's limits.

use std::collections::BTreeSet;

use kiln_tree::TreePath;

use super::boot_sector::{self, Parsed};
use super::{Extent, Geometry, Kind, attribute, names};
use crate::container::BlockSource;
use crate::field::{index, u16_le, u32_le};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// A file or directory of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its path, with long names where there are any.
    pub path: TreePath,
    /// Whether it is a directory.
    pub directory: bool,
    /// Bytes of a file; 0 for a directory.
    pub len: u64,
    /// Attribute bits (see [`attribute`]).
    pub attributes: u8,
    /// First cluster; 0 when it is empty.
    pub cluster: u32,
}

/// A volume that can be listed and read.
pub struct Reader<'source> {
    source: &'source mut dyn BlockSource,
    limits: Limits,
    parsed: Parsed,
    /// A part of the table: its first sector and its bytes.
    window: (u64, Vec<u8>),
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").field("parsed", &self.parsed).finish_non_exhaustive()
    }
}

/// Sectors of the table that are read at once.
const WINDOW: u64 = 128;

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("fat", offset, reason)
}

impl<'source> Reader<'source> {
    /// Reads the boot sector of a volume that begins at the source's first byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no FAT volume.
    pub fn open(source: &'source mut dyn BlockSource, limits: &Limits) -> Result<Self> {
        let mut sector = [0; 512];
        source.read_at(0, &mut sector)?;
        let parsed =
            boot_sector::parse(&sector).map_err(|(offset, reason)| malformed(offset, reason))?;
        Ok(Self { source, limits: limits.clone(), parsed, window: (0, Vec::new()) })
    }

    /// How the volume is divided.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.parsed.geometry
    }

    /// Its serial number.
    #[must_use]
    pub fn volume_id(&self) -> u32 {
        self.parsed.volume_id
    }

    /// Sectors of the disk before the volume, as it believes.
    #[must_use]
    pub fn hidden_sectors(&self) -> u32 {
        self.parsed.hidden_sectors
    }

    /// The label of its boot sector; `None` when it has none.
    #[must_use]
    pub fn label(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.parsed.label).trim_end().to_owned();
        (!text.is_empty() && text != "NO NAME").then_some(text)
    }

    /// The name that the formatter or boot loader left in the boot sector.
    #[must_use]
    pub fn oem(&self) -> String {
        String::from_utf8_lossy(&self.parsed.oem).trim_end_matches(['\0', ' ']).to_owned()
    }

    /// The number of free clusters as FSInfo has it; counted where there is none (FAT12 and FAT16);
    /// `None` where it does not say.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Malformed`] of the source.
    pub fn free_clusters(&mut self) -> Result<Option<u64>> {
        let (sector, geometry) = (self.parsed.fsinfo, self.parsed.geometry);
        if geometry.kind != Kind::Fat32 {
            // At most 65,524, as the kind says.
            let mut free = 0;
            for cluster in 2..geometry.clusters.saturating_add(2) {
                free += u64::from(self.next(cluster)? == Some(0));
            }
            return Ok(Some(free));
        }
        if sector == 0 || sector == 0xffff {
            return Ok(None);
        }
        let mut bytes = [0; 512];
        self.source.read_at(sector * SECTOR, &mut bytes)?;
        let valid = bytes.starts_with(b"RRaA") && bytes.get(484..488) == Some(b"rrAa");
        Ok(u32_le(&bytes, 488).map(u64::from).filter(|free| valid && *free != 0xffff_ffff))
    }

    /// Everything in the volume, sorted by path.
    ///
    /// # Errors
    /// [`Error::Malformed`] for chains that loop or leave the volume and for directories that are
    /// their own parents, [`Error::Limit`] for too many files or too deep directories.
    pub fn list(&mut self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut pending = vec![(TreePath::root(), self.parsed.root_cluster)];
        let mut seen = BTreeSet::new();
        let mut read = 0;
        while let Some((directory, cluster)) = pending.pop() {
            let depth = directory.components().count();
            if depth > self.limits.depth {
                let (found, limit) = (depth as u64, self.limits.depth as u64);
                return Err(Error::Limit { format: "fat", what: "depth", found, limit });
            }
            let bytes = if directory.is_root() && self.parsed.geometry.kind != Kind::Fat32 {
                let geometry = self.parsed.geometry;
                let mut bytes = vec![0; index(geometry.root() * SECTOR)];
                self.source.read_at(geometry.root_start() * SECTOR, &mut bytes)?;
                bytes
            } else {
                self.directory(&directory, cluster)?
            };
            // Chains may share their tails, so that neither the number of directories nor that of
            // clusters bounds what is read.
            read += bytes.len() as u64;
            if read > self.limits.tables {
                let (found, limit) = (read, self.limits.tables);
                let what = "length of all directories";
                return Err(Error::Limit { format: "fat", what, found, limit });
            }
            if cluster != 0 && !seen.insert(cluster) {
                let offset = self.parsed.geometry.sector_of(u64::from(cluster)) * SECTOR;
                let reason = format!("{directory}: the directory is in the volume twice");
                return Err(malformed(offset, reason));
            }
            for entry in entries(&directory, &bytes) {
                if found.len() >= self.limits.files {
                    let limit = self.limits.files as u64;
                    return Err(Error::Limit {
                        format: "fat",
                        what: "number of files",
                        found: limit + 1,
                        limit,
                    });
                }
                if entry.directory {
                    pending.push((entry.path.clone(), entry.cluster));
                }
                found.push(entry);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// A file's bytes.
    ///
    /// # Errors
    /// As [`Reader::list`]; [`Error::Limit`] when the file is too long.
    pub fn read(&mut self, file: &Found) -> Result<Vec<u8>> {
        if file.len > self.limits.file_len {
            let (found, limit) = (file.len, self.limits.file_len);
            return Err(Error::Limit { format: "fat", what: "length of a file", found, limit });
        }
        if file.len == 0 {
            return Ok(Vec::new());
        }
        let mut bytes = self.chain(file.cluster, file.len)?;
        if (bytes.len() as u64) < file.len {
            let offset = self.parsed.geometry.sector_of(u64::from(file.cluster)) * SECTOR;
            let reason = format!(
                "{}: the chain has {} bytes, expected {}",
                file.path,
                bytes.len(),
                file.len
            );
            return Err(malformed(offset, reason));
        }
        bytes.truncate(index(file.len));
        Ok(bytes)
    }

    /// Where a file or directory lies: runs of clusters in its order. They cover whole clusters, so the
    /// last may reach beyond the file's end; an empty file has none.
    ///
    /// # Errors
    /// [`Error::Malformed`] for a chain that loops or leaves the volume.
    pub fn extents(&mut self, of: &Found) -> Result<Vec<Extent>> {
        let geometry = self.parsed.geometry;
        let (last, len) = (geometry.clusters + 1, geometry.cluster_len());
        let mut extents: Vec<Extent> = Vec::new();
        let mut next = (of.cluster != 0).then_some(u64::from(of.cluster));
        let mut steps = 0;
        while let Some(cluster) = next {
            steps += 1;
            if !(2..=last).contains(&cluster) || steps > geometry.clusters {
                let reason = format!(
                    "{}: the chain loops or leads to cluster {cluster}, expected 2 to {last}",
                    of.path
                );
                return Err(malformed(geometry.reserved * SECTOR, reason));
            }
            let first_sector = geometry.sector_of(cluster);
            match extents.last_mut() {
                Some(run) if run.first_sector + run.len / SECTOR == first_sector => run.len += len,
                _ => extents.push(Extent { first_sector, len }),
            }
            next = self.next(cluster)?;
        }
        Ok(extents)
    }

    /// A directory's bytes. It has no length: its chain bounds it, and the specification does.
    fn directory(&mut self, path: &TreePath, cluster: u32) -> Result<Vec<u8>> {
        const MOST: u64 = 65_536 * 32;
        let bytes = self.chain(cluster, MOST + 1)?;
        if bytes.len() as u64 > MOST {
            let offset = self.parsed.geometry.sector_of(u64::from(cluster)) * SECTOR;
            let reason = format!("{path}: the chain goes on after 65536 entries, it may loop");
            return Err(malformed(offset, reason));
        }
        Ok(bytes)
    }

    /// The bytes of a chain of clusters, as far as they are wanted.
    fn chain(&mut self, first: u32, wanted: u64) -> Result<Vec<u8>> {
        let geometry = self.parsed.geometry;
        let last = geometry.clusters + 1;
        let mut bytes = Vec::new();
        let mut cluster = u64::from(first);
        let mut steps = 0;
        loop {
            if !(2..=last).contains(&cluster) {
                let reason = format!("a chain leads to cluster {cluster}, expected 2 to {last}");
                return Err(malformed(geometry.reserved * SECTOR, reason));
            }
            steps += 1;
            if steps > geometry.clusters {
                let reason = format!("the chain from cluster {first} loops");
                return Err(malformed(geometry.reserved * SECTOR, reason));
            }
            // Memory follows what the source really has: a chain into nowhere fails to be read.
            let start = bytes.len();
            bytes.resize(start + index(geometry.cluster_len()), 0);
            let place = bytes.get_mut(start..).unwrap_or_default();
            self.source.read_at(geometry.sector_of(cluster) * SECTOR, place)?;
            if bytes.len() as u64 >= wanted {
                return Ok(bytes);
            }
            match self.next(cluster)? {
                Some(next) => cluster = next,
                None => return Ok(bytes),
            }
        }
    }

    /// The table's entry for a cluster; `None` at the end of a chain.
    fn next(&mut self, cluster: u64) -> Result<Option<u64>> {
        let kind = self.parsed.geometry.kind;
        let at = match kind {
            Kind::Fat12 => cluster * 3 / 2,
            Kind::Fat16 => cluster * 2,
            Kind::Fat32 => cluster * 4,
        };
        let sector = at / SECTOR;
        let inside = |window: &(u64, Vec<u8>)| {
            let from = sector.checked_sub(window.0)? * SECTOR + at % SECTOR;
            let from = index(from);
            match kind {
                Kind::Fat32 => u32_le(&window.1, from).map(|entry| entry & 0x0fff_ffff),
                _ => u16_le(&window.1, from).map(u32::from),
            }
        };
        let entry = match inside(&self.window) {
            Some(entry) => entry,
            None => {
                let geometry = self.parsed.geometry;
                let count = WINDOW.min(geometry.fat.saturating_sub(sector));
                self.window.1.resize(index(count * SECTOR), 0);
                self.window.0 = sector;
                let offset = (geometry.reserved + sector) * SECTOR;
                self.source.read_at(offset, &mut self.window.1)?;
                inside(&self.window)
                    .ok_or_else(|| malformed(offset, "the table ends inside of an entry"))?
            }
        };
        let (entry, end) = match kind {
            Kind::Fat12 if cluster % 2 == 1 => (entry >> 4, 0xff8),
            Kind::Fat12 => (entry & 0xfff, 0xff8),
            Kind::Fat16 => (entry, 0xfff8),
            Kind::Fat32 => (entry, 0x0fff_fff8),
        };
        Ok((entry < end).then_some(u64::from(entry)))
    }
}

/// The entries of a directory. What cannot be a name (`.`, `..`, a label, a deleted entry, a name
/// with a slash) is left out.
fn entries(directory: &TreePath, bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    let mut long: Vec<(u8, u8, Vec<u16>)> = Vec::new();
    for entry in bytes.chunks_exact(32) {
        let (Some(first), Some(attributes)) = (entry.first(), entry.get(11)) else { break };
        match *first {
            0 => break,
            0xe5 => {
                long.clear();
                continue;
            }
            _ => {}
        }
        if attributes & 0x3f == attribute::LONG_NAME {
            let sum = entry.get(13).copied().unwrap_or(0);
            long.push((*first, sum, names::units_of(entry).to_vec()));
            if long.len() > 20 {
                long.clear();
            }
            continue;
        }
        let short = entry.get(..11).unwrap_or_default();
        let name = long_name(&long, names::checksum(short)).unwrap_or_else(|| short_name(entry));
        long.clear();
        if attributes & attribute::VOLUME_LABEL != 0 || name == "." || name == ".." {
            continue;
        }
        let Ok(path) = directory.join(&name) else { continue };
        if path.parent().as_ref() != Some(directory) {
            continue;
        }
        let is_directory = attributes & attribute::DIRECTORY != 0;
        let (high, low) = (u16_le(entry, 20).unwrap_or(0), u16_le(entry, 26).unwrap_or(0));
        found.push(Found {
            path,
            directory: is_directory,
            len: if is_directory { 0 } else { u64::from(u32_le(entry, 28).unwrap_or(0)) },
            attributes: *attributes,
            cluster: u32::from(high) << 16 | u32::from(low),
        });
    }
    found
}

/// The long name before a short entry, when it is complete and belongs to it.
fn long_name(parts: &[(u8, u8, Vec<u16>)], sum: u8) -> Option<String> {
    let count = u8::try_from(parts.len()).ok().filter(|count| *count > 0)?;
    for ((number, part_sum, _), expected) in parts.iter().zip((1..=count).rev()) {
        let expected = if expected == count { expected | 0x40 } else { expected };
        if *number != expected || *part_sum != sum {
            return None;
        }
    }
    let units: Vec<u16> = parts
        .iter()
        .rev()
        .flat_map(|(_, _, units)| units.iter().copied())
        .take_while(|unit| *unit != 0)
        .collect();
    String::from_utf16(&units).ok().filter(|name| !name.is_empty())
}

/// The short name as text, with the case bits of Windows NT honoured.
fn short_name(entry: &[u8]) -> String {
    let case = entry.get(12).copied().unwrap_or(0);
    let part = |from: usize, to: usize, lower: bool| {
        let text: String = entry
            .get(from..to)
            .unwrap_or_default()
            .iter()
            .map(
                |byte| {
                    if byte.is_ascii_graphic() || *byte == b' ' { char::from(*byte) } else { '_' }
                },
            )
            .collect();
        let text = text.trim_end();
        if lower { text.to_ascii_lowercase() } else { text.to_owned() }
    };
    let (base, extension) = (part(0, 8, case & 0x08 != 0), part(8, 11, case & 0x10 != 0));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}
