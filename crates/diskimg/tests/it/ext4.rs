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
    tree.insert("4095", Node::symlink("zz/".repeat(1365))).unwrap();
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

/// What debugfs says to each of many commands.
fn debugfs(dir: &Path, image: &Path, commands: &[String]) -> Option<Vec<String>> {
    let script = dir.join("commands");
    std::fs::write(&script, commands.join("\n") + "\n").unwrap();
    let text = expect("debugfs", &["-f", script.to_str().unwrap(), image.to_str().unwrap()])?;
    // Each command is repeated after a prompt.
    let answers: Vec<String> = text.split("debugfs: ").skip(1).map(str::to_owned).collect();
    assert!(answers.len() >= commands.len(), "{text}");
    Some(answers)
}

#[test]
fn debugfs_sees_the_same_metadata() {
    let tree = everything();
    let volume = Volume::plan(&tree, &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    let mut image_bytes = bytes(&volume);
    let mut reader = Reader::open(&mut image_bytes, &Limits::default()).unwrap();
    let found: Vec<_> =
        reader.list().unwrap().into_iter().filter(|it| tree.contains(it.path.as_bytes())).collect();
    let commands: Vec<String> = found.iter().map(|it| format!("stat <{}>", it.inode)).collect();
    let Some(answers) = debugfs(dir.path(), &image, &commands) else { return };
    for (found, answer) in found.iter().zip(&answers) {
        let node = tree.get(&found.path).unwrap();
        let node = match &node.kind {
            Kind::Hardlink(target) => tree.get(target).unwrap(),
            _ => node,
        };
        let meta = &node.meta;
        let words: Vec<&str> = answer.split_whitespace().collect();
        let after = |word: &str| words[words.iter().position(|it| *it == word).unwrap() + 1];
        assert_eq!(after("Mode:"), format!("0{:03o}", meta.mode), "{answer}");
        assert_eq!(after("User:"), meta.uid.cast_signed().to_string(), "{answer}");
        assert_eq!(after("Group:"), meta.gid.to_string(), "{answer}");
        let epoch = u8::from(meta.mtime >= 1 << 31);
        let time = format!("0x{:08x}:{epoch:08x}", meta.mtime);
        for which in ["ctime:", "atime:", "mtime:", "crtime:"] {
            assert_eq!(after(which), time, "{answer}");
        }
        match &node.kind {
            Kind::File(source) => assert_eq!(after("Size:"), source.len().to_string(), "{answer}"),
            Kind::Symlink(text) if text.len() < 60 => {
                assert!(answer.contains(&format!("\"{}\"", text.escape_ascii())), "{answer}");
            }
            Kind::CharDevice { major, minor } | Kind::BlockDevice { major, minor } => {
                let number = format!("number: {major:02}:{minor:02}");
                assert!(answer.contains(&number), "{answer}");
            }
            _ => {}
        }
        if found.path.as_bytes() == b"a link" {
            assert_eq!(after("Links:"), "3", "{answer}");
        }
    }
    let mut commands = Vec::new();
    let mut values = Vec::new();
    for found in &found {
        let node = tree.get(&found.path).unwrap();
        for (name, value) in &node.meta.xattrs {
            let name = String::from_utf8(name.clone()).unwrap();
            commands.push(format!("ea_get -x <{}> {name}", found.inode));
            values.push((name, value));
        }
    }
    let answers = debugfs(dir.path(), &image, &commands).unwrap();
    assert!(values.len() > 10);
    for ((name, value), answer) in values.into_iter().zip(answers) {
        let mut hex: String = value.iter().map(|byte| format!("{byte:02x} ")).collect();
        if name.starts_with("system.posix_acl") {
            // Where an entry names nobody, debugfs has 0 and Linux has -1.
            hex = hex.replace("ff ff ff ff", "00 00 00 00");
        }
        let equals = if value.is_empty() { "" } else { " = " };
        let expected = format!("{name} ({}){equals}{}", value.len(), hex.trim_end());
        assert!(answer.contains(&expected), "expected {expected}: {answer}");
    }
}

#[test]
fn debugfs_dumps_the_same_files() {
    let tree = everything();
    let volume = Volume::plan(&tree, &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    let out = dir.path().join("out");
    std::fs::create_dir(&out).unwrap();
    let command = format!("rdump / {}", out.display());
    let Some(_) = expect("debugfs", &["-R", &command, image.to_str().unwrap()]) else { return };
    let mut imported = Tree::new();
    let mut policy = kiln_tree::host::Policy::default();
    policy.modes = kiln_tree::host::Modes::Keep;
    kiln_tree::host::import(&mut imported, &out, "", &policy).unwrap();
    imported.remove(&TreePath::new("lost+found").unwrap());
    let mut compared = 0;
    for (path, node) in &tree {
        match &node.kind {
            // It does not dump these.
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo | Kind::Socket => {
                continue;
            }
            Kind::Symlink(_) => assert_eq!(imported.get(path).unwrap().kind, node.kind, "{path}"),
            _ => {
                let theirs = imported.get(path).unwrap_or_else(|| panic!("{path}"));
                assert_eq!(content_of(&imported, theirs), content_of(&tree, node), "{path}");
            }
        }
        compared += 1;
    }
    assert_eq!(imported.len(), compared);
}

#[test]
fn the_ext4_view_crate_reads_everything() {
    let mut tree = everything();
    // The crate's version 1.0.0 takes times from 2038 on for errors; debugfs judges them.
    tree.remove(&TreePath::new("after 2038").unwrap());
    for at in 0..5000 {
        tree.insert(format!("many/number {at}"), Node::file(format!("{at}"))).unwrap();
    }
    for (name, options) in variants().into_iter().take(3) {
        let image = bytes(&Volume::plan(&tree, &options).unwrap());
        let disk = ext4_view::Ext4::load(Box::new(image)).unwrap();
        for (path, node) in &tree {
            let path = [b"/", path.as_bytes()].concat();
            let path = ext4_view::Path::try_from(path.as_slice()).unwrap();
            let real = match &node.kind {
                Kind::Hardlink(target) => tree.get(target).unwrap(),
                _ => node,
            };
            let meta = disk.symlink_metadata(path).unwrap();
            let theirs = (meta.mode() & 0o7777, meta.uid(), meta.gid());
            assert_eq!(theirs, (real.meta.mode, real.meta.uid, real.meta.gid), "{name} {path:?}");
            match &real.kind {
                Kind::Symlink(text) => {
                    assert_eq!(disk.read_link(path).unwrap().as_ref() as &[u8], text.as_slice());
                }
                Kind::File(source) => {
                    assert!(disk.read(path).unwrap() == *source.read().unwrap(), "{path:?}");
                }
                _ => {}
            }
        }
        let names = disk.read_dir("/many").unwrap().count();
        assert_eq!(names, 5002, "{name}");
    }
}

/// Directories of every size: one block, leaves without nodes, leaves below nodes.
#[test]
fn huge_directories_have_an_index() {
    let mut tree = Tree::new();
    for at in 0..60_000 {
        let path = format!("huge/a name of some length, as many names are, {at:0>40}");
        tree.insert(path, Node::file(Vec::new())).unwrap();
    }
    for (count, path) in [(100, "small"), (300, "middle"), (4000, "large")] {
        for at in 0..count {
            tree.insert(format!("{path}/{at}"), Node::symlink("x")).unwrap();
        }
    }
    // So many directories that their number is not counted any more.
    for at in 0..200 {
        tree.insert(format!("directories/{at}"), Node::directory()).unwrap();
    }
    let volume = Volume::plan(&tree, &options()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    check("huge directories", &image);
    read_back("huge directories", &tree, &mut bytes(&volume));
    if let Some(text) = expect("debugfs", &["-R", "htree_dump /huge", image.to_str().unwrap()]) {
        assert!(text.contains("Indirect levels: 1"), "{}", text.get(..500).unwrap());
    }
}

#[test]
fn resize2fs_grows_a_volume() {
    let tree = everything();
    for (name, options, size) in [
        ("small, beyond one block of descriptors", options(), "20G"),
        ("in its last group", sized(VolumeSize::Fixed(ByteLen::mib(300))), "350M"),
        ("by groups", sized(VolumeSize::Fixed(ByteLen::mib(300))), "3G"),
    ] {
        let volume = Volume::plan(&tree, &options).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "volume", Format::Raw, &volume);
        let image = path.to_str().unwrap();
        let Some(_) = expect("resize2fs", &[image, size]) else { return };
        check(name, &path);
        let Some(text) = expect("dumpe2fs", &["-h", image]) else { return };
        assert!(!text.contains("meta_bg"), "{name}: {text}");
    }
}

/// A directory of the host with what a user can make there.
fn host_directory(dir: &Path) -> Tree {
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
    let pattern: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::create_dir_all(dir.join("many/deep/deeper")).unwrap();
    std::fs::write(dir.join("large"), &pattern).unwrap();
    std::fs::write(dir.join("empty"), "").unwrap();
    std::fs::set_permissions(dir.join("empty"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::hard_link(dir.join("large"), dir.join("many/again")).unwrap();
    symlink("a/short/link", dir.join("short")).unwrap();
    symlink("l".repeat(200), dir.join("long")).unwrap();
    for at in 0..1000 {
        std::fs::write(dir.join(format!("many/file {at}")), format!("{at}\n")).unwrap();
    }
    let sparse = std::fs::File::create(dir.join("many/sparse")).unwrap();
    for at in [10_000, 900_000, 9_000_000] {
        sparse.write_at(b"island", at).unwrap();
    }
    sparse.set_len(20_000_000).unwrap();
    let mut tree = Tree::new();
    let mut policy = kiln_tree::host::Policy::default();
    (policy.owner, policy.mtime, policy.hardlinks) = (None, None, true);
    policy.modes = kiln_tree::host::Modes::Keep;
    kiln_tree::host::import(&mut tree, dir, "", &policy).unwrap();
    tree
}

#[test]
fn our_reader_reads_what_mke2fs_made() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    std::fs::create_dir(&from).unwrap();
    let tree = host_directory(&from);
    let image = dir.path().join("volume");
    for (kind, options) in [
        ("ext2", &["-b", "1024"][..]),
        ("ext3", &["-b", "2048"]),
        ("ext4", &["-b", "4096"]),
        ("ext4", &["-b", "1024", "-O", "meta_bg,^resize_inode,metadata_csum_seed"]),
    ] {
        let _ = std::fs::remove_file(&image);
        let mut arguments = vec!["-q", "-t", kind, "-L", "theirs", "-d", from.to_str().unwrap()];
        arguments.extend(options);
        arguments.extend([image.to_str().unwrap(), "60M"]);
        let Some(_) = expect("mke2fs", &arguments) else { return };
        let mut image = std::fs::read(&image).unwrap();
        {
            let reader = Reader::open(&mut image, &Limits::default()).unwrap();
            let info = reader.info();
            assert_eq!((info.kind, info.label.as_deref()), (kind, Some("theirs")));
            assert!(info.clean && info.free_blocks < info.blocks, "{info:?}");
        }
        read_back(&format!("{kind} {options:?}"), &tree, &mut image);
    }
}

#[test]
fn a_file_of_many_extents_has_a_tree_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sparse");
    let len = 900 << 20;
    let sparse = std::fs::File::create(&path).unwrap();
    sparse.set_len(len).unwrap();
    std::os::unix::fs::FileExt::write_at(&sparse, b"the end", len - 7).unwrap();
    let mut tree = Tree::new();
    tree.insert("large", Node::file(Source::File { path, len })).unwrap();
    tree.insert("small", Node::file("after it")).unwrap();
    let mut options = options();
    options.journal = Journal::None;
    let volume = Volume::plan(&tree, &options).unwrap();
    let image = file(dir.path(), "volume", Format::Raw, &volume);
    check("many extents", &image);
    let commands = ["ex /large", "cat /small"].map(str::to_owned);
    let Some(answers) = debugfs(dir.path(), &image, &commands) else { return };
    assert!(answers[0].contains("0/ 1") && answers[0].contains("1/ 1"), "{}", answers[0]);
    assert!(answers[1].contains("after it"), "{}", answers[1]);
    // One that is read nowhere can be of any length.
    let mut tree = Tree::new();
    let source = Source::File { path: "/huge".into(), len: 5 << 40 };
    tree.insert("huge", Node::file(source)).unwrap();
    let volume = Volume::plan(&tree, &options).unwrap();
    assert!(volume.len() > 5 << 40 && volume.len() < (5 << 40) + (100 << 30));
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut tree = Tree::new();
    tree.insert("a link", Node::hardlink(TreePath::new("another").unwrap())).unwrap();
    tree.insert("another", Node::hardlink(TreePath::new("a link").unwrap())).unwrap();
    tree.insert("device", Node::char_device(5000, 1)).unwrap();
    tree.insert("link", Node::symlink("")).unwrap();
    tree.insert("lost+found", Node::file("mine")).unwrap();
    let huge = Source::File { path: "/huge".into(), len: 1 << 44 };
    tree.insert("huge", Node::file(huge)).unwrap();
    let large = vec![0; 5000];
    let meta = with_xattrs(
        Metadata::new(0o644),
        &[
            ("user.large", &large),
            ("mine.own", b"x"),
            ("user.", b"x"),
            ("system.posix_acl_access", b"no list"),
        ],
    );
    tree.insert("attributes", Node::file("").with(meta)).unwrap();
    let mut options = Options::default();
    options.label = Some("a label that is too long".to_owned());
    options.reserved_percent = 60;
    options.journal = Journal::Blocks(7);
    let message = Volume::plan(&tree, &options).unwrap_err().to_string();
    insta::assert_snapshot!(message, @r#"
    ext4 volume: 13 problems
      label "a label that is too long": it has 24 bytes, expected at most 16
      60 % of the blocks are reserved, expected at most 50
      a journal of 7 blocks, expected 1024 to 10240000
      a link is a hard link to another, which is not a regular file of the tree
      another is a hard link to a link, which is not a regular file of the tree
      attributes: attribute "mine.own": expected a name in user., trusted., security. or system.
      attributes: attribute "system.posix_acl_access": the value is no access control list
      attributes: attribute "user.": the name is incomplete or goes on where it should end
      attributes: the extended attributes are 964 bytes more than fit
      device: a device with number 5000:1, expected at most 4095:1048575
      huge: 17592186044416 bytes, a file on ext4 has at most 17592186040320
      link: a symbolic link to a text of 0 bytes, expected 1 to 4095 without NUL
      lost+found: it is no directory, which e2fsck needs it to be
    "#);
}

#[test]
fn too_small_says_how_much_would_do() {
    let mut tree = Tree::new();
    tree.insert("big", Node::file(vec![1; 50 << 20])).unwrap();
    tree.insert("less", Node::file(vec![1; 2 << 20])).unwrap();
    let mut options = Options::default();
    for size in [0, 100, 4096, 100_000, 40 << 20] {
        options.size = VolumeSize::Fixed(ByteLen(size));
        let message = Volume::plan(&tree, &options).unwrap_err().to_string();
        assert!(message.ends_with("big (52428800 bytes), less (2097152 bytes)"), "{message}");
        let digits: String = message
            .rsplit("size to ")
            .next()
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        let enough: u64 = digits.parse().unwrap();
        options.size = VolumeSize::Fixed(ByteLen(enough));
        let volume = Volume::plan(&tree, &options).unwrap();
        assert!(volume.len() < 60 << 20, "{message}");
        options.size = VolumeSize::Fixed(ByteLen(enough - 4096));
        assert!(Volume::plan(&tree, &options).is_err());
    }
    options.size = VolumeSize::Fixed(ByteLen::gib(20 << 10));
    let message = Volume::plan(&tree, &options).unwrap_err().to_string();
    assert!(message.contains("20 TiB"), "{message}");
}

#[test]
fn a_file_that_changed_is_an_error_that_names_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel");
    for (planned, found) in [(1000, 999), (1000, 1001), (4096, 4097), (4096, 0), (0, 1)] {
        std::fs::write(&path, vec![1; planned]).unwrap();
        let mut tree = Tree::new();
        tree.insert("kernel", kiln_tree::host::file(&path, 0o644).unwrap()).unwrap();
        let volume = Volume::plan(&tree, &Options::default()).unwrap();
        std::fs::write(&path, vec![1; found]).unwrap();
        let error = volume.write_to(&mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("kernel"), "{planned} {found}: {error}");
    }
}

#[test]
fn inspect_lists_a_partition() {
    use kiln_diskimg::gpt::PartitionType;
    use kiln_diskimg::{DiskPlan, Partition, Table, dump};
    let mut tree = Tree::new();
    tree.insert("etc/hostname", Node::file("kiln\n")).unwrap();
    let volume = Volume::plan(&tree, &options()).unwrap();
    let partition = Partition::new("root", PartitionType::LINUX, volume);
    let plan = DiskPlan::new(Table::Gpt, Seed::new("ext4")).with(partition);
    let disk = bytes(&plan.layout().unwrap());
    let report = dump::inspect(std::io::Cursor::new(disk), &Limits::default()).unwrap().to_string();
    for line in ["ext4 ", "\"kiln root\"", "           5  etc/hostname", "lost+found/"] {
        assert!(report.contains(line), "{report}");
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let name = "[a-zA-Z0-9 ._+~äß]{0,60}[a-z0-9]";
    let path = prop::collection::vec(name, 1..4);
    let content = prop::collection::vec(any::<u8>(), 0..9000);
    let xattrs = prop::collection::btree_map(
        "(user|trusted|security)[.][a-zä]{1,20}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..200),
        0..5,
    );
    let node = (path, content, xattrs, 0..6_u8, any::<(u16, u32, u32, u32)>());
    prop::collection::vec(node, 0..60).prop_map(|nodes| {
        let mut tree = Tree::new();
        let mut first: Option<TreePath> = None;
        for (path, content, xattrs, kind, (mode, uid, gid, mtime)) in nodes {
            let path = path.join("/");
            let node = match (kind, &first) {
                (0, _) => Node::directory(),
                (1, _) => Node::symlink("t".repeat(1 + content.len() % 4095)),
                (2, _) => Node::char_device(u32::from(mode) % 4096, uid % (1 << 20)),
                (3, Some(target)) => Node::hardlink(target.clone()),
                _ => Node::file(content),
            };
            let mut meta = Metadata::new(mode).owned_by(uid, gid).modified_at(mtime);
            meta.xattrs = xattrs;
            let is_file = matches!(node.kind, Kind::File(_));
            if tree.insert(&path, node.with(meta)).is_ok() && is_file && first.is_none() {
                first = Some(TreePath::new(&path).unwrap());
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_tree_is_clean_and_read_back(tree in trees(), headroom in 0_u64..3 << 20) {
        let options = sized(VolumeSize::FromContent { headroom: ByteLen(headroom) });
        let volume = Volume::plan(&tree, &options).unwrap();
        prop_assert!(volume.free().0 >= headroom);
        let mut image = bytes(&volume);
        prop_assert_eq!(&image, &bytes(&Volume::plan(&tree.clone(), &options).unwrap()));
        read_back("any tree", &tree, &mut image);
        let dir = tempfile::tempdir().unwrap();
        check("any tree", &file(dir.path(), "volume", Format::Raw, &volume));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_mutated_volume_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        thread_local! {
            static IMAGE: (Vec<u8>, Vec<usize>) = {
                let mut tree = everything();
                tree.remove(&TreePath::new("lib/modules").unwrap());
                let mut image = bytes(&Volume::plan(&tree, &options()).unwrap());
                // Without checksums, which would refuse nearly everything.
                image[1024 + 0x65] &= !4;
                let places = (0..image.len()).filter(|at| image[*at] != 0).collect();
                (image, places)
            };
        }
        let mut image = IMAGE.with(|(image, places)| {
            let mut image = image.clone();
            // What is changed is mostly metadata: file contents are at the end.
            let some = places.len().min(6000);
            for (at, byte) in changes {
                image[places[at.index(some)]] = byte;
            }
            image
        });
        let mut limits = Limits::default();
        limits.file_len = 1 << 20;
        if let Ok(mut reader) = Reader::open(&mut image, &limits) {
            for found in reader.list().unwrap_or_default() {
                let _ = reader.read(&found);
            }
        }
    }
}
