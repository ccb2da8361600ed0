//! A tree as a layer: the same tree gives the same bytes.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use oci_spec::image::{Descriptor, Digest};

use super::compression::Encoder;
use super::{Compression, Difference, Layer, WHITEOUT};
use crate::digest::Summed;
use crate::tar::{self, Entry, Type};
use crate::{Error, Result};

/// What became of a tree, counted and summed while it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Packed {
    /// How it is compressed.
    pub compression: Compression,
    /// The digest of the bytes as they were written.
    pub digest: Digest,
    /// How many they are.
    pub size: u64,
    /// The digest before compression.
    pub diff_id: Digest,
    /// How many bytes there were before compression.
    pub unpacked: u64,
}

impl Packed {
    /// The layer, now that its bytes are at a place.
    #[must_use]
    pub fn layer(self, source: Source) -> Layer {
        let media_type = Layer::media_type(self.compression);
        let descriptor = Descriptor::new(media_type, self.size, self.digest);
        Layer::new(descriptor, self.diff_id, source)
    }
}

impl Layer {
    /// Packs a tree in memory.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn pack(tree: &Tree, compression: Compression) -> Result<Self> {
        let (bytes, packed) = write(tree, compression, Vec::new())?;
        Ok(packed.layer(bytes.into()))
    }

    /// Packs a difference in memory.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn pack_difference(difference: &Difference, compression: Compression) -> Result<Self> {
        let (bytes, packed) = write_difference(difference, compression, Vec::new())?;
        Ok(packed.layer(bytes.into()))
    }

    /// Packs a tree into a file, which is written in place: a layout takes it from there by its
    /// digest.
    ///
    /// # Errors
    /// As [`write()`], and [`Error::Io`].
    pub fn pack_file(tree: &Tree, compression: Compression, path: &Path) -> Result<Self> {
        let file = std::fs::File::create(path).map_err(Error::io("create", path))?;
        let (file, packed) = write(tree, compression, BufWriter::new(file))?;
        file.into_inner().map_err(|error| Error::io("write", path)(error.into_error()))?;
        let source = Source::File { path: path.into(), len: packed.size };
        Ok(packed.layer(source))
    }
}

/// Writes a tree as a layer. The root has an entry where it is not as in a new tree.
///
/// # Errors
/// [`Error::Unpackable`] with all that [`check`] finds; a file that cannot be read; what the writer
/// says.
pub fn write<W: Write>(tree: &Tree, compression: Compression, out: W) -> Result<(W, Packed)> {
    let mut problems = check(tree);
    problems.extend(whiteouts(tree));
    let root = tree.root() != Tree::new().root();
    write_entries(tree, root, problems, compression, out)
}

/// Writes a difference as a layer.
///
/// # Errors
/// As [`write()`].
pub fn write_difference<W: Write>(
    difference: &Difference,
    compression: Compression,
    out: W,
) -> Result<(W, Packed)> {
    let tree = &difference.tree;
    write_entries(tree, difference.root, check(tree), compression, out)
}

/// Everything for which no layer can be made of a tree, as text.
#[must_use]
pub fn check(tree: &Tree) -> Vec<String> {
    let mut problems: Vec<String> = tree.check().iter().map(ToString::to_string).collect();
    for (path, node) in tree {
        if matches!(node.kind, Kind::Socket) {
            problems.push(format!("{path} is a socket, which no layer holds"));
        } else if let Err(reason) = tar::check(&entry(path, node)) {
            problems.push(format!("{path}: {reason}"));
        }
    }
    problems
}

/// Names that would take something away instead of being there.
fn whiteouts(tree: &Tree) -> impl Iterator<Item = String> {
    tree.iter()
        .filter(|(path, _)| path.file_name().is_some_and(|name| name.starts_with(WHITEOUT)))
        .map(|(path, _)| format!("{path}: in a layer this name means that something is taken away"))
}

fn write_entries<W: Write>(
    tree: &Tree,
    root: bool,
    problems: Vec<String>,
    compression: Compression,
    out: W,
) -> Result<(W, Packed)> {
    if !problems.is_empty() {
        return Err(Error::Unpackable(problems));
    }
    let encoder = Encoder::new(Summed::new(out), compression)?;
    let mut archive = tar::Writer::new(BufWriter::with_capacity(64 << 10, Summed::new(encoder)));
    if root {
        append_root(&mut archive, b"./", tree)?;
    }
    append_tree(&mut archive, b"", tree)?;
    let summed = archive
        .finish()
        .and_then(|buffered| buffered.into_inner().map_err(io::IntoInnerError::into_error))
        .map_err(Error::stream("layer"))?;
    let (encoder, diff_id, unpacked) = summed.finish()?;
    let (out, digest, size) = encoder.finish().map_err(Error::stream("layer"))?.finish()?;
    Ok((out, Packed { compression, digest, size, diff_id, unpacked }))
}

/// Writes an entry for the root, with this name.
pub(crate) fn append_root<W: Write>(
    archive: &mut tar::Writer<W>,
    name: &[u8],
    tree: &Tree,
) -> Result<()> {
    let node = Node::directory().with(tree.root().clone());
    let entry = Entry { path: name.to_vec(), ..entry(&TreePath::root(), &node) };
    archive.append(&entry, &mut io::empty()).map_err(Error::stream("/"))
}

/// Writes an entry for each node, with what all names begin with.
pub(crate) fn append_tree<W: Write>(
    archive: &mut tar::Writer<W>,
    prefix: &[u8],
    tree: &Tree,
) -> Result<()> {
    let groups = Groups::of(tree);
    for (path, node) in tree {
        match groups.leader(path, node) {
            Some((leader, _)) if leader != path => {
                let mut entry = entry(path, node);
                entry.path.splice(..0, prefix.iter().copied());
                entry.kind = Type::Hardlink;
                entry.link = [prefix, leader.as_bytes()].concat();
                // Readers want the same metadata from every name.
                if let Some(Node { meta, .. }) = groups.file(leader) {
                    describe(&mut entry, meta);
                }
                entry.xattrs.clear();
                entry.size = 0;
                archive.append(&entry, &mut io::empty()).map_err(Error::stream(path))?;
            }
            Some((_, file)) => append(archive, prefix, path, file)?,
            None => append(archive, prefix, path, node)?,
        }
    }
    Ok(())
}

fn append<W: Write>(
    archive: &mut tar::Writer<W>,
    prefix: &[u8],
    path: &TreePath,
    node: &Node,
) -> Result<()> {
    let mut entry = entry(path, node);
    entry.path.splice(..0, prefix.iter().copied());
    match &node.kind {
        Kind::File(source) => source.open().and_then(|mut file| archive.append(&entry, &mut file)),
        _ => archive.append(&entry, &mut io::empty()),
    }
    .map_err(Error::stream(path))
}

fn describe(entry: &mut Entry, meta: &Metadata) {
    (entry.mode, entry.uid, entry.gid) = (meta.mode & 0o7777, meta.uid, meta.gid);
    entry.mtime = meta.mtime;
    entry.xattrs = meta.xattrs.clone();
}

fn entry(path: &TreePath, node: &Node) -> Entry {
    let mut name = path.as_bytes().to_vec();
    let mut entry = Entry::file(Vec::new());
    describe(&mut entry, &node.meta);
    match &node.kind {
        Kind::Directory => {
            name.push(b'/');
            entry.kind = Type::Directory;
        }
        Kind::File(source) => entry.size = source.len(),
        Kind::Symlink(target) => {
            entry.kind = Type::Symlink;
            entry.link.clone_from(target);
        }
        Kind::CharDevice { major, minor } => {
            entry.kind = Type::CharDevice;
            entry.device = (*major, *minor);
        }
        Kind::BlockDevice { major, minor } => {
            entry.kind = Type::BlockDevice;
            entry.device = (*major, *minor);
        }
        // Links are written by whoever knows the first name; sockets were refused.
        Kind::Fifo => entry.kind = Type::Fifo,
        _ => {}
    }
    entry.path = name;
    entry
}

/// The names of each file that has several. In an archive the first is the file, and the others
/// are links to it, whichever of them is the file in the tree.
pub(super) struct Groups<'tree> {
    /// The first name of the file that the tree has at a path.
    leaders: BTreeMap<&'tree TreePath, &'tree TreePath>,
    files: BTreeMap<&'tree TreePath, &'tree Node>,
}

impl<'tree> Groups<'tree> {
    pub(super) fn of(tree: &'tree Tree) -> Self {
        let mut leaders = BTreeMap::new();
        let mut files = BTreeMap::new();
        for (path, node) in tree {
            if let Kind::Hardlink(target) = &node.kind {
                // By path, so the first name that comes is the first, if it is before the file's.
                leaders.entry(target).or_insert_with(|| path.min(target));
            }
        }
        for (target, leader) in &leaders {
            if let Some(node) = tree.get(target) {
                files.insert(*leader, node);
            }
        }
        Self { leaders, files }
    }

    /// The first name and the file of a node that is one of several names.
    pub(super) fn leader(
        &self,
        path: &TreePath,
        node: &Node,
    ) -> Option<(&'tree TreePath, &'tree Node)> {
        let leader = match &node.kind {
            Kind::Hardlink(target) => self.leaders.get(target),
            _ => self.leaders.get(path),
        }?;
        Some((*leader, *self.files.get(leader)?))
    }

    fn file(&self, leader: &TreePath) -> Option<&'tree Node> {
        self.files.get(leader).copied()
    }
}
