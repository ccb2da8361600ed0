//! Formats of disk images: the map is walked, and the disk read at both ends of every stretch.

use std::io::{Read, Seek};

use kiln_diskimg::container::{self, BlockSource, Image};

use super::super::sparse::Sparse;
use super::{limits, repair};

fn walk<R: Read + Seek>(mut image: Image<R>) {
    const STRETCHES: usize = 32;
    let len = BlockSource::len(&image);
    let mut buffer = [0; 700];
    let mut read = |image: &mut Image<R>, at: u64| {
        let count = buffer.len().min(usize::try_from(len.saturating_sub(at)).unwrap_or(usize::MAX));
        let _ = image.read_at(at, &mut buffer[..count]);
    };
    read(&mut image, 0);
    read(&mut image, len.saturating_sub(600));
    // Behind the end, which must be an error.
    assert!(image.read_at(len, &mut [0]).is_err());
    let mut position = 0;
    for _ in 0..STRETCHES {
        let Ok(Some((at, count))) = image.next_data(position) else { return };
        assert!(at >= position && count > 0 && at + count <= len, "{at}+{count} of {len}");
        read(&mut image, at);
        position = at + count;
        read(&mut image, position.saturating_sub(333));
    }
}

fn open(mut disk: Sparse<'_>, at: u64, magic: &[u8]) {
    if disk.repaired {
        disk.put(at, magic);
    }
    // Maps are walked from one end to the other, some of them at every stretch.
    let mut limits = limits();
    limits.tables = 128 << 10;
    if let Ok(image) = container::open(disk, &limits) {
        walk(image);
    }
}

/// QEMU's format, as it is and compressed.
pub fn qcow2(input: &[u8]) {
    open(Sparse::decode(input), 0, b"QFI\xfb");
}

/// VMware's, as it is and compressed.
pub fn vmdk(input: &[u8]) {
    open(Sparse::decode(input), 0, b"KDMV");
}

/// VirtualBox's.
pub fn vdi(input: &[u8]) {
    open(Sparse::decode(input), 64, &[0x7f, 0x10, 0xda, 0xbe]);
}

/// Microsoft's older one, growing and fixed.
pub fn vhd(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::vhd(&mut disk);
    open(disk, 0, b"");
}

/// Microsoft's newer one.
pub fn vhdx(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::vhdx(&mut disk);
    open(disk, 0, b"vhdxfile");
}

/// A raw disk in frames of zstd, the seek table at the end.
pub fn raw_zst(input: &[u8]) {
    open(Sparse::decode(input), 0, b"");
}
