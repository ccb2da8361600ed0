//! Reports as disks that can be drawn.

use kiln_diskimg::boot::uki;
use kiln_diskimg::{ByteLen, SECTOR, dump};

use crate::picture::{Disk, Partition};

/// A disk's partitions, or the one file system that it is.
pub(super) fn of_disk(report: &dump::Report, name: &str) -> Disk {
    let name = format!("{name} ({})", report.container);
    let mut partitions: Vec<Partition> = Vec::new();
    let label = |volume: &dump::FileSystem| volume.label.clone().unwrap_or_default();
    for it in report.table.iter().flat_map(|table| &table.partitions) {
        let (contents, free, volume) = match &it.file_system {
            Some(volume) => (format!("{}, {}", it.kind, volume.kind), volume.free, label(volume)),
            None => (it.kind.clone(), None, String::new()),
        };
        let own = if it.name.is_empty() { volume } else { it.name.clone() };
        partitions.push(Partition {
            name: if own.is_empty() { format!("partition {}", it.number) } else { own },
            kind: contents,
            start: ByteLen(it.first.0.saturating_mul(SECTOR)),
            len: ByteLen(it.sectors.saturating_mul(SECTOR)),
            free,
        });
    }
    if let Some(volume) = &report.file_system {
        partitions.push(Partition {
            name: label(volume),
            kind: volume.kind.clone(),
            start: ByteLen::ZERO,
            len: volume.len.unwrap_or(report.len),
            free: volume.free,
        });
    }
    // A hybrid's partition is the volume already.
    if let Some(iso) = report.iso.as_ref().filter(|_| report.table.is_none()) {
        partitions.push(Partition {
            name: iso.label.clone(),
            kind: "ISO 9660".to_owned(),
            start: ByteLen::ZERO,
            len: iso.len,
            free: None,
        });
    }
    Disk { name, len: report.len, partitions }
}

/// An executable's sections.
pub(super) fn of_executable(report: &uki::Report, name: &str) -> Disk {
    let sections = report.sections.iter().map(|it| {
        let content = it.section.content();
        Partition {
            name: it.section.name.clone(),
            kind: "section".to_owned(),
            start: ByteLen(content.start),
            len: ByteLen(content.end.saturating_sub(content.start)),
            free: None,
        }
    });
    let partitions: Vec<Partition> = sections.collect();
    let ends = partitions.iter().map(|it| it.start.0.saturating_add(it.len.0));
    let len = ends.max().unwrap_or(0).saturating_add(report.certificates);
    Disk { name: name.to_owned(), len: ByteLen(len), partitions }
}
