//! Partition tables, file systems, and formats of images.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::Arc;

use kiln_diskimg::container::{self, Format};
use kiln_diskimg::gpt::{self, Entry, PartitionType};
use kiln_diskimg::verity::{self, Verity};
use kiln_diskimg::{
    Content, DiskPlan, Guid, Partition, Seed, Table, Zeroes, erofs, ext4, fat, iso,
};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath};

use super::{Inputs, Result};
use crate::sparse::Sparse;

fn bytes(content: &dyn Content) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    content.write_to(&mut bytes)?;
    Ok(bytes)
}

fn encoded(content: &dyn Content) -> Result<Vec<u8>> {
    Ok(Sparse::encode(&bytes(content)?))
}

fn small() -> Result<Tree> {
    let mut tree = Tree::new();
    tree.insert("a/b/a file with a long name", Node::file("text\n"))?;
    tree.insert("a/README.TXT", Node::file(vec![7; 600]))?;
    tree.insert("empty", Node::file(Vec::new()))?;
    Ok(tree)
}

/// With what FAT has not.
fn rich() -> Result<Tree> {
    let mut tree = small()?;
    let mut meta = Metadata::new(0o4750).owned_by(70_000, 5).modified_at(1_700_000_000);
    meta.xattrs.insert(b"user.name".to_vec(), b"value".to_vec());
    meta.xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
    tree.insert("bin/tool", Node::executable("#!/bin/sh\n").with(meta))?;
    tree.insert("link", Node::symlink("a/README.TXT"))?;
    tree.insert("long", Node::symlink(vec![b'x'; 200]))?;
    tree.insert("dev/null", Node::char_device(1, 3))?;
    tree.insert("dev/pipe", Node::new(Kind::Fifo))?;
    tree.insert("again", Node::hardlink(TreePath::new("a/README.TXT")?))?;
    Ok(tree)
}

fn fat_volume(kind: fat::Kind) -> Result<fat::Volume> {
    let mut options = fat::Options::default();
    options.kind = Some(kind);
    options.label = Some(String::from("KILN"));
    Ok(fat::Volume::plan(&small()?, &options)?)
}

fn ext4_volume(tree: &Tree, journal: ext4::Journal) -> Result<ext4::Volume> {
    let mut options = ext4::Options::default();
    options.journal = journal;
    options.inodes = Some(64);
    options.label = Some(String::from("kiln"));
    Ok(ext4::Volume::plan(tree, &options)?)
}

fn text(len: usize) -> Vec<u8> {
    (0..).flat_map(|at: u32| format!("{at} lines\n").into_bytes()).take(len).collect()
}

fn erofs_seeds() -> Result<Inputs> {
    use erofs::{Algorithm, Compressed, Compression, Options, Volume};
    let mut tree = rich()?;
    let mut seeds = vec![encoded(&Volume::plan(&tree, &Options::default())?)?];
    tree.insert("text", Node::file(text(9000)))?;
    for cluster in [4096, 16_384] {
        let mut compression = Compression::new(Algorithm::Lz4);
        compression.cluster = cluster;
        let spool = Cursor::new(Vec::new());
        let volume = Compressed::plan(&tree, &Options::default(), compression, spool)?;
        seeds.push(encoded(&volume)?);
    }
    Ok(seeds)
}

fn iso_seeds() -> Result<Inputs> {
    let mut tree = rich()?;
    tree.insert("isolinux/isolinux.bin", Node::file(vec![0x90; 100]))?;
    let plain = iso::Options::default();
    let mut full = iso::Options::default();
    full.joliet = Some(iso::Joliet::Long);
    full.bios = Some(iso::Bios::new(TreePath::new("isolinux/isolinux.bin")?));
    full.efi = Some(Arc::new(Zeroes(4096)));
    full.hybrid = Some(iso::Hybrid::new(Vec::new(), Seed::new("seed")));
    let mut bare = iso::Options::default();
    bare.rock_ridge = false;
    bare.names = iso::IsoNames::Short;
    Ok(vec![
        encoded(&iso::Volume::plan(&tree, &plain)?)?,
        encoded(&iso::Volume::plan(&tree, &full)?)?,
        encoded(&iso::Volume::plan(&small()?, &bare)?)?,
    ])
}

fn disk(table: Table, content: impl Content + 'static) -> Result<Vec<u8>> {
    let esp = fat_volume(fat::Kind::Fat12)?;
    let layout = DiskPlan::new(table, Seed::new("seed"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, esp))
        .with(Partition::new("root", PartitionType::LINUX, content))
        .layout()?;
    encoded(&layout)
}

/// Disks of 128 KiB with two partitions, on a larger disk too, and with one table only.
fn gpt_seeds() -> Result<Inputs> {
    let entry = |first, last, name: &str| Entry {
        kind: Guid::from_u128(1),
        guid: Seed::new("seed").guid(name),
        first,
        last,
        attributes: 0,
        name: name.to_owned(),
    };
    let entries = [entry(40, 100, "one"), entry(101, 150, "two")];
    let tables = gpt::emit(256, Seed::new("seed").guid("disk"), &entries)?;
    let mut disk = tables.head;
    disk[446..462].copy_from_slice(&[0, 0, 2, 0, 0xee, 255, 255, 255, 1, 0, 0, 0, 255, 0, 0, 0]);
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk.resize(256 * 512 - tables.tail.len(), 0);
    disk.extend_from_slice(&tables.tail);
    let mut larger = disk.clone();
    larger.resize(400 * 512, 0);
    let mut damaged = disk.clone();
    damaged[600] ^= 1;
    Ok([disk, larger, damaged].map(|disk| Sparse::encode(&disk)).to_vec())
}

/// 64 KiB at the start, a hole, and some bytes at the end.
fn contents() -> Vec<u8> {
    let mut bytes = text(3000);
    bytes.resize((3 << 20) + 512, 0);
    bytes.extend_from_slice(&[7; 512]);
    bytes
}

fn image(format: Format) -> Result<Vec<u8>> {
    let layout = DiskPlan::default().with(Partition::new("p", PartitionType::LINUX, Zeroes(4096)));
    let mut disk = bytes(&layout.layout()?)?;
    let text = contents();
    disk[4096..4096 + 3000].copy_from_slice(&text[..3000]);
    let out = container::convert(&mut disk, format, Cursor::new(Vec::new()))?;
    Ok(Sparse::encode(&out.into_inner()))
}

fn images(formats: &[Format]) -> Result<Inputs> {
    formats.iter().map(|format| image(*format)).collect()
}

fn verity_seed(blocks: usize) -> Result<Vec<u8>> {
    let mut options = verity::Options::default();
    options.salt = Some(vec![5; 32]);
    let mut bytes = bytes(&Verity::plan(Zeroes(blocks as u64 * 4096), &options)?.protected())?;
    bytes.push(u8::try_from(blocks).unwrap_or(u8::MAX));
    Ok(Sparse::encode(&bytes))
}

/// Without the unused ends of bitmaps, which are set and which the reader does not look at.
fn ext4_seed(tree: &Tree) -> Result<Vec<u8>> {
    let mut bytes = bytes(&ext4_volume(tree, ext4::Journal::None)?)?;
    for part in bytes.chunks_exact_mut(64) {
        if part.iter().all(|byte| *byte == 0xff) {
            part.fill(0);
        }
    }
    Ok(Sparse::encode(&bytes))
}

pub(super) fn all() -> Result<BTreeMap<&'static str, Inputs>> {
    let rich = rich()?;
    let ext4_plain = ext4_volume(&rich, ext4::Journal::None)?;
    let mut all = BTreeMap::from([
        ("ext4", vec![ext4_seed(&rich)?, ext4_seed(&small()?)?]),
        ("erofs", erofs_seeds()?),
        ("iso", iso_seeds()?),
        ("verity", vec![verity_seed(1)?, verity_seed(3)?, verity_seed(130)?]),
        ("qcow2", images(&[Format::Qcow2, Format::Qcow2Zlib, Format::Qcow2Zstd])?),
        ("vmdk", images(&[Format::Vmdk, Format::VmdkStream])?),
        ("vdi", images(&[Format::Vdi])?),
        ("vhd", images(&[Format::Vhd, Format::VhdFixed])?),
        ("vhdx", images(&[Format::Vhdx])?),
        ("raw_zst", images(&[Format::RawZst])?),
    ]);
    let kinds = [fat::Kind::Fat12, fat::Kind::Fat16, fat::Kind::Fat32];
    let volumes: Result<Inputs> =
        kinds.into_iter().map(|kind| encoded(&fat_volume(kind)?)).collect();
    all.insert("fat", volumes?);
    let empty = Zeroes(4096);
    let gpt = vec![disk(Table::Gpt, empty)?, disk(Table::Mbr, Zeroes(4096))?];
    let mut whole = gpt.clone();
    whole.push(disk(Table::Gpt, ext4_plain)?);
    whole.push(disk(Table::Gpt, erofs::Volume::plan(&rich, &erofs::Options::default())?)?);
    whole.extend(all.get("iso").into_iter().flatten().cloned());
    all.insert("inspect", whole);
    all.insert("gpt", gpt_seeds()?);
    Ok(all)
}
