//! What a disk should be, and the layout that follows from it.
//!
//! A [`DiskPlan`] says what is wanted, a [`Layout`] says where every byte goes. Everything that
//! cannot work is found on the way from the one to the other, all at once, before a byte is
//! written.

use std::fmt;
use std::sync::Arc;

use crate::content::{Content, Sink, and_largest};
use crate::error::Problems;
use crate::gpt::{self, Entry, PartitionType};
use crate::guid::{Guid, Seed};
use crate::mbr::{self, Mbr};
use crate::units::{ByteLen, Lba, SECTOR};
use crate::{Error, Result};

/// Which partition table a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Table {
    /// GUID partition table with a protective MBR.
    #[default]
    Gpt,
    /// Master boot record: four primary partitions, 2 TiB.
    Mbr,
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Gpt => "gpt",
            Self::Mbr => "mbr",
        })
    }
}

/// How large a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Size {
    /// So many bytes, rounded up to sectors.
    Fixed(ByteLen),
    /// As large as its content and so much more.
    FromContent {
        /// Bytes beyond the content.
        headroom: ByteLen,
    },
    /// All that is left of the disk; only the last partition can have it.
    Rest,
}

/// One partition of a plan.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Partition {
    /// Its name, at most 36 UTF-16 units; an MBR disk does not store it.
    pub name: String,
    /// What it is for.
    pub kind: PartitionType,
    /// Its identifier; derived from the seed when absent.
    pub guid: Option<Guid>,
    /// Where it begins; the next aligned free sector when absent.
    pub start: Option<Lba>,
    /// How large it is.
    pub size: Size,
    /// GPT attribute bits beyond those that `bootable` sets.
    pub attributes: u64,
    /// Whether boot code in the MBR should start it: the legacy BIOS bootable attribute (GPT) or
    /// the active flag (MBR).
    pub bootable: bool,
    /// Whether the MBR of a GPT disk has it too (a hybrid MBR), for firmware that knows no GPT; at
    /// most three partitions. Default: no.
    pub in_mbr: bool,
    /// What is in it, from its first byte; zeroes when absent and after it.
    pub content: Option<Arc<dyn Content>>,
}

impl Partition {
    /// A partition as large as its content.
    #[must_use]
    pub fn new(name: &str, kind: PartitionType, content: impl Content + 'static) -> Self {
        let content: Arc<dyn Content> = Arc::new(content);
        let size = Size::FromContent { headroom: ByteLen::ZERO };
        Self { content: Some(content), ..Self::empty(name, kind, size) }
    }

    /// A partition of zeroes.
    #[must_use]
    pub fn empty(name: &str, kind: PartitionType, size: Size) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            guid: None,
            start: None,
            size,
            attributes: 0,
            bootable: false,
            in_mbr: false,
            content: None,
        }
    }

    /// The same, of another size.
    #[must_use]
    pub fn sized(mut self, size: Size) -> Self {
        self.size = size;
        self
    }

    /// The same, started by boot code.
    #[must_use]
    pub fn bootable(mut self) -> Self {
        self.bootable = true;
        self
    }

    fn content_len(&self) -> u64 {
        self.content.as_ref().map_or(0, Content::len)
    }
}

/// What a disk should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct DiskPlan {
    /// Length of the disk; just large enough when absent.
    pub size: Option<ByteLen>,
    /// Which table it has. Default: GPT.
    pub table: Table,
    /// What partitions begin at a multiple of, and what a size that is not given is rounded up to.
    /// Default: 1 MiB.
    pub alignment: ByteLen,
    /// What identifiers are derived from.
    pub seed: Seed,
    /// The GPT disk's identifier; from the seed when absent.
    pub disk_guid: Option<Guid>,
    /// The MBR disk's signature; from the seed when absent.
    pub signature: Option<u32>,
    /// The partitions, in the order of the table.
    pub partitions: Vec<Partition>,
    /// What BIOS starts, 440 bytes; none by default.
    pub boot_code: Option<[u8; mbr::BOOT_CODE_LEN]>,
}

impl Default for DiskPlan {
    fn default() -> Self {
        Self {
            size: None,
            table: Table::Gpt,
            alignment: ByteLen::mib(1),
            seed: Seed::default(),
            disk_guid: None,
            signature: None,
            partitions: Vec::new(),
            boot_code: None,
        }
    }
}

/// A partition with its place.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Placed {
    /// What was planned.
    pub partition: Partition,
    /// Its identifier (GPT).
    pub guid: Guid,
    /// First sector.
    pub first: Lba,
    /// How many sectors.
    pub sectors: u64,
}

/// Where every byte of a disk goes. It is a [`Content`]: any container can hold it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Layout {
    /// Length of the disk.
    pub len: ByteLen,
    /// Which table it has.
    pub table: Table,
    /// The GPT disk's identifier.
    pub disk_guid: Guid,
    /// The MBR disk's signature.
    pub signature: u32,
    /// The partitions, in the order of the table.
    pub partitions: Vec<Placed>,
    head: Vec<u8>,
    tail: Vec<u8>,
}

impl DiskPlan {
    /// A plan for a disk with such a table, with identifiers from such a seed.
    #[must_use]
    pub fn new(table: Table, seed: Seed) -> Self {
        Self { table, seed, ..Self::default() }
    }

    /// The same with one partition more.
    #[must_use]
    pub fn with(mut self, partition: Partition) -> Self {
        self.partitions.push(partition);
        self
    }

    /// Finds a place for everything.
    ///
    /// # Errors
    /// [`Error::Plan`] with all problems at once.
    pub fn layout(&self) -> Result<Layout> {
        let mut problems = Problems(Vec::new());
        self.check(&mut problems.0);
        let ranges = self.place(&mut problems.0);
        problems.check("disk")?;
        let (ranges, sectors) = ranges;
        let disk_guid = self.disk_guid.unwrap_or_else(|| self.seed.guid("disk"));
        let signature = self.signature.unwrap_or_else(|| self.seed.number("disk"));
        let partitions: Vec<Placed> = (1..)
            .zip(&self.partitions)
            .zip(ranges)
            .map(|((number, partition), (first, sectors)): ((u32, _), _)| Placed {
                partition: partition.clone(),
                guid: partition
                    .guid
                    .unwrap_or_else(|| self.seed.guid(&format!("partition {number}"))),
                first: Lba(first),
                sectors,
            })
            .collect();
        let boot_code = self.boot_code.unwrap_or([0; mbr::BOOT_CODE_LEN]);
        let (head, tail) = match self.table {
            Table::Gpt => {
                let entries: Vec<Entry> = partitions.iter().map(Placed::entry).collect();
                let gpt::Tables { mut head, tail } = gpt::emit(sectors, disk_guid, &entries)?;
                let mbr = hybrid_mbr(Mbr::protective(boot_code, sectors), &partitions, signature);
                crate::field::put(&mut head, 0, &mbr.emit());
                (head, tail)
            }
            Table::Mbr => {
                let mut table = Mbr { boot_code, signature, entries: [None; mbr::ENTRIES] };
                for (slot, placed) in table.entries.iter_mut().zip(&partitions) {
                    *slot = Some(mbr::Entry {
                        active: placed.partition.bootable,
                        kind: placed.partition.kind.byte.unwrap_or(0),
                        first: crate::field::narrow32(placed.first.0),
                        sectors: crate::field::narrow32(placed.sectors),
                    });
                }
                (table.emit().to_vec(), Vec::new())
            }
        };
        let len = ByteLen(sectors.saturating_mul(SECTOR));
        Ok(Layout { len, table: self.table, disk_guid, signature, partitions, head, tail })
    }

    fn check(&self, problems: &mut Vec<String>) {
        let alignment = self.alignment.0;
        if alignment == 0 || !alignment.is_multiple_of(SECTOR) {
            problems.push(format!("the alignment of {alignment} bytes is no multiple of {SECTOR}"));
        }
        if let Some(size) = self.size.filter(|size| !size.0.is_multiple_of(SECTOR)) {
            problems.push(format!("the disk's size of {size} is no multiple of {SECTOR} bytes"));
        }
        let most = match self.table {
            Table::Gpt => gpt::MAX_ENTRIES,
            Table::Mbr => mbr::ENTRIES,
        };
        if self.partitions.len() > most {
            let count = self.partitions.len();
            problems.push(format!("{count} partitions, but a {} table holds {most}", self.table));
        }
        let active = self.partitions.iter().filter(|partition| partition.bootable).count();
        if self.table == Table::Mbr && active > 1 {
            problems.push(format!("{active} partitions are bootable, an mbr table allows one"));
        }
        let mirrored = self.partitions.iter().filter(|partition| partition.in_mbr);
        let (count, active) =
            mirrored.fold((0, 0), |(n, m), it| (n + 1, m + usize::from(it.bootable)));
        if self.table == Table::Gpt && count >= mbr::ENTRIES {
            problems.push(format!(
                "{count} partitions are to be in the MBR too, beside the protective entry it holds 3"
            ));
        }
        if self.table == Table::Gpt && active > 1 {
            problems.push(format!("{active} partitions in the MBR are bootable, it allows one"));
        }
        for (at, partition) in self.partitions.iter().enumerate() {
            let named = self.named(at);
            if partition.in_mbr && partition.kind.byte.is_none() {
                let kind = partition.kind;
                problems.push(format!("{named}: type {kind} has no byte for the MBR"));
            }
            let units = partition.name.encode_utf16().count();
            if units > gpt::NAME_UNITS && self.table == Table::Gpt {
                let most = gpt::NAME_UNITS;
                problems
                    .push(format!("{named}: its name has {units} UTF-16 units, at most {most}"));
            }
            if partition.name.chars().any(char::is_control) {
                problems.push(format!("{named}: its name has control characters"));
            }
            let kind = partition.kind;
            match self.table {
                Table::Gpt if kind.guid.is_none() => {
                    problems.push(format!("{named}: type {kind} has no GUID for a gpt table"));
                }
                Table::Mbr if kind.byte.is_none() => {
                    problems.push(format!("{named}: type {kind} has no byte for an mbr table"));
                }
                _ => {}
            }
            if partition.size == Size::Rest && at + 1 < self.partitions.len() {
                problems.push(format!("{named}: only the last partition can take the rest"));
            }
        }
    }

    fn named(&self, at: usize) -> String {
        let name = self.partitions.get(at).map_or("", |partition| &partition.name);
        let name: String = name.chars().take(72).collect();
        format!("partition {} {name:?}", at + 1)
    }

    /// The sectors of every partition and of the disk.
    fn place(&self, problems: &mut Vec<String>) -> (Vec<(u64, u64)>, u64) {
        let unit = self.alignment.sectors().max(1);
        let (head, tail) = match self.table {
            Table::Gpt => (gpt::HEAD_SECTORS, gpt::TAIL_SECTORS),
            Table::Mbr => (1, 0),
        };
        let last_free = self.size.map(|size| (size.0 / SECTOR).saturating_sub(tail));
        let mut next = head;
        let mut used: Vec<(u64, u64, usize)> = Vec::new();
        let mut ranges = Vec::new();
        for (at, partition) in self.partitions.iter().enumerate() {
            let named = self.named(at);
            let content = ByteLen(partition.content_len());
            let aligned = next.checked_next_multiple_of(unit).unwrap_or(u64::MAX);
            let first = partition.start.map_or(aligned, |start| start.0);
            if first < head {
                problems.push(format!("{named}: it begins at LBA {first}, inside of the table"));
            }
            if !first.is_multiple_of(unit) && first != u64::MAX {
                let unit = self.alignment;
                problems.push(format!("{named}: LBA {first} is no multiple of {unit}"));
            }
            let sectors = match partition.size {
                Size::Fixed(size) => size.sectors(),
                Size::FromContent { headroom } => {
                    content.checked_add(headroom).map_or(u64::MAX, ByteLen::sectors)
                }
                Size::Rest => match last_free {
                    // What is not a multiple of the alignment at the end stays free.
                    Some(end) => end.saturating_sub(first) / unit * unit,
                    None => content.sectors(),
                },
            };
            if sectors < content.sectors() {
                let missing = content.sectors().saturating_sub(sectors).saturating_mul(SECTOR);
                let raise = match partition.size {
                    Size::Rest => "the disk's size",
                    _ => "the partition's size",
                };
                let files = partition.content.as_ref().map(|it| it.largest_files());
                problems.push(format!(
                    "{named}: its content is {missing} bytes longer than its {}; raise {raise}{}",
                    ByteLen(sectors.saturating_mul(SECTOR)),
                    and_largest(&files.unwrap_or_default())
                ));
            } else if sectors == 0 {
                problems.push(format!("{named}: it has no sectors"));
            }
            if let Some(expected) = partition.content.as_ref().and_then(|it| it.placed_at())
                && expected.0 != first
            {
                problems.push(format!(
                    "{named}: its content was made to begin at {expected} and would be at LBA {first}"
                ));
            }
            let end = first.saturating_add(sectors);
            if sectors > 0 {
                for (start, stop, other) in &used {
                    if first < *stop && *start < end {
                        let other = self.named(*other);
                        problems.push(format!("{named}: it overlaps {other}"));
                    }
                }
                used.push((first, end, at));
            }
            next = next.max(end);
            ranges.push((first, sectors));
        }
        for (at, (partition, (first, sectors))) in self.partitions.iter().zip(&ranges).enumerate() {
            let end = first.saturating_add(*sectors);
            if self.table == Table::Gpt && partition.in_mbr && end > mbr::MAX_SECTORS {
                let named = self.named(at);
                problems.push(format!("{named}: it ends beyond the 2 TiB that the MBR reaches"));
            }
        }
        // A GPT needs one sector between its tables.
        let needed = next.max(head + 1).saturating_add(tail);
        let sectors = match self.size {
            Some(size) => {
                let sectors = size.0 / SECTOR;
                if needed > sectors {
                    problems.push(format!(
                        "the disk of {size} is {} bytes too small for its partitions and table; \
                         raise its size to {}",
                        needed.saturating_sub(sectors).saturating_mul(SECTOR),
                        needed.saturating_mul(SECTOR)
                    ));
                }
                sectors
            }
            None => needed.checked_next_multiple_of(unit).unwrap_or(u64::MAX),
        };
        if sectors > u64::MAX / SECTOR {
            problems.push("the disk would be longer than 2^64 bytes".to_owned());
        }
        if self.table == Table::Mbr && next > mbr::MAX_SECTORS {
            problems.push("an mbr table reaches no further than 2 TiB; use gpt".to_owned());
        }
        (ranges, sectors)
    }
}

/// The partitions that the MBR has too, after a protective entry that ends before the first of
/// them: entries must not overlap.
fn hybrid_mbr(mut mbr: Mbr, partitions: &[Placed], signature: u32) -> Mbr {
    let mirrored = partitions.iter().filter(|placed| placed.partition.in_mbr);
    let Some(first) = mirrored.clone().map(|placed| placed.first.0).min() else { return mbr };
    let mut slots = mbr.entries.iter_mut();
    if let Some(Some(protective)) = slots.next() {
        protective.sectors = crate::field::narrow32(first.saturating_sub(1));
    }
    for (slot, placed) in slots.zip(mirrored) {
        *slot = Some(mbr::Entry {
            active: placed.partition.bootable,
            kind: placed.partition.kind.byte.unwrap_or(0),
            first: crate::field::narrow32(placed.first.0),
            sectors: crate::field::narrow32(placed.sectors),
        });
    }
    mbr.signature = signature;
    mbr
}

impl Layout {
    /// What is before the partitions: the table, after the first sector.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head
    }

    /// What is at the end of the disk.
    pub(crate) fn tail(&self) -> &[u8] {
        &self.tail
    }
}

impl Placed {
    fn entry(&self) -> Entry {
        let partition = &self.partition;
        let boot = if partition.bootable { gpt::LEGACY_BIOS_BOOTABLE } else { 0 };
        Entry {
            kind: partition.kind.guid.unwrap_or(Guid::NIL),
            guid: self.guid,
            first: self.first.0,
            last: self.first.0.saturating_add(self.sectors.saturating_sub(1)),
            attributes: partition.attributes | boot,
            name: partition.name.clone(),
        }
    }
}

impl Content for Layout {
    fn len(&self) -> u64 {
        self.len.0
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(&self.head)?;
        let mut position = self.head.len() as u64;
        let mut in_order: Vec<&Placed> = self.partitions.iter().collect();
        in_order.sort_by_key(|placed| placed.first);
        let overlap = || Error::malformed("disk layout", 0, "partitions overlap");
        for placed in in_order {
            let Some(content) = &placed.partition.content else { continue };
            let start = placed.first.0.saturating_mul(SECTOR);
            sink.hole(start.checked_sub(position).ok_or_else(overlap)?)?;
            content.write_to(sink)?;
            position = start.saturating_add(content.len());
        }
        let tail = self.len.0.saturating_sub(self.tail.len() as u64);
        sink.hole(tail.checked_sub(position).ok_or_else(overlap)?)?;
        sink.data(&self.tail)
    }
}
