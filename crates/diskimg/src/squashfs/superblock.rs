//! The superblock (Linux, `struct squashfs_super_block`).

use super::metadata::Place;
use super::{BLOCK, BLOCK_BITS};
use crate::field::{narrow16, narrow32, put};

/// Bytes of the superblock.
pub(super) const LEN: usize = 96;
/// A table that is not there.
const NOWHERE: u64 = u64::MAX;
/// LZ4, among the compressors.
const LZ4: u16 = 5;

/// Flags that say what an image has not, or has.
mod flag {
    pub(super) const NO_FRAGMENTS: u16 = 1 << 4;
    /// Ends of files longer than a block are in fragments too.
    pub(super) const ALWAYS_FRAGMENTS: u16 = 1 << 5;
    pub(super) const NO_ATTRIBUTES: u16 = 1 << 9;
    pub(super) const COMPRESSOR_OPTIONS: u16 = 1 << 10;
}

/// What the superblock says. Tables are places in bytes from the image's start.
#[derive(Debug)]
pub(super) struct Superblock {
    pub(super) inodes: usize,
    pub(super) mtime: u32,
    pub(super) fragments: usize,
    pub(super) ids: usize,
    pub(super) root: Place,
    /// Bytes without what the image is filled up with.
    pub(super) used: u64,
    pub(super) inode_table: u64,
    pub(super) directory_table: u64,
    pub(super) fragment_table: Option<u64>,
    pub(super) id_table: u64,
    pub(super) attribute_table: Option<u64>,
}

impl Superblock {
    pub(super) fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; LEN];
        let fragments = match self.fragment_table {
            Some(_) => flag::ALWAYS_FRAGMENTS,
            None => flag::NO_FRAGMENTS,
        };
        let attributes = if self.attribute_table.is_some() { 0 } else { flag::NO_ATTRIBUTES };
        let flags = flag::COMPRESSOR_OPTIONS | fragments | attributes;
        put(&mut bytes, 0, b"hsqs");
        let words = [
            narrow32(self.inodes as u64),
            self.mtime,
            narrow32(BLOCK),
            narrow32(self.fragments as u64),
        ];
        for (at, word) in (4..).step_by(4).zip(words) {
            put(&mut bytes, at, &word.to_le_bytes());
        }
        // The version is 4.0.
        let halves = [LZ4, BLOCK_BITS, flags, narrow16(self.ids as u64), 4, 0];
        for (at, half) in (20..).step_by(2).zip(halves) {
            put(&mut bytes, at, &half.to_le_bytes());
        }
        let places = [
            self.root.reference(),
            self.used,
            self.id_table,
            self.attribute_table.unwrap_or(NOWHERE),
            self.inode_table,
            self.directory_table,
            self.fragment_table.unwrap_or(NOWHERE),
            // By inode number, for NFS.
            NOWHERE,
        ];
        for (at, place) in (32..).step_by(8).zip(places) {
            put(&mut bytes, at, &place.to_le_bytes());
        }
        bytes
    }
}
