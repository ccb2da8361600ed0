//! ext4 volumes: e2fsck, debugfs, resize2fs, the ext4-view crate and our own reader agree about them.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_diskimg::container::Format;
use kiln_diskimg::ext4::{FileKind, Journal, Options, Reader, Volume, VolumeSize};
use kiln_diskimg::{ByteLen, Content, Limits, Seed};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use proptest::prelude::*;

use crate::tools::{bytes, expect, file, run};

/// An access control list as system calls have it: the owner, user 1000, the group, the mask, others.
fn acl() -> Vec<u8> {
    let mut acl = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, perm, id) in
        [(1_u16, 7_u16, none), (2, 6, 1000), (4, 5, none), (16, 7, none), (32, 4, none)]
    {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&perm.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    acl
}

fn with_xattrs(mut meta: Metadata, xattrs: &[(&str, &[u8])]) -> Metadata {
    for (name, value) in xattrs {
        meta.xattrs.insert(name.as_bytes().to_vec(), value.to_vec());
    }
    meta
}

/// A tree with everything that ext4 can hold.
fn everything() -> Tree {
    let mut tree = Tree::new();
    tree.set_root(Metadata::new(0o750).owned_by(7, 8).modified_at(1_600_000_000));
    let pattern: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let old = Metadata::new(0o4755).modified_at(1_700_000_000).owned_by(1000, 100_000);
    tree.insert("usr/bin/sudo", Node::file(pattern).with(old)).unwrap();
    let late = Metadata::new(0o600).modified_at(4_000_000_000).owned_by(u32::MAX - 1, 1 << 17);
    tree.insert("after 2038", Node::file("later\n").with(late)).unwrap();
    tree.insert("empty", Node::file(Vec::new())).unwrap();
    tree.insert("one block", Node::file(vec![3; 4096])).unwrap();
    tree.insert("empty directory", Node::directory().with(Metadata::new(0o1777))).unwrap();
    tree.insert("Grüße aus Zürich 你好.text", Node::file("hello\n")).unwrap();
    tree.insert(b"not utf-8 \xff".as_slice(), Node::file("bytes\n")).unwrap();
    tree.insert("n".repeat(255), Node::file("a long name\n")).unwrap();
    tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    tree.insert("59", Node::symlink("x".repeat(59))).unwrap();
    tree.insert("60", Node::symlink("y".repeat(60))).unwrap();
    tree.insert("4095", Node::symlink("z".repeat(4095))).unwrap();
    tree.insert("dev/console", Node::char_device(5, 1)).unwrap();
    tree.insert("dev/nvme", Node::new(Kind::BlockDevice { major: 259, minor: 1_000_000 })).unwrap();
    tree.insert("dev/initctl", Node::new(Kind::Fifo)).unwrap();
    tree.insert("dev/log", Node::new(Kind::Socket).with(Metadata::new(0o666))).unwrap();
    let target = TreePath::new("usr/bin/sudo").unwrap();
    tree.insert("a link", Node::hardlink(target.clone())).unwrap();
    tree.insert("usr/bin/sudoedit", Node::hardlink(target)).unwrap();
    let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let meta = with_xattrs(
        Metadata::new(0o755),
        &[("security.capability", &capability), ("user.note", b"a"), ("user.empty", b"")],
    );
    tree.insert("usr/bin/ping", Node::file("ping").with(meta)).unwrap();
    let long = vec![b'v'; 3000];
    let acl = acl();
    let meta = with_xattrs(
        Metadata::new(0o770),
        &[
            ("user.long", &long),
            ("trusted.overlay.opaque", b"y"),
            ("system.posix_acl_access", &acl),
            ("system.posix_acl_default", &acl),
            ("security.selinux", b"system_u:object_r:etc_t:s0\0"),
        ],
    );
    tree.insert("shared", Node::directory().with(meta.clone())).unwrap();
    let mut meta = meta;
    meta.xattrs.remove(b"system.posix_acl_default".as_slice());
    tree.insert("shared/file", Node::file("f").with(meta)).unwrap();
    for at in 0..300 {
        let path = format!("lib/modules/a rather long name of a module {at}.ko.xz");
        tree.insert(path, Node::file(format!("{at}\n"))).unwrap();
    }
    tree
}

fn options() -> Options {
    let mut options = Options::default();
    options.label = Some("kiln root".to_owned());
    options.seed = Seed::new("ext4 tests");
    options.created = 1_700_000_000;
    options
}

fn sized(size: VolumeSize) -> Options {
    let mut options = options();
    options.size = size;
    options
}

/// Without a journal, with one, with three groups and a backup, with two times sixteen groups.
fn variants() -> Vec<(&'static str, Options)> {
    let mut reserved = sized(VolumeSize::Fixed(ByteLen(300 << 20 | 512)));
    reserved.reserved_percent = 5;
    reserved.inodes = Some(5000);
    let mut no_journal = sized(VolumeSize::FromContent { headroom: ByteLen::mib(150) });
    no_journal.journal = Journal::None;
    let mut small_journal = options();
    small_journal.journal = Journal::Blocks(1024);
    vec![
        ("from content", options()),
        ("headroom", sized(VolumeSize::FromContent { headroom: ByteLen::mib(40) })),
        ("no journal", no_journal),
        ("small journal", small_journal),
        ("300 MiB", reserved),
        ("3 GiB", sized(VolumeSize::Fixed(ByteLen::gib(3)))),
        ("a small last group", sized(VolumeSize::Fixed(ByteLen((128 << 20) + 40_000)))),
    ]
}

/// Fails unless e2fsck has nothing to say: its version, five passes, the totals.
pub(crate) fn check(name: &str, image: &Path) {
    let image = image.to_str().unwrap();
    let Some((ok, text)) = run("e2fsck", &["-fn", image]) else { return };
    assert!(ok && text.lines().count() == 7, "{name}: {text}");
}

fn content_of(tree: &Tree, node: &Node) -> Option<Vec<u8>> {
    match &node.kind {
        Kind::File(source) => Some(source.read().unwrap().to_vec()),
        Kind::Hardlink(target) => content_of(tree, tree.get(target).unwrap()),
        _ => None,
    }
}

/// What our reader finds has to be what the tree has, `lost+found` set aside.
fn read_back(name: &str, tree: &Tree, image: &mut Vec<u8>) {
    let mut limits = Limits::default();
    limits.tables = 1 << 30;
    let mut reader = Reader::open(image, &limits).unwrap();
    let root = reader.root().unwrap();
    assert_eq!((root.mode, root.uid), (tree.root().mode, tree.root().uid), "{name}");
    let mut found = reader.list().unwrap();
    if !tree.contains("lost+found") {
        found.retain(|found| found.path.as_bytes() != b"lost+found");
    }
    let paths: Vec<_> = found.iter().map(|found| found.path.clone()).collect();
    let expected: Vec<_> = tree.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, expected, "{name}");
    let mut inodes: BTreeMap<&TreePath, u32> = BTreeMap::new();
    for (found, (path, node)) in found.iter().zip(tree) {
        let (target, node) = match &node.kind {
            Kind::Hardlink(target) => (target, tree.get(target).unwrap()),
            _ => (path, node),
        };
        assert_eq!(*inodes.entry(target).or_insert(found.inode), found.inode, "{name} {path}");
        let kind = match &node.kind {
            Kind::Directory => FileKind::Directory,
            Kind::Symlink(text) => FileKind::Symlink(text.clone()),
            Kind::CharDevice { major, minor } => FileKind::CharDevice(*major, *minor),
            Kind::BlockDevice { major, minor } => FileKind::BlockDevice(*major, *minor),
            Kind::Fifo => FileKind::Fifo,
            Kind::Socket => FileKind::Socket,
            _ => FileKind::File,
        };
        assert_eq!(found.kind, kind, "{name} {path}");
        let meta = &node.meta;
        let theirs = (found.mode, found.uid, found.gid, found.mtime);
        assert_eq!(theirs, (meta.mode, meta.uid, meta.gid, i64::from(meta.mtime)), "{name} {path}");
        assert_eq!(found.xattrs, meta.xattrs, "{name} {path}");
        if let Some(content) = content_of(tree, node) {
            assert!(reader.read(found).unwrap() == content, "{name} {path}");
        }
    }
}

#[test]
fn e2fsck_finds_nothing_and_our_reader_everything() {
    let tree = everything();
    for (name, options) in variants() {
        let volume = Volume::plan(&tree, &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let image = file(dir.path(), "volume", Format::Raw, &volume);
        check(name, &image);
        if volume.len() < 1 << 30 {
            read_back(name, &tree, &mut bytes(&volume));
        }
        if let VolumeSize::FromContent { headroom } = options.size {
            assert!(volume.free() >= headroom, "{name}: {}", volume.free());
        }
        if let Some(text) = expect("dumpe2fs", &["-h", image.to_str().unwrap()]) {
            for line in ["kiln root", "Filesystem state:         clean", &volume.uuid().to_string()]
            {
                assert!(text.contains(line), "{name}: {text}");
            }
            let free = format!("{}\n", volume.free().0 / 4096);
            let theirs = text.lines().find_map(|line| line.strip_prefix("Free blocks:")).unwrap();
            assert_eq!(theirs.trim(), free.trim(), "{name}");
        }
    }
}
