//! The tree as inodes: numbered, with their links counted and their directories made.

use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::{Kind, Metadata, Source, Tree, TreePath};

use super::checksum::Sums;
use super::directory::{self, Directory, Name, file_type};
use super::inode::{self, format};
use super::xattr::Attributes;
use super::{BLOCK, BLOCK_LEN, special};
use crate::field::{index, narrow32, put};

/// Blocks of `lost+found`.
const LOST_AND_FOUND_BLOCKS: usize = 4;
const LOST_AND_FOUND: &[u8] = b"lost+found";
/// The most names of a file (`EXT4_LINK_MAX`).
const MAX_LINKS: u32 = 65_000;
/// The longest text of a link that is in its inode.
const SHORT_LINK: usize = 59;
/// The longest file: its blocks have numbers of 32 bits.
pub(super) const MAX_FILE: u64 = (u32::MAX as u64) * BLOCK;

/// An inode and what is in it.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) time: u32,
    pub(super) links: u32,
    pub(super) xattrs: Attributes,
    pub(super) body: Body,
}

#[derive(Debug, Clone)]
pub(super) enum Body {
    Nothing,
    /// A device's number.
    Device([u8; 60]),
    /// A link's text.
    Link(Vec<u8>),
    Directory(Directory),
    File(Source),
}

impl File {
    /// Bytes of the content.
    pub(super) fn len(&self) -> u64 {
        match &self.body {
            Body::Nothing | Body::Device(_) => 0,
            Body::Link(text) => text.len() as u64,
            Body::Directory(directory) => directory.bytes.len() as u64,
            Body::File(source) => source.len(),
        }
    }

    /// Blocks of the content.
    pub(super) fn blocks(&self) -> u64 {
        if self.short_link().is_some() { 0 } else { self.len().div_ceil(BLOCK) }
    }

    /// The text of a link that is in its inode.
    pub(super) fn short_link(&self) -> Option<[u8; 60]> {
        match &self.body {
            Body::Link(text) if text.len() <= SHORT_LINK => {
                let mut body = [0; 60];
                put(&mut body, 0, text);
                Some(body)
            }
            _ => None,
        }
    }

    pub(super) fn is_directory(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }
}

/// The inode number of a file by its place in the outline: the root, `lost+found`, then the rest.
pub(super) fn number(at: usize) -> u32 {
    match at {
        0 => special::ROOT,
        1 => special::LOST_AND_FOUND,
        _ => narrow32(at as u64 + 10),
    }
}

/// Where the inode of this number is in the outline.
pub(super) fn place(number: u32) -> Option<usize> {
    match number {
        special::ROOT => Some(0),
        0..special::LOST_AND_FOUND => None,
        _ => Some(index(u64::from(number) - 10)),
    }
}

/// What a directory consists of, before it is made.
struct Opened<'tree> {
    /// Its place in the outline, and its parent's number.
    at: usize,
    parent: u32,
    names: Vec<Name<'tree>>,
    path: &'tree [u8],
}

/// Makes inodes of a tree. A problem is told with its path.
pub(super) fn files(
    tree: &Tree,
    mtime: Option<u32>,
    sums: Sums,
    hash_seed: &[u32; 4],
    problems: &mut Vec<String>,
) -> Vec<File> {
    problems.extend(tree.check().iter().map(ToString::to_string));
    let targets: BTreeSet<&TreePath> = tree
        .iter()
        .filter_map(|(_, node)| match &node.kind {
            Kind::Hardlink(target) => Some(target),
            _ => None,
        })
        .collect();
    let mut numbers: BTreeMap<&TreePath, usize> = BTreeMap::new();
    let mut files = Vec::with_capacity(tree.len().saturating_add(2));
    let mut builder = |path: &dyn std::fmt::Display, meta: &Metadata, kind: &Kind| {
        file(meta, kind, mtime, |problem| problems.push(format!("{path}: {problem}")))
    };
    files.push(builder(&"the root", tree.root(), &Kind::Directory));
    files.push(builder(&"lost+found", &Metadata::new(0o700), &Kind::Directory));
    let mut directories = vec![
        Opened { at: 0, parent: special::ROOT, names: Vec::new(), path: b"" },
        Opened { at: 1, parent: special::ROOT, names: Vec::new(), path: LOST_AND_FOUND },
    ];
    let mut by_path: BTreeMap<&[u8], usize> = BTreeMap::from([(&b""[..], 0), (LOST_AND_FOUND, 1)]);

    let mut links = Vec::new();
    // The directory of the path before is nearly always that of the next.
    let mut recent: (&[u8], usize) = (b"", 0);
    for (path, node) in tree {
        let bytes = path.as_bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/');
        let parent = slash.and_then(|end| bytes.get(..end)).unwrap_or_default();
        let name = bytes.get(slash.map_or(0, |end| end + 1)..).unwrap_or_default();
        if recent.0 != parent {
            // A missing parent is among the problems.
            let Some(found) = by_path.get(parent) else { continue };
            recent = (parent, *found);
        }
        let at = if bytes == LOST_AND_FOUND { 1 } else { files.len() };
        let file_type = match &node.kind {
            Kind::Hardlink(target) => {
                links.push((recent.1, name, target));
                continue;
            }
            Kind::Directory => {
                let parent_at = directories.get(recent.1).map_or(0, |parent| parent.at);
                if at == 1 {
                    if let Some(place) = files.get_mut(1) {
                        *place = builder(path, &node.meta, &node.kind);
                    }
                    continue;
                }
                let parent = number(parent_at);
                by_path.insert(bytes, directories.len());
                directories.push(Opened { at, parent, names: Vec::new(), path: bytes });
                if let Some(parent) = files.get_mut(parent_at) {
                    let parent: &mut File = parent;
                    parent.links = parent.links.saturating_add(1);
                }
                file_type::DIRECTORY
            }
            Kind::CharDevice { .. } => file_type::CHARACTER,
            Kind::BlockDevice { .. } => file_type::BLOCK,
            Kind::Fifo => file_type::FIFO,
            Kind::Socket => file_type::SOCKET,
            Kind::Symlink(_) => file_type::SYMLINK,
            _ => file_type::REGULAR,
        };
        let file = builder(path, &node.meta, &node.kind);
        if at == 1 {
            links.push((0, name, path));
            continue;
        }
        if targets.contains(path) {
            numbers.insert(path, at);
        }
        files.push(file);
        if let Some(directory) = directories.get_mut(recent.1) {
            directory.names.push(Name { name, inode: number(at), file_type });
        }
    }
    if let (Some(root), Some(top)) = (directories.first_mut(), files.first_mut()) {
        let inode = special::LOST_AND_FOUND;
        let file_type = file_type::DIRECTORY;
        root.names.push(Name { name: LOST_AND_FOUND, inode, file_type });
        top.links = top.links.saturating_add(1);
    }
    for (directory, name, target) in links {
        if target.as_bytes() == LOST_AND_FOUND {
            problems.push("lost+found: it is no directory, which e2fsck needs it to be".to_owned());
            continue;
        }
        // A link to nothing is among the problems.
        let Some(at) = numbers.get(target) else { continue };
        let Some(file) = files.get_mut(*at) else { continue };
        file.links = file.links.saturating_add(1);
        if file.links == MAX_LINKS + 1 {
            problems.push(format!("{target}: it has more than {MAX_LINKS} names"));
        }
        if let Some(directory) = directories.get_mut(directory) {
            let file_type = file_type::REGULAR;
            directory.names.push(Name { name, inode: number(*at), file_type });
        }
    }
    for opened in &mut directories {
        // Hard links came last.
        opened.names.sort_unstable_by_key(|name| name.name);
        let own = number(opened.at);
        let seed = sums.inode(own);
        match directory::emit(own, opened.parent, &opened.names, seed, hash_seed) {
            Some(mut made) => {
                if opened.at == 1 {
                    directory::emit_empty_blocks(&mut made, LOST_AND_FOUND_BLOCKS, seed);
                }
                if let Some(file) = files.get_mut(opened.at) {
                    file.body = Body::Directory(made);
                }
            }
            None => problems.push(format!(
                "{}: {} names are more than an index of two levels leads to",
                opened.path.escape_ascii(),
                opened.names.len()
            )),
        }
    }
    files
}

fn file(meta: &Metadata, kind: &Kind, mtime: Option<u32>, mut problem: impl FnMut(String)) -> File {
    let (kind, body) = match kind {
        Kind::Directory => {
            (format::DIRECTORY, Body::Directory(Directory { bytes: Vec::new(), indexed: false }))
        }
        Kind::File(source) => {
            if source.len() > MAX_FILE {
                problem(format!("{} bytes, a file on ext4 has at most {MAX_FILE}", source.len()));
            }
            (format::REGULAR, Body::File(source.clone()))
        }
        Kind::Symlink(text) => {
            if text.is_empty() || text.len() >= BLOCK_LEN || text.contains(&0) {
                problem(format!(
                    "a symbolic link to a text of {} bytes, expected 1 to {} without NUL",
                    text.len(),
                    BLOCK_LEN - 1
                ));
            }
            (format::SYMLINK, Body::Link(text.clone()))
        }
        Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
            let body = inode::device(*major, *minor).map_or(Body::Nothing, Body::Device);
            if matches!(body, Body::Nothing) {
                problem(format!(
                    "a device with number {major}:{minor}, expected at most 4095:1048575"
                ));
            }
            let character = matches!(kind, Kind::CharDevice { .. });
            (if character { format::CHARACTER } else { format::BLOCK }, body)
        }
        Kind::Fifo => (format::FIFO, Body::Nothing),
        Kind::Socket => (format::SOCKET, Body::Nothing),
        other => {
            problem(format!("ext4 holds no {}", other.name()));
            (format::REGULAR, Body::Nothing)
        }
    };
    File {
        mode: kind | meta.mode & 0o7777,
        uid: meta.uid,
        gid: meta.gid,
        time: mtime.unwrap_or(meta.mtime),
        links: if kind == format::DIRECTORY { 2 } else { 1 },
        xattrs: Attributes::new(&meta.xattrs, problem),
        body,
    }
}
