//! Our reader of EROFS against volumes of `mkfs.erofs`, and against bad ones.

use std::collections::BTreeMap;
use std::path::Path;

use kiln_diskimg::Limits;
use kiln_diskimg::container::BlockSource;
use kiln_diskimg::erofs::{Options, Reader, Volume};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath, host};
use proptest::prelude::*;

use crate::tools::{bytes, expect};

/// Reads a volume and compares it with a tree.
fn read_back(name: &str, tree: &Tree, image: &mut dyn BlockSource) {
    let mut reader = Reader::open(image, &Limits::default()).unwrap();
    let list = reader.list().unwrap();
    let paths: Vec<_> = list.iter().map(|found| found.path.clone()).collect();
    let expected: Vec<_> = tree.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, expected, "{name}");
    let inodes: BTreeMap<&TreePath, u64> =
        list.iter().map(|found| (&found.path, found.inode)).collect();
    for (found, (path, node)) in list.iter().zip(tree) {
        let node = match &node.kind {
            Kind::Hardlink(target) => {
                assert_eq!(found.inode, inodes[target], "{name} {path}");
                tree.get(target).unwrap()
            }
            _ => node,
        };
        let mut meta = Metadata::new(found.mode & 0o7777)
            .owned_by(found.uid, found.gid)
            .modified_at(u32::try_from(found.mtime).unwrap());
        meta.xattrs = reader.xattrs(found).unwrap();
        assert_eq!(meta, node.meta, "{name} {path}");
        let kind = match &node.kind {
            Kind::Directory => 0o4,
            Kind::File(source) => {
                assert!(reader.read(found).unwrap() == *source.read().unwrap(), "{name} {path}");
                0o10
            }
            Kind::Symlink(target) => {
                assert_eq!(reader.read(found).unwrap(), *target, "{name} {path}");
                0o12
            }
            Kind::CharDevice { major, minor } => {
                assert_eq!(found.device, Some((*major, *minor)));
                0o2
            }
            Kind::BlockDevice { major, minor } => {
                assert_eq!(found.device, Some((*major, *minor)));
                0o6
            }
            Kind::Fifo => 0o1,
            _ => 0o14,
        };
        assert_eq!(found.mode >> 12, kind, "{name} {path}");
    }
}

/// What `fsck.erofs` does not extract, too.
fn tree() -> Tree {
    let mut tree = crate::erofs::tree();
    tree.insert("dev/null", Node::char_device(1, 3)).unwrap();
    tree.insert("dev/nvme", Node::new(Kind::BlockDevice { major: 259, minor: 70_000 })).unwrap();
    tree.insert("run/socket", Node::new(Kind::Socket)).unwrap();
    let mut meta = Metadata::new(0o4755).owned_by(70_000, 3).modified_at(u32::MAX);
    meta.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    meta.xattrs.insert(b"user.long".to_vec(), vec![7; 5000]);
    tree.insert("bin/set-id", Node::file("x").with(meta.clone())).unwrap_err();
    tree.insert("usr/bin/set-id", Node::file(vec![5; 9999]).with(meta.clone())).unwrap();
    let target = TreePath::new("usr/bin/set-id").unwrap();
    let mut link = Node::hardlink(target);
    link.meta = meta.clone();
    tree.insert("usr/bin/again", link).unwrap();
    meta.mode = 0o700;
    tree.set_root(meta);
    tree
}

#[cfg(feature = "lz4")]
fn every_compression(clusters: [usize; 2]) -> Vec<(kiln_diskimg::erofs::Algorithm, usize)> {
    use kiln_diskimg::erofs::Algorithm::{Lz4, Lz4High};
    clusters.iter().flat_map(|cluster| [(Lz4, *cluster), (Lz4High, *cluster)]).collect()
}

#[test]
fn everything_is_read_as_it_was_written() {
    let tree = tree();
    read_back("plain", &tree, &mut bytes(&Volume::plan(&tree, &Options::default()).unwrap()));
    #[cfg(feature = "lz4")]
    for (algorithm, cluster) in every_compression([4096, 65_536]) {
        use kiln_diskimg::erofs::{Compressed, Compression};
        let mut compression = Compression::new(algorithm);
        compression.cluster = cluster;
        let spool = std::io::Cursor::new(Vec::new());
        let volume = Compressed::plan(&tree, &Options::default(), compression, spool).unwrap();
        read_back("lz4", &tree, &mut bytes(&volume));
    }
}

/// Puts files and directories of a tree onto the host.
fn put(tree: &Tree, dir: &Path) -> Tree {
    for (path, node) in tree {
        let at = dir.join(path.to_string());
        match &node.kind {
            Kind::Directory => std::fs::create_dir(&at).unwrap(),
            Kind::File(source) => std::fs::write(&at, source.read().unwrap()).unwrap(),
            _ => {}
        }
    }
    let mut put = Tree::new();
    let mut policy = host::Policy::default();
    policy.modes = host::Modes::Keep;
    policy.mtime = Some(77);
    policy.owner = Some((5, 6));
    host::import(&mut put, dir, "", &policy).unwrap();
    put
}

#[test]
fn volumes_of_mkfs_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("source");
    std::fs::create_dir(&source).unwrap();
    let tree = put(&crate::erofs::tree(), &source);
    let mut variants: Vec<&[&str]> = vec![&[], &["-Eforce-inode-extended"], &["--chunksize=8192"]];
    if cfg!(feature = "lz4") {
        variants.extend([
            &["-zlz4"][..],
            &["-zlz4", "-C65536"],
            &["-zlz4hc,9", "-Eztailpacking"],
            &["-zlz4", "-C16384", "-Eztailpacking"],
            &["-zlz4", "-Enoinline_data"],
        ]);
    }
    for extra in variants {
        let image = dir.path().join("image");
        let image = image.to_str().unwrap();
        let common = ["-T77", "--all-root", "--quiet", "--force-uid=5", "--force-gid=6"];
        let arguments = [&common[..], extra, &[image, source.to_str().unwrap()]].concat();
        if expect("mkfs.erofs", &arguments).is_none() {
            return;
        }
        read_back(&format!("{extra:?}"), &tree, &mut std::fs::read(image).unwrap());
    }
}

fn volume() -> Vec<u8> {
    let mut tree = Tree::new();
    let text: Vec<u8> = (0..6000_u32).flat_map(|at| format!("{at} ").into_bytes()).collect();
    tree.insert("directory/text", Node::file(text)).unwrap();
    tree.insert("directory/link", Node::symlink("text")).unwrap();
    let mut meta = Metadata::new(0o644);
    meta.xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
    tree.insert("small", Node::file("small\n").with(meta)).unwrap();
    #[cfg(feature = "lz4")]
    {
        use kiln_diskimg::erofs::{Algorithm, Compressed, Compression};
        let mut compression = Compression::new(Algorithm::Lz4);
        compression.cluster = 8192;
        let spool = std::io::Cursor::new(Vec::new());
        bytes(&Compressed::plan(&tree, &Options::default(), compression, spool).unwrap())
    }
    #[cfg(not(feature = "lz4"))]
    bytes(&Volume::plan(&tree, &Options::default()).unwrap())
}

#[test]
fn a_changed_superblock_does_not_pass() {
    let mut image = volume();
    image[1024 + 64] = b'x';
    let error = Reader::open(&mut image, &Limits::default()).unwrap_err().to_string();
    assert!(error.starts_with("erofs: byte 1028: the checksum is "), "{error}");
}

#[test]
fn limits_hold() {
    for (change, expected) in [
        ((|limits| limits.files = 2) as fn(&mut Limits), "number of files is 3"),
        (|limits| limits.depth = 0, "depth is 1"),
        (|limits| limits.tables = 10, "length of all directories is "),
    ] {
        let mut limits = Limits::default();
        change(&mut limits);
        let mut image = volume();
        let mut reader = Reader::open(&mut image, &limits).unwrap();
        let error = reader.list().unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    let mut limits = Limits::default();
    limits.file_len = 100;
    let mut image = volume();
    let mut reader = Reader::open(&mut image, &limits).unwrap();
    let list = reader.list().unwrap();
    let text = list.iter().find(|found| found.len > 100 && found.is_file()).unwrap();
    let error = reader.read(text).unwrap_err().to_string();
    assert!(error.contains("length of a file is "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_volume_is_an_error_or_something_else_but_no_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        static IMAGE: std::sync::OnceLock<(Vec<u8>, Vec<usize>)> = std::sync::OnceLock::new();
        let (image, interesting) = IMAGE.get_or_init(|| {
            let mut image = volume();
            // Without its checksum a superblock can be changed.
            image[1024 + 8] &= !1;
            let places = (0..image.len()).filter(|at| image[*at] != 0 || *at % 32 < 20).collect();
            (image, places)
        });
        let mut image = image.clone();
        for (index, byte) in changes {
            image[interesting[index.index(interesting.len())]] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        if let Ok(mut reader) = Reader::open(&mut image, &Limits::default())
            && let Ok(list) = reader.list()
        {
            for found in list {
                let _ = (reader.read(&found), reader.xattrs(&found));
            }
        }
    }
}

#[test]
fn an_inode_at_the_end_is_no_error_to_the_checker() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let mut tree = Tree::new();
    // Inodes of 64 bytes: among so many counts is one that fills the last block.
    for count in 0..66 {
        let image = bytes(&Volume::plan(&tree, &Options::default()).unwrap());
        std::fs::write(&path, &image).unwrap();
        if expect("fsck.erofs", &[path.to_str().unwrap()]).is_none() {
            return;
        }
        let meta = Metadata::new(0o600).owned_by(70_000, 1);
        tree.insert(format!("{count:02}"), Node::file("").with(meta)).unwrap();
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let name = "[a-zA-Z0-9 ._+~!-]{0,40}[a-z0-9]";
    let path = prop::collection::vec(name, 1..4);
    // Lengths around a block, of bytes that compress and that do not.
    let content = (0..20_000_usize, any::<u32>(), 1..64_u32).prop_map(|(len, seed, step)| {
        (0..len as u64)
            .map(|at| (at.wrapping_mul(u64::from(seed)) >> step).to_le_bytes()[0])
            .collect()
    });
    let meta = (0..0o10_000_u16, 0..200_000_u32, 0..3_u32);
    prop::collection::vec((path, content, meta), 0..30).prop_map(|files| {
        let mut tree = Tree::new();
        for (path, content, (mode, owner, time)) in files {
            let content: Vec<u8> = content;
            let meta = Metadata::new(mode).owned_by(owner, 1).modified_at(time);
            // Names that collide are the subject of another test.
            let _ = tree.insert(path.join("/"), Node::file(content).with(meta));
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_is_clean_and_read_back(tree in trees()) {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path().join("image");
        let judge = |name: &str, bytes: &mut Vec<u8>| {
            std::fs::write(&image, &*bytes).unwrap();
            expect("fsck.erofs", &["--extract", image.to_str().unwrap()]);
            read_back(name, &tree, bytes);
        };
        judge("plain", &mut bytes(&Volume::plan(&tree, &Options::default()).unwrap()));
        #[cfg(feature = "lz4")]
        for (algorithm, cluster) in every_compression([4096, 16_384]) {
            use kiln_diskimg::erofs::{Compressed, Compression};
            let mut compression = Compression::new(algorithm);
            compression.cluster = cluster;
            let spool = std::io::Cursor::new(Vec::new());
            let volume = Compressed::plan(&tree, &Options::default(), compression, spool).unwrap();
            judge("lz4", &mut bytes(&volume));
        }
    }
}
