//! The tree that a kernel would make of an initramfs.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, Read};

use kiln_tree::{Kind, Metadata, Node, Tree, TreePath};

use super::dump::escaped;
use super::header::{Header, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFREG, S_IFSOCK};
use super::plan::symlink_rule;
use super::reader::{Entry, Limits, Position, Reader};
use crate::{Error, Result};

/// How many symbolic links a path may lead through (`MAXSYMLINKS`).
const MAX_SYMLINKS: u32 = 40;

/// What became of an initramfs.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// What a kernel would have in its root file system.
    pub tree: Tree,
    /// The entries that a kernel would drop without a word.
    pub lost: Vec<Lost>,
}

/// An entry that a kernel would drop.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lost {
    /// Its name, safe for a terminal.
    pub name: String,
    /// Where it is.
    pub position: Position,
    /// Why.
    pub reason: String,
}

impl fmt::Display for Lost {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}: lost: {}", self.position, self.name, self.reason)
    }
}

/// Reads a whole initramfs into a tree, contents in memory.
///
/// Later entries overwrite earlier ones, hard links are joined within an archive, and symbolic
/// links on the way to an entry are followed, all as `init/initramfs.c` does it. The name that
/// comes first is the file, the others are its hard links.
///
/// # Errors
/// Those of [`Reader::next_entry`]; [`Error::Limit`] also for contents that do not fit in
/// [`Limits::in_memory`].
pub fn unpack<R: Read>(input: R, limits: Limits) -> Result<Unpacked> {
    let in_memory = limits.in_memory;
    let mut reader = Reader::new(input, limits);
    let mut files = Files::default();
    let mut lost = Vec::new();
    let mut held = 0_u64;
    while let Some(entry) = reader.next_entry()? {
        if entry.is_trailer() {
            files.links.clear();
            continue;
        }
        let result = match entry.ignored {
            Some(reason) => Err(reason.to_string()),
            None => {
                held = held.saturating_add(u64::from(entry.header.file_size));
                if held > in_memory {
                    let what = "bytes of contents in memory";
                    return Err(Error::Limit { at: entry.position, what, limit: in_memory });
                }
                let content = content(&mut reader, &entry)?;
                files.create(&entry, content)
            }
        };
        if let Err(reason) = result {
            lost.push(Lost { name: escaped(&entry.name), position: entry.position, reason });
        }
    }
    Ok(Unpacked { tree: files.tree()?, lost })
}

/// Reads a content. Memory is taken as the bytes come, not as the header promises them.
fn content<R: Read>(reader: &mut Reader<R>, entry: &Entry) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    reader.read_to_end(&mut content).map_err(|error| {
        if error.get_ref().is_some_and(|inner| inner.is::<Error>())
            && let Some(inner) = error.into_inner()
        {
            return match inner.downcast::<Error>() {
                Ok(error) => *error,
                Err(other) => {
                    Error::Io { action: "read a content", source: io::Error::other(other) }
                }
            };
        }
        Error::Malformed { at: entry.position, reason: "the content could not be read".into() }
    })?;
    Ok(content)
}

type Outcome<T> = std::result::Result<T, String>;
type LinkKey = (u32, u32, u32, u32);

#[derive(Default)]
struct Files {
    root: Option<Metadata>,
    nodes: BTreeMap<TreePath, Node>,
    /// The first name of each file with several, until the next trailer.
    links: HashMap<LinkKey, TreePath>,
}

impl Files {
    fn create(&mut self, entry: &Entry, content: Vec<u8>) -> Outcome<()> {
        let header = &entry.header;
        let path = self.place(&entry.name)?;
        let meta = metadata(header);
        if path.is_root() {
            return if header.file_type() == S_IFDIR {
                self.root = Some(meta);
                Ok(())
            } else {
                Err("the root is a directory".into())
            };
        }
        self.clear(&path, header.file_type())?;
        let kind = match header.file_type() {
            S_IFDIR => Kind::Directory,
            S_IFREG => return self.file(path, header, meta, content),
            S_IFLNK => {
                let end = content.iter().position(|byte| *byte == 0).unwrap_or(content.len());
                let target = content.get(..end).unwrap_or_default();
                if symlink_rule(target).is_some() {
                    return Err("the target of a symbolic link has 1 to 4095 bytes".into());
                }
                Kind::Symlink(target.to_vec())
            }
            S_IFCHR => Kind::CharDevice { major: header.rdev_major, minor: header.rdev_minor },
            S_IFBLK => Kind::BlockDevice { major: header.rdev_major, minor: header.rdev_minor },
            S_IFIFO => Kind::Fifo,
            S_IFSOCK => Kind::Socket,
            other => return Err(format!("unknown file type {other:o}")),
        };
        self.nodes.insert(path, Node::new(kind).with(meta));
        Ok(())
    }

    fn file(
        &mut self,
        path: TreePath,
        header: &Header,
        meta: Metadata,
        content: Vec<u8>,
    ) -> Outcome<()> {
        if header.nlink >= 2 {
            let key = (header.dev_major, header.dev_minor, header.ino, header.file_type());
            match self.links.get(&key) {
                Some(first) if *first != path => {
                    let first = first.clone();
                    let Some(file) = self.nodes.get_mut(&first) else {
                        return Err(format!("its first name {first} was overwritten"));
                    };
                    // Whichever name brings the content brings it for all of them.
                    if !content.is_empty() {
                        file.kind = Kind::File(content.into());
                    }
                    file.meta = meta.clone();
                    self.nodes.insert(path, Node::hardlink(first).with(meta));
                    return Ok(());
                }
                _ => {
                    self.links.insert(key, path.clone());
                }
            }
        }
        self.nodes.insert(path, Node::file(content).with(meta));
        Ok(())
    }

    /// Makes room: whatever is at the path and of another type goes, as far as `rmdir` takes it.
    fn clear(&mut self, path: &TreePath, file_type: u32) -> Outcome<()> {
        let Some(existing) = self.nodes.get(path) else { return Ok(()) };
        let same = match existing.kind {
            Kind::Directory => file_type == S_IFDIR,
            Kind::File(_) | Kind::Hardlink(_) => file_type == S_IFREG,
            _ => false,
        };
        if same && !matches!(existing.kind, Kind::File(_) | Kind::Hardlink(_)) {
            return Ok(());
        }
        if existing.is_directory()
            && self
                .nodes
                .range::<TreePath, _>(path..)
                .nth(1)
                .is_some_and(|(next, _)| next.starts_with(path))
        {
            return Err("a directory that is not empty is in its place".into());
        }
        // A file that goes leaves its content to its next name.
        if let Some(Node { kind: Kind::File(source), meta, .. }) = self.nodes.remove(path) {
            self.inherit(path, &source, &meta);
        }
        Ok(())
    }

    /// Makes the first hard link to a file that is gone the file itself.
    fn inherit(&mut self, gone: &TreePath, source: &kiln_tree::Source, meta: &Metadata) {
        // Only a file that was entered with several names can have links.
        if !self.links.values().any(|first| first == gone) {
            return;
        }
        let is_link = |node: &Node| matches!(&node.kind, Kind::Hardlink(first) if first == gone);
        let mut heir = None;
        for (path, node) in self.nodes.iter_mut().filter(|(_, node)| is_link(node)) {
            match &heir {
                None => {
                    *node = Node::file(source.clone()).with(meta.clone());
                    heir = Some(path.clone());
                }
                Some(heir) => node.kind = Kind::Hardlink(heir.clone()),
            }
        }
        for first in self.links.values_mut().filter(|first| *first == gone) {
            if let Some(heir) = &heir {
                first.clone_from(heir);
            }
        }
    }

    /// Where an entry of this name ends up: its directory's symbolic links followed, its own not.
    fn place(&self, name: &[u8]) -> Outcome<TreePath> {
        let mut pending: Vec<Vec<u8>> = name
            .split(|byte| *byte == b'/')
            .filter(|component| !matches!(*component, b"" | b"."))
            .rev()
            .map(<[u8]>::to_vec)
            .collect();
        let Some(last) = (!pending.is_empty()).then(|| pending.remove(0)) else {
            return Ok(TreePath::root());
        };
        let mut reached = TreePath::root();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            if component == b".." {
                reached = reached.parent().unwrap_or_default();
                continue;
            }
            let next = reached.join(&component).map_err(|error| error.to_string())?;
            match self.nodes.get(&next).map(|node| &node.kind) {
                Some(Kind::Directory) => reached = next,
                Some(Kind::Symlink(target)) => {
                    links += 1;
                    if links > MAX_SYMLINKS {
                        return Err("too many symbolic links on the way".into());
                    }
                    if target.starts_with(b"/") {
                        reached = TreePath::root();
                    }
                    let components = target.split(|byte| *byte == b'/').rev();
                    let kept = components.filter(|part| !matches!(*part, b"" | b"."));
                    pending.extend(kept.map(<[u8]>::to_vec));
                }
                Some(other) => return Err(format!("{next} is a {}", other.name())),
                None => return Err(format!("its directory {next} is missing")),
            }
        }
        if last == b".." {
            return Err("its name ends in '..'".into());
        }
        reached.join(&last).map_err(|error| error.to_string())
    }

    fn tree(self) -> Result<Tree> {
        let mut tree = Tree::new();
        if let Some(root) = self.root {
            tree.set_root(root);
        }
        for (path, node) in self.nodes {
            tree.insert(path.as_bytes(), node)?;
        }
        Ok(tree)
    }
}

fn metadata(header: &Header) -> Metadata {
    // Twelve bits fit.
    let mode = u16::try_from(header.mode & 0o7777).unwrap_or_default();
    Metadata::new(mode).owned_by(header.uid, header.gid).modified_at(header.mtime)
}
