//! Images as archives: what is read, what is refused, and what is written.

use std::io::Write;

use kiln_oci::appc::{self, Aci, Identifier, ImageManifest, Packing, Rendering};
use kiln_oci::host::Unpack;
use kiln_oci::layer::{Devices, Options, Spool};
use kiln_oci::{Compression, Error, Limits};
use kiln_tree::{Kind, Node, Source, Tree};
use proptest::prelude::*;

use super::manifests::identifier;
use crate::trees::{Archive, canonical, in_memory, listed, tree};

pub(super) const MANIFEST: &str =
    r#"{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "example.com/x"}"#;

pub(super) fn opened(bytes: impl Into<Vec<u8>>) -> Result<Aci, Error> {
    Aci::of_source("x.aci", bytes.into().into(), &Limits::default())
}

/// An image that depends on nothing.
pub(super) fn alone(image: Aci) -> Rendering {
    Rendering::new(image, &Limits::default(), &mut |_| Ok(None)).unwrap()
}

fn rendered(image: Aci) -> Tree {
    in_memory(&alone(image).tree(&Options::default(), None).unwrap())
}

fn sound() -> Archive {
    Archive::default()
        .directory("rootfs/")
        .directory("rootfs/bin/")
        .file("rootfs/bin/a", "content")
        .hardlink("rootfs/bin/b", "rootfs/bin/a")
        .symlink("rootfs/sbin", "bin")
        .file("rootfs/.wh.a", "a name as any other")
        .file("rootfs/bin/.wh..wh..opq", "")
        .file("manifest", MANIFEST)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8], dictionary: u32) -> Vec<u8> {
    let mut options = lzma_rust2::XzOptions::with_preset(1);
    options.lzma_options.dict_size = dictionary;
    let mut encoder = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_image_is_the_same_however_it_is_compressed() {
    let plain = sound().bytes();
    let expected = opened(plain.clone()).unwrap();
    use sha2::Digest as _;
    let sum: String =
        sha2::Sha512::digest(&plain).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(expected.id.as_str(), format!("sha512-{sum}"));
    assert_eq!(expected.packing, Packing::Plain);
    assert_eq!(expected.manifest.name, identifier("example.com/x"));
    assert_eq!(&*expected.manifest_bytes, MANIFEST.as_bytes());
    let tree = rendered(expected.clone());
    assert_eq!(
        listed(&tree),
        [
            ".wh.a = a name as any other",
            "bin/",
            "bin/.wh..wh..opq = ",
            "bin/a = content",
            "bin/b == bin/a",
            "sbin -> bin"
        ]
    );
    // Some tools write a stream in several parts.
    let (head, tail) = plain.split_at(1000);
    for (bytes, packing) in [
        (gzip(&plain), Packing::Gzip),
        ([gzip(head), gzip(tail)].concat(), Packing::Gzip),
        (bzip2(&plain), Packing::Bzip2),
        ([bzip2(head), bzip2(tail)].concat(), Packing::Bzip2),
        (xz(&plain, 1 << 20), Packing::Xz),
        ([xz(head, 1 << 20), xz(tail, 1 << 20)].concat(), Packing::Xz),
    ] {
        let image = opened(bytes.clone()).unwrap();
        assert_eq!((&image.id, image.packing), (&expected.id, packing));
        assert_eq!(rendered(image), tree);
        // Of a half there is no image.
        let half = opened(&bytes[..bytes.len() - 9]).unwrap_err().to_string();
        assert!(half.starts_with("x.aci: "), "{half}");
    }
    // Beside its place everything may be named by `.`, as `tar -c .` has it.
    let dots = Archive::default()
        .directory("./")
        .file("./manifest", MANIFEST)
        .directory("./rootfs/")
        .file("./rootfs/bin/a", "content")
        .hardlink("./rootfs/bin/b", "./rootfs/bin/a");
    let tree = rendered(opened(dots.bytes()).unwrap());
    assert_eq!(listed(&tree), ["bin/", "bin/a = content", "bin/b == bin/a"]);
}

#[test]
fn what_is_no_image_is_refused_with_entry_and_offset() {
    let start = || Archive::default().file("manifest", MANIFEST).directory("rootfs/");
    let deep = "rootfs/".to_owned() + &"d/".repeat(300);
    let cases: Vec<(Archive, &str)> = vec![
        (start().file("../x", ""), "\"../x\" at byte 1536: refused: a component is '..'"),
        (start().file("rootfs/../../x", ""), "refused: a component is '..'"),
        (start().file("/rootfs/x", ""), "absolute names are refused"),
        (start().file("other", ""), "a manifest and a rootfs, and nothing else"),
        (start().file("rootfs2/x", ""), "a manifest and a rootfs, and nothing else"),
        (start().file("manifest/x", ""), "a manifest and a rootfs, and nothing else"),
        (start().file("manifest", MANIFEST), "there is a manifest already"),
        (start().directory("rootfs"), "it is there twice"),
        (start().directory("rootfs/a/").directory("rootfs/a"), "it is there twice"),
        (start().directory("./").directory("."), "it is there twice"),
        (start().file("rootfs/a", "").file("rootfs//a", ""), "something in its place already"),
        (start().file("rootfs/a/b", "").file("rootfs/a", ""), "something in its place already"),
        (start().file("rootfs/a", "").directory("rootfs/a/"), "something in its place already"),
        (start().directory("rootfs/a/").symlink("rootfs/a", "b"), "something in its place already"),
        (
            start().file("rootfs/a", "").file("rootfs/b", "").hardlink("rootfs/b", "rootfs/a"),
            "something in its place already",
        ),
        (Archive::default().symlink("manifest", "rootfs/x"), "the manifest can only be a file"),
        (Archive::default().directory("manifest/"), "the manifest can only be a file"),
        (Archive::default().symlink("rootfs", "/"), "the rootfs can only be a directory"),
        (Archive::default().file("rootfs", ""), "the rootfs can only be a directory"),
        (Archive::default().file(".", ""), "it can only be a directory"),
        // Links lead nowhere, be it inside or outside.
        (
            start().symlink("rootfs/a", "/etc").file("rootfs/a/passwd", ""),
            "a, which is on its way, is a symbolic link",
        ),
        (
            start().symlink("rootfs/a", "b").directory("rootfs/a/b/"),
            "a, which is on its way, is a symbolic link",
        ),
        (
            start().file("rootfs/a", "").file("rootfs/a/b/c", ""),
            "a, which is on its way, is a regular file",
        ),
        (start().hardlink("rootfs/a", "../etc/shadow"), "hard link to \"../etc/shadow\": refused"),
        (start().hardlink("rootfs/a", "/etc/shadow"), "which is no file of the rootfs"),
        (start().hardlink("rootfs/a", "manifest"), "which is no file of the rootfs"),
        (start().hardlink("rootfs/a", "rootfs"), "which is no file of the rootfs"),
        (start().hardlink("rootfs/a", "rootfs/b"), "a hard link to b, which is not there"),
        (
            start().symlink("rootfs/a", "/etc").hardlink("rootfs/b", "rootfs/a/shadow"),
            "a hard link to a/shadow, which is not there",
        ),
        (
            start()
                .raw(tar::EntryType::GNULongName, "././@LongLink", "", deep.as_bytes())
                .file("x", ""),
            "directories deep",
        ),
        (start().raw(tar::EntryType::GNUSparse, "rootfs/s", "", b""), "sparse files"),
        (start().raw(tar::EntryType::new(b'?'), "rootfs/s", "", b""), "are not known"),
    ];
    for (archive, expected) in cases {
        let error = opened(archive.bytes()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\ndoes not say {expected:?}");
        assert!(error.starts_with("x.aci: entry "), "{error}");
    }
    for (bytes, expected) in [
        (Archive::default().directory("rootfs/").bytes(), "x.aci: there is no manifest"),
        (Archive::default().file("manifest", MANIFEST).bytes(), "x.aci: there is no rootfs"),
        (Vec::new(), "x.aci: there is no manifest"),
        (b"\x85\x02\x0c\x03encrypted".to_vec(), "ends in the middle of a header"),
        (vec![b'x'; 4096], "this is no header: its checksum is wrong"),
        (sound().bytes()[..2000].to_vec(), "in the middle of its content"),
        (
            Archive::default().directory("rootfs/").file("manifest", "{").bytes(),
            "x.aci: manifest: ",
        ),
        (
            Archive::default().directory("rootfs/").file("manifest", "{\"acKind\": 1}").bytes(),
            "x.aci: manifest: acKind: it is a number",
        ),
    ] {
        let error = opened(bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\ndoes not say {expected:?}");
    }
}

#[test]
fn images_that_are_too_much_are_refused() {
    let open = |bytes: &[u8], change: &dyn Fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        Aci::of_source("x.aci", bytes.into(), &limits).unwrap_err().to_string()
    };
    let bytes = sound().bytes();
    let said = open(&bytes, &|limits| limits.manifest = 20);
    assert!(said.contains("\"manifest\"") && said.contains("longer than 20 bytes"), "{said}");
    let said = open(&bytes, &|limits| limits.entries = 4);
    assert!(said.contains("more than 4 entries"), "{said}");
    let said = open(&bytes, &|limits| limits.bytes = 10);
    assert!(said.contains("more than 10 bytes of files"), "{said}");
    let said = open(&bytes, &|limits| limits.names = 20);
    assert!(said.contains("longer than 20 bytes"), "{said}");
    let said = open(&bytes, &|limits| limits.depth = 0);
    assert!(said.contains("directories deep"), "{said}");

    // Bombs, of which one lies behind the end of the archive.
    let mut large = Tree::new();
    large.insert("zeros", Node::file(vec![0; 80 << 20])).unwrap();
    let manifest = ImageManifest::new(identifier("example.com/x"));
    let (plain, _) = appc::write(&manifest, &large, Compression::None, Vec::new()).unwrap();
    let mut behind = bytes.clone();
    behind.resize(80 << 20, 0);
    for plain in [plain, behind] {
        for bytes in [gzip(&plain), bzip2(&plain), xz(&plain, 1 << 20)] {
            let said = open(&bytes, &|limits| limits.ratio = 100);
            assert!(said.contains("more than 100 times as many are refused"), "{said}");
        }
    }
    let mut endless = bytes.clone();
    endless.resize(6 << 20, 0);
    let said =
        open(&endless, &|limits| (limits.bytes, limits.names, limits.entries) = (900, 900, 9));
    assert!(said.contains("the archive is longer than"), "{said}");
    // A dictionary is memory that a stranger decides about.
    let said = open(&xz(&bytes, 128 << 20), &|_| {});
    assert!(said.contains("memory"), "{said}");
}

#[test]
fn devices_are_the_callers_decision() {
    let archive = Archive::default()
        .file("manifest", MANIFEST)
        .raw(tar::EntryType::Block, "rootfs/disk", "", b"")
        .file("rootfs/rest", "");
    let image = alone(opened(archive.bytes()).unwrap());
    let mut options = Options::default();
    let said = image.tree(&options, None).unwrap_err().to_string();
    assert!(
        said.contains("\"rootfs/disk\"") && said.contains("device nodes are refused"),
        "{said}"
    );
    for (devices, count) in [(Devices::Skip, 1), (Devices::Keep, 2)] {
        options.devices = devices;
        assert_eq!(image.tree(&options, None).unwrap().len(), count);
    }
}

#[test]
fn an_image_that_changes_after_it_was_looked_at_is_not_unpacked() {
    let work = tempfile::tempdir().unwrap();
    let path = work.path().join("x.aci");
    let mut bytes = sound().bytes();
    std::fs::write(&path, &bytes).unwrap();
    let image = Aci::open(&path, &Limits::default()).unwrap();
    let elsewhere = work.path().join("kept.aci");
    assert!(matches!(image.clone().moved_to(&elsewhere), Err(Error::Io { .. })));
    std::fs::rename(&path, &elsewhere).unwrap();
    let image = alone(image.moved_to(&elsewhere).unwrap());
    assert_eq!(listed(&image.tree(&Options::default(), None).unwrap()).len(), 6);
    let at = bytes.windows(7).position(|part| part == b"content").unwrap();
    bytes[at] = b'C';
    std::fs::write(&elsewhere, &bytes).unwrap();
    let error = image.unpack(&work.path().join("root"), &Unpack::default()).unwrap_err();
    assert!(matches!(error, Error::Blob { .. }), "{error}");
    assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1);
}

#[test]
fn contents_stay_out_of_memory() {
    let work = tempfile::tempdir().unwrap();
    let mut root = Tree::new();
    root.insert("large", Node::file(vec![1; 600_000])).unwrap();
    let manifest = ImageManifest::new(identifier("example.com/x"));
    let mut options = Options::default();
    options.limits.memory = 0;
    for (name, compression) in [("plain", Compression::None), ("gzip", Compression::Gzip)] {
        let path = work.path().join(name);
        let out = std::fs::File::create(&path).unwrap();
        let (_, id) = appc::write(&manifest, &root, compression, out).unwrap();
        let image = Aci::open(&path, &Limits::default()).unwrap();
        assert_eq!(image.id, id);
        let mut spool = Spool::create(work.path().join(format!("{name}.spool"))).unwrap();
        let tree = alone(image).tree(&options, Some(&mut spool)).unwrap();
        let Kind::File(source) = &tree.iter().next().unwrap().1.kind else { panic!("no file") };
        assert!(matches!(source, Source::Range { .. }), "{source:?}");
        assert_eq!(in_memory(&tree), root);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_tree_comes_out_of_an_image_as_it_went_in(tree in tree()) {
        let manifest = ImageManifest::new(Identifier::new("example.com/x").unwrap());
        let plain = appc::pack(&manifest, &tree, Compression::None).unwrap();
        let gzip = appc::pack(&manifest, &tree, Compression::Gzip).unwrap();
        prop_assert_eq!(&plain.id, &gzip.id);
        prop_assert_eq!(&*plain.manifest, &manifest);
        let found = rendered(plain);
        prop_assert_eq!(&found, &canonical(&tree));
        prop_assert_eq!(&found, &rendered(gzip.clone()));
        // The same tree by other names gives the same bytes.
        let again = appc::pack(&manifest, &found, Compression::Gzip).unwrap();
        prop_assert_eq!(again.source.read().unwrap(), gzip.source.read().unwrap());
    }

    #[test]
    fn a_directory_is_the_root_of_the_image(tree in tree()) {
        let manifest = ImageManifest::new(Identifier::new("example.com/x").unwrap());
        let image = appc::pack(&manifest, &tree, Compression::Gzip).unwrap();
        let work = tempfile::tempdir().unwrap();
        let mut options = Unpack::default();
        options.owners = rustix::process::geteuid().is_root();
        let unpacked = alone(image).unpack(&work.path().join("root"), &options).unwrap();
        prop_assert_eq!(in_memory(&unpacked), canonical(&tree));
    }

    #[test]
    fn mutated_images_are_errors_or_trees(
        tree in tree(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        compression in 0..4_usize, resealed in any::<bool>(),
    ) {
        let manifest = ImageManifest::new(Identifier::new("example.com/x").unwrap());
        let (plain, _) = appc::write(&manifest, &tree, Compression::None, Vec::new()).unwrap();
        let mut bytes = match compression {
            0 => plain,
            1 => gzip(&plain),
            2 => bzip2(&plain),
            _ => xz(&plain, 1 << 20),
        };
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
            let block = at / 512 * 512;
            if resealed && compression == 0 && block + 512 <= bytes.len() {
                let header = &mut bytes[block..block + 512];
                if header[257..262] == *b"ustar" {
                    header[148..156].fill(b' ');
                    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
        }
        if let Ok(image) = opened(bytes) {
            let mut options = Options::default();
            options.devices = Devices::Keep;
            let tree = alone(image).tree(&options, None).unwrap();
            prop_assert!(tree.check().is_empty(), "{:?}", tree.check());
        }
    }
}

#[test]
fn what_no_image_holds_is_told_before_anything_is_written() {
    let manifest = ImageManifest::new(identifier("example.com/x"));
    let mut root = Tree::new();
    root.insert("a", Node::new(Kind::Socket)).unwrap();
    root.insert("b", Node::char_device(1 << 30, 0)).unwrap();
    let error = appc::write(&manifest, &root, Compression::None, Vec::new()).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 2, "{error}");
    let error = appc::write(&manifest, &Tree::new(), Compression::Zstd, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "Zstd: images are compressed by gzip");
}
