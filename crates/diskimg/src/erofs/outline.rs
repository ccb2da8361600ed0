//! The tree as inodes: what is left when paths and hard links are resolved.

use std::collections::BTreeMap;

use kiln_tree::{Kind, Metadata, Source, Tree, TreePath};

use super::BLOCK;
use super::directory::{self, Entry};
use super::inode::{self, COMPACT, EXTENDED, Inode, Storage, kind};
use crate::field::index;

/// What a symbolic link has at most, in bytes (`PATH_MAX` less its terminating NUL).
const SYMLINK_MAX: usize = 4095;

/// What an inode consists of.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    File(Source),
    /// Names and the items that they name, sorted; and the directory's parent.
    Directory(Vec<(Box<[u8]>, u32)>, u32),
    Symlink(Vec<u8>),
    /// A device, a pipe or a socket.
    Nothing,
}

/// An inode with everything that it needs.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) inode: Inode,
    pub(crate) xattrs: Vec<u8>,
    pub(crate) body: Body,
    /// Where the inode is, in bytes from the volume's start.
    pub(crate) offset: u64,
}

impl Item {
    /// Bytes of the inode and its attributes.
    pub(crate) fn head(&self) -> u64 {
        self.inode.size() + self.xattrs.len() as u64
    }

    /// The number by which directories name it.
    pub(crate) fn nid(&self) -> u64 {
        self.offset / inode::SLOT
    }

    /// What the item needs uncompressed: how, how many blocks, and how many bytes with its inode.
    /// `inline` allows that what fills no block follows the inode.
    pub(crate) fn plain(&self, inline: bool) -> (Storage, u64, u64) {
        let len = if matches!(self.body, Body::Nothing) { 0 } else { self.inode.len };
        let tail = len % BLOCK;
        let head = self.head();
        if inline && tail > 0 && head + tail <= BLOCK {
            (Storage::Inline, len / BLOCK, head + tail)
        } else {
            (Storage::Plain, len.div_ceil(BLOCK), head)
        }
    }

    /// Stores the item uncompressed; gives blocks and bytes as [`Item::plain`].
    pub(crate) fn store_plain(&mut self, inline: bool) -> (u64, u64) {
        let (storage, blocks, bytes) = self.plain(inline);
        self.inode.storage = storage;
        (blocks, bytes)
    }
}

/// Extended attributes by their names.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What file systems that are made of an outline do each in its own way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dialect {
    /// For messages.
    pub(crate) name: &'static str,
    /// Attributes as they are stored, nothing when there are none; or what does not fit.
    pub(crate) xattrs: fn(&Xattrs) -> Result<Vec<u8>, String>,
}

/// What EROFS does.
pub(super) const EROFS: Dialect = Dialect { name: "EROFS", xattrs: inode::emit_xattrs };

/// All inodes of a volume, the root first, then as their first names come in the tree.
#[derive(Debug, Clone)]
pub(crate) struct Outline {
    pub(crate) items: Vec<Item>,
    /// The time of compact inodes.
    pub(crate) build_time: u64,
}

impl Outline {
    pub(crate) fn new(
        tree: &Tree,
        build_time: Option<u32>,
        dialect: Dialect,
        problems: &mut Vec<String>,
    ) -> Self {
        problems.extend(tree.check().iter().map(ToString::to_string));
        let build_time = build_time.unwrap_or_else(|| most_frequent_time(tree));
        let root = Body::Directory(Vec::new(), 0);
        let mut items =
            vec![item(&TreePath::root(), root, kind::DIRECTORY, tree.root(), dialect, problems)];
        let mut numbers: BTreeMap<&[u8], u32> = BTreeMap::from([(&b""[..], 0)]);
        let mut hard_links = Vec::new();
        for (path, node) in tree {
            let (parent, name) = split(path);
            // Where there is none, the tree's check has said so.
            let Some(parent) = numbers.get(parent).copied() else { continue };
            let mut device = |major, minor| {
                inode::device(major, minor).unwrap_or_else(|| {
                    problems.push(format!(
                        "{path}: device {major}:{minor}, at most 4095:1048575 can be stored"
                    ));
                    0
                })
            };
            let (body, mode, place) = match &node.kind {
                Kind::Directory => (Body::Directory(Vec::new(), parent), kind::DIRECTORY, 0),
                Kind::File(source) => (Body::File(source.clone()), kind::FILE, 0),
                Kind::Symlink(target) => {
                    if target.is_empty() || target.len() > SYMLINK_MAX {
                        problems.push(format!(
                            "{path}: a symbolic link of {} bytes, expected 1 to {SYMLINK_MAX}",
                            target.len()
                        ));
                    }
                    (Body::Symlink(target.clone()), kind::SYMLINK, 0)
                }
                Kind::CharDevice { major, minor } => {
                    (Body::Nothing, kind::CHAR_DEVICE, device(*major, *minor))
                }
                Kind::BlockDevice { major, minor } => {
                    (Body::Nothing, kind::BLOCK_DEVICE, device(*major, *minor))
                }
                Kind::Fifo => (Body::Nothing, kind::FIFO, 0),
                Kind::Socket => (Body::Nothing, kind::SOCKET, 0),
                Kind::Hardlink(target) => {
                    hard_links.push((parent, name, target));
                    continue;
                }
                other => {
                    problems.push(format!("{path}: {} holds no {}", dialect.name, other.name()));
                    continue;
                }
            };
            let number = crate::field::narrow32(items.len() as u64);
            let mut item = item(path, body, mode, &node.meta, dialect, problems);
            item.inode.place = place;
            item.inode.number = number + 1;
            items.push(item);
            numbers.insert(path.as_bytes(), number);
            add(&mut items, parent, name, number, node.is_directory());
        }
        for (parent, name, target) in hard_links {
            // As above.
            let Some(number) = numbers.get(target.as_bytes()).copied() else { continue };
            if let Some(item) = items.get_mut(index(u64::from(number))) {
                item.inode.links += 1;
            }
            add(&mut items, parent, name, number, false);
        }
        let build_time = u64::from(build_time);
        for item in &mut items {
            if let Body::Directory(names, _) = &mut item.body {
                // Hard links came last.
                names.sort_unstable();
                let dots = [&b"."[..], b".."];
                let mut sorted: Vec<&[u8]> = names.iter().map(|(name, _)| &**name).collect();
                sorted.extend(dots);
                sorted.sort_unstable();
                item.inode.len = directory::len(sorted.into_iter());
            }
            item.inode.choose_size(build_time);
        }
        Self { items, build_time }
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Item> {
        self.items.get(index(u64::from(number)))
    }

    /// A directory's bytes, once all inodes have places.
    pub(crate) fn directory(&self, number: u32) -> Vec<u8> {
        let Some(Body::Directory(names, parent)) = self.get(number).map(|item| &item.body) else {
            return Vec::new();
        };
        let dots = [(&b"."[..], number), (b"..", *parent)];
        let names = names.iter().map(|(name, number)| (&**name, *number)).chain(dots);
        let mut entries: Vec<Entry<'_>> = names
            .filter_map(|(name, number)| {
                let item = self.get(number)?;
                Some(Entry { name, inode: item.nid(), mode: item.inode.mode })
            })
            .collect();
        entries.sort_unstable_by_key(|entry| entry.name);
        directory::emit(&entries)
    }

    /// The inodes in the order in which they are stored: files first, then what is small. The root,
    /// which has a place of its own, is among the latter for its blocks.
    pub(crate) fn order(&self) -> (Vec<u32>, Vec<u32>) {
        (0..crate::field::narrow32(self.items.len() as u64)).partition(|number| {
            self.get(*number).is_some_and(|item| matches!(item.body, Body::File(_)))
        })
    }
}

impl Inode {
    /// Takes the small form where everything fits it.
    fn choose_size(&mut self, build_time: u64) {
        let fits = self.mtime == Some(build_time)
            && u16::try_from(self.uid).is_ok()
            && u16::try_from(self.gid).is_ok()
            && u16::try_from(self.links).is_ok()
            && u32::try_from(self.len).is_ok();
        self.extended = !fits;
        debug_assert!(self.size() == if fits { COMPACT } else { EXTENDED });
    }
}

fn split(path: &TreePath) -> (&[u8], &[u8]) {
    let bytes = path.as_bytes();
    match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (
            bytes.get(..at).unwrap_or_default(),
            bytes.get(at.saturating_add(1)..).unwrap_or_default(),
        ),
        None => (b"", bytes),
    }
}

fn add(items: &mut [Item], parent: u32, name: &[u8], number: u32, is_directory: bool) {
    if let Some(item) = items.get_mut(index(u64::from(parent)))
        && let Body::Directory(names, _) = &mut item.body
    {
        names.push((name.into(), number));
        item.inode.links += u32::from(is_directory);
    }
}

fn item(
    path: &TreePath,
    body: Body,
    kind: u16,
    meta: &Metadata,
    dialect: Dialect,
    problems: &mut Vec<String>,
) -> Item {
    let xattrs = (dialect.xattrs)(&meta.xattrs).unwrap_or_else(|problem| {
        problems.push(format!("{path}: {problem}"));
        Vec::new()
    });
    let len = match &body {
        Body::File(source) => source.len(),
        Body::Symlink(target) => target.len() as u64,
        Body::Directory(..) | Body::Nothing => 0,
    };
    let inode = Inode {
        extended: true,
        storage: Storage::Plain,
        xattrs: inode::xattr_count(xattrs.len() as u64).unwrap_or(0),
        mode: kind | (meta.mode & 0o7777),
        links: if kind == inode::kind::DIRECTORY { 2 } else { 1 },
        len,
        place: 0,
        number: 1,
        uid: meta.uid,
        gid: meta.gid,
        mtime: Some(u64::from(meta.mtime)),
    };
    Item { inode, xattrs, body, offset: 0 }
}

/// The time that most nodes have, the earliest of several such: most inodes are small then.
fn most_frequent_time(tree: &Tree) -> u32 {
    let mut times: BTreeMap<u32, u64> = BTreeMap::from([(tree.root().mtime, 1)]);
    for (_, node) in tree {
        *times.entry(node.meta.mtime).or_default() += 1;
    }
    let most = times.values().copied().max().unwrap_or(0);
    times.into_iter().find(|(_, count)| *count == most).map_or(0, |(time, _)| time)
}
