//! `kiln inspect` explains every kind of image that is made here: container, partitions, file systems,
//! what starts, as text, JSON and a picture.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

use std::fs::{self, File};
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln::inspect;
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile, Signer, sign};
use kiln_diskimg::boot::uki::Uki;
use kiln_diskimg::bundle::{self, Machine};
use kiln_diskimg::container::{self, Format, Options};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{
    ByteLen, Content, DiskPlan, Layout, Partition, Seed, Table, erofs, ext4, fat, iso, squashfs,
};
use kiln_tree::{Node, Tree, TreePath};
use serde_json::Value;

/// The headers of an executable without a section: enough of a stub and of a kernel to be looked at.
fn stub() -> Vec<u8> {
    let mut stub = vec![0; 0x400];
    let mut put = |at: usize, bytes: &[u8]| stub[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"MZ");
    put(0x3c, &0x60_u32.to_le_bytes());
    put(0x60, b"PE\0\0\x64\x86\x01\0");
    put(0x60 + 20, &240_u16.to_le_bytes());
    let optional = 0x60 + 24;
    put(optional, &0x20b_u16.to_le_bytes());
    for (at, value) in
        [(16, 0x2000), (32, 0x1000), (36, 0x200), (56, 0x3000), (60, 0x200), (108, 16)]
    {
        put(optional + at, &u32::to_le_bytes(value));
    }
    let section = optional + 240;
    put(section, b".text");
    for (at, value) in [(8, 0x123_u32), (12, 0x2000), (16, 0x200), (20, 0x200), (36, 0x6000_0020)] {
        put(section + at, &value.to_le_bytes());
    }
    stub
}

fn uki() -> Vec<u8> {
    let mut uki = Uki::new(stub(), stub());
    uki.command_line = Some("console=ttyS0 quiet".to_owned());
    uki.os_release = Some("ID=kiln\nPRETTY_NAME=\"Kiln 1\"\n".to_owned());
    uki.uname = Some("6.1.0-test".to_owned());
    uki.initrds = vec![vec![1; 3000].into()];
    let mut state = 5_u64;
    let key = PrivateKey::generate(2048, &mut |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = (state >> 56) as u8;
        }
    })
    .unwrap();
    let certificate = Certificate::self_signed(&key, &Profile::new("inspect")).unwrap();
    let signed = sign(uki.plan().unwrap(), &Signer::new(key, certificate).unwrap()).unwrap();
    signed.source().read().unwrap().to_vec()
}

fn menus(uki: &[u8]) -> Tree {
    let mut tree = Tree::new();
    for (path, content) in [
        ("EFI/Linux/kiln.efi", uki),
        ("EFI/BOOT/BOOTX64.EFI", &stub()),
        (
            "loader/entries/kiln.conf",
            b"title Kiln\nversion 6.1\nlinux /vmlinuz\ninitrd /initrd\noptions root=x\n",
        ),
        (
            "EFI/debian/grub.cfg",
            b"menuentry 'Kiln by GRUB' --id a {\n  linux /vmlinuz quiet\n  initrd /initrd\n}\n",
        ),
        (
            "syslinux/syslinux.cfg",
            b"DEFAULT kiln\nLABEL kiln\n  LINUX /vmlinuz\n  INITRD /initrd\n  APPEND console=tty0\n",
        ),
        ("vmlinuz", &[0x90; 9000]),
        ("initrd", &[7; 5000]),
    ] {
        tree.insert(path, Node::file(content)).unwrap();
    }
    tree
}

fn root() -> Tree {
    let mut tree = Tree::new();
    tree.insert("etc/hostname", Node::file("kiln\n")).unwrap();
    tree.insert("usr/bin/program", Node::executable(vec![3; 200_000])).unwrap();
    tree.insert("bin", Node::symlink("usr/bin")).unwrap();
    tree
}

fn esp(uki: &[u8], hidden: u32) -> fat::Volume {
    let mut options = fat::Options::default();
    options.label = Some("ESP".into());
    options.volume_id = 0xcafe_f00d;
    options.kind = Some(fat::Kind::Fat16);
    options.hidden_sectors = hidden;
    fat::Volume::plan(&menus(uki), &options).unwrap()
}

fn ext4_volume() -> ext4::Volume {
    let mut options = ext4::Options::default();
    options.label = Some("root".into());
    options.seed = Seed::new("inspect");
    options.size = ext4::VolumeSize::FromContent { headroom: ByteLen::mib(4) };
    ext4::Volume::plan(&root(), &options).unwrap()
}

fn erofs_volume() -> erofs::Volume {
    let mut options = erofs::Options::default();
    options.label = Some("usr".into());
    erofs::Volume::plan(&root(), &options).unwrap()
}

fn disk(uki: &[u8]) -> Layout {
    let squash =
        squashfs::Image::plan(&root(), &squashfs::Options::default(), Cursor::new(Vec::new()))
            .unwrap();
    DiskPlan::new(Table::Gpt, Seed::new("inspect"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, esp(uki, 2048)).bootable())
        .with(Partition::new("root", PartitionType::LINUX, ext4_volume()))
        .with(Partition::new("usr", PartitionType::LINUX, erofs_volume()))
        .with(Partition::new("app", PartitionType::LINUX, squash))
        .layout()
        .unwrap()
}

/// What is said of an image: text, JSON, and a picture that is well-formed.
fn seen(path: &Path) -> (String, Value, roxmltree::Document<'static>) {
    let text = inspect::text(path).unwrap();
    let json = serde_json::from_str(&inspect::json(path).unwrap()).unwrap();
    // The document borrows its text, and a test may leak that.
    let svg: &'static str = Box::leak(inspect::svg(path).unwrap().into_boxed_str());
    (text, json, roxmltree::Document::parse(svg).unwrap())
}

/// What is said of a disk with those partitions, whatever it is stored in.
fn is_explained(what: &str, path: &Path, report: &dyn Fn(&Value) -> Value) {
    let (text, json, svg) = seen(path);
    for part in [
        "partition 1 \"esp\" efi-system",
        "FAT16 cafe-f00d \"ESP\"",
        "bytes free",
        "starts EFI/Linux/kiln.efi (uki) \"Kiln 1\", kernel 6.1.0-test, signed",
        ".osrel ",
        ".initrd 3000",
        "with \"console=ttyS0 quiet\"",
        "starts EFI/BOOT/BOOTX64.EFI (efi), not signed",
        "starts loader/entries/kiln.conf (bls) \"Kiln\", kernel 6.1: /vmlinuz + /initrd, with \"root=x\"",
        "starts EFI/debian/grub.cfg (grub) \"Kiln by GRUB\": /vmlinuz + /initrd, with \"quiet\"",
        "starts syslinux/syslinux.cfg (syslinux) \"kiln\": /vmlinuz + /initrd, with \"console=tty0\"",
        "partition 2 \"root\"",
        "  ext4 ",
        "\"root\", ",
        "etc/hostname",
        "  EROFS ",
        "SquashFS lz4, 7 inodes",
    ] {
        assert!(text.contains(part), "{what}: {part}: {text}");
    }
    let report = report(&json);
    let partitions = report["table"]["partitions"].as_array().unwrap();
    let kinds: Vec<&str> =
        partitions.iter().map(|it| it["file_system"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["FAT16", "ext4", "EROFS", "SquashFS"], "{what}");
    for (at, partition) in partitions.iter().enumerate() {
        let volume = &partition["file_system"];
        assert!(volume["len"].as_u64().unwrap() > 1000, "{what}: {volume}");
        assert_eq!(volume["free"].is_u64(), at < 2, "{what}: {volume}");
    }
    let boot = partitions[0]["file_system"]["boot"].as_array().unwrap();
    let boot: Vec<&str> = boot.iter().map(|it| it["kind"].as_str().unwrap()).collect();
    assert_eq!(boot, ["efi", "uki", "grub", "bls", "syslinux"], "{what}");
    let words: Vec<&str> = svg.descendants().filter_map(|node| node.text()).collect();
    for name in ["esp", "root", "usr", "app"] {
        assert!(words.contains(&name), "{what}: {words:?}");
    }
}

fn raw(dir: &Path, name: &str, content: &dyn Content) -> PathBuf {
    let path = dir.join(name);
    container::write_file(Format::Raw, content, &path).unwrap();
    path
}

#[test]
fn a_disk_is_explained_in_every_container_and_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let disk = disk(&uki());
    let mut count = 0;
    for format in Format::ALL {
        // The name says nothing: what it is is told by its bytes.
        let path = dir.path().join(format!("image {count}"));
        container::write_file(format, &disk, &path).unwrap();
        is_explained(format.name(), &path, &|json| json.clone());
        let start = inspect::text(&path).unwrap();
        assert!(start.starts_with(&format!("{format} image, disk of ")), "{format}: {start}");
        let json: Value = serde_json::from_str(&inspect::json(&path).unwrap()).unwrap();
        assert_eq!(json["container"], format.name());
        count += 1;
    }
    assert_eq!(count, 11);
    let (machine, options) = (Machine::new("kiln"), Options::default());
    let path = dir.path().join("appliance");
    bundle::write_ova(&machine, &disk, File::create(&path).unwrap(), &options).unwrap();
    is_explained("ova", &path, &|json| json["disk"].clone());
    let text = inspect::text(&path).unwrap();
    assert!(text.starts_with("ova archive of 3 files\n   "), "{text}");
    assert!(text.contains("machine: 1 virtual CPU(s), 1024 MiB of memory, SCSI"), "{text}");
    assert!(text.contains("kiln-disk1.vmdk: vmdk-stream image, disk of "), "{text}");

    // One byte of the disk is another than when its digest was taken.
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 20_000;
    bytes[last] ^= 1;
    fs::write(&path, bytes).unwrap();
    let text = inspect::text(&path).unwrap();
    assert!(text.contains("! kiln-disk1.vmdk has another digest than the manifest says"), "{text}");

    let path = dir.path().join("zipped");
    bundle::write_vbox_zip(&machine, &disk, File::create(&path).unwrap(), &options).unwrap();
    is_explained("vbox-zip", &path, &|json| json["disk"].clone());
    assert!(inspect::text(&path).unwrap().starts_with("zip archive of 2 files\n"));

    let path = dir.path().join("for vmware");
    let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
    bundle::write_vmx_zip(&machine, &disk, file, &options).unwrap();
    is_explained("vmx-zip", &path, &|json| json["disk"].clone());
    let text = inspect::text(&path).unwrap();
    assert!(
        text.contains("kiln.vmx\n") && text.contains("disk.vmdk: vmdk image, disk of "),
        "{text}"
    );

    let path = dir.path().join("cloud");
    bundle::write_gce(&disk, File::create(&path).unwrap(), &options).unwrap();
    is_explained("gce", &path, &|json| json["disk"].clone());
    let text = inspect::text(&path).unwrap();
    assert!(text.starts_with("gce archive of 1 files\n    1073741824  disk.raw\n"), "{text}");

    let path = dir.path().join("compressed");
    bundle::write_raw_zst(&disk, File::create(&path).unwrap(), &options).unwrap();
    is_explained("raw-zst", &path, &|json| json.clone());
}

#[test]
fn a_bare_volume_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let squash =
        squashfs::Image::plan(&root(), &squashfs::Options::default(), Cursor::new(Vec::new()));
    let zip = erofs::Compression::new(erofs::Algorithm::Lz4);
    let spool = Cursor::new(Vec::new());
    let zip = erofs::Compressed::plan(&root(), &erofs::Options::default(), zip, spool);
    let volumes: [(&str, Arc<dyn Content>, &str); 5] = [
        ("FAT16", Arc::new(esp(&uki(), 0)), "FAT16 cafe-f00d \"ESP\""),
        ("ext4", Arc::new(ext4_volume()), "ext4 "),
        ("EROFS", Arc::new(erofs_volume()), "EROFS "),
        ("EROFS", Arc::new(zip.unwrap()), "EROFS "),
        ("SquashFS", Arc::new(squash.unwrap()), "SquashFS lz4, 7 inodes, "),
    ];
    for (kind, content, line) in volumes {
        let path = raw(dir.path(), "volume", &*content);
        let (text, json, svg) = seen(&path);
        assert!(text.contains(line), "{text}");
        assert_eq!(json["file_system"]["kind"], kind);
        let len = json["file_system"]["len"].as_u64().unwrap();
        assert!(len <= content.len() && len + 4096 > content.len(), "{kind}: {len}");
        assert!(svg.descendants().filter_map(|it| it.text()).any(|text| text == kind), "{kind}");
    }
}

#[test]
fn an_iso_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let mut isolinux = vec![0x90; 5000];
    isolinux[64..68].copy_from_slice(&[0xfb, 0xc0, 0x78, 0x70]);
    let mut tree = menus(&uki());
    tree.insert("isolinux/isolinux.bin", Node::file(isolinux)).unwrap();
    let mut options = iso::Options::default();
    options.volume_id = "KILN".into();
    options.bios = Some(iso::Bios::new(TreePath::new("isolinux/isolinux.bin").unwrap()));
    options.efi = Some(Arc::new(esp(&uki(), 0)));
    for hybrid in [false, true] {
        if hybrid {
            options.hybrid = Some(iso::Hybrid::new(vec![0xeb; 432], Seed::new("iso")));
        }
        let volume = iso::Volume::plan(&tree, &options).unwrap();
        let (text, json, _) = seen(&raw(dir.path(), "cd", &volume));
        for part in [
            "ISO 9660 \"KILN\"",
            "bios starts 2 KiB at byte ",
            ", isolinux/isolinux.bin",
            "uefi starts ",
            "starts EFI/Linux/kiln.efi (uki) \"Kiln 1\"",
            "starts loader/entries/kiln.conf (bls)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert_eq!(json["iso"]["entries"].as_array().unwrap().len(), 5);
        assert_eq!(json["table"].is_object(), hybrid);
    }
}

#[test]
fn an_executable_is_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kiln");
    fs::write(&path, uki()).unwrap();
    let (text, json, svg) = seen(&path);
    assert!(text.starts_with("executable for x86-64, signed\n  .text "), "{text}");
    assert!(
        text.ends_with("  command line: console=ttyS0 quiet\n  kernel: 6.1.0-test\n"),
        "{text}"
    );
    assert_eq!(json["command_line"], "console=ttyS0 quiet");
    let words: Vec<&str> = svg.descendants().filter_map(|node| node.text()).collect();
    assert!(words.contains(&".initrd") && words.contains(&".linux"), "{words:?}");
}

#[test]
fn what_is_damaged_or_nothing_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("image");
    let said = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let text = inspect::text(&path).map_err(|error| error.to_string());
        let text = text.unwrap_or_else(|error| error);
        text.replace(&format!("{}", dir.path().display()), "")
    };
    assert_eq!(
        said(&[0; 5000]),
        "/image: neither an archive nor a disk with a partition table or file system"
    );
    let mut qcow2 = b"QFI\xfb".to_vec();
    qcow2.extend([0; 100]);
    assert!(said(&qcow2).starts_with("/image: not an image that can be read: qcow2: "));
    assert!(said(b"MZ, and no more of a program").starts_with("/image: not an image that can be"));
    assert!(said(b"PK\x03\x04 and no more").starts_with("/image: damaged: a zip archive"));
    assert!(said(&[0x1f, 0x8b, 8, 0, 1]).starts_with("/image: damaged: "));
    let disk = disk(&uki());
    let mut ova = Cursor::new(Vec::new());
    ova = bundle::write_ova(&Machine::new("cut"), &disk, ova, &Options::default()).unwrap();
    let mut ova = ova.into_inner();
    ova.truncate(ova.len() / 2);
    let text = said(&ova);
    assert!(text.contains("! cut-disk1.vmdk has another digest than the manifest says"), "{text}");
    assert!(text.contains("! cut-disk1.vmdk is cut short: "), "{text}");
    let error = inspect::svg(&path).unwrap_err().to_string();
    assert!(error.ends_with("/image: it has no disk that could be drawn"), "{error}");
}
