//! What a report looks like.

use std::io::Cursor;

use kiln_diskimg::container::{self, Format};
use kiln_diskimg::fat::{Options, Volume};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, Seed, Size, Table, dump};
use kiln_tree::{Node, Tree};

fn layout(table: Table) -> Layout {
    let mut tree = Tree::new();
    tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(vec![1; 70_000])).unwrap();
    tree.insert("loader/loader.conf", Node::file("timeout 0\n")).unwrap();
    let mut options = Options::default();
    options.label = Some("ESP".to_owned());
    options.volume_id = 0xcafe_f00d;
    let volume = Volume::plan(&tree, &options).unwrap();
    let mut plan = DiskPlan::new(table, Seed::new("dump"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, volume).bootable())
        .with(Partition::empty("data", PartitionType::LINUX, Size::Rest));
    plan.size = Some(ByteLen::mib(64));
    plan.layout().unwrap()
}

#[test]
fn a_report_in_words() {
    for (table, format) in
        [(Table::Gpt, Format::Raw), (Table::Gpt, Format::Qcow2), (Table::Mbr, Format::Vmdk)]
    {
        let image = container::write(format, &layout(table), Cursor::new(Vec::new())).unwrap();
        let report = dump::inspect(image, &Limits::default()).unwrap();
        insta::assert_snapshot!(format!("{table}-{format}"), report.to_string());
    }
}

#[test]
fn a_volume_without_a_table() {
    let mut options = Options::default();
    options.hidden_sectors = 0;
    let volume = Volume::plan(&Tree::new(), &options).unwrap();
    let image = container::write(Format::Raw, &volume, Cursor::new(Vec::new())).unwrap();
    let report = dump::inspect(image, &Limits::default()).unwrap();
    insta::assert_snapshot!(report.to_string(), @r#"
    raw image, disk of 33304 KiB, 33304 KiB stored
    FAT32 0000-0001, made by "MSWIN4.1", 33304 KiB, clusters of 512 bytes, 33558016 bytes free
    "#);
    let empty = dump::inspect(Cursor::new(Vec::new()), &Limits::default()).unwrap();
    insta::assert_snapshot!(empty.to_string(), @r"
    raw image, disk of 0 bytes, 0 bytes stored
    no partition table and no known file system
    ");
}

#[test]
fn a_map() {
    let image = container::write(Format::Raw, &layout(Table::Gpt), Cursor::new(Vec::new()));
    let report = dump::inspect(image.unwrap(), &Limits::default()).unwrap();
    insta::assert_snapshot!(report.svg());
}

#[cfg(feature = "serde")]
#[test]
fn a_report_as_json() {
    let image = container::write(Format::Qcow2, &layout(Table::Gpt), Cursor::new(Vec::new()));
    let report = dump::inspect(image.unwrap(), &Limits::default()).unwrap();
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["container"], "qcow2");
    assert_eq!(json["table"]["kind"], "gpt");
    assert_eq!(json["table"]["partitions"][0]["kind"], "efi-system");
    let files = &json["table"]["partitions"][0]["file_system"]["files"];
    assert_eq!(files[2]["path"], "EFI/BOOT/BOOTX64.EFI");
    assert_eq!(files[2]["len"], 70_000);
}
