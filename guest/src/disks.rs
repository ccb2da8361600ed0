//! The disks of the machine, and partitions of them by their identifiers.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use kiln_diskimg::{Guid, Limits, gpt};

const CLASS: &str = "/sys/class/block";
const DEV: &str = "/dev";

/// Disks, not partitions of them, in order of name.
pub(crate) fn whole() -> Vec<PathBuf> {
    whole_in(Path::new(CLASS), Path::new(DEV))
}

fn whole_in(class: &Path, dev: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(class).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let path = entry.path();
            let size = fs::read_to_string(path.join("size")).unwrap_or_default();
            !path.join("partition").exists() && !matches!(size.trim(), "" | "0")
        })
        .map(|entry| dev.join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// All partitions of all disks, in order of name.
pub(crate) fn partitions() -> Vec<PathBuf> {
    let entries = fs::read_dir(CLASS).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| entry.path().join("partition").exists())
        .map(|entry| Path::new(DEV).join(entry.file_name()))
        .collect();
    found.sort();
    found
}

/// The partition that a table gives this identifier, on the first disk that has one.
pub(crate) fn partition(guid: Guid) -> Option<PathBuf> {
    partition_in(Path::new(CLASS), Path::new(DEV), guid)
}

fn partition_in(class: &Path, dev: &Path, guid: Guid) -> Option<PathBuf> {
    let limits = Limits::default();
    whole_in(class, dev).into_iter().find_map(|disk| {
        let table = gpt::read_device(&mut File::open(&disk).ok()?, &limits).ok()?;
        let (number, _) = table.entries.iter().find(|(_, entry)| entry.guid == guid)?;
        let of_disk = class.join(disk.file_name()?);
        let entries = fs::read_dir(of_disk).ok()?.flatten();
        let mut names = entries.filter(|entry| {
            let text = fs::read_to_string(entry.path().join("partition")).unwrap_or_default();
            text.trim() == number.to_string()
        });
        Some(dev.join(names.next()?.file_name()))
    })
}

/// The attributes that a table gives to a partition.
pub(crate) fn attributes(partition: &Path) -> Option<u64> {
    attributes_in(Path::new(CLASS), Path::new(DEV), partition)
}

fn attributes_in(class: &Path, dev: &Path, partition: &Path) -> Option<u64> {
    let name = partition.file_name()?;
    let number = fs::read_to_string(class.join(name).join("partition")).ok()?;
    whole_in(class, dev).into_iter().find_map(|disk| {
        if !class.join(disk.file_name()?).join(name).exists() {
            return None;
        }
        let table = gpt::read_device(&mut File::open(&disk).ok()?, &Limits::default()).ok()?;
        let mut entries = table.entries.iter();
        let (_, entry) = entries.find(|(at, _)| at.to_string() == number.trim())?;
        Some(entry.attributes)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_diskimg::gpt::PartitionType;
    use kiln_diskimg::{ByteLen, DiskPlan, Partition, Seed, Size, Table, container};

    #[test]
    fn disks_with_a_size_and_partitions_by_their_identifier() {
        let dir = tempfile::tempdir().unwrap();
        let (class, dev) = (dir.path().join("class"), dir.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        for (name, files) in [
            ("vda", &[("size", "2048\n")][..]),
            ("vda1", &[("size", "100\n"), ("partition", "1\n")]),
            ("vdb", &[("size", "4096\n")]),
            ("vdb/vdb1", &[("size", "1\n"), ("partition", "1\n")]),
            ("vdb/vdb2", &[("size", "1\n"), ("partition", "2\n")]),
            ("sr0", &[("size", "0\n")]),
        ] {
            fs::create_dir_all(class.join(name)).unwrap();
            for (file, text) in files {
                fs::write(class.join(name).join(file), text).unwrap();
            }
        }
        assert_eq!(whole_in(&class, &dev), [dev.join("vda"), dev.join("vdb")]);

        let size = Size::Fixed(ByteLen::mib(1));
        let mut plan = DiskPlan::new(Table::Gpt, Seed::new("test"));
        for name in ["one", "two"] {
            plan = plan.with(Partition::empty(name, PartitionType::LINUX, size));
        }
        let layout = plan.layout().unwrap();
        container::write_file(container::Format::Raw, &layout, dev.join("vdb")).unwrap();
        fs::write(dev.join("vda"), "no table").unwrap();
        let second = layout.partitions[1].guid;
        assert_eq!(partition_in(&class, &dev, second), Some(dev.join("vdb2")));
        assert_eq!(partition_in(&class, &dev, Guid::NIL), None);

        // As in /sys, where partitions are below their disk and by themselves.
        fs::create_dir_all(class.join("vdb2")).unwrap();
        fs::write(class.join("vdb2/partition"), "2\n").unwrap();
        assert_eq!(attributes_in(&class, &dev, &dev.join("vdb2")), Some(0));
        assert_eq!(attributes_in(&class, &dev, &dev.join("vdb")), None);
    }
}
