//! A directory's entries and its index.
//!
//! Entries are in runs with a header: of at most 256, with inodes that begin in one metadata block,
//! and, so that the index can lead to them, with headers in each metadata block of the listing. The
//! index is behind the directory's inode (Linux, `struct squashfs_dir_index`): where a block's first
//! run is and which name it begins with. Linux takes the last entry whose name is not after the one
//! that it looks for, and reads from there (`fs/squashfs/namei.c`).

use super::metadata::{self, Metadata, Place};
use crate::field::{narrow16, narrow32, put};

/// Entries of a run at most.
const RUN: u32 = 256;
/// Bytes of a run's header.
const HEADER: usize = 12;

/// A name and the inode that it names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry<'name> {
    pub(super) name: &'name [u8],
    pub(super) inode: u32,
    pub(super) place: Place,
    /// Of inode; that of a short one, also where it is not.
    pub(super) kind: u16,
}

/// A run's header that an index entry leads to.
#[derive(Debug)]
pub(super) struct Mark<'name> {
    /// Where it is, in bytes from the listing's start.
    at: usize,
    /// The run's first name.
    name: &'name [u8],
}

/// A directory's bytes.
#[derive(Debug)]
pub(super) struct Listing<'name> {
    pub(super) bytes: Vec<u8>,
    /// The first run of every metadata block but the first.
    pub(super) marks: Vec<Mark<'name>>,
    /// Where it begins in the table, before compression.
    start: usize,
}

/// A run that may get more entries.
#[derive(Debug, Clone, Copy)]
struct Run {
    header: usize,
    count: u32,
    /// Where the inodes' metadata block begins.
    block: u64,
    /// The inode that the others are told relative to.
    base: u32,
}

impl Run {
    fn takes(&self, entry: &Entry<'_>) -> bool {
        self.count < RUN && self.block == entry.place.block && self.delta(entry).is_some()
    }

    fn delta(&self, entry: &Entry<'_>) -> Option<i16> {
        i16::try_from(i64::from(entry.inode) - i64::from(self.base)).ok()
    }
}

impl<'name> Listing<'name> {
    /// The bytes of sorted entries, for a place in the table as of [`Metadata::next`].
    pub(super) fn new(entries: impl Iterator<Item = Entry<'name>>, start: usize) -> Self {
        let mut listing = Self { bytes: Vec::new(), marks: Vec::new(), start };
        let mut run: Option<Run> = None;
        let mut marked = start / metadata::BLOCK;
        for entry in entries {
            let at = listing.bytes.len();
            let block = (start + at) / metadata::BLOCK;
            let now = run.filter(|run| block == marked && run.takes(&entry));
            let mut now = now.unwrap_or_else(|| {
                if block != marked {
                    listing.marks.push(Mark { at, name: entry.name });
                    marked = block;
                }
                listing.begin(&entry)
            });
            // The header has one less than there are.
            put(&mut listing.bytes, now.header, &now.count.to_le_bytes());
            now.count += 1;
            listing.add(&entry, now.delta(&entry).unwrap_or(0));
            run = Some(now);
        }
        listing
    }

    fn begin(&mut self, entry: &Entry<'_>) -> Run {
        let (block, base) = (entry.place.block, entry.inode);
        let header = self.bytes.len();
        self.bytes.resize(header + HEADER, 0);
        put(&mut self.bytes, header + 4, &narrow32(block).to_le_bytes());
        put(&mut self.bytes, header + 8, &base.to_le_bytes());
        Run { header, count: 0, block, base }
    }

    fn add(&mut self, entry: &Entry<'_>, delta: i16) {
        let len = narrow16((entry.name.len() as u64).saturating_sub(1));
        self.bytes.extend_from_slice(&entry.place.offset.to_le_bytes());
        self.bytes.extend_from_slice(&delta.to_le_bytes());
        self.bytes.extend_from_slice(&entry.kind.to_le_bytes());
        self.bytes.extend_from_slice(&len.to_le_bytes());
        self.bytes.extend_from_slice(entry.name);
    }

    /// The index, when the listing is in the table: how many entries, and their bytes.
    pub(super) fn index(&self, table: &Metadata) -> (u16, Vec<u8>) {
        let mut bytes = Vec::new();
        // What there are more, 512 MiB of names later, is found by reading on.
        for mark in self.marks.iter().take(usize::from(u16::MAX)) {
            let len = (mark.name.len() as u64).saturating_sub(1);
            let words = [mark.at as u64, table.block_of(self.start + mark.at), len];
            bytes.extend(words.iter().flat_map(|word| narrow32(*word).to_le_bytes()));
            bytes.extend_from_slice(mark.name);
        }
        (narrow16(self.marks.len() as u64), bytes)
    }
}
