//! Image formats: qemu-img reads what we write, we read what qemu-img writes.

use std::fs::File;
use std::io::Cursor;

use kiln_diskimg::container::{self, BlockSource, Format};
use kiln_diskimg::{Content, Limits, Result, Sink};

use crate::tools::{bytes, expect, file};

/// Data at the borders of clusters, L2 tables and grain tables, and holes between.
#[derive(Debug)]
struct Scattered {
    len: u64,
    places: Vec<(u64, usize)>,
}

impl Scattered {
    fn new(len: u64) -> Self {
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

const LENS: [u64; 4] = [512 * 20, 1 << 20, (40 << 20) + 512, 600 << 20];

#[test]
fn qemu_img_finds_the_disk_in_every_format() {
    for len in LENS {
        let disk = Scattered::new(len);
        let dir = tempfile::tempdir().unwrap();
        let raw = file(dir.path(), "raw", Format::Raw, &disk);
        assert_eq!(std::fs::metadata(&raw).unwrap().len(), len);
        for format in [Format::Qcow2, Format::Vmdk] {
            let image = file(dir.path(), format.name(), format, &disk);
            let (raw, image) = (raw.to_str().unwrap(), image.to_str().unwrap());
            if format == Format::Qcow2 {
                let Some(text) = expect("qemu-img", &["check", "-f", "qcow2", image]) else {
                    return;
                };
                assert!(text.contains("No errors were found"), "{text}");
            }
            let arguments = ["compare", "-s", "-f", "raw", "-F", format.name(), raw, image];
            let arguments: Vec<&str> =
                arguments.into_iter().filter(|argument| *argument != "-s").collect();
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
            &["-O", "vmdk"],
        ] {
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
    assert!(stored <= 2 << 20 || stored == disk.len, "{stored} bytes are stored");
}

#[test]
fn converting_there_and_back_changes_nothing() {
    let disk = Scattered::new(40 << 20);
    let expected = bytes(&disk);
    for format in Format::ALL {
        let image = container::write(format, &disk, Cursor::new(Vec::new())).unwrap();
        for other in Format::ALL {
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
    for format in Format::ALL {
        let path = file(dir.path(), format.name(), format, &disk);
        let found = std::fs::metadata(&path).unwrap();
        assert!(found.blocks() * 512 < 3 << 20, "{format}: {} blocks", found.blocks());
        if format != Format::Raw {
            assert!(found.len() < 3 << 20, "{format}: {} bytes", found.len());
        }
    }
}

#[test]
fn an_image_that_was_cut_short_says_where() {
    let disk = Scattered::new(40 << 20);
    for format in [Format::Qcow2, Format::Vmdk] {
        let image = container::write(format, &disk, Cursor::new(Vec::new())).unwrap().into_inner();
        for keep in [8, 100, 600, image.len() / 2, image.len() - 70_000] {
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
