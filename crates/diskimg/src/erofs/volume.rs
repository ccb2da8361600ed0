//! An uncompressed volume planned from a tree, and written.

use std::num::NonZeroUsize;

use kiln_tree::Tree;

use super::BLOCK;
use super::feed::{self, Unit};
use super::inode::{Inode, Storage, XATTR_HEADER};
use super::outline::{self, Body, Item, Outline};
use super::place::Packer;
use super::superblock::{self, Superblock};
use crate::Result;
use crate::content::{Content, Sink};
use crate::error::Problems;
use crate::field::{index, narrow16, narrow32, put};
use crate::guid::{Guid, Seed};
use crate::units::ByteLen;

/// Blocks of metadata that are gathered while the data before them are written.
const SEGMENT: u64 = 1024;

/// What a volume should be.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Its label, at most 16 bytes; none by default.
    pub label: Option<String>,
    /// What its identifier is derived from.
    pub seed: Seed,
    /// Its identifier; from the seed when absent.
    pub uuid: Option<Guid>,
    /// The volume's time in seconds since 1970, which small inodes share. Default: that of most
    /// nodes of the tree.
    pub build_time: Option<u32>,
    /// How many threads read and compress. Default: as many as the machine runs at once. The bytes
    /// do not depend on it.
    pub threads: Option<NonZeroUsize>,
}

/// A volume of which every byte is decided, except those inside of the files, which are read when
/// it is written.
#[derive(Debug, Clone)]
pub struct Volume {
    outline: Outline,
    /// The blocks before all data: superblock and root inode.
    header: Vec<u8>,
    segments: Vec<Segment>,
    blocks: u64,
    threads: usize,
    /// For who has to make room.
    largest: String,
}

/// Data, then the metadata of what they belong to. That order, in parts of bounded size, is why a
/// file is read once and only the ends of few files are held in memory.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) items: Vec<u32>,
    /// The first block of metadata.
    pub(super) metadata: u64,
    /// How many blocks of them.
    pub(super) blocks: u64,
}

impl Volume {
    /// Decides where everything goes; no file is read.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with everything that is wrong: what [`Tree::check`] finds, attributes and
    /// device numbers that EROFS cannot hold, a label that is too long, more than 16 TiB.
    pub fn plan(tree: &Tree, options: &Options) -> Result<Self> {
        let mut problems = Problems(Vec::new());
        let mut outline = Outline::new(tree, options.build_time, outline::EROFS, &mut problems.0);
        options.check(&mut problems.0);
        let features = superblock::ZERO_PADDING;
        let header = Header::new(&outline, features, &[]);
        let (mut order, rest) = outline.order();
        order.extend(rest);
        let (segments, blocks) = place(&mut outline, &order, header.blocks(), header.root);
        check_blocks(blocks, &mut problems.0);
        problems.check("erofs volume")?;
        let header = header.emit(&outline, options, 0, blocks);
        Ok(Self {
            outline,
            header,
            segments,
            blocks,
            threads: crate::parallel::threads(options.threads),
            largest: crate::content::largest_files(tree),
        })
    }
}

impl Content for Volume {
    fn len(&self) -> u64 {
        self.blocks * BLOCK
    }

    fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
        sink.data(&self.header)?;
        write(&self.outline, &self.segments, self.threads, sink)
    }

    fn largest_files(&self) -> String {
        self.largest.clone()
    }
}

impl Options {
    pub(super) fn check(&self, problems: &mut Vec<String>) {
        if let Some(label) = &self.label
            && (label.len() > 16 || label.contains('\0'))
        {
            problems.push(format!(
                "label {label:?}: {} bytes, expected at most 16 and no NUL",
                label.len()
            ));
        }
    }
}

pub(super) fn check_blocks(blocks: u64, problems: &mut Vec<String>) {
    if u32::try_from(blocks).is_err() {
        let (len, most) =
            (ByteLen(blocks.saturating_mul(BLOCK)), ByteLen(u64::from(u32::MAX) * BLOCK));
        problems.push(format!("the volume would have {len}, at most {most}"));
    }
}

/// What is before all data. The root inode is there because its number has 16 bits only, whatever
/// comes after it.
pub(super) struct Header {
    pub(super) root: u64,
    len: u64,
    features: u32,
    configs: Vec<u8>,
}

impl Header {
    /// `configs` are those of the compressors, as they follow the superblock.
    pub(super) fn new(outline: &Outline, features: u32, configs: &[u8]) -> Self {
        let after = superblock::OFFSET + superblock::LEN as u64 + configs.len() as u64;
        let root = after.next_multiple_of(super::inode::SLOT);
        let len = root + outline.get(0).map_or(0, Item::head);
        Self { root, len, features, configs: configs.to_vec() }
    }

    pub(super) fn blocks(&self) -> u64 {
        self.len.div_ceil(BLOCK)
    }

    /// `algorithms` are the superblock's: those of the configurations; without any, 0 is LZ4's
    /// greatest distance.
    pub(super) fn emit(
        &self,
        outline: &Outline,
        options: &Options,
        algorithms: u16,
        blocks: u64,
    ) -> Vec<u8> {
        let mut bytes = vec![0; index(self.blocks() * BLOCK)];
        put(&mut bytes, index(superblock::OFFSET) + superblock::LEN, &self.configs);
        if let Some(root) = outline.get(0) {
            put_inode(&mut bytes, &root.inode, &root.xattrs, self.root);
        }
        let mut label = [0; 16];
        let text = options.label.as_deref().unwrap_or_default().as_bytes();
        label.iter_mut().zip(text).for_each(|(place, byte)| *place = *byte);
        let superblock = Superblock {
            compatible: superblock::CHECKSUM | superblock::MTIME,
            incompatible: self.features,
            block_bits: super::BLOCK_BITS,
            root: narrow16(self.root / super::inode::SLOT),
            inodes: outline.items.len() as u64,
            build_time: outline.build_time,
            blocks: narrow32(blocks),
            uuid: options.uuid.unwrap_or_else(|| options.seed.guid("erofs")).0,
            label,
            algorithms,
            ..Superblock::default()
        };
        let (first, _) = bytes.split_at_mut(index(BLOCK));
        superblock.emit(first);
        bytes
    }
}

/// Writes an inode and its attributes at an offset of a part of the volume.
pub(super) fn put_inode(bytes: &mut [u8], inode: &Inode, xattrs: &[u8], at: u64) {
    put(bytes, index(at), &inode.emit());
    put(bytes, index(at + inode.size()), xattrs);
}

/// Finds places for uncompressed items from a block on; gives the block after all of them.
pub(super) fn place(
    outline: &mut Outline,
    order: &[u32],
    first: u64,
    root: u64,
) -> (Vec<Segment>, u64) {
    let mut segments = Vec::new();
    let mut next = first;
    let mut packer = Packer::default();
    let mut items: Vec<u32> = Vec::new();
    let mut close =
        |outline: &mut Outline, items: &mut Vec<u32>, packer: &mut Packer, next: &mut u64| {
            for number in items.iter().filter(|number| **number != 0) {
                if let Some(item) = outline.items.get_mut(index(u64::from(*number))) {
                    item.offset += *next * BLOCK;
                }
            }
            let blocks = packer.blocks();
            segments.push(Segment { items: std::mem::take(items), metadata: *next, blocks });
            *next += blocks;
            *packer = Packer::default();
        };
    for number in order {
        let Some(item) = outline.items.get_mut(index(u64::from(*number))) else { continue };
        let (blocks, len) = item.store_plain(*number != 0);
        if !matches!(item.body, Body::Nothing) {
            item.inode.place = if blocks > 0 { narrow32(next) } else { 0 };
        }
        item.offset = if *number == 0 { root } else { packer.place(len) };
        next = next.saturating_add(blocks);
        items.push(*number);
        if packer.blocks() >= SEGMENT {
            close(outline, &mut items, &mut packer, &mut next);
        }
    }
    if !items.is_empty() {
        close(outline, &mut items, &mut packer, &mut next);
    }
    // `fsck.erofs` (1.5) reads the head of attributes behind every inode, also where there are none:
    // an inode that ends with the volume would be an error to it.
    let end = outline.items.iter().map(|item| item.offset + item.inode.size()).max().unwrap_or(0);
    if let Some(last) = segments.last_mut()
        && end + XATTR_HEADER > next * BLOCK
    {
        last.blocks += 1;
        next += 1;
    }
    (segments, next)
}

/// Streams segments: the data of each, then its metadata.
pub(super) fn write(
    outline: &Outline,
    segments: &[Segment],
    threads: usize,
    sink: &mut dyn Sink,
) -> Result<()> {
    let mut metadata = Vec::new();
    for segment in segments {
        metadata.clear();
        metadata.resize(index(segment.blocks * BLOCK), 0);
        let start = segment.metadata * BLOCK;
        for item in segment.items.iter().filter_map(|number| outline.get(*number)) {
            if let Some(at) = item.offset.checked_sub(start) {
                put_inode(&mut metadata, &item.inode, &item.xattrs, at);
            }
        }
        let units = feed::units(outline, &segment.items, feed::UNIT, feed::UNIT);
        let read = |unit: &Unit, filled: &mut feed::Filled| filled.fill(outline, unit);
        crate::parallel::in_order(threads, &units, read, |unit, filled| {
            sink.data(&filled.blocks)?;
            let mut tails = filled.tails.as_slice();
            for piece in unit.iter().filter(|piece| piece.last) {
                let Some(item) = outline.get(piece.item) else { continue };
                if item.inode.storage == Storage::Inline {
                    let (tail, rest) =
                        tails.split_at(tails.len().min(index(item.inode.len % BLOCK)));
                    put(&mut metadata, index(item.offset + item.head() - start), tail);
                    tails = rest;
                }
            }
            Ok(())
        })?;
        sink.data(&metadata)?;
    }
    Ok(())
}
