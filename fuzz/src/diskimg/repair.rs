//! Checksums made right, without which a reader would go no further. Where there is nothing to be
//! summed, nothing is done.

use super::super::sparse::Sparse;

/// CRC-32 of the headers and entries of both tables.
pub(super) fn gpt(disk: &mut Sparse<'_>) {
    if !disk.repaired {
        return;
    }
    let last = (disk.size() / 512).saturating_sub(1);
    for lba in [1, last] {
        let at = lba * 512;
        if disk.get(at) != *b"EFI PART" {
            continue;
        }
        let number = |at| u64::from(u32::from_le_bytes(disk.get(at)));
        let entries = u64::from_le_bytes(disk.get(at + 72)).saturating_mul(512);
        let len = number(at + 80) * number(at + 84);
        if entries < disk.size() && len <= 64 << 10 {
            let sum = crc32fast::hash(&disk.slice(entries, len as usize));
            disk.put(at + 88, &sum.to_le_bytes());
        }
        let len = number_of(disk, at + 12).min(512);
        disk.put(at + 16, &[0; 4]);
        let sum = crc32fast::hash(&disk.slice(at, len as usize));
        disk.put(at + 16, &sum.to_le_bytes());
    }
}

fn number_of(disk: &Sparse<'_>, at: u64) -> u64 {
    u64::from(u32::from_le_bytes(disk.get(at)))
}

/// CRC-32C of the superblock.
pub(super) fn ext4(disk: &mut Sparse<'_>, start: u64) {
    let at = start + 1024;
    if disk.repaired && disk.get(at + 0x38) == [0x53, 0xef] {
        let sum = !crc32c::crc32c(&disk.slice(at, 0x3fc));
        disk.put(at + 0x3fc, &sum.to_le_bytes());
    }
}

/// CRC-32C of the superblock's block from the superblock on.
pub(super) fn erofs(disk: &mut Sparse<'_>, start: u64) {
    let at = start + 1024;
    let [bits] = disk.get(at + 12);
    if disk.repaired && disk.get(at) == [0xe2, 0xe1, 0xf5, 0xe0] && (9..=16).contains(&bits) {
        let end = (1_usize << bits).max(1024 + 128);
        disk.put(at + 4, &[0; 4]);
        let sum = !crc32c::crc32c(&disk.slice(at, end - 1024));
        disk.put(at + 4, &sum.to_le_bytes());
    }
}

/// The sum of the boot catalog, which begins where the boot record says.
pub(super) fn iso(disk: &mut Sparse<'_>) {
    if !disk.repaired {
        return;
    }
    for sector in 16..24 {
        let at = sector * 2048;
        if disk.get(at) != *b"\0CD001" {
            continue;
        }
        let catalog = u64::from(u32::from_le_bytes(disk.get(at + 0x47))) * 2048;
        disk.put(catalog + 28, &[0, 0]);
        let sum = disk
            .slice(catalog, 32)
            .chunks_exact(2)
            .fold(0_u16, |sum, word| sum.wrapping_sub(u16::from_le_bytes([word[0], word[1]])));
        disk.put(catalog + 28, &sum.to_le_bytes());
    }
}

/// The ones' complement of the sums of footer and dynamic header.
pub(super) fn vhd(disk: &mut Sparse<'_>) {
    if !disk.repaired {
        return;
    }
    let header = u64::from_be_bytes(disk.get(16));
    let end = disk.size().saturating_sub(512);
    for (at, magic, len, field) in
        [(0, b"conectix", 512, 64), (end, b"conectix", 512, 64), (header, b"cxsparse", 1024, 36)]
    {
        if at > disk.size() || disk.get(at) != *magic {
            continue;
        }
        disk.put(at + field, &[0; 4]);
        let sum = disk.slice(at, len).iter().fold(0_u32, |sum, byte| sum + u32::from(*byte));
        disk.put(at + field, &(!sum).to_be_bytes());
    }
}

/// CRC-32C of the headers and region tables.
pub(super) fn vhdx(disk: &mut Sparse<'_>) {
    if !disk.repaired {
        return;
    }
    for (at, magic, len) in [
        (64 << 10, b"head", 4096),
        (128 << 10, b"head", 4096),
        (192 << 10, b"regi", 64 << 10),
        (256 << 10, b"regi", 64 << 10),
    ] {
        if disk.get(at) == *magic {
            disk.put(at + 4, &[0; 4]);
            let sum = crc32c::crc32c(&disk.slice(at, len));
            disk.put(at + 4, &sum.to_le_bytes());
        }
    }
}

/// The sum of the header of a firmware volume, which is bytes here.
pub(super) fn firmware_volume(bytes: &mut [u8]) {
    let Some(&[a, b]) = bytes.get(48..50) else { return };
    let Some(header) = bytes.get_mut(..usize::from(u16::from_le_bytes([a, b]))) else { return };
    if header.len() < 52 {
        return;
    }
    header[50..52].fill(0);
    let sum = header
        .chunks_exact(2)
        .fold(0_u16, |sum, word| sum.wrapping_sub(u16::from_le_bytes([word[0], word[1]])));
    header[50..52].copy_from_slice(&sum.to_le_bytes());
}
