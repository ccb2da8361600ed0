//! SquashFS images: unsquashfs and the `backhand` crate read them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;

use backhand::{FilesystemReader, InnerNode, SquashfsFileReader};
use kiln_diskimg::container::Format;
use kiln_diskimg::squashfs::{Image, Options};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath, host};

use crate::tools::{bytes, expect, file};

fn tree() -> Tree {
    let mut tree = crate::erofs::tree();
    // Links have the target's time here and none of their own there.
    let target = TreePath::new("usr/share/long").unwrap();
    tree.insert("usr/again", Node::hardlink(target)).unwrap();
    tree
}

#[test]
fn unsquashfs_extracts_everything() {
    let tree = tree();
    let dir = tempfile::tempdir().unwrap();
    let spool = tempfile::tempfile().unwrap();
    let image = Image::plan(&tree, &Options::default(), spool).unwrap();
    let path = file(dir.path(), "image", Format::Raw, &image);
    let image = path.to_str().unwrap();
    let Some(text) = expect("unsquashfs", &["-s", image]) else { return };
    assert!(text.contains("Compression lz4") && text.contains("Block size 131072"), "{text}");
    // Hundreds of short files share them.
    let fragments = text.lines().find_map(|line| line.strip_prefix("Number of fragments "));
    assert!((1..10).contains(&fragments.unwrap().parse::<u32>().unwrap()), "{text}");
    let out = dir.path().join("out");
    let quiet = ["-no-progress", "-d", out.to_str().unwrap(), image];
    let said = expect("unsquashfs", &quiet).unwrap();
    let mut extracted = Tree::new();
    let mut policy = host::Policy::default();
    policy.modes = host::Modes::Keep;
    policy.mtime = None;
    policy.hardlinks = true;
    policy.owner = None;
    host::import(&mut extracted, &out, "", &policy).unwrap();
    let paths = |tree: &Tree| tree.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&extracted), paths(&tree), "{said}");
    for (path, node) in &tree {
        let found = extracted.get(path).unwrap();
        match (&found.kind, &node.kind) {
            (Kind::File(found), Kind::File(wanted)) => {
                assert!(found.read().unwrap() == wanted.read().unwrap(), "{path}");
            }
            // Which of the two names is the link is the host's to say.
            (Kind::Hardlink(_), _) | (_, Kind::Hardlink(_)) => {}
            (found, wanted) => assert_eq!(found, wanted, "{path}"),
        }
        if !matches!(node.kind, Kind::Hardlink(_)) {
            assert_eq!(found.meta.mode, node.meta.mode, "{path}");
            assert_eq!(found.meta.mtime, node.meta.mtime, "{path}");
        }
    }
}

/// What a node is, for a comparison; none of the hard link's own.
fn shown(tree: &Tree, node: &Node) -> (String, Option<Vec<u8>>) {
    // As Linux stores it (`new_encode_dev`).
    let device = |major: u32, minor: u32| (minor & 0xff) | major << 8 | (minor & !0xff) << 12;
    let (kind, content) = match &node.kind {
        Kind::Directory => ("directory".to_owned(), None),
        Kind::File(source) => ("file".to_owned(), Some(source.read().unwrap().to_vec())),
        Kind::Symlink(target) => ("link".to_owned(), Some(target.clone())),
        Kind::CharDevice { major, minor } => (format!("c {}", device(*major, *minor)), None),
        Kind::BlockDevice { major, minor } => (format!("b {}", device(*major, *minor)), None),
        Kind::Fifo => ("pipe".to_owned(), None),
        Kind::Socket => ("socket".to_owned(), None),
        Kind::Hardlink(target) => return shown(tree, tree.get(target).unwrap()),
        other => panic!("{other:?}"),
    };
    let meta = match &node.kind {
        Kind::Hardlink(target) => &tree.get(target).unwrap().meta,
        _ => &node.meta,
    };
    (format!("{kind} {:o} {}:{} at {}", meta.mode, meta.uid, meta.gid, meta.mtime), content)
}

/// The same of a node of backhand's.
fn seen(
    image: &FilesystemReader<'_>,
    node: &backhand::Node<SquashfsFileReader>,
) -> (String, Option<Vec<u8>>) {
    let (kind, content) = match &node.inner {
        InnerNode::Dir(_) => ("directory".to_owned(), None),
        InnerNode::File(file) => {
            let mut content = Vec::new();
            image.file(file).reader().read_to_end(&mut content).unwrap();
            ("file".to_owned(), Some(content))
        }
        InnerNode::Symlink(link) => {
            ("link".to_owned(), Some(link.link.as_os_str().as_bytes().to_vec()))
        }
        InnerNode::CharacterDevice(it) => (format!("c {}", it.device_number), None),
        InnerNode::BlockDevice(it) => (format!("b {}", it.device_number), None),
        InnerNode::NamedPipe => ("pipe".to_owned(), None),
        InnerNode::Socket => ("socket".to_owned(), None),
    };
    let meta = &node.header;
    (format!("{kind} {:o} {}:{} at {}", meta.permissions, meta.uid, meta.gid, meta.mtime), content)
}

#[test]
fn backhand_reads_everything() {
    let mut tree = tree();
    // It takes targets of at most 255 bytes.
    tree.remove(&TreePath::new("long link").unwrap());
    tree.insert("long link", Node::symlink("x".repeat(255))).unwrap();
    let meta = Metadata::new(0o4711).owned_by(100_000, 4_000_000_000).modified_at(u32::MAX);
    tree.insert("special/console", Node::char_device(5, 1).with(meta.clone())).unwrap();
    let disk = Kind::BlockDevice { major: 259, minor: 300 };
    tree.insert("special/disk", Node::new(disk).with(meta.clone())).unwrap();
    tree.insert("special/log", Node::new(Kind::Socket).with(meta.clone())).unwrap();
    tree.insert("special/file", Node::file("mine").with(meta)).unwrap();
    let image = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap();
    let image = FilesystemReader::from_reader(Cursor::new(bytes(&image))).unwrap();
    let mut found: BTreeMap<&[u8], _> = image
        .files()
        .map(|node| (&node.fullpath.as_os_str().as_bytes()[1..], seen(&image, node)))
        .collect();
    let root = Node::directory().with(tree.root().clone());
    assert_eq!(found.remove(&b""[..]), Some(shown(&tree, &root)));
    let wanted: BTreeSet<&[u8]> = tree.iter().map(|(path, _)| path.as_bytes()).collect();
    assert_eq!(found.keys().copied().collect::<BTreeSet<_>>(), wanted);
    for (path, node) in &tree {
        // No `assert_eq`, which would print long files.
        let (found, wanted) = (&found[path.as_bytes()], shown(&tree, node));
        assert_eq!(found.0, wanted.0, "{path}");
        assert!(found.1 == wanted.1, "{path}");
    }
}

#[test]
fn the_same_whatever_the_threads() {
    let mut images = Vec::new();
    for threads in [1, 4] {
        let mut options = Options::default();
        options.threads = NonZeroUsize::new(threads);
        let image = Image::plan(&tree(), &options, Cursor::new(Vec::new())).unwrap();
        images.push(bytes(&image));
        images.push(image.into_image().unwrap().into_inner());
    }
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn attributes_of_other_kinds_are_a_problem() {
    let mut tree = Tree::new();
    for (name, attribute) in [("a", "system.posix_acl_access"), ("b", "user."), ("c", "user.c")] {
        let mut meta = Metadata::new(0o644);
        meta.xattrs.insert(attribute.as_bytes().to_vec(), Vec::new());
        tree.insert(name, Node::file("").with(meta)).unwrap();
    }
    let error = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap_err();
    insta::assert_snapshot!(error, @r#"
    squashfs image: 2 problems
      a: the attribute "system.posix_acl_access" is of none of the kinds user, trusted and security
      b: the attribute "user." is of none of the kinds user, trusted and security
    "#);
}
