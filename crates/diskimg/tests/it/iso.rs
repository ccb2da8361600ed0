//! ISO 9660 images: xorriso, isoinfo and bsdtar find in them what the tree has.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;

use kiln_diskimg::container::Format;
use kiln_diskimg::iso::{
    Bios, FileKind, Hybrid, IsoNames, Joliet, MAX_EFI, Names, Options, Reader, SECTOR, Volume,
};
use kiln_diskimg::{ByteLen, Content, Lba, Limits, Seed, Sink, Table, Zeroes, dump, fat};
use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath};
use proptest::prelude::*;

use crate::tools::{bytes, expect, file};

/// A tree with everything that Rock Ridge can hold.
fn tree() -> Tree {
    let mut tree = crate::tools::tree();
    tree.set_root(Metadata::new(0o751).owned_by(1, 2).modified_at(1_600_000_000));
    let meta = |mode, time| Metadata::new(mode).owned_by(1000, 70_000).modified_at(time);
    let mut add = |path: &str, node: Node| tree.insert(path, node).unwrap();
    add("etc/shadow", Node::file("root::\n").with(meta(0o600, 1_234_567_890)));
    add("bin/su", Node::file(vec![1; 2048]).with(meta(0o4755, 1)));
    add("tmp", Node::directory().with(meta(0o1777, 4_000_000_000)));
    add("lib", Node::symlink("usr/lib"));
    add("up", Node::symlink("../.././etc//shadow"));
    add("absolute", Node::symlink("/etc/shadow"));
    add("long", Node::symlink("component/".repeat(60) + "end"));
    add("dev/null", Node::char_device(1, 3));
    add("dev/sda", Node::new(Kind::BlockDevice { major: 8, minor: 17 }));
    add("run/fifo", Node::new(Kind::Fifo));
    add("run/socket", Node::new(Kind::Socket));
    add("a/b/c/d/e/f/g/h/i/j/k/deep", Node::file("deep\n"));
    add(&"n".repeat(253), Node::file("the longest name\n"));
    add(&format!("{}/{}", "d".repeat(250), "e".repeat(253)), Node::symlink("t".repeat(255)));
    add("case", Node::file("lower\n"));
    add("CASE", Node::file("upper\n"));
    tree
}

fn plan(tree: &Tree, options: &Options) -> Volume {
    Volume::plan(tree, options).unwrap()
}

fn problems(tree: &Tree, options: &Options) -> String {
    Volume::plan(tree, options).unwrap_err().to_string()
}

/// What the paths below a directory of the host are, as far as a tree says it too.
fn found(root: &Path) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let (kind, content) = if meta.is_dir() {
                pending.push(path.clone());
                ("d", Vec::new())
            } else if meta.is_symlink() {
                let target = std::fs::read_link(&path).unwrap();
                ("l", target.as_os_str().as_bytes().to_vec())
            } else if meta.is_file() {
                ("f", std::fs::read(&path).unwrap())
            } else {
                let kind = match meta.file_type() {
                    it if it.is_char_device() => "c",
                    it if it.is_block_device() => "b",
                    it if it.is_fifo() => "p",
                    _ => "s",
                };
                (kind, meta.rdev().to_le_bytes().to_vec())
            };
            let mode = if kind == "l" { 0o777 } else { meta.mode() & 0o7777 };
            let line = format!("{kind} {mode:o} {}:{} {}", meta.uid(), meta.gid(), meta.mtime());
            let name = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            found.insert(name, (line, content));
        }
    }
    found
}

fn expected(tree: &Tree) -> BTreeMap<Vec<u8>, (String, Vec<u8>)> {
    let device = |major: u32, minor: u32| {
        let number = u64::from(minor & 0xff | major << 8) | u64::from(minor & !0xff) << 12;
        number.to_le_bytes().to_vec()
    };
    tree.iter()
        .map(|(path, node)| {
            let node = match &node.kind {
                Kind::Hardlink(target) => tree.get(target).unwrap(),
                _ => node,
            };
            let (kind, content) = match &node.kind {
                Kind::Directory => ("d", Vec::new()),
                Kind::File(source) => ("f", source.read().unwrap().to_vec()),
                Kind::Symlink(target) => {
                    let text = String::from_utf8(target.clone()).unwrap();
                    ("l", text.replace("//", "/").into_bytes())
                }
                Kind::CharDevice { major, minor } => ("c", device(*major, *minor)),
                Kind::BlockDevice { major, minor } => ("b", device(*major, *minor)),
                Kind::Fifo => ("p", device(0, 0)),
                _ => ("s", device(0, 0)),
            };
            let meta = &node.meta;
            let (mode, uid, gid, mtime) = (meta.mode, meta.uid, meta.gid, meta.mtime);
            let line = format!("{kind} {mode:o} {uid}:{gid} {mtime}");
            (path.as_bytes().to_vec(), (line, content))
        })
        .collect()
}

fn compare(tool: &str, dir: &Path, tree: &Tree) {
    let (found, expected) = (found(dir), expected(tree));
    for (path, expected) in &expected {
        let name = String::from_utf8_lossy(path);
        let found = found.get(path).unwrap_or_else(|| panic!("{tool}: {name} is missing"));
        // xorriso leaves symbolic links their own times.
        let line = |line: &str| match line.rsplit_once(' ') {
            Some((line, _)) if tool == "xorriso" && line.starts_with('l') => line.to_owned(),
            _ => line.to_owned(),
        };
        assert_eq!(line(&found.0), line(&expected.0), "{tool}: {name}");
        assert!(found.1 == expected.1, "{tool}: {name}: {:?}", String::from_utf8_lossy(&found.1));
    }
    assert_eq!(found.len(), expected.len(), "{tool}");
}

/// Owners and devices can only be made by root.
fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|meta| meta.uid() == 0)
}

/// The tree without what bsdtar and xorriso cannot extract (sockets).
fn extractable() -> Tree {
    let mut tree = tree();
    tree.remove(&TreePath::new("run/socket").unwrap());
    if !is_root() {
        tree.remove(&TreePath::new("dev").unwrap());
    }
    tree
}

#[test]
fn xorriso_and_bsdtar_extract_the_tree() {
    let tree = extractable();
    let mut options = Options::default();
    let dir = tempfile::tempdir().unwrap();
    for names in [IsoNames::Long, IsoNames::Short] {
        options.names = names;
        let image = file(dir.path(), "image.iso", Format::Raw, &plan(&tree, &options));
        for tool in ["xorriso", "bsdtar"] {
            let out = dir.path().join(format!("{tool} {names:?}"));
            std::fs::create_dir(&out).unwrap();
            let (image, to) = (image.to_str().unwrap(), out.to_str().unwrap());
            let said = if tool == "xorriso" {
                let arguments = ["-indev", image, "-osirrox", "device_files", "-extract", "/", to];
                expect(tool, &arguments)
            } else {
                expect(tool, &["-xpf", image, "-C", to])
            };
            let Some(said) = said else { continue };
            assert!(!said.contains("SORRY") && !said.contains("FAILURE"), "{said}");
            if is_root() {
                compare(tool, &out, &tree);
            }
        }
    }
}

#[test]
fn bsdtar_knows_hard_links() {
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "image.iso", Format::Raw, &plan(&tree(), &Options::default()));
    let Some(said) = expect("bsdtar", &["-tvf", image.to_str().unwrap()]) else { return };
    assert!(
        said.contains("README.TXT link to again.txt")
            || said.contains("again.txt link to README.TXT"),
        "{said}"
    );
    assert!(said.contains("8,17"), "{said}");
}

#[test]
fn xorriso_and_isoinfo_read_joliet() {
    let mut tree = crate::tools::tree();
    tree.insert("lib", Node::symlink("usr/lib")).unwrap();
    tree.insert("a:b", Node::file("colon")).unwrap();
    tree.insert("x".repeat(100), Node::file("long")).unwrap();
    let mut options = Options::default();
    options.volume_id = "Kiln test".to_owned();
    options.joliet = Some(Joliet::Long);
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "image.iso", Format::Raw, &plan(&tree, &options));
    let image = image.to_str().unwrap();
    if let Some(said) = expect("isoinfo", &["-J", "-f", "-i", image]) {
        for name in [
            "/EFI/BOOT/BOOTX64.EFI",
            "/a_b",
            "/empty directory",
            "/many/a rather long name of a module 199.ko.xz",
            &format!("/{}", "x".repeat(100)),
        ] {
            let is = |line: &str| line.trim_end_matches(";1") == name;
            assert!(said.lines().any(is), "{name}: {said}");
        }
        assert_eq!(said.lines().count(), tree.len() - 1, "{said}");
    }
    if let Some(said) = expect("isoinfo", &["-d", "-i", image]) {
        assert!(said.contains("Joliet with UCS level 3 found"), "{said}");
        assert!(said.contains("Rock Ridge signatures version 1 found"), "{said}");
        assert!(said.contains("Volume id: Kiln test"), "{said}");
    }
    let arguments = ["-read_fs", "norock", "-indev", image];
    let find = ["-find", "/", "-exec", "echo"];
    if let Some(said) = expect("xorriso", &[&arguments[..], &find].concat()) {
        assert!(said.contains("'/Grüße aus Zürich 你好.text'"), "{said}");
    }
}

#[test]
fn a_file_over_4_gib_has_several_extents() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large");
    let len = (9 << 30) + 5;
    let large = std::fs::File::create(&path).unwrap();
    large.set_len(len).unwrap();
    let mut tree = Tree::new();
    tree.insert("large", Node::file(Source::File { path, len })).unwrap();
    tree.insert("zlast", Node::file("last")).unwrap();
    let volume = plan(&tree, &Options::default());
    assert_eq!(volume.len(), volume.volume_len());
    assert!(volume.len() > len && volume.len() < len + 100_000);
    // Only the directory is looked at: the content's 9 GiB are not written.
    let mut head = Head(Vec::new());
    let _ = volume.write_to(&mut head);
    let image = dir.path().join("image.iso");
    std::fs::write(&image, &head.0).unwrap();
    std::fs::File::options().write(true).open(&image).unwrap().set_len(volume.len()).unwrap();
    let image = image.to_str().unwrap();
    if let Some(said) = expect("xorriso", &["-indev", image, "-lsl", "/"]) {
        assert!(said.contains("9663676421"), "{said}");
    }
    if let Some(said) = expect("bsdtar", &["-tvf", image]) {
        assert!(said.contains("9663676421"), "{said}");
    }
}

/// Keeps the first bytes.
struct Head(Vec<u8>);

impl Sink for Head {
    fn data(&mut self, bytes: &[u8]) -> kiln_diskimg::Result<()> {
        self.0.extend_from_slice(bytes);
        if self.0.len() > 100_000 {
            return Err(kiln_diskimg::Error::Io {
                action: "write".to_owned(),
                source: std::io::Error::other("enough"),
            });
        }
        Ok(())
    }

    fn hole(&mut self, len: u64) -> kiln_diskimg::Result<()> {
        self.0.resize(self.0.len() + usize::try_from(len).unwrap(), 0);
        Ok(())
    }
}

/// What looks like an ISOLINUX that starts from a disk.
fn isolinux() -> Vec<u8> {
    let mut image = vec![0x90; 5000];
    image[64..68].copy_from_slice(&[0xfb, 0xc0, 0x78, 0x70]);
    image
}

/// The same as a file for trees of other tests.
#[cfg(feature = "squashfs")]
pub(crate) fn isolinux_node() -> Node {
    Node::file(isolinux())
}

fn efi() -> Arc<dyn Content> {
    let mut tree = Tree::new();
    tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(vec![0x5a; 70_000])).unwrap();
    let mut options = fat::Options::default();
    options.hidden_sectors = 0;
    options.kind = Some(fat::Kind::Fat16);
    Arc::new(fat::Volume::plan(&tree, &options).unwrap())
}

pub(crate) fn bootable(table: Table) -> (Tree, Options) {
    let mut tree = crate::tools::tree();
    tree.insert("isolinux/isolinux.bin", Node::file(isolinux())).unwrap();
    let mut options = Options::default();
    options.bios = Some(Bios::try_from("isolinux/isolinux.bin").unwrap());
    options.efi = Some(efi());
    let mut hybrid = Hybrid::new(vec![0xeb; 432], Seed::new("iso"));
    hybrid.table = table;
    options.hybrid = Some(hybrid);
    (tree, options)
}

#[test]
fn xorriso_sees_both_boot_images() {
    let (tree, options) = bootable(Table::Gpt);
    let volume = plan(&tree, &options);
    let dir = tempfile::tempdir().unwrap();
    let image = file(dir.path(), "image.iso", Format::Raw, &volume);
    let image = image.to_str().unwrap();
    let arguments = ["-indev", image, "-report_el_torito", "plain"];
    let Some(said) = expect("xorriso", &arguments) else { return };
    let lines: Vec<&str> = said.lines().filter(|line| line.starts_with("El Torito")).collect();
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines: Vec<String> = lines.into_iter().map(words).collect();
    let has = |start: &str| lines.iter().any(|line| line.starts_with(start));
    assert!(has("El Torito boot img : 1 BIOS y none 0x0000 0x00 4"), "{said}");
    assert!(has("El Torito boot img : 2 UEFI y none 0x0000 0x00"), "{said}");
    assert!(has("El Torito img path : 1 /isolinux/isolinux.bin"), "{said}");
    assert!(has("El Torito img opts : 1 boot-info-table isohybrid-suitable"), "{said}");
    let lba = volume.efi_lba().unwrap().0 * 512 / SECTOR;
    assert!(lines.iter().any(|line| line.ends_with(&format!(" {lba}"))), "{lba}: {said}");
}

#[test]
fn the_tables_of_a_hybrid_are_in_order() {
    for table in [Table::Gpt, Table::Mbr] {
        let (tree, options) = bootable(table);
        let volume = plan(&tree, &options);
        let dir = tempfile::tempdir().unwrap();
        let image = file(dir.path(), "image.iso", Format::Raw, &volume);
        let image = image.to_str().unwrap();
        let efi = volume.efi_lba().unwrap();
        assert_eq!(efi.0 % 2048, 0);
        assert_eq!(volume.len() % (1 << 20), 0);
        if let Some(said) = expect("sfdisk", &["--verify", image]) {
            assert!(said.contains("No errors detected"), "{said}");
        }
        if let Some(said) = expect("sfdisk", &["--json", image]) {
            let json: serde_json::Value = serde_json::from_str(&said).unwrap();
            let partition = &json["partitiontable"]["partitions"][1];
            assert_eq!(partition["start"], efi.0, "{said}");
            assert_eq!(partition["size"], options.efi.as_ref().unwrap().len().div_ceil(2048) * 4);
        }
        if table == Table::Gpt
            && let Some(said) = expect("sgdisk", &["-v", image])
        {
            assert!(said.contains("No problems found"), "{said}");
        }
        let arguments = ["-indev", image, "-report_system_area", "plain"];
        let Some(said) = expect("xorriso", &arguments) else { continue };
        let expected = match table {
            Table::Gpt => "MBR protective-msdos-label cyl-align-off GPT",
            _ => "MBR cyl-align-off",
        };
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn every_problem_is_told_at_once() {
    let (mut tree, mut options) = bootable(Table::Gpt);
    tree.insert("x".repeat(70), Node::file("x")).unwrap();
    tree.insert("link", Node::symlink("x")).unwrap();
    tree.insert("1/2/3/4/5/6/7/8", Node::directory()).unwrap();
    options.volume_id = "a/b".to_owned();
    options.publisher = "é".to_owned();
    options.joliet = Some(Joliet::Standard);
    options.rock_ridge = false;
    options.bios = Some(Bios::try_from("isolinux/none.bin").unwrap());
    options.efi = Some(Arc::new(Zeroes(0)));
    options.hybrid = Some(Hybrid::new(vec![0; 440], Seed::default()));
    insta::assert_snapshot!(problems(&tree, &options), @r#"
    iso 9660 image: 8 problems
      the publisher "é" has a 'é', expected ASCII
      the volume label "a/b" has a '/', expected letters, digits, '_', '-', '.', ' '
      1/2/3/4/5/6/7/8: 9 levels of directories, ISO 9660 without Rock Ridge has at most 8
      link: ISO 9660 without Rock Ridge holds no symbolic link
      the BIOS boot image isolinux/none.bin is no file of the tree
      the EFI system partition is empty
      boot code of 440 bytes, expected 432 or none
      xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx: the name has 70 UTF-16 units, Joliet's at most 64; the long form has 103
    "#);
}

#[test]
fn a_system_partition_for_another_place_is_refused() {
    let (tree, mut options) = bootable(Table::Gpt);
    let volume = plan(&tree, &options);
    let esp = |hidden| {
        let mut options = fat::Options::default();
        options.hidden_sectors = hidden;
        options.kind = Some(fat::Kind::Fat12);
        let volume: Arc<dyn Content> = Arc::new(fat::Volume::plan(&Tree::new(), &options).unwrap());
        volume
    };
    options.efi = Some(esp(2048 + 1));
    let said = problems(&tree, &options);
    assert!(said.contains("made to begin at LBA 2049"), "{said}");
    let Lba(at) = volume.efi_lba().unwrap();
    options.efi = Some(esp(u32::try_from(at).unwrap()));
    plan(&tree, &options);
}

#[test]
fn what_linux_would_not_read_or_start_is_refused() {
    let mut tree = Tree::new();
    tree.insert("n".repeat(254), Node::file("x")).unwrap();
    let said = problems(&tree, &Options::default());
    assert!(said.contains("the name has 254 bytes, Linux reads at most 253"), "{said}");
    let (mut tree, options) = bootable(Table::Mbr);
    tree.replace("isolinux/isolinux.bin", Node::file(vec![0; 5000])).unwrap();
    let said = problems(&tree, &options);
    assert!(said.contains("no ISOLINUX that starts from a disk"), "{said}");
}

#[test]
fn the_same_tree_gives_the_same_bytes() {
    let (tree, options) = bootable(Table::Gpt);
    let image = bytes(&plan(&tree, &options));
    let mut reversed = Tree::new();
    for (path, node) in tree.iter().rev() {
        reversed.insert(path.as_bytes(), node.clone()).unwrap();
    }
    reversed.set_root(tree.root().clone());
    assert!(image == bytes(&plan(&reversed, &options)));
    // No byte of a file is there twice: hard links share.
    let readme = b"upper case\n";
    assert_eq!(image.windows(readme.len()).filter(|part| part == readme).count(), 1);
    assert!(ByteLen(image.len() as u64) > ByteLen::mib(1));
}

/// What a reader finds must be what the tree has.
pub(crate) fn read_back(tree: &Tree, image: &mut Vec<u8>) {
    let mut reader = Reader::open(image, &Limits::default()).unwrap();
    let found = reader.list(Names::RockRidge).unwrap();
    let paths: Vec<&TreePath> = found.iter().map(|found| &found.path).collect();
    assert_eq!(paths, tree.iter().map(|(path, _)| path).collect::<Vec<_>>());
    let mut serials = BTreeMap::new();
    for (found, (path, node)) in found.iter().zip(tree) {
        let (target, node) = match &node.kind {
            Kind::Hardlink(target) => (target, tree.get(target).unwrap()),
            _ => (path, node),
        };
        assert_eq!(found.meta, node.meta, "{path}");
        let previous = serials.insert(found.serial, target.clone());
        assert!(previous.is_none_or(|previous| previous == *target), "{path}");
        let expected = match &node.kind {
            Kind::Directory => FileKind::Directory,
            Kind::File(source) => {
                assert!(reader.read(found).unwrap() == *source.read().unwrap(), "{path}");
                FileKind::File
            }
            Kind::Symlink(target) => {
                let text = String::from_utf8(target.clone()).unwrap();
                FileKind::Symlink(text.replace("//", "/").into_bytes())
            }
            Kind::CharDevice { major, minor } => FileKind::CharDevice(*major, *minor),
            Kind::BlockDevice { major, minor } => FileKind::BlockDevice(*major, *minor),
            Kind::Fifo => FileKind::Fifo,
            _ => FileKind::Socket,
        };
        assert_eq!(found.kind, expected, "{path}");
    }
}

#[test]
fn our_reader_finds_the_tree() {
    let mut tree = tree();
    let many = Node::new(Kind::BlockDevice { major: 259, minor: 70_000 });
    tree.insert("dev/nvme", many).unwrap();
    tree.insert("longest", Node::symlink("ab/".repeat(1364) + "x")).unwrap();
    let mut options = Options::default();
    options.joliet = Some(Joliet::Standard);
    for name in ["n".repeat(253), "d".repeat(250)] {
        tree.remove(&TreePath::new(name).unwrap());
    }
    tree.insert(format!("{0}/{0}", "m".repeat(64)), Node::file("x")).unwrap();
    let mut image = bytes(&plan(&tree, &options));
    read_back(&tree, &mut image);
    let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
    assert_eq!(reader.volume_id(), "ISOIMAGE");
    assert_eq!(reader.uuid(), "1970-01-01-00-00-00-00");
    assert!(reader.boot_images().unwrap().is_empty());
    let joliet = reader.list(Names::Joliet).unwrap();
    let contents = tree.iter().filter(|(_, node)| {
        matches!(node.kind, Kind::Directory | Kind::File(_) | Kind::Hardlink(_))
    });
    assert_eq!(
        joliet.iter().map(|found| &found.path).collect::<Vec<_>>(),
        contents.map(|(path, _)| path).collect::<Vec<_>>()
    );
    let plain = reader.list(Names::Iso).unwrap();
    assert_eq!(plain.len(), tree.len());
    assert!(plain.iter().any(|found| found.path.as_bytes() == b"EFI/BOOT/BOOTX64.EFI"));
}

#[test]
fn our_reader_finds_what_others_made() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("a/b/c/d/e/f/g/h/i/j")).unwrap();
    std::fs::write(root.join("a/b/c/d/e/f/g/h/i/j/deep"), "deep").unwrap();
    std::fs::write(root.join("Grüße"), "hello").unwrap();
    std::fs::write(root.join("a long name with spaces and more.text"), vec![7; 5000]).unwrap();
    std::fs::hard_link(root.join("Grüße"), root.join("again")).unwrap();
    std::os::unix::fs::symlink("a/b/../b", root.join("link")).unwrap();
    let (root, image) = (root.to_str().unwrap(), dir.path().join("image.iso"));
    let out = image.to_str().unwrap();
    let xorriso = &["-as", "mkisofs", "-R", "-J", "-o", out, root];
    for (tool, arguments) in
        [("xorriso", &xorriso[..]), ("genisoimage", &["-R", "-J", "-o", out, root])]
    {
        if expect(tool, arguments).is_none() {
            continue;
        }
        let mut image = std::fs::read(&image).unwrap();
        let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
        let found = reader.list(Names::RockRidge).unwrap();
        let get = |path: &str| {
            let found = found.iter().find(|found| found.path.as_bytes() == path.as_bytes());
            found.unwrap_or_else(|| panic!("{tool}: {path}: {found:?}"))
        };
        assert_eq!(get("link").kind, FileKind::Symlink(b"a/b/../b".to_vec()), "{tool}");
        for (path, content) in [("Grüße", "hello"), ("a/b/c/d/e/f/g/h/i/j/deep", "deep")] {
            let found = get(path).clone();
            assert_eq!(reader.read(&found).unwrap(), content.as_bytes(), "{tool}: {path}");
        }
        assert!(reader.has(Names::Joliet));
        assert!(reader.list(Names::Joliet).unwrap().len() >= 13, "{tool}");
    }
}

#[test]
fn our_reader_finds_boot_images() {
    let (tree, options) = bootable(Table::Gpt);
    let volume = plan(&tree, &options);
    let mut image = bytes(&volume);
    let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
    let found = reader.boot_images().unwrap();
    let [bios, efi] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((bios.platform, bios.count, bios.bootable), (0, 4, true));
    assert_eq!(u64::from(efi.sector) * 4, volume.efi_lba().unwrap().0);
    assert_eq!((efi.platform, efi.emulation), (0xef, 0));
    let at = usize::try_from(efi.sector).unwrap() * 2048;
    assert_eq!(&image[at + 54..at + 62], b"FAT16   ");
    let at = usize::try_from(bios.sector).unwrap() * 2048;
    assert_eq!(image[at + 12..at + 16], bios.sector.to_le_bytes());
}

#[test]
fn a_system_partition_too_long_for_the_catalog_ends_with_the_volume() {
    let (tree, mut options) = bootable(Table::Gpt);
    for (len, count) in [(MAX_EFI, 0xffff), (MAX_EFI + 512, 0)] {
        options.efi = Some(Arc::new(Zeroes(len)));
        let volume = plan(&tree, &options);
        let mut image = bytes(&volume);
        let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
        let found = reader.boot_images().unwrap();
        assert_eq!(found[1].count, count);
        let efi = u64::from(found[1].sector) * SECTOR;
        let end = if count == 0 { efi + len.next_multiple_of(SECTOR) } else { efi };
        assert_eq!(reader.volume_len().next_multiple_of(1 << 20), end.next_multiple_of(1 << 20));
        assert_eq!(reader.volume_len(), volume.volume_len());
        let report = dump::inspect(Cursor::new(image), &Limits::default()).unwrap();
        let starts = format!("uefi starts {}", ByteLen(len.next_multiple_of(SECTOR)));
        let said = report.to_string();
        assert!(count != 0 || said.contains(&starts), "{starts}: {said}");
        assert!(said.contains("partition 1 \"ISO 9660\" linux: LBA 64 + "), "{said}");
    }
}

#[test]
fn a_report_of_a_hybrid() {
    let mut tree = Tree::new();
    tree.insert("isolinux/isolinux.bin", Node::file(isolinux())).unwrap();
    tree.insert("README", Node::file("text")).unwrap();
    let (_, mut options) = bootable(Table::Gpt);
    options.application = "KILN".to_owned();
    let image = bytes(&plan(&tree, &options));
    let report = dump::inspect(Cursor::new(image), &Limits::default()).unwrap();
    insta::assert_snapshot!(report.to_string(), @r#"
    raw image, disk of 4 MiB, 4 MiB stored
    ISO 9660 "ISOIMAGE" of 58 KiB, 1970-01-01-00-00-00-00, Rock Ridge, "KILN"
      bios starts 2 KiB at byte 53248, isolinux/isolinux.bin
      uefi starts 2104 KiB at byte 1048576
                 4  README
                    isolinux/
              5000  isolinux/isolinux.bin
    gpt table c6560ae6-9239-8f4a-8d10-ba2597f9f29f, with boot code
    partition 1 "ISO 9660" linux: LBA 64 + 52 sectors, read-only, no-auto, 42191ecb-d73d-88b4-a0f8-cc24d3f4520c
    partition 2 "EFI system partition" efi-system: LBA 2048 + 4208 sectors, 93c591cd-f29f-8906-82af-042bf1cf2643
      FAT16 0000-0001, made by "MSWIN4.1", 2104 KiB, clusters of 512 bytes, 2046464 bytes free
        starts EFI/BOOT/BOOTX64.EFI (efi): ! pe: byte 0: it does not begin with MZ, so it is no executable for UEFI
                      EFI/
                      EFI/BOOT/
               70000  EFI/BOOT/BOOTX64.EFI
    "#);
}

/// Small images of every kind, and where they are not zero.
fn images() -> Vec<(Vec<u8>, Vec<usize>)> {
    let mut tree = Tree::new();
    tree.insert("a directory/a file", Node::file(vec![1; 3000])).unwrap();
    tree.insert("isolinux/isolinux.bin", Node::file(isolinux())).unwrap();
    tree.insert("n".repeat(103), Node::symlink("x/".repeat(200))).unwrap();
    tree.insert("null", Node::char_device(1, 3)).unwrap();
    let (_, mut options) = bootable(Table::Gpt);
    options.efi = Some(Arc::new(vec![3; 600]));
    options.joliet = Some(Joliet::Long);
    let hybrid = bytes(&plan(&tree, &options));
    let mut plain = Options::default();
    plain.joliet = Some(Joliet::Long);
    [hybrid, bytes(&plan(&tree, &plain))]
        .into_iter()
        .map(|image| {
            let places = (0..image.len()).filter(|at| image[*at] != 0).collect();
            (image, places)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_reader_never_panics(
        which in 0..2_usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        static IMAGES: std::sync::OnceLock<Vec<(Vec<u8>, Vec<usize>)>> =
            std::sync::OnceLock::new();
        let (image, interesting) = &IMAGES.get_or_init(images)[which];
        let mut image = image.clone();
        for (index, byte) in changes {
            let at = interesting[index.index(interesting.len())];
            image[at] = byte;
        }
        if let Some(cut) = cut {
            image.truncate(cut.index(image.len()));
        }
        if let Ok(mut reader) = Reader::open(&mut image, &Limits::default()) {
            let _ = reader.boot_images();
            for names in [Names::RockRidge, Names::Joliet, Names::Iso] {
                for found in reader.list(names).unwrap_or_default() {
                    let _ = reader.read(&found);
                }
            }
        }
        if let Ok(report) = dump::inspect(Cursor::new(image), &Limits::default()) {
            prop_assert!(!report.to_string().is_empty());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_tree_is_read_back(
        files in prop::collection::vec(
            (
                prop::collection::vec("[a-zA-Z0-9 ._+~äß-]{0,200}[a-z0-9]", 1..5),
                prop::collection::vec(any::<u8>(), 0..5000),
            ),
            0..25,
        ),
        short in any::<bool>(),
    ) {
        let mut tree = Tree::new();
        for (path, content) in files {
            let node = match content.first() {
                Some(0..=50) => Node::symlink(path.join("/../")),
                _ => Node::file(content),
            };
            // Paths that are too long, and files where directories are, are the tree's business.
            let _ = tree.insert(path.join("/"), node);
        }
        let mut options = Options::default();
        options.names = if short { IsoNames::Short } else { IsoNames::Long };
        let mut image = bytes(&plan(&tree, &options));
        read_back(&tree, &mut image);
    }
}

#[test]
fn hostile_images() {
    let mut tree = Tree::new();
    tree.insert("directory/file", Node::file("x")).unwrap();
    let image = bytes(&plan(&tree, &Options::default()));
    let list = |image: &mut Vec<u8>, limits: &Limits| {
        let mut reader = Reader::open(image, limits).unwrap();
        reader.list(Names::RockRidge).unwrap_err().to_string()
    };
    let root = u32::from_le_bytes(image[0x8000 + 158..0x8000 + 162].try_into().unwrap());
    // The directory's extent is the root's.
    let at = usize::try_from(root).unwrap() * 2048;
    let third = at + usize::from(image[at]) + usize::from(image[at + usize::from(image[at])]);
    let mut looped = image.clone();
    looped[third + 2..third + 6].copy_from_slice(&root.to_le_bytes());
    assert!(list(&mut looped, &Limits::default()).contains("twice"));
    // A directory of 4 GiB is not read into memory.
    let mut huge = image.clone();
    huge[third + 10..third + 14].copy_from_slice(&u32::MAX.to_le_bytes());
    let said = list(&mut huge, &Limits::default());
    assert!(said.contains("length of all directories is"), "{said}");
    let mut limits = Limits::default();
    limits.files = 1;
    assert!(list(&mut image.clone(), &limits).contains("number of files"));
    limits = Limits::default();
    limits.depth = 0;
    assert!(list(&mut image.clone(), &limits).contains("depth"));
    for bad in [vec![0; 100], vec![0; 40_000], image[..0x8000 + 100].to_vec()] {
        assert!(Reader::open(&mut bad.clone(), &Limits::default()).is_err());
    }
    // A file that is not there.
    let mut cut = image.clone();
    cut.truncate(image.len() - 2048);
    let mut reader = Reader::open(&mut cut, &Limits::default()).unwrap();
    let found = reader.list(Names::RockRidge).unwrap();
    let said = reader.read(&found[1]).unwrap_err().to_string();
    assert!(said.contains("ends at byte"), "{said}");
}
