//! Space that a disk has won since its image was made: where the disk's table asks for it, the last
//! partition and the file system in it take all of it, while they are in use.
//!
//! The table asks with the partition's attribute "grow-file-system" of the Discoverable Partitions
//! Specification. On a disk that is as long as its table says, nothing is written.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::path::Path;

use kiln_diskimg::gpt::{self, Extend, GROW_FILE_SYSTEM};
use kiln_diskimg::{Limits, SECTOR};
use kiln_supervisor::pid1::grow;

use crate::console::tell;
use crate::disks;

fn say(what: impl std::fmt::Display) {
    tell("grow", what);
}

/// Lets the last partition of every disk that has grown reach to its end, before anything of it is
/// mounted. What cannot be done is told, and all stays as it was.
pub(crate) fn partitions() {
    for disk in disks::whole() {
        match partition(&disk) {
            Ok(Some(grown)) => {
                let (number, len) = (grown.number, (grown.last - grown.first + 1) * SECTOR);
                say(format_args!("partition {number} of {} has {len} bytes", disk.display()));
                if let Err(problem) =
                    grow::partition(&disk, number, grown.first, grown.last - grown.first + 1)
                {
                    say(problem);
                }
            }
            Ok(None) => {}
            Err(problem) => say(format_args!("{}: {problem}", disk.display())),
        }
    }
}

fn partition(disk: &Path) -> Result<Option<gpt::Extended>, String> {
    let limits = Limits::default();
    let Ok(mut file) = File::open(disk) else { return Ok(None) };
    let Ok(table) = gpt::read_device(&mut file, &limits) else { return Ok(None) };
    let last = table.entries.iter().max_by_key(|(_, entry)| entry.last);
    let Some((number, entry)) = last.filter(|(_, it)| it.attributes & GROW_FILE_SYSTEM != 0) else {
        return Ok(None);
    };
    let before = entry.last;
    let len = file.seek(SeekFrom::End(0)).map_err(|error| error.to_string())?;
    // Where the backup of the table is, the disk ends.
    if table.header.own_lba.max(table.header.other_lba) == (len / SECTOR).saturating_sub(1) {
        return Ok(None);
    }
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(disk)
        .map_err(|error| format!("open for writing: {error}"))?;
    let grown = gpt::grow(&mut file, &limits, Extend::Partition(*number));
    let grown = grown.map_err(|error| error.to_string())?;
    file.sync_all().map_err(|error| error.to_string())?;
    Ok(grown.extended.filter(|extended| extended.last > before))
}

/// Lets the file system that is mounted there have all of its device, if the partition that it is in
/// asks for it.
pub(crate) fn file_system(device: &Path, mounted: &Path) {
    if disks::attributes(device).is_some_and(|attributes| attributes & GROW_FILE_SYSTEM != 0) {
        whole(mounted);
    }
}

/// Lets the file system that is mounted there have all of its device.
pub(crate) fn whole(mounted: &Path) {
    match grow::file_system(mounted) {
        Ok(Some(grown)) => say(format_args!("{}: {grown}", mounted.display())),
        Ok(None) => {}
        Err(problem) => say(problem),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_diskimg::gpt::PartitionType;
    use kiln_diskimg::{ByteLen, DiskPlan, Partition, Seed, Size, Table, container};

    #[test]
    fn a_disk_that_grew_is_used_where_its_table_asks_for_it_and_once() {
        let dir = tempfile::tempdir().unwrap();
        for asks in [true, false] {
            let size = Size::Fixed(ByteLen::mib(1));
            let mut last = Partition::empty("data", PartitionType::LINUX, size);
            last.attributes = if asks { GROW_FILE_SYSTEM } else { 0 };
            let plan = DiskPlan::new(Table::Gpt, Seed::new("grow"))
                .with(Partition::empty("esp", PartitionType::EFI_SYSTEM, size))
                .with(last);
            let path = dir.path().join("disk");
            let layout = plan.layout().unwrap();
            container::write_file(container::Format::Raw, &layout, &path).unwrap();
            assert_eq!(partition(&path), Ok(None), "it has not grown");
            let file = OpenOptions::new().write(true).open(&path).unwrap();
            file.set_len(layout.len.0 + (8 << 20)).unwrap();
            let grown = partition(&path).unwrap();
            assert_eq!(grown.is_some(), asks);
            if let Some(grown) = grown {
                assert_eq!((grown.number, ((grown.last - grown.before) * SECTOR) >> 20), (2, 8));
            }
            assert_eq!(partition(&path), Ok(None), "once is enough");
        }
        std::fs::write(dir.path().join("none"), "no disk").unwrap();
        assert_eq!(partition(&dir.path().join("none")), Ok(None));
    }
}
