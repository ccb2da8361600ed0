//! Partition tables: sgdisk, sfdisk and the gpt crate read what was planned.

use std::io::Cursor;

use kiln_diskimg::container::Format;
use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::{
    ByteLen, Content, DiskPlan, Layout, Lba, Limits, Partition, Seed, Size, Table, Zeroes,
};

use crate::tools::{bytes, expect, file};

fn plan(table: Table) -> DiskPlan {
    let root = match table {
        Table::Gpt => PartitionType::LINUX_ROOT_X86_64,
        _ => PartitionType::LINUX,
    };
    let mut plan = DiskPlan::new(table, Seed::new("tables"))
        .with(Partition::new("boot", PartitionType::EFI_SYSTEM, vec![1; 3 << 20]).bootable())
        .with(Partition::new("root", root, Zeroes(5 << 20)))
        .with(Partition::empty("données", PartitionType::LINUX, Size::Rest));
    plan.size = Some(ByteLen::mib(64));
    plan.boot_code = Some([0xf4; 440]);
    plan
}

fn problems(plan: &DiskPlan) -> String {
    plan.layout().unwrap_err().to_string()
}

#[test]
fn sgdisk_and_sfdisk_find_nothing_wrong() {
    for table in [Table::Gpt, Table::Mbr] {
        let layout = plan(table).layout().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let image = file(dir.path(), "disk", Format::Raw, &layout);
        let image = image.to_str().unwrap();
        if let Some(text) = expect("sfdisk", &["--verify", image]) {
            assert!(text.contains("No errors detected"), "{text}");
        }
        if table == Table::Gpt
            && let Some(text) = expect("sgdisk", &["-v", image])
        {
            assert!(text.contains("No problems found"), "{text}");
        }
        let Some(json) = expect("sfdisk", &["--json", image]) else { continue };
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let found = &json["partitiontable"];
        let expected_id = match table {
            Table::Gpt => layout.disk_guid.to_string().to_uppercase(),
            _ => format!("0x{:08x}", layout.signature),
        };
        assert_eq!(found["id"], expected_id.as_str());
        for (at, placed) in layout.partitions.iter().enumerate() {
            let partition = &found["partitions"][at];
            assert_eq!(partition["start"], placed.first.0, "{partition}");
            assert_eq!(partition["size"], placed.sectors, "{partition}");
            if table == Table::Gpt {
                assert_eq!(partition["name"], placed.partition.name.as_str());
                assert_eq!(partition["uuid"], placed.guid.to_string().to_uppercase().as_str());
            }
        }
        let boot = &found["partitions"][0];
        match table {
            Table::Gpt => assert_eq!(boot["attrs"], "LegacyBIOSBootable"),
            _ => assert_eq!(boot["bootable"], true),
        }
    }
}

#[test]
fn the_gpt_crate_and_our_reader_agree() {
    let layout = plan(Table::Gpt).layout().unwrap();
    let mut image = bytes(&layout);
    let ours = gpt::read(&mut image, &Limits::default()).unwrap();
    assert!(ours.complaints.is_empty(), "{:?}", ours.complaints);
    let theirs = ::gpt::GptConfig::new()
        .only_valid_headers(true)
        .open_from_device(Cursor::new(image))
        .unwrap();
    assert_eq!(ours.entries.len(), 3);
    for (number, entry) in &ours.entries {
        let other = &theirs.partitions()[number];
        assert_eq!((entry.first, entry.last), (other.first_lba, other.last_lba));
        assert_eq!((entry.name.as_str(), entry.attributes), (other.name.as_str(), other.flags));
        assert_eq!(entry.guid.to_string(), other.part_guid.to_string());
        assert_eq!(entry.kind.to_string(), other.part_type_guid.guid.to_string());
    }
    assert_eq!(ours.header.disk_guid.to_string(), theirs.guid().to_string());
}

#[test]
fn either_copy_of_the_table_is_enough() {
    let layout = plan(Table::Gpt).layout().unwrap();
    let image = bytes(&layout);
    let intact = gpt::read(&mut image.clone(), &Limits::default()).unwrap();
    let end = image.len();
    for (damaged, expected) in [(512, "primary"), (1024, "primary"), (end - 512, "backup")] {
        let mut image = image.clone();
        image[damaged] ^= 1;
        let found = gpt::read(&mut image, &Limits::default()).unwrap();
        assert_eq!(found.entries, intact.entries);
        assert_eq!(found.complaints.len(), 1);
        assert!(found.complaints[0].contains(expected), "{:?}", found.complaints);
    }
    let mut image = image;
    image[512] ^= 1;
    image[end - 512] ^= 1;
    assert!(gpt::read(&mut image, &Limits::default()).is_err());
}

#[test]
fn a_size_follows_from_the_content() {
    let mut plan = plan(Table::Gpt);
    plan.size = None;
    plan.partitions.pop();
    let layout = plan.layout().unwrap();
    // 1 MiB, 3 MiB, 5 MiB, and the backup table rounded up.
    assert_eq!(layout.len, ByteLen::mib(10));
    assert_eq!(layout.partitions[1].first, Lba(8192));
}

#[test]
fn every_problem_is_reported_at_once() {
    let mut plan = DiskPlan::default();
    plan.size = Some(ByteLen::mib(8));
    let long = "x".repeat(37);
    plan.partitions = vec![
        Partition::new("boot", PartitionType::EFI_SYSTEM, Zeroes(4 << 20))
            .sized(Size::Fixed(ByteLen::mib(3))),
        Partition::empty(&long, PartitionType::from_byte(0x83), Size::Fixed(ByteLen::mib(2))),
        Partition::empty("rest", PartitionType::LINUX, Size::Rest),
        Partition::empty("late", PartitionType::LINUX, Size::Fixed(ByteLen::mib(9))),
    ];
    plan.partitions[1].start = Some(Lba(4097));
    insta::assert_snapshot!(problems(&plan), @r#"
    disk: 7 problems
      partition 2 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": its name has 37 UTF-16 units, at most 36
      partition 2 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": type 0x83 has no GUID for a gpt table
      partition 3 "rest": only the last partition can take the rest
      partition 1 "boot": its content is 1048576 bytes longer than its 3 MiB; raise the partition's size
      partition 2 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": LBA 4097 is no multiple of 1 MiB
      partition 2 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx": it overlaps partition 1 "boot"
      the disk of 8 MiB is 8405504 bytes too small for its partitions and table; raise its size to 16794112
    "#);
    let mut many = DiskPlan::new(Table::Mbr, Seed::default());
    for _ in 0..5 {
        let size = Size::Fixed(ByteLen::mib(1));
        many.partitions.push(Partition::empty("", PartitionType::LINUX, size).bootable());
    }
    insta::assert_snapshot!(problems(&many), @"
    disk: 2 problems
      5 partitions, but a mbr table holds 4
      5 partitions are bootable, an mbr table allows one
    ");
}

#[test]
fn a_volume_that_was_made_for_another_place_is_refused() {
    let mut options = kiln_diskimg::fat::Options::default();
    options.hidden_sectors = 4096;
    let volume = kiln_diskimg::fat::Volume::plan(&kiln_tree::Tree::new(), &options).unwrap();
    let plan = DiskPlan::default().with(Partition::new("v", PartitionType::EFI_SYSTEM, volume));
    assert!(problems(&plan).contains("made to begin at LBA 4096"), "{}", problems(&plan));
}

#[test]
fn the_same_plan_gives_the_same_bytes() {
    let make = || bytes(&plan(Table::Gpt).layout().unwrap());
    assert!(make() == make());
    let mut other = plan(Table::Gpt);
    other.seed = Seed::new("another");
    assert!(bytes(&other.layout().unwrap()) != make());
}

#[test]
fn the_largest_gpt() {
    let mut plan = DiskPlan::default();
    for number in 0..128 {
        let size = Size::Fixed(ByteLen::mib(1));
        plan.partitions.push(Partition::empty(&format!("p{number}"), PartitionType::LINUX, size));
    }
    let layout: Layout = plan.layout().unwrap();
    assert_eq!(layout.len(), 130 << 20);
    let mut image = bytes(&layout);
    let found = gpt::read(&mut image, &Limits::default()).unwrap();
    assert_eq!(found.entries.len(), 128);
    assert!(found.complaints.is_empty());
}
