//! Names in large directories are found as Linux finds them: by the index, without reading a
//! directory from its start.
//!
//! The reader here follows the structures of `fs/squashfs/squashfs_fs.h` and the steps of
//! `fs/squashfs/namei.c`; images of mksquashfs judge it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Cursor;
use std::rc::Rc;

use kiln_diskimg::container::Format;
use kiln_diskimg::squashfs::{Image, Options};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath};

use crate::tools::{bytes, expect, file};

/// Bytes of a metadata block before compression.
const BLOCK: usize = 8192;

/// An image in memory.
struct Squashfs {
    bytes: Vec<u8>,
    inodes: usize,
    directories: usize,
    blocks: RefCell<BTreeMap<usize, Block>>,
}

/// A block's bytes before compression, and where the next one begins.
type Block = (Rc<[u8]>, usize);

/// Extended attributes by their names.
type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// A place in metadata: where its block begins in the image, and where in the block it is.
#[derive(Clone, Copy)]
struct At {
    block: usize,
    offset: usize,
}

/// A directory's inode.
struct Directory {
    at: At,
    len: usize,
    index: At,
    index_count: usize,
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + N].iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte))
}

impl Squashfs {
    fn new(bytes: Vec<u8>) -> Self {
        assert_eq!(&bytes[..4], b"hsqs");
        assert_eq!(number::<2>(&bytes, 20), 5, "LZ4");
        let (inodes, directories) = (number::<8>(&bytes, 64), number::<8>(&bytes, 72));
        Self { bytes, inodes, directories, blocks: RefCell::default() }
    }

    fn block(&self, at: usize) -> Block {
        self.blocks.borrow_mut().entry(at).or_insert_with(|| self.decompress(at)).clone()
    }

    fn decompress(&self, at: usize) -> Block {
        let header = number::<2>(&self.bytes, at);
        let next = at + 2 + (header & 0x7fff);
        let stored = &self.bytes[at + 2..next];
        let block = if header & 0x8000 == 0 {
            lz4_flex::block::decompress(stored, BLOCK).unwrap()
        } else {
            stored.to_vec()
        };
        (block.into(), next)
    }

    /// Reads on, from block to block; notes the blocks that were needed.
    fn read(&self, at: &mut At, len: usize, seen: &mut BTreeSet<usize>) -> Vec<u8> {
        let mut out = Vec::new();
        while out.len() < len {
            let (block, next) = self.block(at.block);
            seen.insert(at.block);
            let end = block.len().min(at.offset + len - out.len());
            out.extend_from_slice(&block[at.offset..end]);
            at.offset = end;
            if end == BLOCK {
                *at = At { block: next, offset: 0 };
            }
        }
        out
    }

    fn inode(&self, reference: usize) -> At {
        At { block: self.inodes + (reference >> 16), offset: reference & 0xffff }
    }

    fn directory(&self, reference: usize) -> Directory {
        let mut at = self.inode(reference);
        let head = self.read(&mut at, 16, &mut BTreeSet::new());
        let mut rest = |len| self.read(&mut at, len, &mut BTreeSet::new());
        match number::<2>(&head, 0) {
            1 => {
                let body = rest(16);
                let block = self.directories + number::<4>(&body, 0);
                let start = At { block, offset: number::<2>(&body, 10) };
                Directory { at: start, len: number::<2>(&body, 8), index: start, index_count: 0 }
            }
            8 => {
                let body = rest(24);
                let block = self.directories + number::<4>(&body, 8);
                Directory {
                    at: At { block, offset: number::<2>(&body, 18) },
                    len: number::<4>(&body, 4),
                    index: at,
                    index_count: number::<2>(&body, 16),
                }
            }
            other => panic!("an inode of type {other} is no directory"),
        }
    }

    /// What a name's inode is, and how many blocks of the directory were looked at.
    fn look_up(&self, directory: &Directory, name: &[u8]) -> (Option<usize>, usize) {
        let (mut at, mut index, mut length) = (directory.at, directory.index, 0);
        for _ in 0..directory.index_count {
            let head = self.read(&mut index, 12, &mut BTreeSet::new());
            let first = self.read(&mut index, number::<4>(&head, 8) + 1, &mut BTreeSet::new());
            if first.as_slice() > name {
                break;
            }
            length = number::<4>(&head, 0);
            at.block = self.directories + number::<4>(&head, 4);
        }
        at.offset = (at.offset + length) % BLOCK;
        // Lengths count the names "." and "..", which are not there, as three bytes.
        length += 3;
        let mut seen = BTreeSet::new();
        while length < directory.len {
            let header = self.read(&mut at, 12, &mut seen);
            length += 12;
            for _ in 0..=number::<4>(&header, 0) {
                let entry = self.read(&mut at, 8, &mut seen);
                let found = self.read(&mut at, number::<2>(&entry, 6) + 1, &mut seen);
                length += 8 + found.len();
                if name[0] < found[0] {
                    return (None, seen.len());
                }
                if found == name {
                    let inode = number::<4>(&header, 4) << 16 | number::<2>(&entry, 0);
                    return (Some(inode), seen.len());
                }
            }
        }
        (None, seen.len())
    }

    /// An inode's attributes and its set's number, by the steps of `fs/squashfs/xattr.c`.
    fn xattrs(&self, reference: usize) -> Option<(Xattrs, usize)> {
        let mut seen = BTreeSet::new();
        let mut read = |at: &mut At, len| self.read(at, len, &mut seen);
        let mut at = self.inode(reference);
        // Type, mode, owner, group, time and number.
        let kind = number::<2>(&read(&mut at, 16), 0);
        let before = match kind {
            8 => 20,
            9 => 36,
            10 => 8 + number::<4>(&read(&mut { at }, 8), 4),
            11 | 12 => 8,
            13 | 14 => 4,
            _ => return None,
        };
        read(&mut at, before);
        let set = number::<4>(&read(&mut at, 4), 0);
        if set == 0xffff_ffff {
            return None;
        }
        let table = number::<8>(&self.bytes, 56);
        let pairs = number::<8>(&self.bytes, table);
        assert!(set < number::<4>(&self.bytes, table + 8));
        let block = number::<8>(&self.bytes, table + 16 + set / 512 * 8);
        let entry = read(&mut At { block, offset: set % 512 * 16 }, 16);
        let mut at = At { block: pairs + number::<6>(&entry, 2), offset: number::<2>(&entry, 0) };
        let mut found = BTreeMap::new();
        let mut len = 0;
        for _ in 0..number::<4>(&entry, 8) {
            let key = read(&mut at, 4);
            let prefix = ["user.", "trusted.", "security."][number::<2>(&key, 0)];
            let name = read(&mut at, number::<2>(&key, 2));
            let value_len = number::<4>(&read(&mut at, 4), 0);
            let value = read(&mut at, value_len);
            len += 8 + name.len() + value.len();
            found.insert([prefix.as_bytes(), &name].concat(), value);
        }
        assert_eq!(number::<4>(&entry, 12), len);
        Some((found, set))
    }

    /// The inode of a path.
    fn find(&self, path: &[u8]) -> usize {
        let root = number::<8>(&self.bytes, 32);
        path.split(|byte| *byte == b'/')
            .fold(root, |inode, name| self.look_up(&self.directory(inode), name).0.unwrap())
    }

    fn root(&self) -> Directory {
        self.directory(number::<8>(&self.bytes, 32))
    }
}

/// Directories with few, many and very many names, by how many.
fn tree() -> (Tree, Vec<usize>) {
    let counts = vec![3, 150, 400, 6000];
    let mut tree = Tree::new();
    for count in &counts {
        for at in 0..*count {
            let path = format!("{count}/{:03} is in the name of {at}", at * 7 % 1000);
            // Inodes of different lengths.
            let node = match at % 3 {
                0 => Node::file(format!("{at}\n")),
                1 => Node::symlink("x".repeat(at % 40 + 1)),
                _ => Node::directory(),
            };
            tree.insert(path, node).unwrap();
        }
        tree.insert(format!("{count}/Grüße"), Node::file("after what is ASCII")).unwrap();
    }
    (tree, counts)
}

/// Every name is found, in at most two blocks where there is an index, and names that are not there
/// are not found.
fn check(image: &Squashfs, tree: &Tree, counts: &[usize]) {
    let root = image.root();
    for count in counts {
        let (reference, _) = image.look_up(&root, count.to_string().as_bytes());
        let directory = image.directory(reference.unwrap());
        assert!(directory.index_count > 0 || *count < 6000);
        let names = tree.iter().filter_map(|(path, _)| {
            let path = path.as_bytes().strip_prefix(count.to_string().as_bytes())?;
            path.strip_prefix(b"/")
        });
        let mut most = 0;
        for name in names {
            let (found, blocks) = image.look_up(&directory, name);
            assert!(found.is_some(), "{count} {}", name.escape_ascii());
            most = most.max(blocks);
        }
        assert!(most <= 2, "{count} names: a name takes {most} blocks");
        for name in ["!", "5", "500 is in the name of 5", "999 is in the name of x", "~"] {
            assert_eq!(image.look_up(&directory, name.as_bytes()).0, None, "{name}");
        }
    }
}

#[test]
fn every_name_is_found_by_the_index() {
    let (tree, counts) = tree();
    let image = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap();
    check(&Squashfs::new(bytes(&image)), &tree, &counts);
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "image", Format::Raw, &image);
    let Some(text) = expect("unsquashfs", &["-l", "-d", "", path.to_str().unwrap()]) else {
        return;
    };
    let listed: BTreeSet<&str> = text.lines().filter_map(|line| line.strip_prefix('/')).collect();
    for (path, _) in &tree {
        assert!(listed.contains(std::str::from_utf8(path.as_bytes()).unwrap()), "{path}");
    }
    // The root has a line of its own.
    assert!((tree.len()..=tree.len() + 1).contains(&listed.len()), "{}", listed.len());
}

#[test]
fn the_reader_finds_every_name_of_mksquashfs() {
    let (tree, counts) = tree();
    let dir = tempfile::tempdir().unwrap();
    let (from, path) = (dir.path().join("tree"), dir.path().join("image"));
    for (path, node) in &tree {
        let path = from.join(std::str::from_utf8(path.as_bytes()).unwrap());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        if node.is_directory() {
            std::fs::create_dir_all(&path).unwrap();
        } else {
            std::fs::write(&path, "text").unwrap();
        }
    }
    let arguments = [from.to_str().unwrap(), path.to_str().unwrap(), "-comp", "lz4", "-quiet"];
    let quiet = ["-no-progress"];
    if expect("mksquashfs", &[&arguments[..], &quiet].concat()).is_some() {
        check(&Squashfs::new(std::fs::read(path).unwrap()), &tree, &counts);
    }
}

fn with(all: &[(&str, &[u8])]) -> Metadata {
    let mut meta = Metadata::new(0o755);
    for (name, value) in all {
        meta.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
    }
    meta
}

/// Attributes of every kind on every kind of inode, and how many sets of them there are.
fn attributed() -> (Tree, usize) {
    let mut tree = Tree::new();
    tree.set_root(with(&[("user.root", b"yes")]));
    let long = vec![b'v'; 20_000];
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let program = with(&[("user.note", b"a note"), ("security.capability", &capability)]);
    for name in ["bin/ping", "bin/ping6"] {
        tree.insert(name, Node::file("program").with(program.clone())).unwrap();
    }
    tree.insert("bin/again", Node::hardlink(TreePath::new("bin/ping").unwrap())).unwrap();
    let meta = with(&[("trusted.overlay.opaque", b"y"), ("user.long", &long)]);
    tree.insert("directory", Node::directory().with(meta)).unwrap();
    let meta = with(&[("user.empty", b"")]);
    tree.insert("large", Node::file(vec![7; 300_000]).with(meta)).unwrap();
    tree.insert("plain", Node::file("without")).unwrap();
    let label = with(&[("security.selinux", b"system_u:object_r:etc_t:s0\0")]);
    for (name, node) in [
        ("link", Node::symlink("a target")),
        ("dev/console", Node::char_device(5, 1)),
        ("dev/disk", Node::new(Kind::BlockDevice { major: 259, minor: 300 })),
        ("dev/pipe", Node::new(Kind::Fifo)),
        ("dev/log", Node::new(Kind::Socket)),
    ] {
        tree.insert(name, node.with(label.clone())).unwrap();
    }
    for at in 0..600 {
        let meta = with(&[("user.number", at.to_string().as_bytes())]);
        tree.insert(format!("many/{at}"), Node::file("").with(meta)).unwrap();
    }
    (tree, 5 + 600)
}

#[test]
fn attributes_are_found_as_documented() {
    let (tree, sets) = attributed();
    let image = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap();
    let image = Squashfs::new(bytes(&image));
    let mut numbers: BTreeMap<Xattrs, usize> = BTreeMap::new();
    let inode = number::<8>(&image.bytes, 32);
    let root = image.xattrs(inode).unwrap();
    assert_eq!(root.0, tree.root().xattrs);
    numbers.insert(root.0, root.1);
    for (path, node) in &tree {
        let node = match &node.kind {
            Kind::Hardlink(target) => tree.get(target).unwrap(),
            _ => node,
        };
        let found = image.xattrs(image.find(path.as_bytes()));
        let (xattrs, set) = found.map_or_else(|| (Xattrs::new(), None), |it| (it.0, Some(it.1)));
        assert_eq!(xattrs, node.meta.xattrs, "{path}");
        if let Some(set) = set {
            assert_eq!(*numbers.entry(xattrs).or_insert(set), set, "{path}");
        }
    }
    assert_eq!(numbers.len(), sets);
    let table = number::<8>(&image.bytes, 56);
    assert_eq!(number::<4>(&image.bytes, table + 8), sets);
    // Nothing is behind the table, which Linux checks.
    assert_eq!(number::<8>(&image.bytes, 40), table + 16 + 2 * 8);
}

#[test]
fn the_tools_find_attributes() {
    let (tree, sets) = attributed();
    let image = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path(), "image", Format::Raw, &image);
    let image = path.to_str().unwrap();
    if let Some(text) = expect("unsquashfs", &["-s", image]) {
        assert!(text.contains(&format!("Number of xattr ids {sets}\n")), "{text}");
    }
    for (name, expected) in [
        // It stops at the NUL.
        ("link", "security.selinux=system_u:object_r:etc_t:s0\n"),
        ("many/599", "user.number=599\n"),
        ("large", "user.empty=\n"),
        ("/", "user.root=yes\n"),
    ] {
        let Some(text) = expect("rdsquashfs", &["-x", name, image]) else { return };
        assert_eq!(text, expected, "{name}");
    }
}
