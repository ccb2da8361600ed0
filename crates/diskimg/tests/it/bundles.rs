//! Bundles: tar, unzip, xmllint, bmaptool and 7-Zip take them apart.

#![cfg(all(feature = "zlib", feature = "zstd"))]

use std::fs::{self, File};
use std::io::Cursor;
use std::path::Path;

use kiln_diskimg::bundle::{self, Firmware, Machine, Nic};
use kiln_diskimg::container::{self, Adapter, BlockSource, Format, Options};
use kiln_diskimg::{Content, Limits, Result, Sink, Zeroes};
use sha2::{Digest, Sha256};

use crate::tools::expect;

const LEN: u64 = (9 << 20) + 512;

/// Text, a hole, and text at the very end.
#[derive(Debug)]
struct Disk;

fn text() -> Vec<u8> {
    (0..200_000_u32).flat_map(|at| format!("{at} lines\n").into_bytes()).collect()
}

impl Content for Disk {
    fn len(&self) -> u64 {
        LEN
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        let text = text();
        sink.hole(70_000)?;
        sink.data(&text)?;
        sink.hole(LEN - 70_000 - text.len() as u64 - 100)?;
        sink.data(&text[..100])
    }
}

fn disk() -> Vec<u8> {
    let mut bytes = Vec::new();
    Disk.write_to(&mut bytes).unwrap();
    bytes
}

fn machine() -> Machine {
    let mut machine = Machine::new("kiln-test");
    machine.product = "Tests & <more>".to_owned();
    machine.firmware = Firmware::Uefi;
    machine.nic = Some(Nic::E1000);
    machine.cpus = 2;
    machine
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Opens a disk of any format and compares it.
fn holds_the_disk(path: &Path) {
    let mut image = container::open(File::open(path).unwrap(), &Limits::default()).unwrap();
    let mut found = vec![0; disk().len()];
    image.read_at(0, &mut found).unwrap();
    assert!(found == disk());
}

/// The rules of DSP0243 that tools have stumbled over.
fn check_descriptor(ovf: &str, file_len: u64) {
    for rule in [
        // The file's length, not what it takes on the disk that it was made on.
        &format!("ovf:size=\"{file_len}\""),
        &format!("ovf:capacity=\"{LEN}\""),
        "ovf:format=\"http://www.vmware.com/interfaces/specifications/vmdk.html#streamOptimized\"",
        "ovf:href=\"kiln-test-disk1.vmdk\"",
        "<rasd:HostResource>ovf:/disk/vmdisk1</rasd:HostResource>",
        "<rasd:ResourceSubType>E1000</rasd:ResourceSubType>",
        "<rasd:ResourceSubType>lsilogic</rasd:ResourceSubType>",
        "<vssd:VirtualSystemType>vmx-13</vssd:VirtualSystemType>",
        "vmw:key=\"firmware\" vmw:value=\"efi\"",
        "<Product>Tests &amp; &lt;more&gt;</Product>",
    ] {
        assert!(ovf.contains(rule), "{rule}: {ovf}");
    }
    // The schema has the fields of an item in the order of their names, and sections in this one.
    for item in ovf.split("<Item>").skip(1) {
        let item = item.split("</Item>").next().unwrap();
        let names: Vec<&str> =
            item.split("<rasd:").skip(1).map(|it| it.split('>').next().unwrap()).collect();
        assert!(names.is_sorted(), "{names:?}");
    }
    let sections = [
        "<References>",
        "<DiskSection>",
        "<NetworkSection>",
        "<VirtualSystem ",
        "<OperatingSystemSection ",
        "<ProductSection>",
        "<VirtualHardwareSection>",
    ];
    let places: Vec<usize> = sections.iter().map(|it| ovf.find(it).unwrap()).collect();
    assert!(places.is_sorted());
    // Every section says what it is before anything else, and every parent exists.
    assert_eq!(ovf.matches("<Info>").count(), 6);
    for parent in ovf.split("<rasd:Parent>").skip(1) {
        let id = format!("<rasd:InstanceID>{}</rasd:InstanceID>", &parent[..1]);
        assert!(ovf.contains(&id));
    }
}

#[test]
fn an_appliance_is_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kiln-test.ova");
    let file = File::create(&path).unwrap();
    bundle::write_ova(&machine(), &Disk, file, &Options::default()).unwrap();
    let (ova, to) = (path.to_str().unwrap(), dir.path().to_str().unwrap());
    let Some(list) = expect("tar", &["tf", ova]) else { return };
    // The descriptor is first.
    assert_eq!(list, "kiln-test.ovf\nkiln-test.mf\nkiln-test-disk1.vmdk\n");
    expect("tar", &["xf", ova, "-C", to]);
    let ovf = fs::read_to_string(dir.path().join("kiln-test.ovf")).unwrap();
    let vmdk = dir.path().join("kiln-test-disk1.vmdk");
    check_descriptor(&ovf, fs::metadata(&vmdk).unwrap().len());
    let manifest = fs::read_to_string(dir.path().join("kiln-test.mf")).unwrap();
    let expected = format!(
        "SHA256(kiln-test.ovf)= {}\nSHA256(kiln-test-disk1.vmdk)= {}\n",
        hex(ovf.as_bytes()),
        hex(&fs::read(&vmdk).unwrap())
    );
    assert_eq!(manifest, expected);
    holds_the_disk(&vmdk);
    let ovf = dir.path().join("kiln-test.ovf");
    expect("xmllint", &["--noout", ovf.to_str().unwrap()]);
}

#[test]
fn a_zip_is_taken_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kiln-test.zip");
    let file = File::create(&path).unwrap();
    bundle::write_vbox_zip(&machine(), &Disk, file, &Options::default()).unwrap();
    let (zip, to) = (path.to_str().unwrap(), dir.path().to_str().unwrap());
    if expect("unzip", &["-tq", zip]).is_none() {
        return;
    }
    expect("unzip", &["-q", zip, "-d", to]);
    let ovf = fs::read_to_string(dir.path().join("kiln-test.ovf")).unwrap();
    let vmdk = dir.path().join("kiln-test-disk1.vmdk");
    check_descriptor(&ovf, fs::metadata(&vmdk).unwrap().len());
    holds_the_disk(&vmdk);
    expect("7zz", &["t", zip]);
}

#[test]
fn a_zip_for_vmware_is_taken_apart() {
    for adapter in [Adapter::LsiLogic, Adapter::Ide] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kiln-test.vmx.zip");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let mut machine = machine();
        machine.controller = adapter;
        bundle::write_vmx_zip(&machine, &Disk, file, &Options::default()).unwrap();
        let (zip, to) = (path.to_str().unwrap(), dir.path().to_str().unwrap());
        if expect("unzip", &["-tq", zip]).is_none() {
            return;
        }
        expect("unzip", &["-q", zip, "-d", to]);
        expect("7zz", &["t", zip]);
        let vmdk = dir.path().join("disk.vmdk");
        holds_the_disk(&vmdk);
        // It is called as its descriptor says, and is for the controller that the machine has.
        let head = String::from_utf8_lossy(&fs::read(&vmdk).unwrap()[..8192]).into_owned();
        assert!(head.contains("SPARSE \"disk.vmdk\""), "{head}");
        assert!(head.contains(&format!("ddb.adapterType = \"{adapter}\"")), "{head}");
        let at = if adapter == Adapter::Ide { "ide0:0" } else { "scsi0:0" };
        let vmx = fs::read_to_string(dir.path().join("kiln-test.vmx")).unwrap();
        assert!(vmx.contains(&format!("{at}.fileName = \"disk.vmdk\"\n")), "{vmx}");
        expect("qemu-img", &["check", vmdk.to_str().unwrap()]);
        expect("vmdkinfo", &[vmdk.to_str().unwrap()]);
    }
}

#[test]
fn bmaptool_copies_what_the_map_says() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw.zst");
    let file = File::create(&path).unwrap();
    let (_, map) = bundle::write_raw_zst(&Disk, file, &Options::default()).unwrap();
    assert!(map.contains("<BlocksCount> 2305 </BlocksCount>"), "{map}");
    assert_eq!(map.matches("<Range ").count(), 2, "{map}");
    holds_the_disk(&path);
    let map_path = dir.path().join("disk.raw.bmap");
    fs::write(&map_path, map).unwrap();
    let (image, out) = (path.to_str().unwrap(), dir.path().join("out"));
    expect("zstd", &["-tq", image]);
    let raw = dir.path().join("disk.raw");
    expect("zstd", &["-dqf", image, "-o", raw.to_str().unwrap()]);
    if raw.exists() {
        assert!(fs::read(&raw).unwrap() == disk());
    } else {
        fs::write(&raw, disk()).unwrap();
    }
    // From the raw disk too, for a bmaptool that knows no zstd.
    let arguments = ["copy", "--bmap", map_path.to_str().unwrap(), raw.to_str().unwrap()];
    let mut arguments = arguments.to_vec();
    arguments.push(out.to_str().unwrap());
    if expect("bmaptool", &arguments).is_some() {
        let mut found = fs::read(&out).unwrap();
        found.resize(disk().len(), 0);
        assert!(found == disk());
        // It verifies: a changed disk is refused.
        let mut bytes = disk();
        bytes[100_000] ^= 1;
        fs::write(&raw, bytes).unwrap();
        let (ok, said) = crate::tools::run("bmaptool", &arguments).unwrap();
        assert!(!ok && said.contains("checksum"), "{said}");
    }
}

#[test]
fn google_gets_a_sparse_archive() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.tar.gz");
    let file = File::create(&path).unwrap();
    bundle::write_gce(&Disk, file, &Options::default()).unwrap();
    assert!(fs::metadata(&path).unwrap().len() < 2 << 20);
    let (archive, to) = (path.to_str().unwrap(), dir.path().to_str().unwrap());
    let Some(list) = expect("tar", &["tzvf", archive]) else { return };
    assert!(list.ends_with("disk.raw\n") && list.contains(" 1073741824 "), "{list}");
    expect("gzip", &["-t", archive]);
    expect("tar", &["xzf", archive, "-C", to]);
    let file = File::open(dir.path().join("disk.raw")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 30);
    let mut image = container::open(file, &Limits::default()).unwrap();
    let mut found = vec![0; disk().len() + 4096];
    image.read_at(0, &mut found).unwrap();
    assert!(found[..disk().len()] == disk());
    assert!(found[disk().len()..].iter().all(|byte| *byte == 0));
}

/// More ranges than the header and one block after it hold, and none at all.
#[test]
fn a_sparse_map_of_any_length_is_read_by_tar() {
    #[derive(Debug)]
    struct Shreds(u64);
    impl Content for Shreds {
        fn len(&self) -> u64 {
            self.0 * (2 << 20) + 1
        }
        fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
            for at in (1..=self.0).filter_map(|at| u8::try_from(at).ok()) {
                sink.data(&[at; 700])?;
                sink.hole((2 << 20) - 700)?;
            }
            sink.data(&[9])
        }
    }
    for count in [0, 2, 3, 4, 24, 25, 60] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("disk.tar.gz");
        let disk = Shreds(count);
        bundle::write_gce(&disk, File::create(&path).unwrap(), &Options::default()).unwrap();
        let (archive, to) = (path.to_str().unwrap(), dir.path().to_str().unwrap());
        if expect("tar", &["xzf", archive, "-C", to]).is_none() {
            return;
        }
        let file = File::open(dir.path().join("disk.raw")).unwrap();
        let mut image = container::open(file, &Limits::default()).unwrap();
        for (at, byte) in (0..count).zip(1..) {
            let mut found = [0; 701];
            image.read_at(at * (2 << 20), &mut found).unwrap();
            assert!(found[..700] == [byte; 700] && found[700] == 0, "{count} {at}");
        }
        let mut last = [0; 2];
        image.read_at(count * (2 << 20), &mut last).unwrap();
        assert_eq!(last, [9, 0]);
    }
    let empty = bundle::write_gce(&Zeroes(5), Vec::new(), &Options::default()).unwrap();
    assert!(empty.len() < 1000);
}

#[test]
fn the_number_of_threads_changes_no_bundle() {
    let all = |threads| {
        let mut options = Options::default();
        options.threads = threads;
        let out = || Cursor::new(Vec::new());
        [
            bundle::write_ova(&machine(), &Disk, out(), &options).unwrap().into_inner(),
            bundle::write_vbox_zip(&machine(), &Disk, out(), &options).unwrap().into_inner(),
            bundle::write_vmx_zip(&machine(), &Disk, out(), &options).unwrap().into_inner(),
            bundle::write_raw_zst(&Disk, out(), &options).unwrap().0.into_inner(),
            bundle::write_gce(&Disk, Vec::new(), &options).unwrap(),
        ]
    };
    let one = all(1);
    assert!(one == all(2) && one == all(4));
    let alone = container::write(Format::RawZst, &Disk, Cursor::new(Vec::new())).unwrap();
    assert!(one[3] == alone.into_inner());
}

#[test]
fn everything_that_is_wrong_with_a_machine_is_said() {
    let mut machine = Machine::new("no name");
    machine.cpus = 0;
    machine.memory_mib = 1023;
    machine.controller = Adapter::Ide;
    let error = bundle::write_ova(&machine, &Disk, Cursor::new(Vec::new()), &Options::default());
    let error = error.map(|_| ()).unwrap_err().to_string();
    assert_eq!(
        error,
        "machine: 3 problems\n  \
         the name \"no name\" is not 1 to 80 letters, digits, '.', '_' and '-'\n  \
         memory of 1023 MiB is no multiple of 4\n  \
         0 processors, expected 1 to 768"
    );
}
