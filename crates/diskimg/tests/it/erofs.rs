//! EROFS volumes: erofs-utils, the erofs-rs crate and our own reader agree about them.

use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kiln_diskimg::container::Format;
use kiln_diskimg::erofs::{Options, Volume};
use kiln_diskimg::{Content, Seed};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath, host};

use crate::tools::{bytes, expect, file};

/// Only root can make devices and give files away.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|found| found.uid() == 0)
}

/// A tree with everything that an EROFS volume can hold and `fsck.erofs` can extract.
pub(crate) fn tree() -> Tree {
    let mut tree = Tree::new();
    tree.set_root(Metadata::new(0o755).modified_at(1_700_000_000));
    let text: Vec<u8> =
        (0..90_000_u32).flat_map(|at| format!("line {at}\n").into_bytes()).collect();
    for (path, len) in
        [("empty", 0), ("one", 1), ("block", 4096), ("most", 4064), ("more", 4065), ("two", 8191)]
    {
        let content: Vec<u8> = text.iter().copied().cycle().skip(len).take(len).collect();
        tree.insert(format!("lengths/{path}"), Node::file(content)).unwrap();
    }
    let noise: Vec<u8> = (0..400_000_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) ^ at.rotate_left(13)).to_le_bytes()[3])
        .collect();
    tree.insert("usr/lib/noise", Node::file(noise)).unwrap();
    tree.insert("usr/share/text", Node::file(text.clone())).unwrap();
    tree.insert("usr/share/zeroes", Node::file(vec![0; 3_000_000])).unwrap();
    tree.insert("usr/share/long", Node::file(text.repeat(3))).unwrap();
    tree.insert("usr/bin/tool", Node::executable(text[..100_001].to_vec())).unwrap();
    tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    tree.insert("long link", Node::symlink(vec![b'x'; 4095])).unwrap();
    tree.insert("run/pipe", Node::new(Kind::Fifo)).unwrap();
    for at in 0..600 {
        let meta = Metadata::new(0o600).modified_at(1_600_000_000 + at);
        let node = Node::file(format!("{at}\n")).with(meta);
        tree.insert(format!("many/a rather long name of a module {at}.ko.xz"), node).unwrap();
    }
    // Names before and after "." and "..".
    for name in ["!", "-", "+a", ".a", "..b", "~", "Grüße 你好 🦀"] {
        tree.insert(format!("names/{name}"), Node::file(name)).unwrap();
    }
    if is_root() {
        tree.insert("dev/console", Node::char_device(5, 1)).unwrap();
        let disk = Kind::BlockDevice { major: 259, minor: 300 };
        tree.insert("dev/disk", Node::new(disk)).unwrap();
        for (name, owner) in [("small", 1000), ("large", 100_000)] {
            let meta = Metadata::new(0o750).owned_by(owner, owner + 1).modified_at(5);
            tree.insert(format!("home/{name}"), Node::file(name).with(meta)).unwrap();
        }
    }
    tree
}

fn options() -> Options {
    let mut options = Options::default();
    options.label = Some("kiln test".to_owned());
    options.seed = Seed::new("erofs");
    options
}

/// Checks a volume with `fsck.erofs`, extracts it and compares what came out.
pub(crate) fn check(name: &str, tree: &Tree, dir: &Path, image: &Path) {
    let out = dir.join("out");
    let extract = format!("--extract={}", out.display());
    let arguments = ["-d0", "--preserve", "--overwrite", &extract, image.to_str().unwrap()];
    let Some(text) = expect("fsck.erofs", &arguments) else { return };
    assert!(!text.contains("<E>"), "{name}: {text}");
    let mut extracted = Tree::new();
    let mut policy = host::Policy::default();
    policy.modes = host::Modes::Keep;
    policy.mtime = None;
    if is_root() {
        policy.owner = None;
    }
    host::import(&mut extracted, &out, "", &policy).unwrap();
    let paths = |tree: &Tree| tree.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&extracted), paths(tree), "{name}");
    for (path, node) in tree {
        let found = extracted.get(path).unwrap();
        let wanted = resolve(tree, node);
        match (&found.kind, &wanted.kind) {
            (Kind::File(found), Kind::File(wanted)) => {
                assert!(found.read().unwrap() == wanted.read().unwrap(), "{name} {path}");
            }
            (found, wanted) => assert_eq!(found, wanted, "{name} {path}"),
        }
        // fsck.erofs gives links no time, and loses set-id bits when it gives a file away.
        if !matches!(wanted.kind, Kind::Symlink(_)) {
            let mut meta = wanted.meta.clone();
            meta.xattrs.clear();
            assert_eq!(found.meta, meta, "{name} {path}");
        }
    }
    std::fs::remove_dir_all(&out).unwrap();
}

/// What a hard link names.
fn resolve<'tree>(tree: &'tree Tree, node: &'tree Node) -> &'tree Node {
    match &node.kind {
        Kind::Hardlink(target) => tree.get(target).unwrap(),
        _ => node,
    }
}

#[test]
fn fsck_finds_nothing_and_extracts_everything() {
    let tree = tree();
    let volume = Volume::plan(&tree, &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    check("plain", &tree, dir.path(), &image);
    if let Some(text) = expect("dump.erofs", &["-s", image.to_str().unwrap()]) {
        let inodes = format!("inode count:                       {}\n", tree.len() + 1);
        assert!(text.contains(&inodes), "{text}");
    }
}

#[test]
fn the_same_whatever_the_threads_and_the_order() {
    let tree = tree();
    let mut reversed = Tree::new();
    reversed.set_root(tree.root().clone());
    for (path, node) in tree.iter().rev() {
        reversed.insert(path.as_bytes(), node.clone()).unwrap();
    }
    let mut options = options();
    let image = bytes(&Volume::plan(&tree, &options).unwrap());
    for threads in [1, 5] {
        options.threads = NonZeroUsize::new(threads);
        assert!(image == bytes(&Volume::plan(&reversed, &options).unwrap()), "{threads}");
    }
}

#[test]
fn hard_links_share_an_inode() {
    let mut tree = Tree::new();
    tree.insert("b/file", Node::file("text")).unwrap();
    for name in ["a", "c"] {
        tree.insert(name, Node::hardlink(TreePath::new("b/file").unwrap())).unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "v", Format::Raw, &Volume::plan(&tree, &options()).unwrap());
    check("hard links", &tree, dir.path(), &image);
    let dump = |path| expect("dump.erofs", &[&format!("--path={path}"), image.to_str().unwrap()]);
    if let (Some(a), Some(c)) = (dump("/a"), dump("/c")) {
        assert!(a.contains("Links: 3"), "{a}");
        let nid =
            |text: &str| text.lines().find(|line| line.starts_with("NID:")).map(str::to_owned);
        assert_eq!(nid(&a), nid(&c));
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut tree = Tree::new();
    tree.insert("link", Node::hardlink(TreePath::new("nothing").unwrap())).unwrap();
    tree.insert("long", Node::symlink(vec![b'x'; 4096])).unwrap();
    tree.insert("device", Node::char_device(5000, 1)).unwrap();
    let mut meta = Metadata::new(0o644);
    meta.xattrs.insert(b"other.kind".to_vec(), b"value".to_vec());
    tree.insert("attributes", Node::file("").with(meta)).unwrap();
    let huge = kiln_tree::Source::File { path: "/huge".into(), len: 1 << 45 };
    tree.insert("huge", Node::file(huge)).unwrap();
    let mut options = options();
    options.label = Some("seventeen letters".to_owned());
    let message = Volume::plan(&tree, &options).unwrap_err().to_string();
    insta::assert_snapshot!(message, @r#"
    erofs volume: 6 problems
      link is a hard link to nothing, which is not a regular file of the tree
      attributes: the attribute "other.kind" is of none of the kinds user, trusted, security and POSIX access control list
      device: device 5000:1, at most 4095:1048575 can be stored
      long: a symbolic link of 4096 bytes, expected 1 to 4095
      label "seventeen letters": 17 bytes, expected at most 16 and no NUL
      the volume would have 34359738384 KiB, at most 17179869180 KiB
    "#);
}

#[test]
fn a_file_that_changed_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    std::fs::write(&path, [1; 5000]).unwrap();
    let mut tree = Tree::new();
    tree.insert("kernel", host::file(&path, 0o644).unwrap()).unwrap();
    let volume = Volume::plan(&tree, &Options::default()).unwrap();
    for (len, found) in [(4999, "4999"), (5001, "5001"), (50_000, "5001")] {
        std::fs::write(&path, vec![1; len]).unwrap();
        let error = volume.write_to(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("kernel") && error.contains(found), "{error}");
    }
}

#[cfg(feature = "lz4")]
mod compressed {
    use std::io::Cursor;

    use kiln_diskimg::erofs::{Algorithm, Compressed, Compression};

    use super::*;

    fn variants() -> Vec<Compression> {
        let clusters = [4096, 16_384, 65_536, 1 << 20];
        let fast = clusters.map(|cluster| (Algorithm::Lz4, cluster));
        let high = clusters.map(|cluster| (Algorithm::Lz4High, cluster));
        let variants = fast.into_iter().chain(high).map(|(algorithm, cluster)| {
            let mut compression = Compression::new(algorithm);
            compression.cluster = cluster;
            compression
        });
        variants.collect()
    }

    #[test]
    fn fsck_finds_nothing_and_extracts_everything() {
        let tree = tree();
        for compression in variants() {
            let name = format!("{compression:?}");
            let dir = tempfile::tempdir().unwrap();
            let spool = tempfile::tempfile().unwrap();
            let volume = Compressed::plan(&tree, &options(), compression, spool).unwrap();
            let image = file(dir.path(), "volume", Format::Raw, &volume);
            check(&name, &tree, dir.path(), &image);
            assert!(volume.len() < tree.content_len() / 2, "{name} {}", volume.len());
        }
    }

    #[test]
    fn the_same_whatever_the_threads_and_in_place() {
        let tree = tree();
        for compression in variants().into_iter().step_by(2) {
            let mut images = Vec::new();
            for threads in [1, 2, 5] {
                let mut options = options();
                options.threads = NonZeroUsize::new(threads);
                let memory = Cursor::new(Vec::new());
                let volume = Compressed::plan(&tree, &options, compression, memory).unwrap();
                images.push(bytes(&volume));
                images.push(volume.into_image().unwrap().into_inner());
            }
            assert!(images.windows(2).all(|pair| pair[0] == pair[1]), "{compression:?}");
        }
    }

    /// Several pieces of one file, each of which begins anew.
    #[test]
    fn a_long_file_is_smaller_when_it_may_take_longer() {
        let text: Vec<u8> = (0..900_000_u32)
            .flat_map(|at| format!("{:x} {} ", at.wrapping_mul(77_777), at % 777).into_bytes())
            .collect();
        assert!(text.len() > 10 << 20);
        let mut tree = Tree::new();
        tree.insert("text", Node::file(text)).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let lengths = [Algorithm::Lz4, Algorithm::Lz4High].map(|algorithm| {
            let mut compression = Compression::new(algorithm);
            compression.cluster = 65_536;
            let spool = tempfile::tempfile().unwrap();
            let volume = Compressed::plan(&tree, &options(), compression, spool).unwrap();
            let image = file(dir.path(), "volume", Format::Raw, &volume);
            check(&format!("{algorithm:?}"), &tree, dir.path(), &image);
            volume.len()
        });
        assert!(lengths[1] * 10 < lengths[0] * 9, "{lengths:?}");
    }

    #[test]
    fn clusters_have_bounds() {
        for cluster in [0, 4095, 6000, 2 << 20] {
            let mut compression = Compression::new(Algorithm::Lz4);
            compression.cluster = cluster;
            let memory = Cursor::new(Vec::new());
            let error = Compressed::plan(&tree(), &options(), compression, memory).unwrap_err();
            assert!(error.to_string().contains("expected a multiple of 4096"), "{error}");
        }
    }
}
