//! File systems: everything is listed, and some files are read.

use kiln_diskimg::container::BlockSource;
use kiln_diskimg::verity::{self, Parameters, RootHash};
use kiln_diskimg::{erofs as erofs_fs, ext4 as ext4_fs, fat as fat_fs, iso as iso_fs};
use sha2::{Digest, Sha256};

use super::super::sparse::Sparse;
use super::{limits, repair};

/// How many files are read.
const READ: usize = 24;

/// FAT12, FAT16 and FAT32.
pub fn fat(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    let Ok(mut reader) = fat_fs::Reader::open(&mut disk, &limits()) else { return };
    let _ = (reader.label(), reader.oem(), reader.volume_id(), reader.hidden_sectors());
    let _ = reader.free_clusters();
    for found in reader.list().iter().flatten().take(READ) {
        if let Ok(bytes) = reader.read(found) {
            assert_eq!(bytes.len() as u64, found.len);
        }
    }
}

/// ext2, ext3 and ext4.
pub fn ext4(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::ext4(&mut disk, 0);
    let Ok(mut reader) = ext4_fs::Reader::open(&mut disk, &limits()) else { return };
    let _ = reader.root();
    for found in reader.list().iter().flatten().take(READ) {
        let bytes = reader.read(found);
        if let (Ok(bytes), ext4_fs::FileKind::File) = (bytes, &found.kind) {
            assert_eq!(bytes.len() as u64, found.len);
        }
    }
}

/// EROFS.
pub fn erofs(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::erofs(&mut disk, 0);
    let Ok(mut reader) = erofs_fs::Reader::open(&mut disk, &limits()) else { return };
    let _ = (reader.label(), reader.uuid(), reader.blocks(), reader.inodes());
    for found in reader.list().iter().flatten().take(READ) {
        let _ = reader.xattrs(found);
        if let Ok(bytes) = reader.read(found) {
            assert_eq!(bytes.len() as u64, found.len);
        }
    }
}

/// ISO 9660, Joliet, Rock Ridge and El Torito.
pub fn iso(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    repair::iso(&mut disk);
    let Ok(mut reader) = iso_fs::Reader::open(&mut disk, &limits()) else { return };
    let _ = (reader.volume_id(), reader.application(), reader.preparer(), reader.uuid());
    let _ = (reader.volume_len(), reader.best(), reader.boot_images());
    for names in [iso_fs::Names::RockRidge, iso_fs::Names::Joliet, iso_fs::Names::Iso] {
        for found in reader.list(names).iter().flatten().take(READ) {
            if let Ok(bytes) = reader.read(found) {
                assert_eq!(bytes.len() as u64, found.len);
            }
        }
    }
}

/// A superblock of dm-verity and its tree, whose topmost block is trusted. The superblock is in the
/// block that the image's last bytes name.
pub fn verity(input: &[u8]) {
    let mut disk = Sparse::decode(input);
    let [block] = disk.get(disk.size().saturating_sub(1));
    let Ok(parameters) = Parameters::read(&mut disk, u64::from(block) * 4096) else { return };
    let root = Sha256::new()
        .chain_update(&parameters.salt)
        .chain_update(disk.slice(parameters.tree_block.saturating_mul(4096), 4096))
        .finalize();
    let root = RootHash(root.into());
    let _ = parameters.table("a", "b", root);
    let _ = verity::verify(&mut disk, None, &parameters, root);
    if disk.len() < 1 << 20 {
        let mut tree = disk.clone();
        let _ = verity::verify(&mut disk, Some(&mut tree), &parameters, root);
    }
}
