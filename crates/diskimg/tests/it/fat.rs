//! FAT volumes: fsck.vfat, mtools, the fatfs crate and our own reader agree about them.

use std::io::{Cursor, Read};

use kiln_diskimg::container::Format;
use kiln_diskimg::fat::{Kind, Options, Reader, Volume, VolumeSize};
use kiln_diskimg::{ByteLen, Content, Limits};
use kiln_tree::{Kind as NodeKind, Node, Tree, TreePath};

use crate::tools::{bytes, expect, file, options, tree};

/// Every kind, from content and of a fixed size.
fn variants() -> Vec<(String, Options)> {
    let mut variants = Vec::new();
    for kind in [Kind::Fat12, Kind::Fat16, Kind::Fat32] {
        let mut options = options();
        options.kind = Some(kind);
        options.size = VolumeSize::FromContent { headroom: ByteLen(700_000) };
        variants.push((format!("{kind} from content"), options));
    }
    for (mib, cluster) in [(4, None), (40, None), (280, None), (80, Some(1024))] {
        let mut options = options();
        options.size = VolumeSize::Fixed(ByteLen::mib(mib));
        options.cluster = cluster;
        variants.push((format!("{mib} MiB {cluster:?}"), options));
    }
    variants
}

fn content_of(tree: &Tree, path: &TreePath) -> Option<Vec<u8>> {
    match &tree.get(path)?.kind {
        NodeKind::File(source) => Some(source.read().unwrap().to_vec()),
        NodeKind::Hardlink(target) => content_of(tree, target),
        _ => None,
    }
}

#[test]
fn fsck_finds_nothing_and_mtools_reads_everything() {
    let tree = tree();
    for (name, options) in variants() {
        let volume = Volume::plan(&tree, &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let image = file(dir.path(), "volume", Format::Raw, &volume);
        let image = image.to_str().unwrap();
        if let Some(text) = expect("fsck.vfat", &["-n", image]) {
            // fsck says only its version and the totals; everything else is a complaint.
            assert_eq!(text.lines().count(), 2, "{name}: {text}");
            let used = text.lines().last().unwrap();
            assert!(used.contains("files, "), "{name}: {text}");
        }
        let out = dir.path().join("out");
        std::fs::create_dir(&out).unwrap();
        if expect("mcopy", &["-s", "-Q", "-i", image, "::*", out.to_str().unwrap()]).is_some() {
            let mut imported = Tree::new();
            let policy = kiln_tree::host::Policy::default();
            kiln_tree::host::import(&mut imported, &out, "", &policy).unwrap();
            let names = |tree: &Tree| tree.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
            assert_eq!(names(&imported), names(&tree), "{name}");
            for (path, _) in &tree {
                assert_eq!(content_of(&imported, path), content_of(&tree, path), "{name} {path}");
            }
        }
    }
}

#[test]
fn the_fatfs_crate_and_our_reader_read_everything() {
    let mut tree = tree();
    // Beyond 16 bits, where mtools gives up.
    tree.insert("🦀 ferris.text", Node::file("crab\n")).unwrap();
    for (name, options) in variants() {
        let volume = Volume::plan(&tree, &options).unwrap();
        let mut image = bytes(&volume);
        read_back(&name, &tree, &mut image);
    }
}

/// Reads a volume with both readers and compares with the tree.
pub(crate) fn read_back(name: &str, tree: &Tree, image: &mut Vec<u8>) {
    let mut reader = Reader::open(image, &Limits::default()).unwrap();
    let list = reader.list().unwrap();
    let paths: Vec<_> = list.iter().map(|found| found.path.clone()).collect();
    let expected: Vec<_> = tree.iter().map(|(path, _)| path.clone()).collect();
    assert_eq!(paths, expected, "{name}");
    for found in &list {
        let content = content_of(tree, &found.path);
        assert_eq!(found.directory, content.is_none(), "{name} {}", found.path);
        if let Some(content) = content {
            assert_eq!(reader.read(found).unwrap(), content, "{name} {}", found.path);
        }
    }
    let disk = fatfs::FileSystem::new(Cursor::new(image), fatfs::FsOptions::new()).unwrap();
    for (path, node) in tree {
        let path_text = path.to_string();
        if node.is_directory() {
            disk.root_dir().open_dir(&path_text).unwrap();
            continue;
        }
        let mut content = Vec::new();
        disk.root_dir().open_file(&path_text).unwrap().read_to_end(&mut content).unwrap();
        assert_eq!(Some(content), content_of(tree, path), "{name} {path}");
    }
    let stats = disk.stats().unwrap();
    assert!(stats.free_clusters() <= stats.total_clusters(), "{name}");
}

#[test]
fn free_space_is_what_was_asked_for() {
    let mut options = options();
    options.size = VolumeSize::FromContent { headroom: ByteLen::mib(40) };
    let volume = Volume::plan(&tree(), &options).unwrap();
    assert!(volume.free() >= ByteLen::mib(40), "{}", volume.free());
    let mut image = bytes(&volume);
    let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
    let free = reader.free_clusters().unwrap().unwrap();
    assert_eq!(ByteLen(free * volume.geometry().cluster_len()), volume.free());
    assert_eq!(reader.label().as_deref(), Some("KILN TEST"));
    assert_eq!((reader.volume_id(), reader.hidden_sectors()), (0x1234_abcd, 2048));
}

#[test]
fn mtools_agrees_about_label_and_times() {
    let volume = Volume::plan(&tree(), &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    let Some(text) = expect("mdir", &["-i", image.to_str().unwrap(), "::EFI/BOOT"]) else { return };
    assert!(text.contains("KILN TEST"), "{text}");
    assert!(text.contains("1234-ABCD"), "{text}");
    assert!(text.contains("2023-11-14  22:13"), "{text}");
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut tree = Tree::new();
    tree.insert("boot/Config", Node::file("a")).unwrap();
    tree.insert("boot/config", Node::file("b")).unwrap();
    tree.insert("what?", Node::file("c")).unwrap();
    tree.insert("dot.", Node::file("d")).unwrap();
    tree.insert("link", Node::symlink("boot")).unwrap();
    tree.insert("dev/console", Node::char_device(5, 1)).unwrap();
    let huge = kiln_tree::Source::File { path: "/huge".into(), len: 1 << 32 };
    tree.insert("huge", Node::file(huge)).unwrap();
    let mut options = Options::default();
    options.label = Some("lower".to_owned());
    options.cluster = Some(1000);
    let message = Volume::plan(&tree, &options).unwrap_err().to_string();
    insta::assert_snapshot!(message, @r#"
    fat volume: 8 problems
      label "lower": expected 1 to 11 upper-case letters, digits or signs other than "*+,./:;<=>?[\]|
      boot/Config and boot/config: the names differ only in case
      dev/console: FAT holds no character device
      dot.: the name does not fit VFAT: it ends in a dot or a space, which Windows drops
      huge: 4294967296 bytes, a file on FAT has at most 4294967295
      link: FAT holds no symbolic link
      what?: the name does not fit VFAT: it contains '?'
      clusters of 1000 bytes, expected a power of two from 512 to 32768
    "#);
}

#[test]
fn too_small_says_how_much_would_do() {
    let mut tree = Tree::new();
    tree.insert("big", Node::file(vec![1; 50 << 20])).unwrap();
    let mut options = Options::default();
    options.size = VolumeSize::Fixed(ByteLen::mib(40));
    let message = Volume::plan(&tree, &options).unwrap_err().to_string();
    let digits: String = message
        .rsplit("size to ")
        .next()
        .unwrap()
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    options.size = VolumeSize::Fixed(ByteLen(digits.parse().unwrap()));
    let volume = Volume::plan(&tree, &options).unwrap();
    assert!(volume.len() < 52 << 20, "{message}");
}

#[test]
fn a_file_that_changed_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    std::fs::write(&path, [1; 1000]).unwrap();
    let mut tree = Tree::new();
    tree.insert("kernel", kiln_tree::host::file(&path, 0o644).unwrap()).unwrap();
    let volume = Volume::plan(&tree, &Options::default()).unwrap();
    std::fs::write(&path, [1; 999]).unwrap();
    let out = dir.path().join("image");
    let error = kiln_diskimg::container::write_file(Format::Raw, &volume, &out).unwrap_err();
    assert!(error.to_string().contains("999"), "{error}");
    // Nothing half-written stays.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
}
