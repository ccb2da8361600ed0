//! A volume planned from a tree, and written.

use std::collections::BTreeMap;

use kiln_tree::{Kind as NodeKind, Node, Source, Tree, TreePath};

use super::boot_sector::{self, BACKUP, BootCode, FSINFO, Identity, ROOT_CLUSTER};
use super::directory::{Entry, Stamp, entries_for};
use super::geometry::{FATS, Request};
use super::names::{self, ShortName};
use super::{Geometry, Kind, attribute};
use crate::content::{Content, Sink, and_largest, copy_source, largest_files};
use crate::error::Problems;
use crate::field::{index, narrow32};
use crate::units::{ByteLen, Lba, SECTOR};
use crate::{Error, Result};

/// Bytes of a directory entry.
const ENTRY: u64 = 32;
/// The longest file: its length has 32 bits.
const MAX_FILE: u64 = u32::MAX as u64;
/// The longest directory (Microsoft's specification; Linux and Windows refuse longer ones).
const MAX_DIRECTORY: u64 = 65_536 * ENTRY;

/// How large a volume is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeSize {
    /// So many bytes.
    Fixed(ByteLen),
    /// Just large enough for its content and so much more.
    FromContent {
        /// Bytes that stay free at least.
        headroom: ByteLen,
    },
}

/// What a volume should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Its label: 1 to 11 upper-case letters or digits.
    pub label: Option<String>,
    /// Its serial number, for example from [`Seed::number`](crate::Seed::number). Default: 1.
    pub volume_id: u32,
    /// How large it is. Default: from its content, no headroom.
    pub size: VolumeSize,
    /// 12, 16 or 32 bits. Default: FAT32, and what a fixed size demands when that is too small.
    pub kind: Option<Kind>,
    /// Bytes of a cluster, a power of two from 512 to 32,768. Default: what suits the size.
    pub cluster: Option<u32>,
    /// Sectors of the disk before the volume, which BIOS boot code adds to every address. Default:
    /// 2048 (1 MiB), where the first partition of a plan begins. 0 for a volume without a disk.
    pub hidden_sectors: u32,
    /// The time of every file and directory in seconds since 1970; those of the tree when absent.
    pub mtime: Option<u32>,
    /// Attributes beyond the usual of single files, by path (see [`attribute`]).
    pub attributes: BTreeMap<TreePath, u8>,
    /// Lengths of single files that are longer than their content, by path: zeroes follow it.
    pub lengths: BTreeMap<TreePath, u64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            label: None,
            volume_id: 1,
            size: VolumeSize::FromContent { headroom: ByteLen::ZERO },
            kind: None,
            cluster: None,
            hidden_sectors: 2048,
            mtime: None,
            attributes: BTreeMap::new(),
            lengths: BTreeMap::new(),
        }
    }
}

impl Options {
    /// The length that a file has on the volume.
    fn len_of(&self, path: &TreePath, content: u64) -> u64 {
        self.lengths.get(path).copied().unwrap_or(0).max(content)
    }
}

/// Where a file or directory is: always one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// First sector, counted from the start of the volume.
    pub first_sector: u64,
    /// Bytes; the last cluster may have some more.
    pub len: u64,
}

/// A volume of which every byte is decided, except those inside of the files, which are read when
/// it is written.
#[derive(Debug, Clone)]
pub struct Volume {
    tree: Tree,
    options: Options,
    geometry: Geometry,
    identity: Identity,
    /// FAT12/16 only.
    root: Vec<u8>,
    /// In the order of the clusters, without gaps.
    runs: Vec<Run>,
    first_clusters: BTreeMap<TreePath, u64>,
    boot_code: Option<BootCode>,
}

#[derive(Debug, Clone)]
struct Run {
    first: u64,
    clusters: u64,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    Directory(Vec<u8>),
    File(TreePath),
}

/// The tree as directories: what planning works on.
struct Outline<'tree> {
    /// By path, the root first; each with its names in order.
    directories: BTreeMap<TreePath, Vec<Named<'tree>>>,
    root_label: bool,
}

struct Named<'tree> {
    name: &'tree str,
    path: &'tree TreePath,
    node: &'tree Node,
    /// The length of a file that is one.
    len: u64,
}

impl Volume {
    /// Decides where everything goes.
    ///
    /// Hard links become files of their own, as FAT has none; symbolic links, devices, pipes and
    /// sockets are refused.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong: names that VFAT cannot hold or that differ
    /// only in case, kinds of nodes, files of 4 GiB and more, a label, a size that is too small
    /// (with the size that would do, and the largest files).
    pub fn plan(tree: &Tree, options: &Options) -> Result<Self> {
        let mut problems = Vec::new();
        let label = match options.label.as_deref().map(names::label) {
            Some(Err(problem)) => {
                problems.push(problem);
                None
            }
            Some(Ok(label)) => Some(label),
            None => None,
        };
        let outline = Outline::new(tree, options, label.is_some(), &mut problems);
        let cluster = options.cluster.map(|len| {
            if !(512..=32_768).contains(&len) || !len.is_power_of_two() {
                problems.push(format!(
                    "clusters of {len} bytes, expected a power of two from 512 to 32768"
                ));
            }
            u64::from(len) / SECTOR
        });
        Problems(std::mem::take(&mut problems)).check("fat volume")?;

        let need = |kind: Kind, len: u64| outline.clusters(kind, len);
        let root_entries = outline.entries(&TreePath::root());
        let request = Request { kind: options.kind, cluster, root_entries, need: &need };
        let geometry = match options.size {
            VolumeSize::Fixed(size) => request
                .fixed(size.0 / SECTOR)
                .map_err(|problem| problem + &and_largest(&largest_files(tree))),
            VolumeSize::FromContent { headroom } => request.smallest(headroom).ok_or_else(|| {
                let kind = options.kind.unwrap_or(Kind::Fat32);
                format!("the content is larger than any {kind} volume with such clusters")
            }),
        };
        let geometry = match geometry {
            Ok(geometry) => geometry,
            Err(problem) => {
                return Err(Error::Plan { what: "fat volume", problems: Problems(vec![problem]) });
            }
        };
        let identity = Identity {
            label,
            volume_id: options.volume_id,
            hidden_sectors: options.hidden_sectors,
        };
        let (root, runs, first_clusters) = outline.place(&geometry, options, label);
        Ok(Self {
            tree: tree.clone(),
            options: options.clone(),
            geometry,
            identity,
            root,
            runs,
            first_clusters,
            boot_code: None,
        })
    }

    /// How the volume is divided.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What it was made of.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What it was asked to be.
    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Bytes of clusters that hold nothing.
    #[must_use]
    pub fn free(&self) -> ByteLen {
        ByteLen(self.geometry.clusters.saturating_sub(self.used()) * self.geometry.cluster_len())
    }

    /// Where a file is; `None` when it is not in the volume or empty.
    #[must_use]
    pub fn extent(&self, path: &TreePath) -> Option<Extent> {
        let first = *self.first_clusters.get(path)?;
        let len = source_of(&self.tree, self.tree.get(path)?).map_or(0, Source::len);
        let len = self.options.len_of(path, len);
        Some(Extent { first_sector: self.geometry.sector_of(first), len })
    }

    /// The first cluster of a file or directory.
    pub(crate) fn first_cluster(&self, path: &TreePath) -> Option<u64> {
        self.first_clusters.get(path).copied()
    }

    /// Replaces a file's content by another of the same length, which moves nothing.
    pub(crate) fn set_content(&mut self, path: &TreePath, bytes: Vec<u8>) -> Result<()> {
        let old = self.extent(path).map(|extent| extent.len);
        if old != Some(bytes.len() as u64) {
            return Err(Error::NotFound {
                what: format!("a file of {} bytes at {path}", bytes.len()),
                place: "the fat volume".to_owned(),
            });
        }
        let meta = self.tree.get(path).map(|node| node.meta.clone()).unwrap_or_default();
        self.tree.replace(path.as_bytes(), Node::file(bytes).with(meta))?;
        Ok(())
    }

    /// Puts a loader's code into the boot sector and its backup.
    pub(crate) fn set_boot_code(&mut self, code: BootCode) {
        self.boot_code = Some(code);
    }

    fn used(&self) -> u64 {
        self.runs.iter().map(|run| run.clusters).sum()
    }

    fn write_reserved(&self, sink: &mut dyn Sink) -> Result<()> {
        let geometry = &self.geometry;
        let boot = boot_sector::emit(geometry, &self.identity, self.boot_code.as_ref());
        sink.data(&boot)?;
        if geometry.kind != Kind::Fat32 {
            return sink.hole((geometry.reserved - 1) * SECTOR);
        }
        let used = self.used();
        let free = narrow32(geometry.clusters.saturating_sub(used));
        // Where the next free cluster is sought; on a full volume at its end.
        let next = narrow32((used + 2).min(geometry.clusters + 1));
        let info = boot_sector::fsinfo(free, next);
        sink.data(&info)?;
        sink.hole((BACKUP - FSINFO - 1) * SECTOR)?;
        sink.data(&boot)?;
        sink.data(&info)?;
        sink.hole((geometry.reserved - BACKUP - 2) * SECTOR)
    }

    fn write_table(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut table = Table::new(self.geometry.kind, sink);
        // Entry 0 repeats the media byte; entry 1 says that the volume was left clean.
        table.push(0x0fff_fff8)?;
        table.push(END)?;
        for run in &self.runs {
            let last = run.first + run.clusters - 1;
            for cluster in run.first..last {
                table.push(narrow32(cluster + 1))?;
            }
            table.push(END)?;
        }
        let written = table.finish()?;
        sink.hole((self.geometry.fat * SECTOR).saturating_sub(written))
    }

    fn source(&self, path: &TreePath) -> Option<&Source> {
        source_of(&self.tree, self.tree.get(path)?)
    }
}

impl Content for Volume {
    fn len(&self) -> u64 {
        self.geometry.sectors * SECTOR
    }

    fn placed_at(&self) -> Option<Lba> {
        let hidden = u64::from(self.options.hidden_sectors);
        (hidden > 0).then_some(Lba(hidden))
    }

    fn largest_files(&self) -> String {
        largest_files(&self.tree)
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        let geometry = &self.geometry;
        self.write_reserved(sink)?;
        for _ in 0..FATS {
            self.write_table(sink)?;
        }
        sink.data(&self.root)?;
        sink.hole((geometry.root() * SECTOR).saturating_sub(self.root.len() as u64))?;
        let mut buffer = Vec::new();
        for run in &self.runs {
            let len = match &run.body {
                Body::Directory(bytes) => {
                    sink.data(bytes)?;
                    bytes.len() as u64
                }
                Body::File(path) => match self.source(path) {
                    Some(source) => {
                        copy_source(source, &mut buffer, sink)?;
                        source.len()
                    }
                    None => 0,
                },
            };
            sink.hole((run.clusters * geometry.cluster_len()).saturating_sub(len))?;
        }
        let written = geometry.sector_of(self.used() + 2);
        sink.hole((geometry.sectors.saturating_sub(written)) * SECTOR)
    }
}

/// The last cluster of a file, in as many bits as the kind has.
const END: u32 = 0x0fff_ffff;

/// Packs table entries, a chunk at a time.
struct Table<'sink> {
    kind: Kind,
    sink: &'sink mut dyn Sink,
    buffer: Vec<u8>,
    /// FAT12: the entry that waits for its pair.
    half: Option<u32>,
    written: u64,
}

impl<'sink> Table<'sink> {
    fn new(kind: Kind, sink: &'sink mut dyn Sink) -> Self {
        Self { kind, sink, buffer: Vec::with_capacity(64 << 10), half: None, written: 0 }
    }

    fn push(&mut self, entry: u32) -> Result<()> {
        let [a, b, ..] = entry.to_le_bytes();
        match (self.kind, self.half) {
            (Kind::Fat32, _) => self.buffer.extend_from_slice(&entry.to_le_bytes()),
            (Kind::Fat16, _) => self.buffer.extend_from_slice(&[a, b]),
            (Kind::Fat12, None) => self.half = Some(entry),
            (Kind::Fat12, Some(first)) => {
                let pair = (first & 0xfff | (entry & 0xfff) << 12).to_le_bytes();
                self.buffer.extend_from_slice(pair.get(..3).unwrap_or_default());
                self.half = None;
            }
        }
        if self.buffer.len() >= 64 << 10 { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.written += self.buffer.len() as u64;
        self.sink.data(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        if self.half.is_some() {
            self.push(0)?;
        }
        self.flush()?;
        Ok(self.written)
    }
}

fn source_of<'tree>(tree: &'tree Tree, node: &'tree Node) -> Option<&'tree Source> {
    match &node.kind {
        NodeKind::File(source) => Some(source),
        NodeKind::Hardlink(target) => match &tree.get(target)?.kind {
            NodeKind::File(source) => Some(source),
            _ => None,
        },
        _ => None,
    }
}

impl<'tree> Outline<'tree> {
    fn new(
        tree: &'tree Tree,
        options: &Options,
        root_label: bool,
        problems: &mut Vec<String>,
    ) -> Self {
        problems.extend(tree.check().iter().map(ToString::to_string));
        let mut directories: BTreeMap<TreePath, Vec<Named<'tree>>> = BTreeMap::new();
        directories.insert(TreePath::root(), Vec::new());
        let mut folded: BTreeMap<(TreePath, String), &TreePath> = BTreeMap::new();
        for (path, node) in tree {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            let name = match names::check(name) {
                Ok(name) => name,
                Err(problem) => {
                    problems.push(format!("{path}: the name does not fit VFAT: {problem}"));
                    continue;
                }
            };
            if let Some(other) = folded.insert((parent.clone(), names::fold(name)), path) {
                problems.push(format!("{other} and {path}: the names differ only in case"));
            }
            let len = source_of(tree, node).map_or(0, |it| options.len_of(path, it.len()));
            match &node.kind {
                NodeKind::Directory => {
                    directories.entry(path.clone()).or_default();
                }
                NodeKind::File(_) | NodeKind::Hardlink(_) => {
                    if len > MAX_FILE {
                        problems.push(format!(
                            "{path}: {len} bytes, a file on FAT has at most {MAX_FILE}"
                        ));
                    }
                }
                other => {
                    problems.push(format!("{path}: FAT holds no {}", other.name()));
                    continue;
                }
            }
            directories.entry(parent).or_default().push(Named { name, path, node, len });
        }
        let outline = Self { directories, root_label };
        for path in outline.directories.keys() {
            let len = outline.entries(path) * ENTRY;
            if len > MAX_DIRECTORY {
                problems
                    .push(format!("{path}: a directory of {} entries, at most 65536", len / ENTRY));
            }
        }
        outline
    }

    /// Entries of a directory, with those of long names and `.` and `..`.
    fn entries(&self, path: &TreePath) -> u64 {
        let own = if path.is_root() { u64::from(self.root_label) } else { 2 };
        let names = self.directories.get(path).map_or(&[][..], Vec::as_slice);
        own + names.iter().map(|named| entries_for(named.name)).sum::<u64>()
    }

    /// Clusters of a directory; the root of FAT12/16 has none.
    fn directory_clusters(&self, path: &TreePath, kind: Kind, cluster_len: u64) -> u64 {
        if path.is_root() && kind != Kind::Fat32 {
            return 0;
        }
        (self.entries(path) * ENTRY).div_ceil(cluster_len).max(1)
    }

    /// Clusters of everything.
    fn clusters(&self, kind: Kind, cluster_len: u64) -> u64 {
        let directories: u64 = self
            .directories
            .keys()
            .map(|path| self.directory_clusters(path, kind, cluster_len))
            .sum();
        let files: u64 =
            self.directories.values().flatten().map(|named| named.len.div_ceil(cluster_len)).sum();
        directories + files
    }

    /// Gives everything its clusters: directories, then files, in the order of their paths.
    fn place(
        &self,
        geometry: &Geometry,
        options: &Options,
        label: Option<ShortName>,
    ) -> (Vec<u8>, Vec<Run>, BTreeMap<TreePath, u64>) {
        let cluster_len = geometry.cluster_len();
        let mut next = u64::from(ROOT_CLUSTER);
        let mut first_clusters = BTreeMap::new();
        let mut runs = Vec::new();
        for path in self.directories.keys() {
            let clusters = self.directory_clusters(path, geometry.kind, cluster_len);
            if clusters > 0 {
                first_clusters.insert(path.clone(), next);
                runs.push(Run { first: next, clusters, body: Body::Directory(Vec::new()) });
                next += clusters;
            }
        }
        for named in self.directories.values().flatten() {
            let clusters = named.len.div_ceil(cluster_len);
            if clusters > 0 {
                first_clusters.insert(named.path.clone(), next);
                runs.push(Run { first: next, clusters, body: Body::File(named.path.clone()) });
                next += clusters;
            }
        }
        let mut root = Vec::new();
        let mut slots = runs.iter_mut();
        for path in self.directories.keys() {
            let bytes = self.directory(path, options, label, &first_clusters);
            if path.is_root() && geometry.kind != Kind::Fat32 {
                root = bytes;
            } else if let Some(run) = slots.next() {
                run.body = Body::Directory(bytes);
            }
        }
        (root, runs, first_clusters)
    }

    fn directory(
        &self,
        path: &TreePath,
        options: &Options,
        label: Option<ShortName>,
        first_clusters: &BTreeMap<TreePath, u64>,
    ) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(index(self.entries(path) * ENTRY));
        let stamp = |mtime: u32| Stamp::from_unix(options.mtime.unwrap_or(mtime));
        let cluster_of = |path: &TreePath| narrow32(first_clusters.get(path).copied().unwrap_or(0));
        if path.is_root() {
            if let Some(name) = label {
                let attributes = attribute::VOLUME_LABEL;
                let stamp = stamp(0);
                let entry = Entry { name, attributes, stamp, cluster: 0, len: 0 };
                bytes.extend_from_slice(&entry.emit());
            }
        } else {
            let parent = path.parent().unwrap_or_default();
            // By convention the root is cluster 0 here, wherever it is.
            let above = if parent.is_root() { 0 } else { cluster_of(&parent) };
            for (name, cluster) in [(b".          ", cluster_of(path)), (b"..         ", above)] {
                let entry = Entry {
                    name: *name,
                    attributes: attribute::DIRECTORY,
                    stamp: stamp(0),
                    cluster,
                    len: 0,
                };
                bytes.extend_from_slice(&entry.emit());
            }
        }
        let names = self.directories.get(path).map_or(&[][..], Vec::as_slice);
        let texts: Vec<&str> = names.iter().map(|named| named.name).collect();
        for (named, alias) in names.iter().zip(names::aliases(&texts)) {
            if names::exact(named.name).is_none() {
                bytes.extend(names::long_entries(named.name, &alias).iter().flatten());
            }
            let usual =
                if named.node.is_directory() { attribute::DIRECTORY } else { attribute::ARCHIVE };
            let extra = options.attributes.get(named.path).copied().unwrap_or(0)
                & (attribute::READ_ONLY | attribute::HIDDEN | attribute::SYSTEM);
            let entry = Entry {
                name: alias,
                attributes: usual | extra,
                stamp: stamp(named.node.meta.mtime),
                cluster: cluster_of(named.path),
                len: narrow32(named.len),
            };
            bytes.extend_from_slice(&entry.emit());
        }
        bytes
    }
}
