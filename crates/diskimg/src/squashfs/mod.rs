//! SquashFS 4.0 images, compressed with LZ4 (Linux, `fs/squashfs/squashfs_fs.h`).
//!
//! | part | bytes |
//! |---|---|
//! | superblock, options of the compressor | 96 + 10 |
//! | blocks of files, 128 KiB each before compression | as needed |
//! | inodes, directories, owners: in metadata blocks of 8 KiB before compression | as needed |
//!
//! How long an image is depends on how much it compresses to; so planning compresses the files, each
//! read once and on several threads, into a spool of the caller's, as for compressed EROFS. In memory
//! are the inodes and a few megabytes per thread.
//!
//! Ends of files are blocks of their own: fragments, in which `mksquashfs` puts several together, are
//! not made. Extended attributes are refused.

mod metadata;

use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek, Write};

use kiln_tree::Tree;

use crate::content::{Content, Sink};
use crate::erofs::compress::{Compressed, Spooler};
use crate::erofs::feed::{self, Piece};
use crate::erofs::inode::kind;
use crate::erofs::outline::{Body, Item, Outline};
use crate::error::Problems;
use crate::field::{index, narrow16, narrow32, put};
use crate::{Error, Result};
use metadata::{Metadata, Place};

/// Bytes of a block of a file before compression, as a power of two.
const BLOCK_BITS: u16 = 17;
const BLOCK: u64 = 1 << BLOCK_BITS;
/// What images are filled up to.
const PAGE: u64 = 4096;
const SUPERBLOCK: usize = 96;
/// In a block's length: it is not compressed.
const STORED: u32 = 1 << 24;
/// A table, fragment or attribute that is not there.
const NONE: u32 = u32::MAX;

/// What an image should be.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The image's time in seconds since 1970. Default: 0.
    pub mtime: u32,
    /// How many threads read and compress. Default: as many as the machine runs at once. The bytes
    /// do not depend on it.
    pub threads: Option<std::num::NonZeroUsize>,
}

/// An image whose bytes, all but the superblock, are in a spool of the caller's.
pub struct Image<S>(Compressed<S>);

impl<S> fmt::Debug for Image<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_tuple("Image").field(&self.0).finish()
    }
}

impl<S: Read + Write + Seek> Image<S> {
    /// Plans an image and compresses its files into `spool`, which should be empty.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong: what [`Tree::check`] finds, extended
    /// attributes, device numbers, more than 65,535 different owners; [`Error::Io`] of the files
    /// and of the spool.
    pub fn plan(tree: &Tree, options: &Options, mut spool: S) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        let outline = Outline::new(tree, Some(options.mtime), &mut problems.0);
        for (path, node) in tree.iter().filter(|(_, node)| !node.meta.xattrs.is_empty()) {
            let count = node.meta.xattrs.len();
            problems.0.push(format!("{path}: {count} extended attributes, which are not written"));
        }
        let ids: std::collections::BTreeSet<u32> =
            outline.items.iter().flat_map(|item| [item.inode.uid, item.inode.gid]).collect();
        if ids.len() > usize::from(u16::MAX) {
            problems.0.push(format!("{} different owners, at most 65535", ids.len()));
        }
        problems.check("squashfs image")?;
        let ids: BTreeMap<u32, u16> = ids.into_iter().zip(0..=u16::MAX).collect();

        let mut spooler = Spooler { spool: &mut spool, position: 0 };
        spooler.data(&[0; SUPERBLOCK])?;
        // A metadata block, not compressed: version 1 of the format, no flags.
        spooler.data(&[8, 0x80, 1, 0, 0, 0, 0, 0, 0, 0])?;
        let files = write_files(&outline, options, &mut spooler)?;
        let mut tables = Tables {
            outline: &outline,
            ids: &ids,
            inodes: Metadata::default(),
            directories: Metadata::default(),
            places: BTreeMap::new(),
        };
        let root = tables.fill(&files);
        let inode_table = spooler.position;
        spooler.data(&tables.inodes.finish())?;
        let directory_table = spooler.position;
        spooler.data(&tables.directories.finish())?;
        let mut owners = Metadata::default();
        for id in ids.keys() {
            owners.push(&id.to_le_bytes());
        }
        let start = spooler.position;
        let starts = owners.starts();
        spooler.data(&owners.finish())?;
        let id_table = spooler.position;
        for block in starts {
            spooler.data(&(start + block).to_le_bytes())?;
        }
        let used = spooler.position;
        spooler.hole(used.next_multiple_of(PAGE) - used)?;
        let blocks = spooler.position / PAGE;
        spool.flush().map_err(Error::io("write the spool"))?;

        let mut header = vec![0; SUPERBLOCK];
        put(&mut header, 0, b"hsqs");
        put(&mut header, 4, &narrow32(outline.items.len() as u64).to_le_bytes());
        put(&mut header, 8, &options.mtime.to_le_bytes());
        put(&mut header, 12, &narrow32(BLOCK).to_le_bytes());
        // LZ4.
        put(&mut header, 20, &5_u16.to_le_bytes());
        put(&mut header, 22, &BLOCK_BITS.to_le_bytes());
        // No fragments, no attributes, options of the compressor.
        put(&mut header, 24, &0x0610_u16.to_le_bytes());
        put(&mut header, 26, &narrow16(ids.len() as u64).to_le_bytes());
        put(&mut header, 28, &4_u16.to_le_bytes());
        put(&mut header, 32, &root.reference().to_le_bytes());
        put(&mut header, 40, &used.to_le_bytes());
        put(&mut header, 48, &id_table.to_le_bytes());
        put(&mut header, 56, &u64::MAX.to_le_bytes());
        put(&mut header, 64, &inode_table.to_le_bytes());
        put(&mut header, 72, &directory_table.to_le_bytes());
        put(&mut header, 80, &u64::MAX.to_le_bytes());
        put(&mut header, 88, &u64::MAX.to_le_bytes());
        Ok(Self(Compressed::from_parts(header, blocks, spool)))
    }

    /// Makes the image of the spool itself, where that is all that is wanted: nothing is copied.
    ///
    /// # Errors
    /// [`Error::Io`] of the spool.
    pub fn into_image(self) -> Result<S> {
        self.0.into_image()
    }
}

impl<S: Read + Seek + Send> Content for Image<S> {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        self.0.write_to(sink)
    }
}

/// Where a file's blocks are.
#[derive(Debug, Default)]
struct Blocks {
    start: u64,
    /// Lengths as the inode has them; 0 for zeroes.
    lengths: Vec<u32>,
    /// Bytes that are zeroes and not stored.
    holes: u64,
}

/// What became of a unit.
#[derive(Default)]
struct Packed {
    read: Vec<u8>,
    bytes: Vec<u8>,
    /// By block: as [`Blocks::lengths`], and the bytes that are not stored.
    lengths: Vec<(u32, u64)>,
}

fn write_files<S: Write + Seek>(
    outline: &Outline,
    options: &Options,
    spooler: &mut Spooler<'_, S>,
) -> Result<BTreeMap<u32, Blocks>> {
    let (files, _) = outline.order();
    let units = feed::units(outline, &files, feed::UNIT, feed::UNIT);
    let work = |unit: &Vec<Piece>, packed: &mut Packed| {
        packed.bytes.clear();
        packed.lengths.clear();
        for piece in unit {
            packed.read.clear();
            feed::append(outline, piece, &mut packed.read)?;
            for block in packed.read.chunks(index(BLOCK)) {
                if block.iter().all(|byte| *byte == 0) {
                    packed.lengths.push((0, block.len() as u64));
                    continue;
                }
                let smaller = lz4_flex::block::compress(block);
                let (bytes, flag) = if smaller.len() < block.len() {
                    (smaller.as_slice(), 0)
                } else {
                    (block, STORED)
                };
                packed.bytes.extend_from_slice(bytes);
                packed.lengths.push((narrow32(bytes.len() as u64) | flag, 0));
            }
        }
        Ok(())
    };
    let mut all: BTreeMap<u32, Blocks> = BTreeMap::new();
    crate::parallel::in_order(
        crate::parallel::threads(options.threads),
        &units,
        work,
        |unit, packed| {
            let mut next = spooler.position;
            spooler.data(&packed.bytes)?;
            let mut lengths = packed.lengths.iter();
            for piece in unit {
                let blocks = all.entry(piece.item).or_default();
                if piece.from == 0 {
                    blocks.start = next;
                }
                for (length, hole) in lengths.by_ref().take(index(piece.len.div_ceil(BLOCK))) {
                    blocks.lengths.push(*length);
                    blocks.holes += hole;
                    next += u64::from(length & !STORED);
                }
            }
            Ok(())
        },
    )?;
    Ok(all)
}

/// The inodes and directories, children first.
struct Tables<'plan> {
    outline: &'plan Outline,
    ids: &'plan BTreeMap<u32, u16>,
    inodes: Metadata,
    directories: Metadata,
    places: BTreeMap<u32, Place>,
}

impl Tables<'_> {
    /// Writes all of them; gives the root's place.
    fn fill(&mut self, files: &BTreeMap<u32, Blocks>) -> Place {
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
                if short {
                    bytes = self.head(item, 2);
                    words.extend([narrow32(blocks.start), NONE, 0, narrow32(inode.len)]);
                } else {
                    bytes = self.head(item, 9);
                    for long in [blocks.start, inode.len, blocks.holes] {
                        bytes.extend_from_slice(&long.to_le_bytes());
                    }
                    words.extend([inode.links, NONE, 0, NONE]);
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
        let listing = self.listing(names);
        let place = self.directories.push(&listing);
        // Three bytes more than there are, for "." and "..".
        let len = listing.len() as u64 + 3;
        let parent = match number {
            // The root's parent has the number after all of them.
            0 => narrow32(self.outline.items.len() as u64 + 1),
            _ => self.outline.get(parent).map_or(1, |item| item.inode.number),
        };
        let block = narrow32(place.block).to_le_bytes();
        let offset = place.offset.to_le_bytes();
        let links = item.inode.links.to_le_bytes();
        let bytes = if let Ok(len) = u16::try_from(len) {
            let head = self.head(item, 1);
            [&head[..], &block, &links, &len.to_le_bytes(), &offset, &parent.to_le_bytes()].concat()
        } else {
            let head = self.head(item, 8);
            let len = narrow32(len).to_le_bytes();
            let none = NONE.to_le_bytes();
            // No index: looking a name up reads the directory from its start.
            [&head[..], &links, &len, &block, &parent.to_le_bytes(), &[0; 2], &offset, &none]
                .concat()
        };
        self.places.insert(number, self.inodes.push(&bytes));
    }

    /// A directory's entries: runs of at most 256 whose inodes begin in one metadata block.
    fn listing(&self, names: &[(Box<[u8]>, u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut run: Option<(usize, u32, u64, u32)> = None;
        for (name, number) in names {
            let (Some(place), Some(item)) = (self.places.get(number), self.outline.get(*number))
            else {
                continue;
            };
            let inode = item.inode.number;
            let fits = run.filter(|(_, count, block, base)| {
                *count < 256
                    && *block == place.block
                    && i16::try_from(i64::from(inode) - i64::from(*base)).is_ok()
            });
            let (at, count, block, base) = fits.unwrap_or_else(|| {
                let at = bytes.len();
                bytes.extend_from_slice(&[0; 4]);
                bytes.extend_from_slice(&narrow32(place.block).to_le_bytes());
                bytes.extend_from_slice(&inode.to_le_bytes());
                (at, 0, place.block, inode)
            });
            // The header has one less than there are.
            put(&mut bytes, at, &count.to_le_bytes());
            let delta = i16::try_from(i64::from(inode) - i64::from(base)).unwrap_or(0);
            bytes.extend_from_slice(&place.offset.to_le_bytes());
            bytes.extend_from_slice(&delta.to_le_bytes());
            bytes.extend_from_slice(&basic_type(item.inode.mode & kind::MASK).to_le_bytes());
            bytes.extend_from_slice(&narrow16((name.len() as u64).saturating_sub(1)).to_le_bytes());
            bytes.extend_from_slice(name);
            run = Some((at, count + 1, block, base));
        }
        bytes
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
