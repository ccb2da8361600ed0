//! Directories and path tables of one of the two trees of an image.
//!
//! Records are made before it is known where anything will be; the places where sectors belong are
//! remembered and filled in at the end.

use super::names::sort_key;
use super::numbers::{both16, both32, short_date};
use super::outline::{Directory, Outline, What};
use super::rock_ridge::{CE_LEN, CE_SECTOR, Continuation, Entries, Type};
use super::{MAX_EXTENT, SECTOR_LEN};
use crate::field::{index, narrow16, narrow32, put};

/// Bytes of a record before its identifier.
const RECORD: usize = 33;
/// The longest record: its length has 8 bits and is even.
const MOST: usize = 254;
const FLAG_DIRECTORY: u8 = 0x02;
const FLAG_MORE_EXTENTS: u8 = 0x80;
/// Path tables name a parent in 16 bits.
pub(super) const MAX_DIRECTORIES: usize = 65_535;

/// One of the two trees.
pub(super) struct Hierarchy {
    /// In the order of the path table; the root first.
    directories: Vec<Built>,
    /// Where in that order a directory of the outline is.
    order: Vec<usize>,
}

struct Built {
    identifier: Vec<u8>,
    /// Its parent's place in the order.
    parent: usize,
    /// Whole sectors.
    records: Vec<u8>,
    continuation: Continuation,
    /// `CE` entries of the records, as those of the continuation.
    links: Vec<(usize, u32)>,
    /// Where in the records an extent is to be filled in, and whose.
    extents: Vec<(usize, Target)>,
    /// First sector; 0 until it has one.
    sector: u64,
}

#[derive(Clone, Copy)]
enum Target {
    /// By its number in the outline.
    Directory(usize),
    /// By its number and the sectors before this extent of it.
    File(usize, u64),
}

impl Built {
    fn continuation_sectors(&self) -> u64 {
        (self.continuation.bytes.len() as u64).div_ceil(super::SECTOR)
    }

    fn sectors(&self) -> u64 {
        self.records.len() as u64 / super::SECTOR + self.continuation_sectors()
    }
}

/// What one of the two trees is like.
pub(super) struct Form<'a> {
    /// The identifiers of a directory's items, in their order.
    pub(super) identifiers: &'a [Vec<Vec<u8>>],
    pub(super) joliet: bool,
    pub(super) rock_ridge: bool,
}

impl Hierarchy {
    /// Makes all records.
    pub(super) fn new(outline: &Outline<'_>, form: &Form<'_>) -> Self {
        let mut order = vec![0; outline.directories.len()];
        let mut directories: Vec<Built> = Vec::with_capacity(outline.directories.len());
        // By level, in a level by the parent, then by identifier (ECMA-119 6.9.1).
        let mut level: Vec<(usize, usize, Vec<u8>)> = vec![(0, 0, vec![0])];
        while !level.is_empty() {
            let mut next = Vec::new();
            for (number, parent, identifier) in level {
                let Some(directory) = outline.directories.get(number) else { continue };
                let place = directories.len();
                if let Some(slot) = order.get_mut(number) {
                    *slot = place;
                }
                let names = form.identifiers.get(number).map_or(&[][..], Vec::as_slice);
                let mut items: Vec<usize> = (0..directory.items.len().min(names.len()))
                    .filter(|at| {
                        let what = directory.items.get(*at).map(|item| item.what);
                        // Joliet has neither links nor devices; they are left out of it.
                        !form.joliet || matches!(what, Some(What::Directory(_) | What::File(_)))
                    })
                    .collect();
                items.sort_by_key(|at| {
                    names.get(*at).map_or(&[][..], |name| sort_key(name, form.joliet))
                });
                for at in &items {
                    if let (Some(item), Some(name)) = (directory.items.get(*at), names.get(*at))
                        && let What::Directory(below) = item.what
                    {
                        next.push((below, place, name.clone()));
                    }
                }
                let mut builder = Builder::new(outline, form.rock_ridge);
                builder.directory(number, directory, &items, names);
                directories.push(builder.finish(parent, identifier));
            }
            level = next;
        }
        Self { directories, order }
    }

    /// Sectors of all directories.
    pub(super) fn sectors(&self) -> u64 {
        self.directories.iter().map(Built::sectors).sum()
    }

    /// Sectors of one path table.
    pub(super) fn path_table_sectors(&self) -> u64 {
        self.path_table_len().div_ceil(super::SECTOR)
    }

    /// Bytes of one path table.
    pub(super) fn path_table_len(&self) -> u64 {
        let len = |directory: &Built| 8 + directory.identifier.len().next_multiple_of(2) as u64;
        self.directories.iter().map(len).sum()
    }

    /// Puts the directories one after the other from a sector on.
    pub(super) fn place(&mut self, first: u64) {
        let mut next = first;
        for directory in &mut self.directories {
            directory.sector = next;
            next += directory.sectors();
        }
    }

    /// A path table, whose numbers have one of the two byte orders (ECMA-119 9.4).
    pub(super) fn path_table(&self, big_endian: bool) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(index(self.path_table_len()));
        for directory in &self.directories {
            let len = directory.identifier.len();
            let sector = narrow32(directory.sector);
            let parent = narrow16(directory.parent as u64 + 1);
            bytes.extend_from_slice(&[u8::try_from(len).unwrap_or(u8::MAX), 0]);
            if big_endian {
                bytes.extend_from_slice(&sector.to_be_bytes());
                bytes.extend_from_slice(&parent.to_be_bytes());
            } else {
                bytes.extend_from_slice(&sector.to_le_bytes());
                bytes.extend_from_slice(&parent.to_le_bytes());
            }
            bytes.extend_from_slice(&directory.identifier);
            if !len.is_multiple_of(2) {
                bytes.push(0);
            }
        }
        bytes
    }

    /// Sector and bytes of a directory of the outline.
    fn extent(&self, number: usize) -> (u32, u32) {
        let place = self.order.get(number).copied().unwrap_or(0);
        self.directories.get(place).map_or((0, 0), |directory| {
            (narrow32(directory.sector), narrow32(directory.records.len() as u64))
        })
    }

    /// The record of the root that a volume descriptor holds.
    pub(super) fn root_record(&self, mtime: u32) -> Vec<u8> {
        let (sector, len) = self.extent(0);
        let mut record = Vec::with_capacity(34);
        push_record(&mut record, &[0], len, mtime, FLAG_DIRECTORY, &[], &[]);
        put(&mut record, 2, &both32(sector));
        record
    }

    /// Appends all directories; `files` are the first sectors of the outline's files.
    pub(super) fn write(&self, files: &[u64], out: &mut Vec<u8>) {
        for directory in &self.directories {
            let start = out.len();
            out.extend_from_slice(&directory.records);
            let area = out.len();
            out.extend_from_slice(&directory.continuation.bytes);
            out.resize(area + index(directory.continuation_sectors()) * SECTOR_LEN, 0);
            for (at, target) in &directory.extents {
                let at = start + at;
                match *target {
                    Target::Directory(number) => {
                        let (sector, len) = self.extent(number);
                        put(out, at, &both32(sector));
                        put(out, at + 8, &both32(len));
                    }
                    Target::File(number, before) => {
                        let sector = files.get(number).map_or(0, |first| first + before);
                        put(out, at, &both32(narrow32(sector)));
                    }
                }
            }
            let area_sector = directory.sector + directory.records.len() as u64 / super::SECTOR;
            let links = directory.links.iter().map(|(at, sector)| (start + at, *sector));
            let inner = directory.continuation.links.iter();
            for (at, sector) in links.chain(inner.map(|(at, sector)| (area + at, *sector))) {
                put(out, at, &both32(narrow32(area_sector + u64::from(sector))));
            }
        }
    }
}

struct Builder<'a> {
    outline: &'a Outline<'a>,
    rock_ridge: bool,
    entries: Entries,
    records: Vec<u8>,
    continuation: Continuation,
    links: Vec<(usize, u32)>,
    extents: Vec<(usize, Target)>,
}

impl<'a> Builder<'a> {
    fn new(outline: &'a Outline<'a>, rock_ridge: bool) -> Self {
        Self {
            outline,
            rock_ridge,
            entries: Entries::default(),
            records: Vec::new(),
            continuation: Continuation::default(),
            links: Vec::new(),
            extents: Vec::new(),
        }
    }

    fn directory(
        &mut self,
        number: usize,
        directory: &Directory<'_>,
        items: &[usize],
        names: &[Vec<u8>],
    ) {
        for (identifier, other) in [(0, number), (1, directory.parent)] {
            let Some(meant) = self.outline.directories.get(other) else { continue };
            self.entries.clear();
            if self.rock_ridge {
                let is_first = number == 0 && identifier == 0;
                if is_first {
                    self.entries.sharing();
                }
                self.of_directory(meant);
                if is_first {
                    self.entries.reference();
                }
            }
            let mtime = meant.meta.mtime;
            self.record(&[identifier], 0, mtime, FLAG_DIRECTORY, Some(Target::Directory(other)));
        }
        for at in items {
            let (Some(item), Some(identifier)) = (directory.items.get(*at), names.get(*at)) else {
                continue;
            };
            let mtime = item.meta.mtime;
            self.entries.clear();
            match item.what {
                What::Directory(below) => {
                    if let (true, Some(meant)) =
                        (self.rock_ridge, self.outline.directories.get(below))
                    {
                        self.of_directory(meant);
                        self.entries.name(item.name);
                    }
                    let target = Some(Target::Directory(below));
                    self.record(identifier, 0, mtime, FLAG_DIRECTORY, target);
                }
                What::File(file) => {
                    let Some(meant) = self.outline.files.get(file) else { continue };
                    if self.rock_ridge {
                        let (links, serial) = (meant.links, meant.serial);
                        self.entries.posix(Type::File, item.meta, links, serial);
                        self.entries.time(mtime);
                        self.entries.name(item.name);
                    }
                    let (mut before, len) = (0, meant.source.len());
                    loop {
                        let part = (len - before).min(MAX_EXTENT);
                        let flags = if before + part < len { FLAG_MORE_EXTENTS } else { 0 };
                        let target = Target::File(file, before / super::SECTOR);
                        self.record(identifier, narrow32(part), mtime, flags, Some(target));
                        before += part;
                        if before >= len {
                            break;
                        }
                    }
                }
                What::Symlink(target) => {
                    self.entries.posix(Type::Symlink, item.meta, 1, item.serial);
                    self.entries.time(mtime);
                    self.entries.name(item.name);
                    self.entries.symlink(target);
                    self.record(identifier, 0, mtime, 0, None);
                }
                What::Special(special) => {
                    self.entries.posix(Type::of(special), item.meta, 1, item.serial);
                    self.entries.time(mtime);
                    self.entries.name(item.name);
                    self.entries.device(special);
                    self.record(identifier, 0, mtime, 0, None);
                }
            }
        }
    }

    fn of_directory(&mut self, directory: &Directory<'_>) {
        let links = directory.links();
        self.entries.posix(Type::Directory, directory.meta, links, directory.serial);
        self.entries.time(directory.meta.mtime);
    }

    /// Appends a record with the entries that were gathered.
    fn record(
        &mut self,
        identifier: &[u8],
        len: u32,
        mtime: u32,
        flags: u8,
        target: Option<Target>,
    ) {
        let fixed = (RECORD + identifier.len()).next_multiple_of(2);
        let room = MOST.saturating_sub(fixed);
        let all = self.entries.0.as_slice();
        let (now, link) = if all.len() <= room {
            (all, None)
        } else {
            let now = Entries::fitting(all, room.saturating_sub(CE_LEN));
            let (now, later) = all.split_at_checked(now).unwrap_or((all, &[]));
            (now, Some(self.continuation.add(later)))
        };
        let size = fixed + now.len().next_multiple_of(2) + link.map_or(0, |_| CE_LEN);
        // A record lies within one sector.
        let used = self.records.len() % SECTOR_LEN;
        if used + size > SECTOR_LEN {
            self.records.resize(self.records.len() + SECTOR_LEN - used, 0);
        }
        let start = self.records.len();
        let entry = link.as_ref().map_or(&[][..], |(entry, _)| entry.as_slice());
        if let Some((_, sector)) = link {
            self.links.push((start + fixed + now.len() + CE_SECTOR, sector));
        }
        if let Some(target) = target {
            self.extents.push((start + 2, target));
        }
        push_record(&mut self.records, identifier, len, mtime, flags, now, entry);
    }

    fn finish(mut self, parent: usize, identifier: Vec<u8>) -> Built {
        self.records.resize(self.records.len().next_multiple_of(SECTOR_LEN), 0);
        Built {
            identifier,
            parent,
            records: self.records,
            continuation: self.continuation,
            links: self.links,
            extents: self.extents,
            sector: 0,
        }
    }
}

/// ECMA-119 9.1: length, extent (blank), data length, date, flags, volume 1, identifier, entries.
fn push_record(
    out: &mut Vec<u8>,
    identifier: &[u8],
    len: u32,
    mtime: u32,
    flags: u8,
    entries: &[u8],
    link: &[u8],
) {
    let start = out.len();
    out.resize(start + RECORD, 0);
    out.extend_from_slice(identifier);
    if identifier.len().is_multiple_of(2) {
        out.push(0);
    }
    out.extend_from_slice(entries);
    out.extend_from_slice(link);
    if !(out.len() - start).is_multiple_of(2) {
        out.push(0);
    }
    let size = out.len() - start;
    put(out, start, &[u8::try_from(size).unwrap_or(u8::MAX)]);
    put(out, start + 10, &both32(len));
    put(out, start + 18, &short_date(mtime));
    put(out, start + 25, &[flags]);
    put(out, start + 28, &both16(1));
    put(out, start + 32, &[u8::try_from(identifier.len()).unwrap_or(u8::MAX)]);
}
