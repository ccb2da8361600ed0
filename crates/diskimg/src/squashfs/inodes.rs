//! Inodes and directories (Linux, `struct squashfs_inode` and its kin in `fs/squashfs/squashfs_fs.h`).

use std::collections::BTreeMap;

use super::NONE;
use super::blocks::Blocks;
use super::listing::{Entry, Listing};
use super::metadata::{Metadata, Place};
use super::xattrs::Sets;
use crate::erofs::inode::kind;
use crate::erofs::outline::{Body, Item, Outline};
use crate::field::narrow32;

const DIRECTORY: u16 = 1;
const FILE: u16 = 2;
const BLOCK_DEVICE: u16 = 4;
const CHAR_DEVICE: u16 = 5;
/// Added to the number of a kind: the inode has more fields, attributes among them.
const EXTENDED: u16 = 7;

/// The inodes and directories, children first.
pub(super) struct Tables<'plan> {
    outline: &'plan Outline,
    ids: &'plan BTreeMap<u32, u16>,
    sets: &'plan Sets<'plan>,
    pub(super) inodes: Metadata,
    pub(super) directories: Metadata,
    places: BTreeMap<u32, Place>,
}

impl<'plan> Tables<'plan> {
    /// Tables with nothing in them; `ids` are the owners with their numbers.
    pub(super) fn new(
        outline: &'plan Outline,
        ids: &'plan BTreeMap<u32, u16>,
        sets: &'plan Sets<'plan>,
    ) -> Self {
        Self {
            outline,
            ids,
            sets,
            inodes: Metadata::default(),
            directories: Metadata::default(),
            places: BTreeMap::new(),
        }
    }

    /// Writes all of them; gives the root's place.
    pub(super) fn fill(&mut self, files: &BTreeMap<u32, Blocks>) -> Place {
        let empty = Blocks::default();
        for (number, item) in (0..).zip(&self.outline.items) {
            if !matches!(item.body, Body::Directory(..)) {
                self.other(number, item, files.get(&number).unwrap_or(&empty));
            }
        }
        // A directory's number is less than those of the directories in it.
        for (number, item) in
            (0..).zip(&self.outline.items).collect::<Vec<(u32, _)>>().into_iter().rev()
        {
            if let Body::Directory(names, parent) = &item.body {
                self.directory(number, item, names, *parent);
            }
        }
        self.places.get(&0).copied().unwrap_or_default()
    }

    fn head(&self, item: &Item, kind: u16) -> Vec<u8> {
        let inode = &item.inode;
        let id = |id| self.ids.get(&id).copied().unwrap_or(0).to_le_bytes();
        let mtime = narrow32(inode.mtime.unwrap_or(0)).to_le_bytes();
        [
            &kind.to_le_bytes()[..],
            &(inode.mode & 0o7777).to_le_bytes(),
            &id(inode.uid),
            &id(inode.gid),
            &mtime,
            &inode.number.to_le_bytes(),
        ]
        .concat()
    }

    fn other(&mut self, number: u32, item: &Item, blocks: &Blocks) {
        let inode = &item.inode;
        let xattrs = self.sets.number(item);
        let kind = basic_type(inode.mode & kind::MASK);
        let long = xattrs != NONE;
        let head = self.head(item, if long { kind + EXTENDED } else { kind });
        let mut bytes = match &item.body {
            Body::File(_) => self.file(item, blocks),
            Body::Symlink(target) => {
                let len = narrow32(target.len() as u64).to_le_bytes();
                [&head[..], &inode.links.to_le_bytes(), &len, target].concat()
            }
            _ if matches!(kind, BLOCK_DEVICE | CHAR_DEVICE) => {
                [&head[..], &inode.links.to_le_bytes(), &inode.place.to_le_bytes()].concat()
            }
            _ => [&head[..], &inode.links.to_le_bytes()].concat(),
        };
        if long && !matches!(item.body, Body::File(_)) {
            bytes.extend_from_slice(&xattrs.to_le_bytes());
        }
        self.places.insert(number, self.inodes.push(&bytes));
    }

    fn file(&self, item: &Item, blocks: &Blocks) -> Vec<u8> {
        let inode = &item.inode;
        let xattrs = self.sets.number(item);
        let (fragment, offset) = blocks.end.unwrap_or((NONE, 0));
        let short = (u32::try_from(blocks.start).ok().zip(u32::try_from(inode.len).ok()))
            .filter(|_| inode.links == 1 && blocks.holes == 0 && xattrs == NONE);
        let mut bytes;
        let words = if let Some((start, len)) = short {
            bytes = self.head(item, FILE);
            [start, fragment, offset, len]
        } else {
            bytes = self.head(item, FILE + EXTENDED);
            for long in [blocks.start, inode.len, blocks.holes] {
                bytes.extend_from_slice(&long.to_le_bytes());
            }
            [inode.links, fragment, offset, xattrs]
        };
        bytes.extend(words.iter().chain(&blocks.lengths).flat_map(|word| word.to_le_bytes()));
        bytes
    }

    fn directory(&mut self, number: u32, item: &Item, names: &[(Box<[u8]>, u32)], parent: u32) {
        let entries = names.iter().filter_map(|(name, number)| {
            let (place, item) = (*self.places.get(number)?, self.outline.get(*number)?);
            let kind = basic_type(item.inode.mode & kind::MASK);
            Some(Entry { name, inode: item.inode.number, place, kind })
        });
        let listing = Listing::new(entries, self.directories.next());
        let place = self.directories.push(&listing.bytes);
        // Three bytes more than there are, for "." and "..".
        let len = listing.bytes.len() as u64 + 3;
        let parent = match number {
            // The root's parent has the number after all of them.
            0 => narrow32(self.outline.items.len() as u64 + 1),
            _ => self.outline.get(parent).map_or(1, |item| item.inode.number),
        };
        let block = narrow32(place.block).to_le_bytes();
        let offset = place.offset.to_le_bytes();
        let links = item.inode.links.to_le_bytes();
        let xattrs = self.sets.number(item);
        let bytes = match u16::try_from(len) {
            Ok(len) if listing.marks.is_empty() && xattrs == NONE => {
                let head = self.head(item, DIRECTORY);
                [&head[..], &block, &links, &len.to_le_bytes(), &offset, &parent.to_le_bytes()]
                    .concat()
            }
            _ => {
                let head = self.head(item, DIRECTORY + EXTENDED);
                let len = narrow32(len).to_le_bytes();
                let (count, index) = listing.index(&self.directories);
                let parent = parent.to_le_bytes();
                let (count, xattrs) = (count.to_le_bytes(), xattrs.to_le_bytes());
                [&head[..], &links, &len, &block, &parent, &count, &offset, &xattrs, &index]
                    .concat()
            }
        };
        self.places.insert(number, self.inodes.push(&bytes));
    }
}

/// The number of a kind of inode, as directories have it too.
fn basic_type(mode: u16) -> u16 {
    match mode {
        kind::DIRECTORY => DIRECTORY,
        kind::FILE => FILE,
        kind::SYMLINK => 3,
        kind::BLOCK_DEVICE => BLOCK_DEVICE,
        kind::CHAR_DEVICE => CHAR_DEVICE,
        kind::FIFO => 6,
        _ => 7,
    }
}
