//! SquashFS 4.0 images, compressed with LZ4 (Linux, `fs/squashfs/squashfs_fs.h`).
//!
//! | part | bytes |
//! |---|---|
//! | superblock, options of the compressor | 96 + 10 |
//! | blocks and fragments of files, 128 KiB each before compression | as needed |
//! | inodes, directories, fragments, owners, attributes: in metadata blocks of 8 KiB before compression | as needed |
//!
//! How long an image is depends on how much it compresses to; so planning compresses the files, each
//! read once and on several threads, into a spool of the caller's, as for compressed EROFS. In memory
//! are the inodes and a few megabytes per thread.
//!
//! What of a file fills no block is in a fragment with that of others, as of
//! `mksquashfs -always-use-fragments`. Directories longer than a metadata block have an index. Equal sets
//! of extended attributes are stored once.

mod blocks;
mod inodes;
mod listing;
mod metadata;
mod superblock;
mod xattrs;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Read, Seek, Write};

use kiln_tree::Tree;

use crate::content::{Content, Sink};
use crate::erofs::compress::{Compressed, Spooler};
use crate::erofs::outline::{Dialect, Outline};
use crate::error::Problems;
use crate::{Error, Result};
use inodes::Tables;
use metadata::Metadata;
use superblock::Superblock;
use xattrs::Sets;

/// Bytes of a block of a file before compression, as a power of two.
const BLOCK_BITS: u16 = 17;
const BLOCK: u64 = 1 << BLOCK_BITS;
/// What images are filled up to.
const PAGE: u64 = 4096;
/// In a block's length: it is not compressed.
const STORED: u32 = 1 << 24;
/// A table, fragment or attribute that is not there.
const NONE: u32 = u32::MAX;

/// What SquashFS does its own way.
const SQUASHFS: Dialect = Dialect { name: "SquashFS", xattrs: xattrs::encode };

/// A block, compressed where that makes it smaller, and whether it is stored as it is.
fn smaller(block: &[u8]) -> (Cow<'_, [u8]>, bool) {
    let compressed = lz4_flex::block::compress(block);
    if compressed.len() < block.len() { (compressed.into(), false) } else { (block.into(), true) }
}

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
    /// [`Error::Plan`] with everything that is wrong: what [`Tree::check`] finds, attributes of other
    /// kinds than user, trusted and security, device numbers, more than 65,535 different owners;
    /// [`Error::Io`] of the files and of the spool.
    pub fn plan(tree: &Tree, options: &Options, mut spool: S) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        let outline = Outline::new(tree, Some(options.mtime), SQUASHFS, &mut problems.0);
        let ids: std::collections::BTreeSet<u32> =
            outline.items.iter().flat_map(|item| [item.inode.uid, item.inode.gid]).collect();
        if ids.len() > usize::from(u16::MAX) {
            problems.0.push(format!("{} different owners, at most 65535", ids.len()));
        }
        problems.check("squashfs image")?;
        let ids: BTreeMap<u32, u16> = ids.into_iter().zip(0..=u16::MAX).collect();

        let mut spooler = Spooler { spool: &mut spool, position: 0 };
        spooler.data(&[0; superblock::LEN])?;
        // A metadata block, not compressed: version 1 of the format, no flags.
        spooler.data(&[8, 0x80, 1, 0, 0, 0, 0, 0, 0, 0])?;
        let stored = blocks::write(&outline, options, &mut spooler)?;
        let sets = Sets::new(&outline.items);
        let mut tables = Tables::new(&outline, &ids, &sets);
        let root = tables.fill(&stored.files);
        // In this order, each up to the next: Linux takes nothing else.
        let inode_table = spooler.position;
        spooler.data(&tables.inodes.finish())?;
        let directory_table = spooler.position;
        spooler.data(&tables.directories.finish())?;
        let mut fragments = Metadata::default();
        for (start, length) in &stored.fragments {
            fragments.push(&start.to_le_bytes());
            fragments.push(&u64::from(*length).to_le_bytes());
        }
        let fragment_table = match stored.fragments.as_slice() {
            [] => None,
            _ => Some(fragments.write(&mut spooler, &[])?),
        };
        let mut owners = Metadata::default();
        for id in ids.keys() {
            owners.push(&id.to_le_bytes());
        }
        let id_table = owners.write(&mut spooler, &[])?;
        let attribute_table = sets.write(&mut spooler)?;
        let used = spooler.position;
        spooler.hole(used.next_multiple_of(PAGE) - used)?;
        let blocks = spooler.position / PAGE;
        spool.flush().map_err(Error::io("write the spool"))?;
        let superblock = Superblock {
            inodes: outline.items.len(),
            mtime: options.mtime,
            fragments: stored.fragments.len(),
            ids: ids.len(),
            root,
            used,
            inode_table,
            directory_table,
            fragment_table,
            id_table,
            attribute_table,
        };
        Ok(Self(Compressed::from_parts(superblock.emit(), blocks, spool)))
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
