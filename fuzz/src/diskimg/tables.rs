//! Partition tables, and whole disks.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use kiln_diskimg::gpt::{self, Extend};
use kiln_diskimg::mbr::Mbr;
use kiln_diskimg::{Device, Guid, dump};

use super::super::sparse::Sparse;
use super::{limits, repair};

/// A disk whose length stays as it is.
#[derive(Clone)]
struct Disk(Cursor<Vec<u8>>);

impl Read for Disk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let position = self.0.position();
        let end = position.checked_add(bytes.len() as u64);
        let len = self.0.get_ref().len() as u64;
        assert!(end.is_some_and(|end| end <= len), "written at {position}, after the disk's end");
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Device for Disk {
    fn persist(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A GPT: read, grown and renamed.
pub fn gpt(input: &[u8]) {
    // Every execution copies the disk.
    let mut image = Sparse::decode_within(input, 128 << 10);
    repair::gpt(&mut image);
    let _ = Mbr::parse(&image.slice(0, 512));
    let read = gpt::read(&mut image, &limits());
    if read.is_err() {
        return;
    }
    let mut disk = Disk(Cursor::new(image.to_bytes()));
    let _ = gpt::primary_disk_guid(&mut disk);
    let mut other = disk.clone();
    if gpt::grow(&mut disk, &limits(), Extend::Last).is_ok() {
        let read = gpt::read_device(&mut disk, &limits());
        assert!(read.is_ok(), "what was grown cannot be read: {read:?}");
    }
    let mut next = 0;
    let mut new = || {
        next += 1;
        Guid::from_u128(next)
    };
    if gpt::rename(&mut other, &limits(), &mut new).is_ok() {
        let read = gpt::read_device(&mut other, &limits());
        assert!(read.is_ok(), "what was renamed cannot be read: {read:?}");
    }
}

/// Whatever a disk may be.
pub fn inspect(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::gpt(&mut disk);
    repair::ext4(&mut disk, 0);
    repair::erofs(&mut disk, 0);
    repair::ext4(&mut disk, 1 << 20);
    repair::erofs(&mut disk, 1 << 20);
    if let Ok(report) = dump::inspect(disk, &limits()) {
        let _ = report.to_string();
        let _ = report.svg();
    }
}
