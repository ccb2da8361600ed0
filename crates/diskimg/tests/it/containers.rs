//! Image formats: qemu-img reads what we write, we read what qemu-img writes.

use std::fs::File;
use std::io::Cursor;

#[cfg(feature = "zlib")]
use kiln_diskimg::container::Adapter;
use kiln_diskimg::container::{self, BlockSource, Format, Options};
use kiln_diskimg::{Content, Limits, Result, Sink, Zeroes};

use crate::tools::{bytes, expect, file};

/// Data at the borders of clusters, L2 tables and grain tables, and holes between.
#[derive(Debug)]
pub(crate) struct Scattered {
    len: u64,
    places: Vec<(u64, usize)>,
}

impl Scattered {
    pub(crate) fn new(len: u64) -> Self {
        let places = [
            (0, 10),
            (65_535, 2),
            (1 << 20, 300_000),
            (32 << 20, 65_536),
            ((512 << 20) - 100, 200),
            ((544 << 20) + 1, 1),
        ];
        let mut places: Vec<(u64, usize)> =
            places.into_iter().filter(|(at, count)| at + *count as u64 <= len - 7).collect();
        places.push((len - 7, 7));
        Self { len, places }
    }
}

impl Content for Scattered {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        let mut position = 0;
        for (at, count) in &self.places {
            sink.hole(at - position)?;
            sink.data(&vec![0xa5; *count])?;
            position = at + *count as u64;
        }
        sink.hole(self.len - position)
    }
}

/// What this build has.
fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.is_available())
}

const LENS: [u64; 4] = [512 * 20, 1 << 20, (40 << 20) + 512, 600 << 20];

#[test]
fn qemu_img_finds_the_disk_in_every_format() {
    for len in LENS {
        let disk = Scattered::new(len);
        let dir = tempfile::tempdir().unwrap();
        let raw = file(dir.path(), "raw", Format::Raw, &disk);
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), len);
        for format in formats().filter(|it| !matches!(it, Format::Raw | Format::RawZst)) {
            let image = file(dir.path(), format.name(), format, &disk);
            let (raw, image) = (raw.to_str().unwrap(), image.to_str().unwrap());
            let qemu = format.qemu_name();
            if matches!(format, Format::Vhd | Format::VhdFixed) {
                // QEMU has no check for it.
            } else {
                let Some(text) = expect("qemu-img", &["check", "-f", qemu, image]) else {
                    return;
                };
                assert!(text.contains("No errors were found"), "{text}");
            }
            let arguments = ["compare", "-f", "raw", "-F", qemu, raw, image];
            let Some(text) = expect("qemu-img", &arguments) else { return };
            assert!(text.contains("Images are identical"), "{format} {len}: {text}");
        }
    }
}

#[test]
fn we_read_what_qemu_img_writes() {
    for len in LENS {
        let disk = Scattered::new(len);
        let dir = tempfile::tempdir().unwrap();
        let raw = file(dir.path(), "raw", Format::Raw, &disk);
        let raw = raw.to_str().unwrap();
        for options in [
            &["-O", "qcow2"][..],
            &["-O", "qcow2", "-o", "compat=0.10"],
            &["-O", "qcow2", "-o", "cluster_size=4096"],
            &["-c", "-O", "qcow2"],
            &["-c", "-O", "qcow2", "-o", "cluster_size=4096"],
            &["-c", "-O", "qcow2", "-o", "compression_type=zstd"],
            &["-O", "vmdk"],
            &["-O", "vmdk", "-o", "subformat=streamOptimized"],
            &["-O", "vdi"],
            &["-O", "vpc", "-o", "force_size=on"],
            &["-O", "vpc", "-o", "force_size=on,subformat=fixed"],
            &["-O", "vhdx"],
            &["-O", "vhdx", "-o", "subformat=fixed"],
        ] {
            let needs_codec = options.contains(&"-c") || options.join(" ").contains("stream");
            if needs_codec && !formats().any(|it| it == Format::Qcow2Zstd) {
                continue;
            }
            let theirs = dir.path().join("theirs");
            let theirs = theirs.to_str().unwrap();
            let mut arguments = vec!["convert", "-f", "raw"];
            arguments.extend(options);
            arguments.extend([raw, theirs]);
            if expect("qemu-img", &arguments).is_none() {
                return;
            }
            let file = File::open(theirs).unwrap();
            let mut image = container::open(file, &Limits::default()).unwrap();
            assert_eq!(image.len(), len, "{options:?}");
            same(&mut image, &disk);
        }
    }
}

/// Compares where data is and what it is, without holding the holes.
fn same(image: &mut dyn BlockSource, disk: &Scattered) {
    for (at, count) in &disk.places {
        let mut found = vec![0; *count];
        image.read_at(*at, &mut found).unwrap();
        assert!(found.iter().all(|byte| *byte == 0xa5), "{at}");
        // And a zero on each side.
        for beside in [at.checked_sub(1), Some(at + *count as u64)].into_iter().flatten() {
            if beside < disk.len {
                let mut byte = [1];
                image.read_at(beside, &mut byte).unwrap();
                assert_eq!(byte, [0], "{beside}");
            }
        }
    }
    let (mut position, mut stored) = (0, 0);
    while let Some((at, count)) = image.next_data(position).unwrap() {
        stored += count;
        position = at + count;
    }
    assert!(stored <= 64 << 20 || stored == disk.len, "{stored} bytes are stored");
}

#[test]
fn converting_there_and_back_changes_nothing() {
    let disk = Scattered::new(2 << 20);
    let expected = bytes(&disk);
    for format in formats() {
        let image = container::write(format, &disk, Cursor::new(Vec::new())).unwrap();
        for other in formats() {
            let mut opened = container::open(image.clone(), &Limits::default()).unwrap();
            assert_eq!(opened.format(), format);
            let other_image =
                container::convert(&mut opened, other, Cursor::new(Vec::new())).unwrap();
            let direct = container::write(other, &disk, Cursor::new(Vec::new())).unwrap();
            assert!(other_image.get_ref() == direct.get_ref(), "{format} to {other}");
            let mut opened = container::open(other_image, &Limits::default()).unwrap();
            let raw =
                container::convert(&mut opened, Format::Raw, Cursor::new(Vec::new())).unwrap();
            assert!(raw.into_inner() == expected, "{format} to {other} to raw");
        }
    }
}

#[test]
fn holes_take_no_space() {
    use std::os::unix::fs::MetadataExt;
    let disk = Scattered::new(600 << 20);
    let dir = tempfile::tempdir().unwrap();
    for format in formats() {
        let path = file(dir.path(), format.name(), format, &disk);
        let found = std::fs::metadata(&path).unwrap();
        assert!(found.blocks() * 512 < 3 << 20, "{format}: {} blocks", found.blocks());
        if !matches!(format, Format::Raw | Format::VhdFixed) {
            // Blocks of 2 MiB that have little in them are long files, but take no space.
            let longest =
                if matches!(format, Format::Vdi | Format::Vhd | Format::Vhdx) { 24 } else { 3 };
            assert!(found.len() < longest << 20, "{format}: {} bytes", found.len());
        }
    }
}

/// With the feature `host` a raw file's holes are not read; without, they are.
#[test]
fn holes_of_a_file_are_found() {
    for len in LENS {
        let disk = Scattered::new(len);
        let dir = tempfile::tempdir().unwrap();
        let path = file(dir.path(), "raw", Format::Raw, &disk);
        let mut opened = container::open_file(&path, &Limits::default()).unwrap();
        same(&mut opened, &disk);
        let converted =
            container::convert(&mut opened, Format::Qcow2, Cursor::new(Vec::new())).unwrap();
        let direct = container::write(Format::Qcow2, &disk, Cursor::new(Vec::new())).unwrap();
        assert!(converted.into_inner() == direct.into_inner());
    }
    // Nothing but a hole.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hole");
    File::create(&path).unwrap().set_len(3 << 20).unwrap();
    let mut opened = container::open_file(&path, &Limits::default()).unwrap();
    let raw = container::convert(&mut opened, Format::Raw, Cursor::new(Vec::new())).unwrap();
    assert!(raw.into_inner() == vec![0; 3 << 20]);
}

#[test]
fn an_image_that_was_cut_short_says_where() {
    let disk = Scattered::new(40 << 20);
    for format in formats().filter(|it| !matches!(it, Format::Raw | Format::VhdFixed)) {
        let image = container::write(format, &disk, Cursor::new(Vec::new())).unwrap().into_inner();
        for keep in [100, 600, image.len() / 2, image.len() - 600] {
            let cut = Cursor::new(image[..keep].to_vec());
            let error = container::open(cut, &Limits::default())
                .and_then(|mut opened| {
                    container::convert(&mut opened, Format::Raw, Cursor::new(Vec::new()))
                })
                .map(|_| ());
            let error = error.unwrap_err().to_string();
            assert!(error.contains("byte "), "{format} {keep}: {error}");
            assert!(
                error.contains("cut short") || error.contains("ends inside"),
                "{format} {keep}: {error}"
            );
        }
    }
}

/// Text that compresses and noise that does not, at places that are no multiple of anything.
fn mixed() -> Vec<u8> {
    let mut disk = vec![0; 5 << 20];
    let text: Vec<u8> =
        (0..90_000_u32).flat_map(|at| format!("{at} of many lines\n").into_bytes()).collect();
    disk[70_001..70_001 + text.len()].copy_from_slice(&text);
    let mut state = 7_u64;
    for byte in &mut disk[3 << 20..(4 << 20) + 777] {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        *byte = (state >> 56) as u8;
    }
    disk[(4 << 20) + 100_000..(4 << 20) + 200_000].copy_from_slice(&text[..100_000]);
    disk
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let disk = mixed();
    for format in formats() {
        let mut first: Option<Vec<u8>> = None;
        for threads in [1, 2, 4] {
            let mut options = Options::default();
            options.threads = threads;
            let image =
                container::write_with(format, &disk, Cursor::new(Vec::new()), &options).unwrap();
            let image = image.into_inner();
            assert!(first.get_or_insert_with(|| image.clone()) == &image, "{format} {threads}");
        }
    }
}

#[test]
fn what_does_not_compress_is_read_back() {
    let disk = mixed();
    let dir = tempfile::tempdir().unwrap();
    let raw = file(dir.path(), "raw", Format::Raw, &disk);
    for format in formats() {
        let path = file(dir.path(), format.name(), format, &disk);
        let mut opened = container::open(File::open(&path).unwrap(), &Limits::default()).unwrap();
        assert_eq!(opened.format(), format);
        let mut found = vec![0; disk.len()];
        opened.read_at(0, &mut found).unwrap();
        assert!(found == disk, "{format}");
        if format == Format::RawZst {
            continue;
        }
        let (raw, path) = (raw.to_str().unwrap(), path.to_str().unwrap());
        let arguments = ["compare", "-f", "raw", "-F", format.qemu_name(), raw, path];
        let Some(text) = expect("qemu-img", &arguments) else { continue };
        assert!(text.contains("Images are identical"), "{format}: {text}");
        if format.qemu_name() == "qcow2" {
            let text = expect("qemu-img", &["check", "-f", "qcow2", path]).unwrap();
            assert!(text.contains("No errors were found"), "{text}");
        }
    }
}

/// 7-Zip has readers of its own for all of them.
#[test]
fn seven_zip_finds_the_disk_in_every_format() {
    let disk = mixed();
    let dir = tempfile::tempdir().unwrap();
    // It does not know zstd in qcow2.
    let unknown = [Format::Raw, Format::RawZst, Format::Qcow2Zstd];
    for format in formats().filter(|it| !unknown.contains(it)) {
        let name = format!("{format}.{}", format.extension());
        let path = file(dir.path(), &name, format, &disk);
        let out = dir.path().join(format!("out-{format}"));
        let to = format!("-o{}", out.display());
        let arguments = ["x", "-y", "-bd", &to, path.to_str().unwrap()];
        if expect("7zz", &arguments).is_none() {
            return;
        }
        let found = std::fs::read_dir(&out).unwrap().next().unwrap().unwrap().path();
        assert!(std::fs::read(found).unwrap() == disk, "{format}");
    }
}

#[test]
fn libyal_reads_vmdk_and_vhd() {
    let disk = mixed();
    let dir = tempfile::tempdir().unwrap();
    for (tool, format, says) in [
        ("vhdiinfo", Format::Vhd, "Dynamic"),
        ("vhdiinfo", Format::VhdFixed, "Fixed"),
        ("vmdkinfo", Format::Vmdk, "Monolithic sparse"),
        ("vmdkinfo", Format::VmdkStream, "Stream optimized"),
    ] {
        if !format.is_available() {
            continue;
        }
        let path = file(dir.path(), &format!("disk.{}", format.name()), format, &disk);
        let Some(text) = expect(tool, &[&path]) else { continue };
        assert!(text.contains(says) && text.contains("5242880"), "{tool} {format}: {text}");
    }
}

/// What VMware's tools demand of a stream: see "Virtual Disk Format 5.0".
#[test]
#[cfg(feature = "zlib")]
fn a_stream_is_as_vmware_wants_it() {
    let mut options = Options::default();
    options.adapter = Some(Adapter::LsiLogic);
    let image =
        container::write_with(Format::VmdkStream, &mixed(), Cursor::new(Vec::new()), &options);
    let image = image.unwrap().into_inner();
    let word = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
    let number = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let place = |sectors: u64| usize::try_from(sectors * 512).unwrap();
    // Version, flags, capacity, grain size, descriptor, grain tables, directory, overhead.
    assert_eq!((word(4), word(8), number(12), number(20)), (3, 0x3_0001, (5 << 20) / 512, 128));
    assert_eq!((number(28), number(36), word(44), number(56)), (1, 20, 512, u64::MAX));
    assert_eq!((number(64), image[72], &image[73..79]), (128, 0, &b"\n \r\n\x01\0"[..]));
    let text = String::from_utf8_lossy(&image[512..512 * 21]);
    for line in [
        "createType=\"streamOptimized\"",
        "ddb.adapterType = \"lsilogic\"",
        "RW 10240 SPARSE \"disk.vmdk\"",
        "ddb.toolsVersion = \"2147483647\"",
        "ddb.virtualHWVersion = \"10\"",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}: {text}");
    }
    // Marker by marker to the end of the stream.
    let (mut at, mut seen, mut grains) = (place(number(64)), Vec::new(), 0);
    loop {
        let (value, size, kind) = (number(at), word(at + 8) as usize, word(at + 12));
        if size > 0 {
            assert_eq!(value % 128, 0);
            grains += 1;
            at = (at + 12 + size).next_multiple_of(512);
            continue;
        }
        seen.push((kind, value));
        at += 512 + place(value);
        if kind == 0 {
            break;
        }
    }
    assert_eq!(at, image.len());
    assert!(grains > 30);
    // Grain table, grain directory, footer, end.
    assert_eq!(seen, [(1, 4), (2, 1), (3, 1), (0, 0)]);
    let footer = image.len() - 1024;
    assert_eq!(image[..56], image[footer..footer + 56]);
    let directory = place(number(footer + 56));
    let table = word(directory) as usize * 512;
    assert_eq!(number(word(table + 4) as usize * 512), 128, "the second grain");
}

/// Azure: a fixed VHD of a whole number of MiB, the footer not counted.
#[test]
fn a_fixed_vhd_is_filled_up() {
    let image = container::write(Format::VhdFixed, &vec![1; 1000], Cursor::new(Vec::new()));
    let image = image.unwrap().into_inner();
    assert_eq!(image.len(), (1 << 20) + 512);
    assert_eq!(&image[1 << 20..(1 << 20) + 8], b"conectix");
    let opened = container::open(Cursor::new(image), &Limits::default()).unwrap();
    assert_eq!((opened.format(), opened.len()), (Format::VhdFixed, 1 << 20));
}

#[test]
fn lengths_that_a_format_cannot_hold_are_refused() {
    for (format, len) in [
        (Format::Vmdk, (2 << 40) + 512),
        (Format::Vhd, (2040 << 30) + 512),
        (Format::VhdFixed, (2040 << 30) + 512),
        (Format::Vhdx, (64 << 40) + 512),
        (Format::Vdi, 1 << 60),
        (Format::Qcow2, 1 << 60),
    ] {
        let error = container::write(format, &Zeroes(len), Nowhere);
        let error = error.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("is not supported"), "{format}: {error}");
    }
}

/// A writer for what is not looked at.
struct Nowhere;

impl std::io::Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl std::io::Seek for Nowhere {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        Ok(if let std::io::SeekFrom::Start(at) = to { at } else { 0 })
    }
}
