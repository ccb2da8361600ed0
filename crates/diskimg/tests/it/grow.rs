//! A table on a disk that became larger: sgdisk, sfdisk and the gptman crate agree, and a crash at
//! any moment leaves a disk whose partitions are known and on which the work can be finished.

use std::io::Cursor;

use kiln_diskimg::gpt::{self, Extend, PartitionType};
use kiln_diskimg::mbr::Mbr;
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, Seed, Size, Table, Zeroes, dump};

use crate::rename::Dying;
use crate::tools::{bytes, expect};

fn plan() -> DiskPlan {
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("grow"))
        .with(Partition::new("boot", PartitionType::EFI_SYSTEM, vec![1; 1 << 20]).bootable())
        .with(Partition::new("root", PartitionType::LINUX, vec![2; 2 << 20]))
        .with(Partition::empty("data", PartitionType::LINUX_VAR, Size::Rest));
    plan.size = Some(ByteLen::mib(8));
    plan.partitions[2].attributes = gpt::GROW_FILE_SYSTEM;
    plan
}

fn layout() -> Layout {
    plan().layout().unwrap()
}

/// The image on a disk that has so many sectors more.
fn larger(image: &[u8], sectors: usize) -> Cursor<Vec<u8>> {
    let mut disk = image.to_vec();
    disk.resize(image.len() + sectors * 512, 0);
    Cursor::new(disk)
}

fn grow(disk: &mut Cursor<Vec<u8>>, extend: Extend) -> gpt::Grown {
    gpt::grow(disk, &Limits::default(), extend).unwrap()
}

fn judge(disk: &Cursor<Vec<u8>>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, disk.get_ref()).unwrap();
    let path = path.to_str().unwrap();
    if let Some(said) = expect("sgdisk", &["-v", path]) {
        assert!(said.contains("No problems found"), "{said}");
    }
    if let Some(said) = expect("sfdisk", &["--verify", path]) {
        assert!(said.contains("No errors detected"), "{said}");
        assert!(!said.contains("mismatch"), "{said}");
    }
}

#[test]
fn no_entry_is_lost() {
    let layout = layout();
    let image = bytes(&layout);
    let before = gpt::read(&mut image.clone(), &Limits::default()).unwrap();
    // Less than a table, a table, and more.
    for sectors in [1, 7, 32, 33, 34, 2048] {
        for extend in [Extend::Nothing, Extend::Last, Extend::Partition(3)] {
            let mut disk = larger(&image, sectors);
            let grown = grow(&mut disk, extend);
            assert!(grown.changed);
            let end = disk.get_ref().len() as u64 / 512;
            assert_eq!(grown.last_usable, end - 34);
            judge(&disk);
            let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
            assert!(found.complaints.is_empty(), "{:?}", found.complaints);
            assert_eq!(found.header.disk_guid, layout.disk_guid);
            assert_eq!(found.entries[..2], before.entries[..2]);
            let (old, new) = (&before.entries[2].1, &found.entries[2].1);
            let mut same = new.clone();
            same.last = old.last;
            assert_eq!(*old, same);
            if extend == Extend::Nothing {
                assert_eq!(new.last, old.last);
            } else {
                // To a multiple of 4 KiB, and never less than it was.
                assert!(new.last >= old.last && new.last + 8 > grown.last_usable);
                assert_eq!(grown.extended.unwrap().last, new.last);
            }
            // The partitions' contents stay.
            let at = usize::try_from(layout.partitions[1].first.0 * 512).unwrap();
            assert!(disk.get_ref()[at..at + (2 << 20)].iter().all(|byte| *byte == 2));
            let again = disk.clone();
            assert!(!grow(&mut disk, extend).changed);
            assert!(disk.get_ref() == again.get_ref());
            let theirs = gptman::GPT::find_from(&mut disk).unwrap();
            assert_eq!(theirs.header.backup_lba, end - 1);
            assert_eq!(theirs[3].ending_lba, new.last);
        }
    }
}

#[test]
fn a_crash_after_any_sector_leaves_a_disk_that_can_be_finished() {
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("small"))
        .with(Partition::new("boot", PartitionType::EFI_SYSTEM, vec![1; 8192]))
        .with(Partition::new("root", PartitionType::LINUX, vec![2; 8192]))
        .with(Partition::empty("data", PartitionType::LINUX_VAR, Size::Rest));
    plan.alignment = ByteLen::kib(4);
    plan.size = Some(ByteLen::kib(128));
    let layout = plan.layout().unwrap();
    let image = bytes(&layout);
    for more in [5, 300] {
        let mut done = larger(&image, more);
        grow(&mut done, Extend::Last);
        // Two tables of 32 sectors and a header each, and the MBR.
        let total = 2 * 33 + 1;
        for sectors in 0..=total {
            let mut dying = Dying { disk: larger(&image, more), left: sectors * 512 };
            let result = gpt::grow(&mut dying, &Limits::default(), Extend::Last);
            assert_eq!(result.is_ok(), sectors == total, "{sectors}");
            let mut disk = dying.disk;
            let found = gpt::read_device(&mut disk, &Limits::default()).unwrap();
            assert_eq!(found.entries.len(), 3, "{sectors}");
            for (entry, placed) in found.entries.iter().zip(&layout.partitions) {
                assert_eq!(entry.1.first, placed.first.0, "{sectors}");
                assert_eq!(entry.1.guid, placed.guid, "{sectors}");
            }
            assert_eq!(grow(&mut disk, Extend::Last).changed, sectors != total);
            assert!(disk.get_ref() == done.get_ref(), "{sectors}");
        }
    }
}

#[test]
fn what_cannot_be_grown() {
    let image = bytes(&layout());
    let grow = |disk: Vec<u8>, extend| {
        let mut disk = Cursor::new(disk);
        let before = disk.get_ref().clone();
        let error = gpt::grow(&mut disk, &Limits::default(), extend).unwrap_err().to_string();
        assert!(*disk.get_ref() == before);
        error
    };
    let said = grow(larger(&image, 100).into_inner(), Extend::Partition(1));
    assert_eq!(said, "partition 1 not found in the last place of the disk");
    let said = grow(image[..image.len() - 512].to_vec(), Extend::Nothing);
    assert!(said.contains("need 1 sectors more"), "{said}");
    let said = grow(vec![0; 100_000], Extend::Nothing);
    assert!(said.contains("EFI PART"), "{said}");
    // Entries that are damaged where the backup is not at the end: it is found where it was.
    let mut disk = larger(&image, 100);
    disk.get_mut()[1024] ^= 1;
    assert!(gpt::grow(&mut disk, &Limits::default(), Extend::Last).unwrap().changed);
    judge(&disk);
}

fn hybrid() -> DiskPlan {
    let mut plan = plan();
    plan.partitions[0].in_mbr = true;
    plan.partitions[2].in_mbr = true;
    plan.partitions[2].kind = PartitionType::LINUX;
    plan
}

#[test]
fn a_hybrid_mbr() {
    let layout = hybrid().layout().unwrap();
    let image = bytes(&layout);
    let mbr = Mbr::parse(&image).unwrap();
    let parts: Vec<_> =
        mbr.entries.iter().flatten().map(|it| (it.kind, it.first, it.sectors, it.active)).collect();
    assert_eq!(
        parts,
        [(0xee, 1, 2047, false), (0xef, 2048, 2048, true), (0x83, 8192, 6144, false)]
    );
    let theirs = mbrman::MBR::read_from(&mut Cursor::new(&image), 512).unwrap();
    assert_eq!((theirs[3].sys, theirs[3].starting_lba, theirs[3].sectors), (0x83, 8192, 6144));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk");
    std::fs::write(&path, &image).unwrap();
    let path = path.to_str().unwrap();
    if let Some(said) = expect("sgdisk", &["-v", path]) {
        assert!(said.contains("No problems found"), "{said}");
    }
    if let Some(said) = expect("sgdisk", &["-p", path]) {
        assert!(!said.contains("orrupt"), "{said}");
    }
    let report = dump::inspect(Cursor::new(image.clone()), &Limits::default()).unwrap();
    let text = report.to_string();
    assert!(
        text.contains("mbr 2 efi-system: LBA 2048 + 2048 sectors, partition 1, bootable"),
        "{text}"
    );
    assert!(text.contains("mbr 3 linux: LBA 8192 + 6144 sectors, partition 3\n"), "{text}");
    assert!(report.table.unwrap().complaints.is_empty());
    // Growing takes the mirrored partition along.
    let mut disk = larger(&image, 4096);
    let grown = grow(&mut disk, Extend::Last).extended.unwrap();
    let report = dump::inspect(disk, &Limits::default()).unwrap().to_string();
    let sectors = grown.last - grown.first + 1;
    assert!(report.contains(&format!("LBA 8192 + {sectors} sectors, partition 3")), "{report}");
}

#[test]
fn hybrid_problems() {
    let mut plan = hybrid();
    plan.partitions[1].in_mbr = true;
    plan.partitions[1].bootable = true;
    plan.partitions[1].kind = PartitionType::LINUX_HOME;
    plan.partitions.insert(0, Partition::new("more", PartitionType::LINUX, Zeroes(512)));
    plan.partitions[0].in_mbr = true;
    insta::assert_snapshot!(plan.layout().unwrap_err(), @r#"
    disk: 3 problems
      4 partitions are to be in the MBR too, beside the protective entry it holds 3
      2 partitions in the MBR are bootable, it allows one
      partition 3 "root": type linux-home has no byte for the MBR
    "#);
}

/// sfdisk knows the types by other names, but by the same GUIDs.
#[test]
fn sfdisk_knows_the_types() {
    let Some(said) = expect("sfdisk", &["--label", "gpt", "--list-types"]) else { return };
    let unknown: Vec<&str> = PartitionType::names()
        .filter(|name| {
            let guid = PartitionType::parse(name).unwrap().guid.unwrap().to_string();
            !said.contains(&guid.to_uppercase())
        })
        .collect();
    // Those that the list of util-linux 2.38 does not have.
    let newer = ["linux-user-home", "linux-luks"];
    assert!(unknown.iter().all(|name| newer.contains(name)), "{unknown:?}");
}
