//! Identifiers changed in place: sgdisk and fsck.vfat agree, and a crash at any moment leaves a disk
//! whose partitions are known and on which the work can be finished.

use std::io::{self, Cursor, Read, Seek, SeekFrom, Write};

use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::{
    ByteLen, Device, DiskPlan, Guid, Layout, Limits, Partition, Seed, Table, Zeroes, fat,
};

use crate::tools::{bytes, expect, options, tree};

fn layout() -> Layout {
    let volume = fat::Volume::plan(&tree(), &options()).unwrap();
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("rename"))
        .with(Partition::new("boot", PartitionType::EFI_SYSTEM, volume).bootable())
        .with(Partition::new("data", PartitionType::LINUX, Zeroes(2 << 20)));
    plan.size = Some(ByteLen::mib(80));
    plan.layout().unwrap()
}

fn numbered() -> impl FnMut() -> Guid {
    let mut next = 0_u128;
    move || {
        next += 1;
        Guid::from_u128(0x1111_0000_0000_4000_8000_0000_0000_0000 + next)
    }
}

fn rename(disk: &mut Cursor<Vec<u8>>) -> gpt::Renamed {
    gpt::rename(disk, &Limits::default(), &mut numbered()).unwrap()
}

#[test]
fn sgdisk_and_fsck_find_nothing_wrong_and_the_rest_stays() {
    let layout = layout();
    let before = bytes(&layout);
    let mut disk = Cursor::new(before.clone());
    let offset = layout.partitions[0].first.0 * 512;
    assert_eq!(fat::set_volume_id(&mut disk, offset, 0xcafe_f00d).unwrap(), Some(0x1234_abcd));
    assert_eq!(fat::set_volume_id(&mut disk, layout.partitions[1].first.0 * 512, 1).unwrap(), None);
    let renamed = rename(&mut disk);
    assert_eq!(renamed.before, layout.disk_guid);
    assert_eq!(gpt::primary_disk_guid(&mut disk).unwrap(), Some(renamed.disk));
    let mut after = disk.into_inner();

    let found = gpt::read(&mut after, &Limits::default()).unwrap();
    assert!(found.complaints.is_empty(), "{:?}", found.complaints);
    assert_eq!(found.header.disk_guid, renamed.disk);
    for ((number, entry), (named, guid)) in found.entries.iter().zip(&renamed.partitions) {
        assert_eq!((number, entry.guid), (named, *guid));
        assert_ne!(layout.partitions[*number as usize - 1].guid, *guid);
        assert_eq!(layout.partitions[*number as usize - 1].partition.name, entry.name);
    }
    // Two headers, the sectors of used entries, two boot sectors: nothing else is touched.
    let changed = before.chunks(512).zip(after.chunks(512)).filter(|(a, b)| a != b).count();
    assert_eq!(changed, 2 + 2 + 2);

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.raw");
    std::fs::write(&path, &after).unwrap();
    let path = path.to_str().unwrap();
    if let Some(text) = expect("sgdisk", &["-v", path]) {
        assert!(text.contains("No problems found"), "{text}");
        let text = expect("sgdisk", &["-p", path]).unwrap();
        assert!(text.to_lowercase().contains(&renamed.disk.to_string()), "{text}");
    }
    let volume = dir.path().join("volume");
    let len = usize::try_from(layout.partitions[0].sectors * 512).unwrap();
    let start = usize::try_from(offset).unwrap();
    std::fs::write(&volume, &after[start..start + len]).unwrap();
    if let Some(text) = expect("fsck.vfat", &["-nv", volume.to_str().unwrap()]) {
        assert!(!text.contains("differences"), "{text}");
    }
    if let Some(text) = expect("mdir", &["-i", volume.to_str().unwrap(), "::"]) {
        assert!(text.contains("CAFE-F00D"), "{text}");
    }
}

/// A disk in a machine that loses power: so many bytes are still written, then nothing.
pub(crate) struct Dying {
    pub(crate) disk: Cursor<Vec<u8>>,
    pub(crate) left: usize,
}

impl Read for Dying {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.disk.read(buffer)
    }
}

impl Seek for Dying {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

impl Write for Dying {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::Error::other("no power"));
        }
        let count = bytes.len().min(self.left);
        self.left -= count;
        self.disk.write(&bytes[..count])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Device for Dying {
    fn persist(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_crash_after_any_sector_leaves_a_disk_that_is_known_and_can_be_finished() {
    let layout = layout();
    let image = bytes(&layout);
    let old = layout.disk_guid;
    // Two tables of 32 sectors and a header each.
    let total = 2 * 33;
    for sectors in 0..=total {
        let mut dying = Dying { disk: Cursor::new(image.clone()), left: sectors * 512 };
        let done = gpt::rename(&mut dying, &Limits::default(), &mut numbered());
        assert_eq!(done.is_ok(), sectors == total, "{sectors}");
        let mut disk = dying.disk;

        let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
        let places: Vec<_> = found.entries.iter().map(|(_, e)| (e.first, e.last)).collect();
        let planned: Vec<_> = layout
            .partitions
            .iter()
            .map(|placed| (placed.first.0, placed.first.0 + placed.sectors - 1))
            .collect();
        assert_eq!(places, planned, "{sectors}");
        // The marker says that there is work left until the very last sector.
        let marker = gpt::primary_disk_guid(&mut disk).unwrap();
        assert_eq!(marker == Some(old), sectors != total, "{sectors}");

        if sectors != total {
            let finished = rename(&mut disk);
            assert_ne!(finished.disk, old, "{sectors}");
        }
        let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
        assert!(found.complaints.is_empty(), "{sectors}: {:?}", found.complaints);
        assert_eq!(found.entries.len(), 2);
    }
}

#[test]
fn damaged_tables() {
    let layout = layout();
    let image = bytes(&layout);
    let end = image.len();
    // A primary that is damaged by something else is made whole, and the disk is renamed.
    for range in [512..1024, 1024..1100] {
        let mut disk = Cursor::new(image.clone());
        disk.get_mut()[range].fill(0xff);
        assert_ne!(rename(&mut disk).disk, layout.disk_guid);
        let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
        assert!(found.complaints.is_empty(), "{:?}", found.complaints);
    }
    // A backup that is gone is written anew.
    let mut disk = Cursor::new(image.clone());
    disk.get_mut()[end - 33 * 512..].fill(0);
    rename(&mut disk);
    let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
    assert!(found.complaints.is_empty(), "{:?}", found.complaints);
    // Neither: nothing is written.
    let mut disk = Cursor::new(image);
    disk.get_mut()[512..1024].fill(0);
    disk.get_mut()[end - 512..].fill(0);
    let before = disk.get_ref().clone();
    assert!(gpt::rename(&mut disk, &Limits::default(), &mut numbered()).is_err());
    assert_eq!(*disk.get_ref(), before);
    assert!(gpt::primary_disk_guid(&mut Cursor::new(vec![0; 100])).unwrap().is_none());
}

#[test]
fn nothing_is_written_where_a_forged_table_puts_its_backup() {
    let mut image = bytes(&layout());
    let end = image.len();
    image[end - 512] ^= 1;
    // Behind the disk's end, among the partitions, and on the primary's entries.
    for place in [1 << 40, 2048, 35_u64] {
        image[512 + 32..512 + 40].copy_from_slice(&place.to_le_bytes());
        image[528..532].fill(0);
        let sum = crc32fast::hash(&image[512..512 + 92]);
        image[528..532].copy_from_slice(&sum.to_le_bytes());
        let mut disk = Cursor::new(image.clone());
        let error = gpt::rename(&mut disk, &Limits::default(), &mut numbered()).unwrap_err();
        assert!(error.to_string().contains("would be on the partitions"), "{place}: {error}");
        assert!(disk.into_inner() == image, "{place}: something was written");
    }
}
