//! Everything that is made of a tree is the same whenever, wherever and by how many threads it is
//! made.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use kiln_diskimg::bundle::{self, Machine};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::verity::{self, Verity};
use kiln_diskimg::{
    Content, DiskPlan, Layout, Partition, Seed, Table, erofs, ext4, fat, iso, squashfs,
};
use kiln_tree::{Tree, TreePath, host};
use sha2::{Digest, Sha256};

use crate::tools::bytes;

/// A directory of the host: the same files whatever it is called and in whatever order they come.
fn put(root: &Path, reversed: bool, modified: u64) {
    let mut state = 3_u64;
    let noise: Vec<u8> = (0..500_000)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .collect();
    let text: Vec<u8> =
        (0..40_000_u32).flat_map(|at| format!("{at} of many lines\n").into_bytes()).collect();
    let mut files: Vec<(String, Vec<u8>)> = (0..150)
        .map(|at| (format!("many/name {at}"), format!("{at}\n").repeat(at).into_bytes()))
        .collect();
    files.push(("noise".into(), noise));
    files.push(("text".into(), text));
    files.push(("empty".into(), Vec::new()));
    if reversed {
        files.reverse();
    }
    for (name, content) in files {
        let path = root.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(modified);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    let holes = File::create(root.join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    holes.write_all_at(b"in a hole", 700_000).unwrap();
    fs::set_permissions(root.join("text"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("bin")).unwrap();
    symlink("../text", root.join("bin/link")).unwrap();
}

fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    host::import(&mut tree, root, "", &host::Policy::default()).unwrap();
    tree
}

/// The same without what FAT does not hold.
fn plain(tree: &Tree) -> Tree {
    let mut plain = tree.clone();
    plain.remove(&TreePath::new("bin/link").unwrap());
    plain
}

fn esp(tree: &Tree) -> fat::Volume {
    fat::Volume::plan(&plain(tree), &fat::Options::default()).unwrap()
}

fn erofs(
    tree: &Tree,
    dir: &Path,
    threads: Option<NonZeroUsize>,
    cluster: usize,
) -> erofs::Compressed<File> {
    let mut options = erofs::Options::default();
    options.threads = threads;
    let mut compression = erofs::Compression::new(erofs::Algorithm::Lz4);
    compression.cluster = cluster;
    let spool = tempfile::tempfile_in(dir).unwrap();
    erofs::Compressed::plan(tree, &options, compression, spool).unwrap()
}

/// A disk with one volume of each kind and a verified one.
fn disk(tree: &Tree, dir: &Path, threads: Option<NonZeroUsize>) -> Layout {
    let mut options = verity::Options::default();
    options.threads = threads;
    let root =
        std::sync::Arc::new(Verity::plan(erofs(tree, dir, threads, 4096), &options).unwrap());
    let volume = ext4::Volume::plan(tree, &ext4::Options::default()).unwrap();
    DiskPlan::new(Table::Gpt, Seed::new("same"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, esp(tree)))
        .with(Partition::new("data", PartitionType::LINUX, volume))
        .with(Partition::new("root", PartitionType::LINUX, root.protected()))
        .layout()
        .unwrap()
}

/// All that can be made, by name.
fn artifacts(root: &Path, out: &Path, threads: usize) -> BTreeMap<String, Vec<u8>> {
    let tree = tree(root);
    let some = NonZeroUsize::new(threads);
    let mut all = BTreeMap::new();
    let mut add = |name: &str, bytes: Vec<u8>| all.insert(name.to_owned(), bytes);

    add("fat", bytes(&esp(&tree)));
    add("ext4", bytes(&ext4::Volume::plan(&tree, &ext4::Options::default()).unwrap()));
    let mut options = erofs::Options::default();
    options.threads = some;
    add("erofs", bytes(&erofs::Volume::plan(&tree, &options).unwrap()));
    for cluster in [4096, 65_536] {
        let volume = erofs(&tree, out, some, cluster);
        add(&format!("erofs-lz4-{cluster}"), bytes(&volume));
        let mut image = Vec::new();
        let mut spool = volume.into_image().unwrap();
        std::io::Seek::rewind(&mut spool).unwrap();
        spool.read_to_end(&mut image).unwrap();
        add(&format!("erofs-lz4-{cluster} in place"), image);
    }
    let mut options = squashfs::Options::default();
    options.threads = some;
    let spool = tempfile::tempfile_in(out).unwrap();
    add("squashfs", bytes(&squashfs::Image::plan(&tree, &options, spool).unwrap()));
    let (_, options) = crate::iso::bootable(Table::Gpt);
    let mut iso_tree = plain(&tree);
    iso_tree.insert("isolinux/isolinux.bin", crate::iso::isolinux_node()).unwrap();
    add("iso", bytes(&iso::Volume::plan(&iso_tree, &options).unwrap()));
    let mut options = verity::Options::default();
    options.threads = some;
    let verity = Verity::plan(erofs(&tree, out, some, 4096), &options).unwrap();
    add("verity", bytes(&verity.protected()));
    add("verity tree", bytes(&verity.tree()));
    add("verity root hash", verity.root_hash().unwrap().to_string().into_bytes());
    uki(&mut add);

    let disk = disk(&tree, out, some);
    let mut options = container::Options::default();
    options.threads = threads;
    for format in Format::ALL.into_iter().filter(|format| format.is_available()) {
        let path = out.join(format.name());
        container::write_file_with(format, &disk, &path, &options).unwrap();
        add(format.name(), fs::read(&path).unwrap());
        fs::remove_file(path).unwrap();
    }
    #[cfg(feature = "zlib")]
    {
        let machine = Machine::new("same");
        let memory = || Cursor::new(Vec::new());
        let ova = bundle::write_ova(&machine, &disk, memory(), &options).unwrap();
        add("ova", ova.into_inner());
        let zip = bundle::write_vbox_zip(&machine, &disk, memory(), &options).unwrap();
        add("vbox-zip", zip.into_inner());
        add("gce", bundle::write_gce(&disk, Vec::new(), &options).unwrap());
    }
    #[cfg(feature = "zstd")]
    {
        let (zst, map) = bundle::write_raw_zst(&disk, Cursor::new(Vec::new()), &options).unwrap();
        add("raw-zst with a map", zst.into_inner());
        add("bmap", map.into_bytes());
    }
    all
}

/// Takes what was made under a name.
type Add<'made> = dyn FnMut(&str, Vec<u8>) -> Option<Vec<u8>> + 'made;

fn uki(add: &mut Add<'_>) {
    let stub = crate::uki::small_stub();
    let image = crate::uki::uki(stub.clone(), stub).plan().unwrap();
    add("uki", bytes(&image));
    #[cfg(feature = "sign")]
    {
        let (signer, _) = crate::sign::signers();
        let signed = kiln_diskimg::boot::sign::sign(image, signer).unwrap();
        add("uki signed", bytes(&signed));
    }
}

#[test]
fn two_builds_in_two_places_by_any_number_of_threads_are_the_same() {
    let place = tempfile::tempdir().unwrap();
    let mut first: Option<BTreeMap<String, String>> = None;
    for (at, threads) in [1, 2, 4, 1].into_iter().enumerate() {
        let root = place.path().join(format!("{}/tree", "x".repeat(at * 20 + 1)));
        let out = place.path().join(format!("out {at}"));
        fs::create_dir_all(&out).unwrap();
        put(&root, at % 2 == 1, 1_000_000_000 + at as u64 * 86_400);
        let all: BTreeMap<String, String> = artifacts(&root, &out, threads)
            .into_iter()
            .map(|(name, bytes)| (name, format!("{:x?}", Sha256::digest(bytes))))
            .collect();
        let first = first.get_or_insert_with(|| all.clone());
        let other: Vec<&String> = all
            .iter()
            .filter(|(name, sum)| first.get(*name) != Some(*sum))
            .map(|it| it.0)
            .collect();
        assert!(other.is_empty(), "with {threads} threads these are others: {other:?}");
        assert_eq!(first.len(), all.len());
    }
    let names: Vec<String> = first.unwrap().into_keys().collect();
    println!("{} artifacts: {}", names.len(), names.join(", "));
}

/// What is in a disk's partitions does not depend on what it is stored in.
#[test]
fn every_container_holds_the_same_disk() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("tree");
    put(&root, false, 5);
    let disk = disk(&tree(&root), place.path(), None);
    let wanted = Sha256::digest(bytes(&disk));
    for format in Format::ALL.into_iter().filter(|format| format.is_available()) {
        let image = container::write(format, &disk, Cursor::new(Vec::new())).unwrap();
        let mut opened = container::open(image, &kiln_diskimg::Limits::default()).unwrap();
        let raw = container::convert(&mut opened, Format::Raw, Cursor::new(Vec::new())).unwrap();
        let mut raw = raw.into_inner();
        // A fixed VHD is filled up to whole mebibytes.
        raw.truncate(usize::try_from(disk.len()).unwrap());
        assert_eq!(Sha256::digest(raw), wanted, "{format}");
    }
}
