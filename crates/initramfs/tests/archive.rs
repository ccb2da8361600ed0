//! Archives written and read back: properties, hostile input, GNU cpio and the `cpio` crate.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use kiln_initramfs::cpio::{
    DataAlign, Format, Limits, LinkData, NewEntry, Options, Reader, S_IFDIR, S_IFREG, Writer, dump,
    unpack,
};
use kiln_initramfs::{Compression, Error, Segment, write_image, write_segments};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath, host};
use proptest::prelude::*;

fn skipped(tool: &str) {
    assert!(std::env::var_os("CI").is_none(), "{tool} is missing");
    println!("skipped: {tool}");
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn sample() -> Tree {
    let mut tree = Tree::new();
    tree.insert("bin/busybox", Node::executable(b"\x7fELF".to_vec())).unwrap();
    tree.insert("bin/sh", Node::symlink("busybox")).unwrap();
    tree.insert("bin/also", Node::hardlink(path("bin/busybox"))).unwrap();
    tree.insert("dev/console", Node::char_device(5, 1)).unwrap();
    tree.insert("dev/vda", Node::new(Kind::BlockDevice { major: 254, minor: 0 })).unwrap();
    tree.insert("etc/passwd", Node::file("root:x:0:0::/:/bin/sh\n")).unwrap();
    tree.insert("run/fifo", Node::new(Kind::Fifo)).unwrap();
    tree.insert("run/socket", Node::new(Kind::Socket)).unwrap();
    tree.insert("tmp", Node::directory().with(Metadata::new(0o1777).owned_by(1, 2))).unwrap();
    tree
}

fn pack(tree: &Tree, options: &Options) -> Vec<u8> {
    let mut writer = Writer::with_options(Vec::new(), options.clone());
    writer.append_tree(tree).unwrap();
    writer.finish().unwrap()
}

fn listing(bytes: &[u8]) -> String {
    let mut out = Vec::new();
    dump(bytes, Limits::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// The same tree with the first name of each file as the file, and contents in memory.
fn normal(tree: &Tree) -> Tree {
    let mut first: BTreeMap<TreePath, TreePath> = BTreeMap::new();
    let mut out = Tree::new();
    out.set_root(tree.root().clone());
    for (at, node) in tree {
        let (file, node) = match &node.kind {
            Kind::Hardlink(target) => (target.clone(), tree.get(target).unwrap()),
            _ => (at.clone(), node),
        };
        let kind = match &node.kind {
            Kind::File(source) => match first.get(&file) {
                Some(first) => Kind::Hardlink(first.clone()),
                None => {
                    first.insert(file, at.clone());
                    Kind::File(Source::Bytes(source.read().unwrap()))
                }
            },
            other => other.clone(),
        };
        out.insert(at.as_bytes(), Node::new(kind).with(node.meta.clone())).unwrap();
    }
    out
}

#[test]
fn the_listing_of_a_sample() {
    insta::assert_snapshot!(listing(&pack(&sample(), &Options::default())), @r"
    1 drwxr-xr-x 2 0:0 0 mtime=0 bin
    2 -rwxr-xr-x 2 0:0 0 mtime=0 bin/also
    2 -rwxr-xr-x 2 0:0 4 mtime=0 bin/busybox
    3 lrwxrwxrwx 1 0:0 7 mtime=0 bin/sh -> busybox
    4 drwxr-xr-x 2 0:0 0 mtime=0 dev
    5 crw------- 1 0:0 5,1 mtime=0 dev/console
    6 brw------- 1 0:0 254,0 mtime=0 dev/vda
    7 drwxr-xr-x 2 0:0 0 mtime=0 etc
    8 -rw-r--r-- 1 0:0 22 mtime=0 etc/passwd
    9 drwxr-xr-x 2 0:0 0 mtime=0 run
    10 prw-r--r-- 1 0:0 0 mtime=0 run/fifo
    11 srw-r--r-- 1 0:0 0 mtime=0 run/socket
    12 drwxrwxrwt 2 1:2 0 mtime=0 tmp
    # trailer
    ");
}

#[test]
fn options_change_the_layout_and_not_the_tree() {
    let mut tree = sample();
    tree.insert("big", Node::file(vec![7; 5000])).unwrap();
    tree.set_mtime(1_700_000_000);
    for format in [Format::Newc, Format::Crc] {
        for link_data in [LinkData::First, LinkData::Last] {
            for data_align in [DataAlign::Four, DataAlign::Sector, DataAlign::Page] {
                let mut options = Options::default();
                (options.format, options.link_data) = (format, link_data);
                options.data_align = data_align;
                let bytes = pack(&tree, &options);
                assert_eq!(bytes.len() % 512, 0);
                let unpacked = unpack(&*bytes, Limits::default()).unwrap();
                assert_eq!(unpacked.lost, []);
                assert_eq!(unpacked.tree, normal(&tree));
                let at = bytes.windows(5000).position(|part| part == [7; 5000]).unwrap();
                let expected = match data_align {
                    DataAlign::Four => 4,
                    DataAlign::Sector => 512,
                    DataAlign::Page => 4096,
                };
                // The name of the first entry can hold a page less what comes before.
                assert_eq!(at % expected, 0, "{data_align:?}");
            }
        }
    }
}

#[test]
fn segments_are_read_as_one_image() {
    let mut early = Tree::new();
    early.insert("kernel/x86/microcode/GenuineIntel.bin", Node::file(vec![1; 700])).unwrap();
    let mut more = Tree::new();
    more.insert("etc/more", Node::file("more")).unwrap();
    let base = sample();
    for compression in ["none", "gzip", "zstd"] {
        let compression = match compression.parse::<Compression>() {
            Ok(compression) => compression,
            Err(Error::FeatureMissing { .. }) => continue,
            Err(error) => unreachable!("{error}"),
        };
        let segments = [
            Segment::early(&early),
            Segment::new(&base, compression),
            Segment::new(&more, compression),
        ];
        let bytes = write_segments(&segments, &Options::default(), Vec::new()).unwrap();
        // The kernel finds the microcode before it can decompress.
        assert!(bytes.starts_with(b"070701"));
        let unpacked = unpack(&*bytes, Limits::default()).unwrap();
        let mut expected = normal(&base);
        expected.merge(early.clone()).unwrap();
        expected.merge(more.clone()).unwrap();
        assert_eq!(unpacked.tree, expected);
        assert_eq!(listing(&bytes).matches("# trailer").count(), 3);
    }
    let late = [Segment::new(&base, Compression::None), Segment::early(&early)];
    let error = write_segments(&late, &Options::default(), Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "segment 1: an early segment must be the first");
    let wrong = [Segment::early(&base)];
    let Error::Unpackable(problems) =
        write_segments(&wrong, &Options::default(), Vec::new()).unwrap_err()
    else {
        unreachable!()
    };
    assert_eq!(problems.len(), 8);
}

#[test]
fn truncated_and_foreign_input_is_told_with_its_place() {
    let bytes = pack(&sample(), &Options::default());
    let message = |bytes: &[u8]| unpack(bytes, Limits::default()).unwrap_err().to_string();
    assert_eq!(message(&bytes[..100]), "offset 100: the input ends inside a header");
    assert_eq!(message(&bytes[..111]), "offset 111: the input ends inside a name");
    assert!(message(b"#!/bin/sh\n").starts_with("offset 0: \"#!/bin\" is neither"));
    assert!(
        message(
            b"0707070000000000000000000000000000000000000000000000000000000000000000000000\
        0000000000000000000000000000000000000000"
        )
        .contains("magic 070707")
    );
    let mut junk = bytes.clone();
    junk.extend_from_slice(b"junk");
    assert!(message(&junk).contains("is neither a newc entry nor a compressed archive"));
    let mut shifted = vec![0, 0];
    shifted.extend_from_slice(&bytes);
    assert!(message(&shifted).starts_with("offset 2: broken padding"));
    // The checksum of 070702.
    let mut options = Options::default();
    options.format = Format::Crc;
    let mut damaged = pack(&sample(), &options);
    let at = damaged.windows(5).position(|part| part == b"root:").unwrap();
    damaged[at] = b'R';
    assert!(message(&damaged).contains("bad data checksum"));
}

#[test]
fn every_cut_of_every_compression_is_an_error_or_a_prefix() {
    for name in ["none", "gzip", "zstd"] {
        let Ok(compression) = name.parse::<Compression>() else { continue };
        let bytes = write_image(&sample(), &compression, Vec::new()).unwrap();
        for len in 0..bytes.len() {
            match unpack(&bytes[..len], Limits::default()) {
                Ok(unpacked) => assert!(
                    compression == Compression::None && unpacked.tree.len() <= 13 || len == 0,
                    "{name} cut at {len} was read"
                ),
                Err(error) => assert!(error.to_string().contains("offset "), "{error}"),
            }
        }
    }
}

#[test]
fn limits_hold() {
    let bytes = pack(&sample(), &Options::default());
    let mut limits = Limits::default();
    limits.entries = 3;
    assert!(matches!(unpack(&*bytes, limits), Err(Error::Limit { limit: 3, .. })));
    let mut limits = Limits::default();
    limits.unpacked = 1000;
    assert!(matches!(unpack(&*bytes, limits), Err(Error::Limit { limit: 1000, .. })));
    let mut limits = Limits::default();
    limits.in_memory = 10;
    assert!(matches!(unpack(&*bytes, limits), Err(Error::Limit { limit: 10, .. })));
}

/// What `init/initramfs.c` drops or refuses, entry by entry.
#[test]
fn what_a_kernel_loses_is_told() {
    let entry = |name: &str, mode: u32, content: &[u8]| {
        let mut bytes = Vec::new();
        let size = content.len();
        let fields = [9, mode as usize, 0, 0, 1, 0, size, 0, 0, 0, 0, name.len() + 1, 0];
        write!(bytes, "070701").unwrap();
        for field in fields {
            write!(bytes, "{field:08X}").unwrap();
        }
        write!(bytes, "{name}\0").unwrap();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let cases: [(Vec<u8>, &str); 8] = [
        (entry("no/parent", S_IFREG, b"x"), "its directory no is missing"),
        (entry(&"n".repeat(4096), S_IFREG, b"x"), "its name has no byte or more than 4095"),
        (entry("dir", S_IFDIR | 0o755, b"x"), "it has content and is neither"),
        (entry("link", 0o120_777, &[b'x'; 4097]), "the target of the symbolic link has more"),
        (entry("link", 0o120_777, b""), "has 1 to 4095 bytes"),
        (entry("what", 0o644, b""), "unknown file type 0"),
        (entry("file/x", S_IFREG, b""), "file is a regular file"),
        (entry("full", S_IFREG, b""), "a directory that is not empty is in its place"),
    ];
    let mut bytes = entry("file", S_IFREG | 0o644, b"content");
    bytes.extend(entry("full", S_IFDIR | 0o755, b""));
    bytes.extend(entry("full/x", S_IFREG | 0o644, b""));
    for (case, _) in &cases {
        bytes.extend_from_slice(case);
    }
    let unpacked = unpack(&*bytes, Limits::default()).unwrap();
    assert_eq!(unpacked.tree.len(), 3);
    for (lost, (_, reason)) in unpacked.lost.iter().zip(&cases) {
        assert!(lost.reason.contains(reason), "{lost} / {reason}");
    }
    assert_eq!(unpacked.lost.len(), cases.len());
}

#[test]
fn entries_by_hand_keep_the_rules() {
    let mut writer = Writer::new(Vec::new());
    let file = NewEntry::new(path("a/b"), S_IFREG | 0o644);
    let error = writer.append(&file, &"x".into()).unwrap_err().to_string();
    assert!(error.contains("its directory was not appended before"), "{error}");
    writer.append(&NewEntry::new(path("a"), S_IFDIR | 0o755), &"".into()).unwrap();
    writer.append(&file, &"x".into()).unwrap();
    for (entry, content) in [
        (NewEntry::new(path("TRAILER!!!"), S_IFREG), ""),
        (NewEntry::new(path("d"), S_IFDIR), "content"),
        (NewEntry::new(path("l"), 0o120_777), ""),
        (NewEntry::new(path("x"), 0o644), ""),
    ] {
        let result = writer.append(&entry, &content.into());
        assert!(matches!(result, Err(Error::Unpackable(_))), "{entry:?}");
    }
    let bytes = writer.finish().unwrap();
    assert_eq!(unpack(&*bytes, Limits::default()).unwrap().tree.len(), 2);
}

#[test]
fn a_file_that_changes_while_it_is_packed_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    for (now, planned) in [(200_000, 100_000_u64), (200_000, 300_000), (10, 5), (5, 10), (0, 1)] {
        let file = dir.path().join("file");
        fs::write(&file, vec![1; now]).unwrap();
        let mut tree = Tree::new();
        tree.insert("f", Node::file(Source::File { path: file, len: planned })).unwrap();
        let error = write_image(&tree, &Compression::None, Vec::new()).unwrap_err().to_string();
        assert!(error.starts_with("content of f: ") && error.contains("bytes long now"), "{error}");
    }
}

fn nodes() -> impl Strategy<Value = Tree> {
    let name = prop::collection::vec("[a-cé\n ]{1,3}", 1..4).prop_map(|parts| parts.join("/"));
    let kind = prop_oneof![
        Just(Kind::Directory),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(|bytes| Kind::File(bytes.into())),
        "[a-z/.]{1,20}".prop_map(|target| Kind::Symlink(target.into_bytes())),
        (0..4096_u32, 0..1_048_576_u32)
            .prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        (0..4096_u32, 0..1_048_576_u32)
            .prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        Just(Kind::Fifo),
        Just(Kind::Socket),
    ];
    let meta = (0..0o10_000_u16, any::<u32>(), any::<u32>(), any::<u32>())
        .prop_map(|(mode, uid, gid, at)| Metadata::new(mode).owned_by(uid, gid).modified_at(at));
    let links = prop::collection::vec(("[a-c]{4}", any::<prop::sample::Index>()), 0..5);
    (prop::collection::vec((name, kind, meta), 0..20), links).prop_map(|(nodes, links)| {
        let mut tree = Tree::new();
        for (at, kind, meta) in nodes {
            // Names collide, and what loses is not in the tree.
            let _ = tree.insert(at, Node::new(kind).with(meta));
        }
        let files: Vec<TreePath> = tree
            .iter()
            .filter(|(_, node)| matches!(node.kind, Kind::File(_)))
            .map(|(at, _)| at.clone())
            .collect();
        for (at, index) in links {
            if !files.is_empty() {
                let target = index.get(&files).clone();
                let meta = tree.get(&target).unwrap().meta.clone();
                let _ = tree.insert(at, Node::hardlink(target).with(meta));
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn trees_come_back(tree in nodes(), align in 0..3_usize, crc: bool, first: bool) {
        let mut options = Options::default();
        options.data_align =
            [DataAlign::Four, DataAlign::Sector, DataAlign::Page][align];
        options.format = if crc { Format::Crc } else { Format::Newc };
        options.link_data = if first { LinkData::First } else { LinkData::Last };
        let bytes = pack(&tree, &options);
        let unpacked = unpack(&*bytes, Limits::default()).unwrap();
        prop_assert_eq!(&unpacked.lost, &[]);
        prop_assert_eq!(&unpacked.tree, &normal(&tree));
        // What was read and written again is the same, byte by byte.
        prop_assert_eq!(pack(&unpacked.tree, &options), bytes);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = unpack(&*bytes, Limits::default());
    }

    #[test]
    fn damaged_archives_never_panic(
        tree in nodes(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        compression in prop::sample::select(vec!["none", "gzip", "zstd"]),
    ) {
        let Ok(compression) = compression.parse::<Compression>() else { return Ok(()) };
        let mut bytes = write_image(&tree, &compression, Vec::new()).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut limits = Limits::default();
        limits.unpacked = 1 << 20;
        let _ = unpack(&*bytes, limits.clone());
        let _ = dump(&*bytes, limits, std::io::sink());
    }
}

/// Runs GNU cpio in a directory with something to read.
fn gnu_cpio(directory: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("cpio")
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "cpio: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// What can be made without root.
fn plain_sample() -> Tree {
    let mut tree = Tree::new();
    for (at, node) in &sample() {
        let device = matches!(node.kind, Kind::CharDevice { .. } | Kind::BlockDevice { .. });
        if !device && !matches!(node.kind, Kind::Socket) {
            tree.insert(at.as_bytes(), node.clone()).unwrap();
        }
    }
    for (_, node) in tree.iter_mut() {
        (node.meta.uid, node.meta.gid) = (0, 0);
    }
    tree.insert(
        "big",
        Node::file((0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect::<Vec<_>>()),
    )
    .unwrap();
    tree
}

#[test]
fn gnu_cpio_extracts_ours() {
    if Command::new("cpio").arg("--version").output().is_err() {
        return skipped("cpio");
    }
    let tree = plain_sample();
    for format in [Format::Newc, Format::Crc] {
        for link_data in [LinkData::First, LinkData::Last] {
            let mut options = Options::default();
            (options.format, options.link_data) = (format, link_data);
            let dir = tempfile::tempdir().unwrap();
            let bytes = pack(&tree, &options);
            let flags = ["-i", "-d", "-m", "--quiet", "--no-preserve-owner"];
            gnu_cpio(dir.path(), &flags, &bytes);
            let mut policy = host::Policy::default();
            (policy.modes, policy.hardlinks) = (host::Modes::Keep, true);
            let mut extracted = Tree::new();
            host::import(&mut extracted, dir.path(), "", &policy).unwrap();
            extracted.set_root(Metadata::new(0o755));
            assert_eq!(normal(&extracted), normal(&tree));
        }
    }
}

#[test]
fn gnu_cpio_archives_are_read() {
    if Command::new("cpio").arg("--version").output().is_err() {
        return skipped("cpio");
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("a/b")).unwrap();
    fs::write(dir.path().join("a/one"), vec![1; 100_001]).unwrap();
    fs::hard_link(dir.path().join("a/one"), dir.path().join("a/b/two")).unwrap();
    std::os::unix::fs::symlink("../one", dir.path().join("a/b/three")).unwrap();
    fs::write(dir.path().join("a/b/empty"), "").unwrap();
    let mut policy = host::Policy::default();
    (policy.modes, policy.hardlinks) = (host::Modes::Keep, true);
    (policy.owner, policy.mtime) = (None, None);
    let mut expected = Tree::new();
    host::import(&mut expected, dir.path(), "", &policy).unwrap();
    let names: String = expected.iter().map(|(at, _)| format!("{at}\n")).collect();
    for format in ["newc", "crc"] {
        for flags in [&[][..], &["--reproducible"]] {
            let mut arguments = vec!["-o", "--quiet", "-H", format];
            arguments.extend(flags);
            let bytes = gnu_cpio(dir.path(), &arguments, names.as_bytes());
            let unpacked = unpack(&*bytes, Limits::default()).unwrap();
            assert_eq!(unpacked.lost, []);
            let mut tree = unpacked.tree;
            tree.set_root(expected.root().clone());
            assert_eq!(normal(&tree), normal(&expected), "{format} {flags:?}");
        }
    }
}

#[test]
fn the_cpio_crate_reads_ours() {
    let tree = sample();
    let bytes = pack(&tree, &Options::default());
    let mut rest = &bytes[..];
    let mut names = Vec::new();
    loop {
        let mut reader = cpio::newc::Reader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let mut content = Vec::new();
        reader.read_to_end(&mut content).unwrap();
        names.push((reader.entry().name().to_owned(), content.len()));
        rest = reader.finish().unwrap();
    }
    let expected: Vec<String> = tree.iter().map(|(at, _)| at.to_string()).collect();
    assert_eq!(names.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), expected);
    assert!(names.contains(&("etc/passwd".into(), 22)));
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let forward = sample();
    let mut nodes: Vec<_> = forward.iter().map(|(at, node)| (at.clone(), node.clone())).collect();
    nodes.reverse();
    let mut backward = Tree::new();
    for (at, node) in nodes {
        backward.insert(at.as_bytes(), node).unwrap();
    }
    for name in ["none", "gzip:9", "zstd:19"] {
        let Ok(compression) = name.parse::<Compression>() else { continue };
        let image = |tree| write_image(tree, &compression, Vec::new()).unwrap();
        assert!(image(&forward) == image(&backward), "{name}");
    }
    // From files of the host as from memory, into a file as into memory.
    let dir = tempfile::tempdir().unwrap();
    let content: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251).to_le_bytes()[0]).collect();
    fs::write(dir.path().join("big"), &content).unwrap();
    let (mut on_disk, mut in_memory) = (Tree::new(), Tree::new());
    on_disk.insert("big", host::file(&dir.path().join("big"), 0o644).unwrap()).unwrap();
    in_memory.insert("big", Node::file(content)).unwrap();
    let image = dir.path().join("image");
    write_image(&on_disk, &Compression::None, fs::File::create(&image).unwrap()).unwrap();
    let expected = write_image(&in_memory, &Compression::None, Vec::new()).unwrap();
    assert!(fs::read(&image).unwrap() == expected);
    for name in ["gzip", "zstd"] {
        let Ok(compression) = name.parse::<Compression>() else { continue };
        let disk = write_image(&on_disk, &compression, Vec::new()).unwrap();
        assert!(disk == write_image(&in_memory, &compression, Vec::new()).unwrap(), "{name}");
    }
}

#[test]
fn a_reader_gives_contents_as_they_are_asked_for() {
    let bytes = pack(&sample(), &Options::default());
    let mut reader = Reader::new(&*bytes, Limits::default());
    while let Some(entry) = reader.next_entry().unwrap() {
        if entry.name == b"etc/passwd" {
            let mut first = [0; 4];
            reader.read_exact(&mut first).unwrap();
            assert_eq!(&first, b"root");
        }
    }
    assert!(reader.next_entry().unwrap().is_none());
}
