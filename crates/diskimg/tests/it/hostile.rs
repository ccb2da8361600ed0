//! Inputs that were made to hurt.

use std::io::Cursor;

use kiln_diskimg::fat::{Kind, Options, Reader, Volume};
use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::{DiskPlan, Limits, Partition, Zeroes, dump};
use kiln_tree::{Node, Tree};

use crate::tools::bytes;

fn disk() -> Vec<u8> {
    let plan = DiskPlan::default().with(Partition::new("p", PartitionType::LINUX, Zeroes(1 << 20)));
    bytes(&plan.layout().unwrap())
}

/// Sets a field of the primary GPT header and makes its checksum right again.
fn forge(image: &mut [u8], at: usize, bytes: &[u8]) {
    image[512 + at..512 + at + bytes.len()].copy_from_slice(bytes);
    image[528..532].fill(0);
    let sum = crc32fast::hash(&image[512..512 + 92]);
    image[528..532].copy_from_slice(&sum.to_le_bytes());
}

/// Why reading is not left to the `gpt` crate: an entry size other than 128 makes it panic.
#[test]
fn the_gpt_crate_panics_where_our_reader_errs() {
    let mut image = disk();
    forge(&mut image, 84, &256_u32.to_le_bytes());
    // Without the backup that saves us.
    let end = image.len();
    image[end - 512] ^= 1;
    let error = gpt::read(&mut image.clone(), &Limits::default()).unwrap_err();
    assert!(error.to_string().contains("checksum of the entries"), "{error}");
    let theirs = std::panic::catch_unwind(|| {
        ::gpt::GptConfig::new().open_from_device(Cursor::new(image)).map(|_| ()).is_ok()
    });
    assert!(theirs.is_err(), "the gpt crate no longer panics: use its reader");
}

#[test]
fn a_gpt_with_four_billion_entries_costs_nothing() {
    let mut image = disk();
    forge(&mut image, 80, &u32::MAX.to_le_bytes());
    let end = image.len();
    image[end - 512] ^= 1;
    let error = gpt::read(&mut image, &Limits::default()).unwrap_err().to_string();
    assert!(error.contains("more than the limit of 1024"), "{error}");
}

fn volume(kind: Kind) -> Vec<u8> {
    let mut tree = Tree::new();
    tree.insert("directory/file", Node::file(vec![1; 5000])).unwrap();
    let mut options = Options::default();
    options.kind = Some(kind);
    bytes(&Volume::plan(&tree, &options).unwrap())
}

#[test]
fn a_chain_that_loops_is_an_error() {
    let mut image = volume(Kind::Fat32);
    let reserved = usize::from(u16::from_le_bytes([image[14], image[15]]));
    // The root directory's only cluster leads back to itself.
    let at = reserved * 512 + 2 * 4;
    image[at..at + 4].copy_from_slice(&2_u32.to_le_bytes());
    let error = Reader::open(&mut image, &Limits::default()).unwrap().list().unwrap_err();
    assert!(error.to_string().contains("may loop"), "{error}");
    // A file's chain: the first cluster leads to itself, and its length wants more than there is.
    let mut image = volume(Kind::Fat32);
    let list = Reader::open(&mut image, &Limits::default()).unwrap().list().unwrap();
    let mut file = list.into_iter().find(|found| !found.directory).unwrap();
    let at = reserved * 512 + usize::try_from(file.cluster).unwrap() * 4;
    image[at..at + 4].copy_from_slice(&file.cluster.to_le_bytes());
    file.len = 100 << 20;
    let error = Reader::open(&mut image, &Limits::default()).unwrap().read(&file).unwrap_err();
    assert!(error.to_string().contains("loops"), "{error}");
    let mut limits = Limits::default();
    limits.files = 1;
    let mut image = volume(Kind::Fat32);
    let error = Reader::open(&mut image, &limits).unwrap().list().unwrap_err();
    assert!(error.to_string().contains("limit of 1"), "{error}");
}

#[test]
fn a_directory_that_is_its_own_child_is_an_error() {
    let mut image = volume(Kind::Fat16);
    let mut reader = Reader::open(&mut image, &Limits::default()).unwrap();
    let found = reader.list().unwrap();
    let sector = reader.geometry().sector_of(u64::from(found[0].cluster));
    // Its third entry, after "." and ".." (and one of the long name), becomes the directory itself.
    let at = usize::try_from(sector * 512).unwrap() + 3 * 32;
    image[at + 11] = 0x10;
    image[at + 26..at + 28]
        .copy_from_slice(&u16::try_from(found[0].cluster).unwrap().to_le_bytes());
    let error = Reader::open(&mut image, &Limits::default()).unwrap().list().unwrap_err();
    assert!(error.to_string().contains("twice"), "{error}");
}

#[test]
fn a_partition_beyond_the_disk_is_reported() {
    let mut image = disk();
    image.truncate(1 << 20);
    // The protective MBR and the primary table are there; the partition and the backup are not.
    let report = dump::inspect(Cursor::new(image), &Limits::default()).unwrap().to_string();
    assert!(report.contains("! backup table"), "{report}");
}
