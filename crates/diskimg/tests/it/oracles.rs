//! What programs that know nothing of us take our volumes for: blkid, by which systems find their
//! file systems, and 7-Zip, which has readers of its own for most of them.

#![cfg(feature = "squashfs")]

use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_diskimg::container::Format;
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{
    Content, DiskPlan, Partition, Seed, Table, erofs, ext4, fat, iso, squashfs, verity,
};
use kiln_tree::{Node, Tree, TreePath};

use crate::tools::{expect, file, tree};

/// The volumes with the type, label and identifier that they should be known by.
fn volumes(hidden: u32) -> Vec<(Arc<dyn Content>, &'static str, &'static str, String)> {
    let tree = tree();
    let mut fat = crate::tools::options();
    fat.hidden_sectors = hidden;
    let mut ext4 = ext4::Options::default();
    (ext4.label, ext4.seed) = (Some("sixteen letters!".into()), Seed::new("oracle"));
    let mut erofs = erofs::Options::default();
    (erofs.label, erofs.seed) = (Some("read-only".into()), Seed::new("oracle"));
    let mut iso = iso::Options::default();
    (iso.volume_id, iso.time) = ("KILN_CD".into(), 1_700_000_000);
    let squashfs = squashfs::Options::default();
    let verity = verity::Options::default();
    let checked = verity::Verity::plan(vec![7; 1 << 20], &verity).unwrap();
    let guid = |what: &str| Seed::new("oracle").guid(what).to_string().to_lowercase();
    vec![
        (
            Arc::new(fat::Volume::plan(&tree, &fat).unwrap()),
            "vfat",
            "KILN TEST",
            "1234-ABCD".to_owned(),
        ),
        (
            Arc::new(ext4::Volume::plan(&tree, &ext4).unwrap()),
            "ext4",
            "sixteen letters!",
            guid("ext4"),
        ),
        (
            Arc::new(erofs::Volume::plan(&tree, &erofs).unwrap()),
            "erofs",
            "read-only",
            guid("erofs"),
        ),
        (
            Arc::new(iso::Volume::plan(&tree, &iso).unwrap()),
            "iso9660",
            "KILN_CD",
            "2023-11-14-22-13-20-00".to_owned(),
        ),
        (
            Arc::new(squashfs::Image::plan(&tree, &squashfs, Cursor::new(Vec::new())).unwrap()),
            "squashfs",
            "",
            String::new(),
        ),
        (Arc::new(checked.tree()), "DM_verity_hash", "", verity.seed.guid("verity").to_string()),
    ]
}

fn export(text: &str, key: &str) -> String {
    let start = format!("{key}=");
    let value = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap_or_default();
    value.replace('\\', "")
}

#[test]
fn blkid_knows_every_volume_by_itself_and_on_a_disk() {
    let dir = tempfile::tempdir().unwrap();
    let known = |path: &Path, offset: u64, len: u64| {
        let (offset, len) = (format!("-O{offset}"), format!("-S{len}"));
        let path = path.to_str().unwrap();
        expect("blkid", &["-p", "-o", "export", &offset, &len, path])
    };
    for (at, (volume, kind, label, id)) in volumes(0).iter().enumerate() {
        let path = file(dir.path(), &format!("{at}"), Format::Raw, volume);
        let Some(text) = known(&path, 0, volume.len()) else { return };
        let found = ["TYPE", "LABEL", "UUID"].map(|key| export(&text, key));
        assert_eq!(found, [*kind, *label, id.as_str()], "{text}");
    }
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("oracle"));
    for (at, (volume, ..)) in volumes(2048).into_iter().enumerate() {
        let name = format!("part {at}");
        plan = plan.with(Partition::new(&name, PartitionType::LINUX, volume));
    }
    let layout = plan.layout().unwrap();
    let path = file(dir.path(), "disk", Format::Raw, &layout);
    let text = known(&path, 0, layout.len.0).unwrap();
    assert_eq!(export(&text, "PTTYPE"), "gpt", "{text}");
    assert_eq!(export(&text, "PTUUID"), layout.disk_guid.to_string().to_lowercase());
    for (placed, (_, kind, label, _)) in layout.partitions.iter().zip(volumes(2048)) {
        let text = known(&path, placed.first.0 * 512, placed.sectors * 512).unwrap();
        assert_eq!(export(&text, "TYPE"), kind, "{text}");
        assert_eq!(export(&text, "LABEL"), label, "{text}");
    }
}

/// Files and their contents as 7-Zip extracts them.
fn extracted(dir: &Path, image: &Path) -> Option<PathBuf> {
    let out = dir.join("extracted");
    let _ = std::fs::remove_dir_all(&out);
    let to = format!("-o{}", out.display());
    let text = expect("7zz", &["x", "-y", &to, image.to_str().unwrap()])?;
    assert!(text.contains("Everything is Ok"), "{text}");
    Some(out)
}

#[test]
fn seven_zip_extracts_every_volume_that_it_knows() {
    let dir = tempfile::tempdir().unwrap();
    let tree = tree();
    for (volume, kind, ..) in volumes(0) {
        // It knows no EROFS, and no LZ4 in SquashFS.
        if matches!(kind, "erofs" | "squashfs" | "DM_verity_hash") {
            continue;
        }
        let path = file(dir.path(), &format!("image.{kind}"), Format::Raw, &volume);
        let Some(out) = extracted(dir.path(), &path) else { return };
        let mut count = 0;
        for (path, content) in files(&tree) {
            let found = std::fs::read(out.join(path.to_string()));
            let found = found.unwrap_or_else(|error| panic!("{kind}: {path}: {error}"));
            assert!(found == content, "{kind}: {path}");
            count += 1;
        }
        println!("{kind}: {count} files");
    }
}

/// The files of a tree under all of their names.
fn files(tree: &Tree) -> Vec<(TreePath, Vec<u8>)> {
    let content = |node: &Node| match &node.kind {
        kiln_tree::Kind::File(source) => Some(source.read().unwrap().to_vec()),
        _ => None,
    };
    tree.iter()
        .filter_map(|(path, node)| match &node.kind {
            kiln_tree::Kind::Hardlink(target) => Some((path.clone(), content(tree.get(target)?)?)),
            _ => Some((path.clone(), content(node)?)),
        })
        .collect()
}
