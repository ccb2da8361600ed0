//! What people and broken disks give us: each is an error that says what is wrong, where, by how
//! much and what would do, and nothing of it is left under an image's name.

use std::fs;
use std::io::Cursor;
use std::process::Command;

use kiln_diskimg::boot::pe;
use kiln_diskimg::container::{self, BlockSource, Format};
use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::verity::{self, Verity};
use kiln_diskimg::{
    ByteLen, Content, DiskPlan, Error, Lba, Limits, Partition, Result, Seed, Size, Table, Zeroes,
    dump, erofs, ext4, fat, iso,
};
use kiln_tree::{Kind, Node, Tree, TreePath};

use crate::tools::bytes;

fn said<T>(result: Result<T>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// A tree of one large file, one that is a tenth of it, and many small ones.
fn large() -> Tree {
    let mut tree = Tree::new();
    tree.insert("boot/initrd.img", Node::file(vec![1; 40 << 20])).unwrap();
    tree.insert("boot/vmlinuz", Node::file(vec![2; 4 << 20])).unwrap();
    for at in 0..20 {
        tree.insert(format!("boot/small {at}"), Node::file(vec![3; 1000 + at])).unwrap();
    }
    tree
}

#[test]
fn content_that_does_not_fit_says_by_how_much_and_what_is_largest() {
    let fixed = fat::VolumeSize::Fixed(ByteLen::mib(34));
    let mut options = fat::Options::default();
    options.size = fixed;
    insta::assert_snapshot!(said(fat::Volume::plan(&large(), &options)), @"fat volume: the content is 11073536 bytes too large for 34 MiB; raise the volume's size to 46903296 bytes; the largest files: boot/initrd.img (41943040 bytes), boot/vmlinuz (4194304 bytes), boot/small 19 (1019 bytes), boot/small 18 (1018 bytes), boot/small 17 (1017 bytes)");
    let mut options = ext4::Options::default();
    options.size = fixed;
    insta::assert_snapshot!(said(ext4::Volume::plan(&large(), &options)), @"ext4 volume: the content is 15638528 bytes more than a volume of 34 MiB holds; raise its size to 51290112; the largest files: boot/initrd.img (41943040 bytes), boot/vmlinuz (4194304 bytes), boot/small 19 (1019 bytes), boot/small 18 (1018 bytes), boot/small 17 (1017 bytes)");
    // A volume in a partition, and partitions on a disk.
    let volume = fat::Volume::plan(&large(), &fat::Options::default()).unwrap();
    let kind = PartitionType::EFI_SYSTEM;
    let mut plan = DiskPlan::new(Table::Gpt, Seed::default())
        .with(Partition::new("esp", kind, volume.clone()).sized(Size::Fixed(ByteLen::mib(34))));
    insta::assert_snapshot!(said(plan.layout()), @r#"disk: partition 1 "esp": its content is 11251712 bytes longer than its 34 MiB; raise the partition's size; the largest files: boot/initrd.img (41943040 bytes), boot/vmlinuz (4194304 bytes), boot/small 19 (1019 bytes), boot/small 18 (1018 bytes), boot/small 17 (1017 bytes)"#);
    plan.partitions = vec![Partition::new("esp", kind, volume)];
    plan.size = Some(ByteLen::mib(40));
    insta::assert_snapshot!(said(plan.layout()), @"disk: the disk of 40 MiB is 6025728 bytes too small for its partitions and table; raise its size to 47968768");
}

#[test]
fn partitions_that_overlap_name_each_other() {
    let size = Size::Fixed(ByteLen::mib(2));
    let mut plan = DiskPlan::new(Table::Gpt, Seed::default());
    for (name, start) in [("one", 2048), ("two", 4096), ("three", 2048), ("four", 0)] {
        let mut partition = Partition::empty(name, PartitionType::LINUX, size);
        partition.start = Some(Lba(start));
        plan.partitions.push(partition);
    }
    insta::assert_snapshot!(said(plan.layout()), @r#"
    disk: 6 problems
      partition 2 "two": it overlaps partition 1 "one"
      partition 3 "three": it overlaps partition 1 "one"
      partition 3 "three": it overlaps partition 2 "two"
      partition 4 "four": it begins at LBA 0, inside of the table
      partition 4 "four": it overlaps partition 1 "one"
      partition 4 "four": it overlaps partition 3 "three"
    "#);
}

#[test]
fn what_fat_cannot_hold() {
    let mut tree = Tree::new();
    let huge = kiln_tree::Source::File { path: "/huge".into(), len: (4 << 30) + 17 };
    tree.insert("huge", Node::file(huge)).unwrap();
    let longest = "ü".repeat(127);
    for name in [&longest, "a:b", "aux\u{7f}", "tab\there", "trailing ", "CASE", "case", "a\\b"] {
        tree.insert(name, Node::file("x")).unwrap();
    }
    tree.insert(b"latin-1 \xfc".as_slice(), Node::file("x")).unwrap();
    tree.insert("fifo", Node::new(Kind::Fifo)).unwrap();
    insta::assert_snapshot!(said(fat::Volume::plan(&tree, &fat::Options::default())), @r"
    fat volume: 9 problems
      a:b: the name does not fit VFAT: it contains ':'
      a\b: the name does not fit VFAT: it contains '\\'
      aux\u{7f}: the name does not fit VFAT: it contains '\u{7f}'
      CASE and case: the names differ only in case
      fifo: FAT holds no named pipe
      huge: 4294967313 bytes, a file on FAT has at most 4294967295
      latin-1 \xfc: the name does not fit VFAT: it is not UTF-8
      tab\there: the name does not fit VFAT: it contains '\t'
      trailing : the name does not fit VFAT: it ends in a dot or a space, which Windows drops
    ");
}

#[test]
fn loops_of_hard_links_are_named_by_every_file_system() {
    let mut tree = Tree::new();
    let link = |to: &str| Node::hardlink(TreePath::new(to).unwrap());
    tree.insert("itself", link("itself")).unwrap();
    tree.insert("one", link("two")).unwrap();
    tree.insert("two", link("one")).unwrap();
    let problems = |message: String| {
        message.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default()
    };
    let all = [
        problems(said(fat::Volume::plan(&tree, &fat::Options::default()))),
        problems(said(ext4::Volume::plan(&tree, &ext4::Options::default()))),
        problems(said(erofs::Volume::plan(&tree, &erofs::Options::default()))),
        problems(said(iso::Volume::plan(&tree, &iso::Options::default()))),
        #[cfg(feature = "squashfs")]
        problems(said(kiln_diskimg::squashfs::Image::plan(
            &tree,
            &kiln_diskimg::squashfs::Options::default(),
            Cursor::new(Vec::new()),
        ))),
    ];
    insta::assert_snapshot!(all[0], @"
    itself is a hard link to itself, which is not a regular file of the tree
    one is a hard link to two, which is not a regular file of the tree
    two is a hard link to one, which is not a regular file of the tree
    ");
    assert!(all.iter().all(|message| *message == all[0]), "{all:#?}");
}

/// An image and what reads all of it.
struct Sample {
    name: &'static str,
    image: Vec<u8>,
    read: fn(&mut Vec<u8>) -> Result<()>,
}

fn small() -> Tree {
    let mut tree = Tree::new();
    let text: Vec<u8> = (0..4000_u32).flat_map(|at| format!("{at}\n").into_bytes()).collect();
    tree.insert("directory/deeper/a file", Node::file(text)).unwrap();
    tree.insert("short", Node::file("short\n")).unwrap();
    for at in 0..40 {
        tree.insert(format!("directory/name {at}"), Node::file(vec![at; 600])).unwrap();
    }
    tree
}

fn read_fat(image: &mut Vec<u8>) -> Result<()> {
    let mut reader = fat::Reader::open(image, &Limits::default())?;
    let found = reader.list()?;
    found.iter().filter(|it| !it.directory).try_for_each(|it| reader.read(it).map(drop))
}

fn read_ext4(image: &mut Vec<u8>) -> Result<()> {
    let mut reader = ext4::Reader::open(image, &Limits::default())?;
    let found = reader.list()?;
    let files = found.iter().filter(|it| it.kind == ext4::FileKind::File);
    files.into_iter().try_for_each(|it| reader.read(it).map(drop))
}

fn read_erofs(image: &mut Vec<u8>) -> Result<()> {
    let mut reader = erofs::Reader::open(image, &Limits::default())?;
    let found = reader.list()?;
    found.iter().filter(|it| it.is_file()).try_for_each(|it| reader.read(it).map(drop))
}

fn read_iso(image: &mut Vec<u8>) -> Result<()> {
    let mut reader = iso::Reader::open(image, &Limits::default())?;
    let found = reader.list(reader.best())?;
    let files = found.iter().filter(|it| it.kind == iso::FileKind::File);
    files.into_iter().try_for_each(|it| reader.read(it).map(drop))
}

fn read_gpt(image: &mut Vec<u8>) -> Result<()> {
    let table = gpt::read(image, &Limits::default())?;
    match table.complaints.first() {
        // A table that was saved by its copy.
        Some(complaint) => Err(Error::NotFound { what: complaint.clone(), place: "it".into() }),
        None => Ok(()),
    }
}

fn read_container(image: &mut Vec<u8>) -> Result<()> {
    let mut opened = container::open(Cursor::new(&*image), &Limits::default())?;
    container::convert(&mut opened, Format::Raw, Cursor::new(Vec::new())).map(drop)
}

fn read_pe(image: &mut Vec<u8>) -> Result<()> {
    pe::read_sections(image, &Limits::default()).map(drop)
}

fn read_verity(image: &mut Vec<u8>) -> Result<()> {
    let parameters = verity::Parameters::read(image, 1 << 20)?;
    let root = verity().root_hash()?;
    verity::verify(image, None, &parameters, root)
}

fn verity() -> Verity {
    Verity::plan(vec![7; 1 << 20], &verity::Options::default()).unwrap()
}

fn samples() -> Vec<Sample> {
    let tree = small();
    let mut options = fat::Options::default();
    options.kind = Some(fat::Kind::Fat16);
    let fat = fat::Volume::plan(&tree, &options).unwrap();
    let ext4 = ext4::Volume::plan(&tree, &ext4::Options::default()).unwrap();
    let plain = erofs::Volume::plan(&tree, &erofs::Options::default()).unwrap();
    let iso = iso::Volume::plan(&tree, &iso::Options::default()).unwrap();
    let layout = DiskPlan::new(Table::Gpt, Seed::default())
        .with(Partition::new("p", PartitionType::LINUX, plain.clone()))
        .layout()
        .unwrap();
    let stub = crate::uki::small_stub();
    let uki = crate::uki::uki(stub.clone(), stub).plan().unwrap();
    let mut all = vec![
        Sample { name: "fat", image: bytes(&fat), read: read_fat },
        Sample { name: "ext4", image: bytes(&ext4), read: read_ext4 },
        Sample { name: "erofs", image: bytes(&plain), read: read_erofs },
        Sample { name: "iso", image: bytes(&iso), read: read_iso },
        Sample { name: "gpt", image: bytes(&layout), read: read_gpt },
        Sample { name: "pe", image: bytes(&uki), read: read_pe },
        Sample { name: "verity", image: bytes(&verity().protected()), read: read_verity },
    ];
    #[cfg(feature = "lz4")]
    {
        let compression = erofs::Compression::new(erofs::Algorithm::Lz4);
        let options = erofs::Options::default();
        let spool = Cursor::new(Vec::new());
        let volume = erofs::Compressed::plan(&tree, &options, compression, spool).unwrap();
        all.push(Sample { name: "erofs-lz4", image: bytes(&volume), read: read_erofs });
    }
    for format in Format::ALL.into_iter().filter(|it| it.is_available()) {
        if !matches!(format, Format::Raw | Format::VhdFixed) {
            let image = container::write(format, &layout, Cursor::new(Vec::new())).unwrap();
            let image = image.into_inner();
            all.push(Sample { name: format.name(), image, read: read_container });
        }
    }
    all
}

/// The message is about a place, a bound or something that is not there.
fn is_about_something(message: &str) -> bool {
    ["byte ", "limit of", "not supported", "not found", "checksum"]
        .iter()
        .any(|part| message.contains(part))
}

#[test]
fn a_truncated_image_of_any_kind_is_an_error_that_says_where() {
    let mut halves = String::new();
    for Sample { name, image, read } in samples() {
        read(&mut image.clone()).unwrap();
        let end = image.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let mut cuts: Vec<usize> = (0..64).map(|at| at * end / 64).collect();
        cuts.extend([1, 511, 512, 513, 1023, 1024, 1536, 2048, 4095, 4096, end - 1]);
        let mut fine = 0;
        for cut in cuts.into_iter().filter(|cut| *cut < end) {
            match read(&mut image[..cut].to_vec()) {
                Ok(()) => fine += 1,
                Err(error) => {
                    let message = error.to_string();
                    assert!(is_about_something(&message), "{name} cut to {cut}: {message}");
                }
            }
        }
        // What is behind the last file may be missing; an executable's last section is only padded.
        assert!(fine <= 3, "{name}: {fine} of the cuts went unnoticed");
        let half = read(&mut image[..end / 2].to_vec());
        halves += &format!("{name}: {}\n", said(half));
    }
    insta::assert_snapshot!(halves, @r#"
    fat: disk: byte 81920: 512 bytes were to be read from here, but it ends at byte 50405
    ext4: disk: byte 147456: 600 bytes were to be read from here, but it ends at byte 147459
    erofs: erofs: byte 54528: 32 bytes were to be read from here, but it ends at byte 27677
    iso: iso 9660: byte 77824: 600 bytes were to be read from here, but it ends at byte 77827
    gpt: backup table: gpt: byte 1047552: LBA 2046: expected the signature 'EFI PART' not found in it
    pe: pe: byte 600: the section ".initrd" ends at byte 108032, but the file at byte 54788
    verity: disk: byte 1048576: 512 bytes were to be read from here, but it ends at byte 532480
    erofs-lz4: erofs: byte 49152: 65 bytes were to be read from here, but it ends at byte 27078
    raw-zst: raw-zst: byte 4931: no seek table ends here: the image is cut short, or was made without one
    qcow2: qcow2: byte 327680: the L1 table of 8 bytes should be here, but the image is cut short: it has 229384 bytes
    qcow2-zlib: qcow2: byte 196608: the L1 table of 8 bytes should be here, but the image is cut short: it has 163846 bytes
    qcow2-zstd: qcow2: byte 196608: the L1 table of 8 bytes should be here, but the image is cut short: it has 163846 bytes
    vmdk: vmdk: byte 65536: a grain of 65536 bytes should be here, but the image is cut short: it has 130862 bytes
    vmdk-stream: vmdk: byte 0: no footer is here, the image is cut short
    vdi: vdi: byte 2097152: a block of 1048576 bytes should be here, but the image is cut short: it has 2096942 bytes
    vhd: vhd: byte 1051946: no footer is here, the image is cut short
    vhdx: vhdx: byte 2097152: the metadata of 1048576 bytes should be here, but the image is cut short: it has 3145518 bytes
    "#);
}

#[test]
fn changed_bytes_are_found_or_harmless_and_never_a_panic() {
    let mut figures = String::new();
    for Sample { name, image, read } in samples() {
        let places: Vec<usize> = (0..image.len()).filter(|at| image[*at] != 0).collect();
        let step = (places.len() / 400).max(1);
        let (mut found, mut tried) = (0, 0);
        for at in places.into_iter().step_by(step) {
            for change in [0xff, 0x01] {
                let mut image = image.clone();
                image[at] ^= change;
                tried += 1;
                if let Err(error) = read(&mut image) {
                    let message = error.to_string();
                    assert!(is_about_something(&message), "{name} byte {at}: {message}");
                    found += 1;
                }
            }
        }
        figures += &format!("{name}: {found} of {tried} found\n");
        // What has checksums over everything finds everything.
        if matches!(name, "verity" | "gpt" | "raw-zst") {
            println!("{name}: {found} of {tried}");
        }
    }
    println!("{figures}");
}

#[test]
fn what_is_of_another_kind_says_what_it_is_not() {
    let not = [vec![0; 1 << 16], b"#!/bin/sh\n".repeat(2000)];
    let mut all = String::new();
    for Sample { name, read, .. } in samples() {
        if Format::ALL.iter().any(|format| format.name() == name) {
            continue;
        }
        for image in &not {
            all += &format!("{name}: {}\n", said(read(&mut image.clone())));
        }
    }
    insta::assert_snapshot!(all, @"
    fat: fat: byte 510: expected 55 AA at the end of the boot sector
    fat: fat: byte 510: expected 55 AA at the end of the boot sector
    ext4: ext4: byte 1080: the magic number is 0x0000, expected 0xef53
    ext4: ext4: byte 1080: the magic number is 0x2123, expected 0xef53
    erofs: erofs: byte 1024: the magic is 0x00000000, expected 0xe0f5e1e2
    erofs: erofs: byte 1024: the magic is 0x732f6e69, expected 0xe0f5e1e2
    iso: iso 9660: byte 32769: expected the standard identifier CD001
    iso: disk: byte 32768: 2048 bytes were to be read from here, but it ends at byte 20000
    gpt: gpt: byte 512: LBA 1: expected the signature 'EFI PART'
    gpt: gpt: byte 512: LBA 1: expected the signature 'EFI PART'
    pe: pe: byte 0: it does not begin with MZ, so it is no executable for UEFI
    pe: pe: byte 0: it does not begin with MZ, so it is no executable for UEFI
    verity: disk: byte 1048576: 512 bytes were to be read from here, but it ends at byte 65536
    verity: disk: byte 1048576: 512 bytes were to be read from here, but it ends at byte 20000
    erofs-lz4: erofs: byte 1024: the magic is 0x00000000, expected 0xe0f5e1e2
    erofs-lz4: erofs: byte 1024: the magic is 0x732f6e69, expected 0xe0f5e1e2
    ");
    // Whatever it is, a look into it is a report.
    for image in not {
        let report = dump::inspect(Cursor::new(image), &Limits::default()).unwrap().to_string();
        assert!(report.ends_with("no partition table and no known file system\n"), "{report}");
    }
}

/// A disk whose bytes do not compress, so that every format needs its room.
struct Noise(u64);

impl std::fmt::Debug for Noise {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Noise")
    }
}

impl Content for Noise {
    fn len(&self) -> u64 {
        self.0
    }

    fn write_to(&self, sink: &mut dyn kiln_diskimg::Sink) -> Result<()> {
        let mut state = 9_u64;
        let mut block = vec![0; 1 << 16];
        for _ in 0..self.0 >> 16 {
            for byte in &mut block {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                *byte = (state >> 56) as u8;
            }
            sink.data(&block)?;
        }
        Ok(())
    }
}

/// A disk that is full, as far as a process can make itself one: no file of its own may be longer
/// than half of a mebibyte. (The limit's signal is ignored, so that writing fails as on a full disk.)
const FULL: &str = "KILN_TEST_FULL_DISK";

#[test]
fn a_full_disk_leaves_nothing_under_the_name() {
    let Some(place) = std::env::var_os(FULL) else {
        let dir = tempfile::tempdir().unwrap();
        // An image of an earlier build stays what it was.
        fs::write(dir.path().join("kept.raw"), "an earlier image").unwrap();
        let output = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$0\" --exact \"$1\" --nocapture"])
            .arg(std::env::current_exe().unwrap())
            .arg("bad_input::a_full_disk_leaves_nothing_under_the_name")
            .env(FULL, dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|it| it.unwrap().path()).collect();
        assert_eq!(left, [dir.path().join("kept.raw")]);
        assert_eq!(fs::read(&left[0]).unwrap(), b"an earlier image");
        return;
    };
    let place = std::path::PathBuf::from(place);
    for format in Format::ALL.into_iter().filter(|it| it.is_available()) {
        for name in ["new", "kept.raw"] {
            let path = place.join(name);
            let error = container::write_file(format, &Noise(4 << 20), &path).unwrap_err();
            assert!(
                matches!(&error, Error::Io { source, .. } if source.raw_os_error() == Some(27))
            );
            let message = error.to_string();
            assert!(message.contains("File too large"), "{format}: {message}");
            assert!(message.contains(path.to_str().unwrap()), "{format}: {message}");
        }
    }
}

/// A writer that takes so many bytes and then is full.
struct Full(Cursor<Vec<u8>>, u64);

impl std::io::Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.position() + bytes.len() as u64 > self.1 {
            return Err(std::io::ErrorKind::StorageFull.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Full {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_writer_that_is_full_at_any_place_is_an_error_of_it() {
    let disk = Noise(3 << 20);
    for format in Format::ALL.into_iter().filter(|it| it.is_available()) {
        for room in [0, 600, 70_000, 1 << 20, (3 << 20) - 1] {
            let result = container::write(format, &disk, Full(Cursor::new(Vec::new()), room));
            match result {
                Err(Error::Io { source, .. }) => {
                    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull, "{format} {room}");
                }
                other => panic!("{format} {room}: {:?}", other.map(|_| ()).err()),
            }
        }
    }
}

#[test]
#[cfg(feature = "sign")]
fn keys_that_do_not_parse_or_match() {
    use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Signer};
    let (ours, other) = crate::sign::signers();
    let pem = ours.key().to_pem().unwrap().to_string();
    let certificate = ours.certificate().to_pem().unwrap().to_string();
    let mut all = String::new();
    let mut add = |what: &str, message: String| all += &format!("{what}: {message}\n");
    let cut = &pem[..900];
    let swapped = pem.replacen('M', "!", 1);
    for (what, text) in [
        ("nothing", ""),
        ("words", "no key\n"),
        ("a certificate", &*certificate),
        ("a key cut short", cut),
        ("a key with a sign that is none", &*swapped),
    ] {
        add(what, said(PrivateKey::parse(text.as_bytes())));
    }
    for (what, text) in [
        ("nothing", ""),
        ("words", "no certificate\n"),
        ("a key", &*pem),
        ("a certificate cut short", &certificate[..500]),
    ] {
        add(what, said(Certificate::parse(text.as_bytes())));
    }
    add("two", said(Signer::new(ours.key().clone(), other.certificate().clone())));
    insta::assert_snapshot!(all, @r#"
    nothing: private key: byte 0: the file is empty
    words: private key: byte 0: the file is neither PEM nor DER
    a certificate: private key: byte 0: there is neither PRIVATE KEY nor RSA PRIVATE KEY in it
    a key cut short: private key: byte 0: there is a BEGIN and no END: the file is cut short
    a key with a sign that is none: private key: byte 0: PKCS#8 ASN.1 error: PEM error: PEM Base64 error: invalid Base64 encoding
    nothing: certificate: byte 0: the file is empty
    words: certificate: byte 0: the file is neither PEM nor DER
    a key: certificate: byte 0: PEM error: unexpected PEM type label: expecting "CERTIFICATE"
    a certificate cut short: certificate: byte 0: there is a BEGIN and no END: the file is cut short
    two: signer: the certificate of CN=somebody else is not that of the private key
    "#);
}

#[test]
fn empty_and_odd_sources_are_read_as_what_they_are() {
    for len in [0, 1, 511, 512, 513] {
        let report = dump::inspect(Cursor::new(vec![0; len]), &Limits::default()).unwrap();
        assert_eq!(report.len, ByteLen(len as u64));
    }
    let mut window = vec![0; 100];
    let mut window = container::Window::new(&mut window, 200, 1 << 20);
    assert!(window.read_at(0, &mut [0; 10]).is_err());
    assert!(bytes(&Zeroes(0)).is_empty());
}
