//! Inodes and directories (Linux, `struct squashfs_inode` and its kin in `fs/squashfs/squashfs_fs.h`).

use std::collections::BTreeMap;

use super::NONE;
use super::blocks::Blocks;
use super::listing::{Entry, Listing};
use super::metadata::{Metadata, Place};
use crate::erofs::inode::kind;
use crate::erofs::outline::{Body, Item, Outline};
use crate::field::narrow32;

/// The inodes and directories, children first.
pub(super) struct Tables<'plan> {
    outline: &'plan Outline,
    ids: &'plan BTreeMap<u32, u16>,
    pub(super) inodes: Metadata,
    pub(super) directories: Metadata,
    places: BTreeMap<u32, Place>,
}

impl<'plan> Tables<'plan> {
    /// Tables with nothing in them; `ids` are the owners with their numbers.
    pub(super) fn new(outline: &'plan Outline, ids: &'plan BTreeMap<u32, u16>) -> Self {
        Self {
            outline,
            ids,
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
        let mut words: Vec<u32> = Vec::new();
        let mut bytes;
        match (&item.body, inode.mode & kind::MASK) {
            (Body::File(_), _) => {
                let short = inode.links == 1
                    && blocks.holes == 0
                    && u32::try_from(blocks.start).is_ok()
                    && u32::try_from(inode.len).is_ok();
                let (fragment, offset) = blocks.end.unwrap_or((NONE, 0));
                if short {
                    bytes = self.head(item, 2);
                    words.extend([narrow32(blocks.start), fragment, offset, narrow32(inode.len)]);
                } else {
                    bytes = self.head(item, 9);
                    for long in [blocks.start, inode.len, blocks.holes] {
                        bytes.extend_from_slice(&long.to_le_bytes());
                    }
                    words.extend([inode.links, fragment, offset, NONE]);
                }
                words.extend(&blocks.lengths);
            }
            (Body::Symlink(target), _) => {
                bytes = self.head(item, 3);
                for word in [inode.links, narrow32(target.len() as u64)] {
                    bytes.extend_from_slice(&word.to_le_bytes());
                }
                bytes.extend_from_slice(target);
            }
            (_, mode) => {
                bytes = self.head(item, basic_type(mode));
                words.push(inode.links);
                if matches!(mode, kind::BLOCK_DEVICE | kind::CHAR_DEVICE) {
                    words.push(inode.place);
                }
            }
        }
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        self.places.insert(number, self.inodes.push(&bytes));
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
        let bytes = match u16::try_from(len) {
            Ok(len) if listing.marks.is_empty() => {
                let head = self.head(item, 1);
                [&head[..], &block, &links, &len.to_le_bytes(), &offset, &parent.to_le_bytes()]
                    .concat()
            }
            _ => {
                let head = self.head(item, 8);
                let len = narrow32(len).to_le_bytes();
                let (count, index) = listing.index(&self.directories);
                let parent = parent.to_le_bytes();
                let (count, none) = (count.to_le_bytes(), NONE.to_le_bytes());
                [&head[..], &links, &len, &block, &parent, &count, &offset, &none, &index].concat()
            }
        };
        self.places.insert(number, self.inodes.push(&bytes));
    }
}

/// The number of a kind of inode.
fn basic_type(mode: u16) -> u16 {
    match mode {
        kind::DIRECTORY => 1,
        kind::FILE => 2,
        kind::SYMLINK => 3,
        kind::BLOCK_DEVICE => 4,
        kind::CHAR_DEVICE => 5,
        kind::FIFO => 6,
        _ => 7,
    }
}
