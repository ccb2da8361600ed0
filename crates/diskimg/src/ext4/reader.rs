//! Reads an ext2, ext3 or ext4 file system that may be hostile: every tree of blocks is bounded by
//! its depth and by what it may cover, every length by the caller's limits.

use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::TreePath;

use super::inode::{self, flag, format};
use super::superblock::{self, Parsed, feature};
use super::{Geometry, extents, special, xattr};
use crate::container::BlockSource;
use crate::field::{array, index, u16_le, u32_le};
use crate::found::FileKind;
use crate::guid::Guid;
use crate::units::ByteLen;
use crate::{Error, Limits, Result};

/// How deep a tree of extents can be (`EXT4_MAX_EXTENT_DEPTH`).
const MAX_DEPTH: u16 = 5;

/// What a file system says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Info {
    /// "ext2", "ext3" (with a journal) or "ext4" (with extents or other features of it).
    pub kind: &'static str,
    /// Label.
    pub label: Option<String>,
    /// Identifier.
    pub uuid: Guid,
    /// Bytes of a block.
    pub block: ByteLen,
    /// How many blocks there are.
    pub blocks: u64,
    /// How many of them are free.
    pub free_blocks: u64,
    /// How many only root can use.
    pub reserved_blocks: u64,
    /// How many inodes there are.
    pub inodes: u32,
    /// How many of them are free.
    pub free_inodes: u32,
    /// When it was made, in seconds since 1970; 0 when that is not known.
    pub created: u32,
    /// Whether it was unmounted properly.
    pub clean: bool,
    /// Its features, by the names that `dumpe2fs` has for them.
    pub features: Vec<String>,
}

/// A file or directory. Two names of one file have the same `inode`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its path.
    pub path: TreePath,
    /// What it is.
    pub kind: FileKind,
    /// Permission bits, set-id bits and the sticky bit.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: i64,
    /// Bytes of the content.
    pub len: u64,
    /// Number of its inode.
    pub inode: u32,
    /// How many names it has.
    pub links: u16,
    /// Extended attributes by their full name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A file system that can be listed and read.
pub struct Reader<'source> {
    source: &'source mut dyn BlockSource,
    limits: Limits,
    parsed: Parsed,
    info: Info,
    /// The block of an inode table that was read last, and its offset.
    recent: (u64, Vec<u8>),
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").field("info", &self.info).finish_non_exhaustive()
    }
}

/// Blocks of a file: from a number on within it, at a block of the volume, so many.
#[derive(Clone, Copy)]
struct Mapped {
    logical: u64,
    physical: u64,
    len: u64,
    /// Not written yet: zeroes.
    unwritten: bool,
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("ext4", offset, reason)
}

fn limit(what: &'static str, found: u64, limit: u64) -> Error {
    Error::Limit { format: "ext4", what, found, limit }
}

impl<'source> Reader<'source> {
    /// Reads the superblock of a file system that begins at the source's first byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is none, [`Error::Unsupported`] when it is the journal of
    /// another.
    pub fn open(source: &'source mut dyn BlockSource, limits: &Limits) -> Result<Self> {
        let mut bytes = [0; superblock::LEN];
        source.read_at(superblock::OFFSET, &mut bytes)?;
        let parsed = superblock::parse(&bytes)
            .map_err(|(at, reason)| malformed(superblock::OFFSET + at, reason))?;
        if parsed.is_incompatible(feature::JOURNAL_DEV) {
            return Err(Error::unsupported("ext4", "a journal without a file system"));
        }
        let features = parsed.feature_names();
        let has = |name: &str| features.iter().any(|feature| feature == name);
        let ext4 = ["extent", "64bit", "flex_bg", "huge_file", "metadata_csum", "uninit_bg"];
        let kind = if ext4.into_iter().any(has) {
            "ext4"
        } else if has("has_journal") {
            "ext3"
        } else {
            "ext2"
        };
        let label = parsed.label.split(|byte| *byte == 0).next().unwrap_or_default();
        let info = Info {
            kind,
            label: (!label.is_empty()).then(|| String::from_utf8_lossy(label).into_owned()),
            uuid: Guid(parsed.uuid),
            block: ByteLen(parsed.block),
            blocks: parsed.blocks,
            free_blocks: parsed.free_blocks,
            reserved_blocks: parsed.reserved_blocks,
            inodes: parsed.inodes,
            free_inodes: parsed.free_inodes,
            created: parsed.created,
            clean: parsed.state & 1 != 0,
            features,
        };
        Ok(Self { source, limits: limits.clone(), parsed, info, recent: (0, Vec::new()) })
    }

    /// What the superblock says.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// Everything in the file system but its root, sorted by path.
    ///
    /// # Errors
    /// [`Error::Malformed`] for blocks out of the volume and for directories with two parents,
    /// [`Error::Limit`] for too many files or too deep directories, [`Error::Unsupported`] for
    /// encrypted directories.
    pub fn list(&mut self) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        let mut pending = vec![(TreePath::root(), special::ROOT)];
        let mut seen = BTreeSet::new();
        let mut read = 0;
        while let Some((directory, number)) = pending.pop() {
            let depth = directory.components().count();
            if depth > self.limits.depth {
                return Err(limit("depth", depth as u64, self.limits.depth as u64));
            }
            let (offset, inode) = self.inode(number)?;
            if !seen.insert(number) {
                let reason = format!("{directory}: the directory is in the volume twice");
                return Err(malformed(offset, reason));
            }
            if u16_le(&inode, 0).unwrap_or(0) & format::MASK != format::DIRECTORY {
                return Err(malformed(offset, format!("{directory}: it is no directory")));
            }
            if u32_le(&inode, 0x20).unwrap_or(0) & flag::ENCRYPTED != 0 {
                return Err(Error::unsupported("ext4", "an encrypted directory"));
            }
            let len = len(&inode);
            read += len;
            if read > self.limits.tables {
                return Err(limit("length of all directories", read, self.limits.tables));
            }
            let bytes = self.content(offset, &inode, len)?;
            for (name, number) in names(&bytes, index(self.parsed.block)) {
                if found.len() >= self.limits.files {
                    let most = self.limits.files as u64;
                    return Err(limit("number of files", most + 1, most));
                }
                let Ok(path) = directory.join(name) else { continue };
                if path.parent().as_ref() != Some(&directory) {
                    continue;
                }
                let entry = self.found(path, number)?;
                if entry.kind == FileKind::Directory {
                    pending.push((entry.path.clone(), number));
                }
                found.push(entry);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// The root directory itself, which [`Reader::list`] leaves out.
    ///
    /// # Errors
    /// As [`Reader::list`].
    pub fn root(&mut self) -> Result<Found> {
        self.found(TreePath::root(), special::ROOT)
    }

    /// A file's bytes; holes are zeroes.
    ///
    /// # Errors
    /// As [`Reader::list`]; [`Error::Limit`] when the file is too long.
    pub fn read(&mut self, file: &Found) -> Result<Vec<u8>> {
        if file.len > self.limits.file_len {
            return Err(limit("length of a file", file.len, self.limits.file_len));
        }
        match &file.kind {
            FileKind::File => {}
            FileKind::Symlink(text) => return Ok(text.clone()),
            _ => return Ok(Vec::new()),
        }
        let (offset, inode) = self.inode(file.inode)?;
        self.content(offset, &inode, file.len)
    }

    fn found(&mut self, path: TreePath, number: u32) -> Result<Found> {
        let (offset, inode) = self.inode(number)?;
        let short = |at| u16_le(&inode, at).unwrap_or(0);
        let long = |at| u32_le(&inode, at).unwrap_or(0);
        let mode = short(0);
        let body = inode.get(0x28..0x28 + 60).unwrap_or_default();
        let len = len(&inode);
        let kind = match mode & format::MASK {
            format::DIRECTORY => FileKind::Directory,
            format::REGULAR => FileKind::File,
            format::FIFO => FileKind::Fifo,
            format::SOCKET => FileKind::Socket,
            format::CHARACTER | format::BLOCK => {
                let (major, minor) = inode::parse_device(body);
                if mode & format::MASK == format::CHARACTER {
                    FileKind::CharDevice(major, minor)
                } else {
                    FileKind::BlockDevice(major, minor)
                }
            }
            format::SYMLINK => {
                let most = self.parsed.block.max(4096);
                if len > most {
                    let reason = format!("{path}: a link of {len} bytes, expected at most {most}");
                    return Err(malformed(offset, reason));
                }
                // Short ones are in the inode itself.
                let text = match body.get(..index(len)) {
                    Some(text) if len < 60 && long(0x20) & flag::EXTENTS == 0 => text.to_vec(),
                    _ => self.content(offset, &inode, len)?,
                };
                FileKind::Symlink(text)
            }
            other => {
                let reason = format!("{path}: inode {number} is of kind {other:#06x}");
                return Err(malformed(offset, reason));
            }
        };
        let mut xattrs = BTreeMap::new();
        let extra = usize::from(short(0x80));
        if inode.len() > 128 && extra > 0 {
            xattr::parse(inode.get(128 + extra..).unwrap_or_default(), false, &mut xattrs);
        }
        let block = u64::from(long(0x68)) | u64::from(short(0x76)) << 32;
        if block != 0 {
            let bytes = self.block(block)?;
            xattr::parse(&bytes, true, &mut xattrs);
        }
        // The lower two bits beside the nanoseconds count how often 32 bits wrapped.
        let epoch = if extra >= 12 { long(0x88) & 3 } else { 0 };
        Ok(Found {
            path,
            mode: mode & !format::MASK,
            uid: u32::from(short(0x02)) | u32::from(short(0x78)) << 16,
            gid: u32::from(short(0x18)) | u32::from(short(0x7a)) << 16,
            mtime: i64::from(long(0x10).cast_signed()) + (i64::from(epoch) << 32),
            len: if kind == FileKind::Directory { 0 } else { len },
            inode: number,
            links: short(0x1a),
            kind,
            xattrs,
        })
    }

    /// The offset of a block.
    fn offset(&self, block: u64) -> Result<u64> {
        if block >= self.parsed.blocks {
            let reason = format!("block {block} is not one of the {}", self.parsed.blocks);
            return Err(malformed(superblock::OFFSET, reason));
        }
        block.checked_mul(self.parsed.block).ok_or_else(|| {
            malformed(superblock::OFFSET, format!("block {block} is beyond 2^64 bytes"))
        })
    }

    fn block(&mut self, block: u64) -> Result<Vec<u8>> {
        let offset = self.offset(block)?;
        let mut bytes = vec![0; index(self.parsed.block)];
        self.source.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// An inode with its offset.
    fn inode(&mut self, number: u32) -> Result<(u64, Vec<u8>)> {
        let parsed = &self.parsed;
        if number == 0 || number > parsed.inodes {
            let reason = format!("inode {number} is not one of the {}", parsed.inodes);
            return Err(malformed(superblock::OFFSET, reason));
        }
        let (group, within) =
            ((number - 1) / parsed.inodes_per_group, (number - 1) % parsed.inodes_per_group);
        let descriptor = self.descriptor(group)?;
        let mut bytes = vec![0; index(self.parsed.descriptor_len)];
        self.source.read_at(descriptor, &mut bytes)?;
        let high = if bytes.len() >= 64 { u32_le(&bytes, 0x28).unwrap_or(0) } else { 0 };
        let table = u64::from(u32_le(&bytes, 0x08).unwrap_or(0)) | u64::from(high) << 32;
        let from = u64::from(within) * self.parsed.inode_len;
        let block = self.offset(table.saturating_add(from / self.parsed.block))?;
        if self.recent.0 != block || self.recent.1.is_empty() {
            let mut bytes = vec![0; index(self.parsed.block)];
            self.source.read_at(block, &mut bytes)?;
            self.recent = (block, bytes);
        }
        let inside = from % self.parsed.block;
        let (start, end) = (index(inside), index(inside + self.parsed.inode_len));
        let inode = self.recent.1.get(start..end).unwrap_or_default().to_vec();
        Ok((block + inside, inode))
    }

    /// The offset of a group's descriptor.
    fn descriptor(&self, group: u32) -> Result<u64> {
        let parsed = &self.parsed;
        let per_block = parsed.block / parsed.descriptor_len;
        let (block, within) = (u64::from(group) / per_block, u64::from(group) % per_block);
        let meta = parsed.is_incompatible(feature::META_BG);
        let first = if meta && block >= u64::from(parsed.first_meta_bg) {
            // Each block of descriptors is in the first of its groups.
            let group = block.saturating_mul(per_block);
            let sparse = parsed.features[2] & feature::SPARSE_SUPER != 0;
            let has_super =
                !sparse || Geometry::has_super(u32::try_from(group).unwrap_or(u32::MAX));
            group
                .saturating_mul(u64::from(parsed.blocks_per_group))
                .saturating_add(u64::from(parsed.first_data_block))
                .saturating_add(u64::from(has_super))
        } else {
            u64::from(parsed.first_data_block).saturating_add(1).saturating_add(block)
        };
        Ok(self.offset(first)?.saturating_add(within * parsed.descriptor_len))
    }

    /// The bytes of an inode, holes as zeroes. The length has been compared with a limit.
    fn content(&mut self, offset: u64, inode: &[u8], len: u64) -> Result<Vec<u8>> {
        let flags = u32_le(inode, 0x20).unwrap_or(0);
        let body: [u8; 60] = array(inode, 0x28).unwrap_or([0; 60]);
        if flags & flag::INLINE_DATA != 0 {
            return Err(Error::unsupported("ext4", "content inside of an inode"));
        }
        let wanted = len.div_ceil(self.parsed.block);
        let mapped = if flags & flag::EXTENTS != 0 {
            self.extents(offset, &body, wanted)?
        } else {
            self.indirect(&body, wanted)?
        };
        let mut total = 0;
        let mut bytes = vec![0; index(len)];
        for run in mapped.iter().filter(|run| !run.unwritten && run.logical < wanted) {
            // A run may reach beyond the file's end, but not beyond the volume's.
            let count = run.len.min(wanted - run.logical);
            // Each block comes once, so that few extents cannot ask for much to be read.
            total += count;
            if total > wanted {
                return Err(malformed(offset, "extents that overlap"));
            }
            self.offset(run.physical.saturating_add(count - 1))?;
            let start = run.logical * self.parsed.block;
            let end = (start + count * self.parsed.block).min(len);
            if let Some(place) = bytes.get_mut(index(start)..index(end)) {
                self.source.read_at(run.physical * self.parsed.block, place)?;
            }
        }
        Ok(bytes)
    }

    /// Follows a tree of extents, as far as it is about so many blocks.
    fn extents(&mut self, offset: u64, body: &[u8; 60], wanted: u64) -> Result<Vec<Mapped>> {
        let mut mapped = Vec::new();
        let mut pending = vec![(offset, body.to_vec(), None::<u16>)];
        let mut nodes = 0;
        while let Some((offset, node, expected)) = pending.pop() {
            let short = |at| u16_le(&node, at).unwrap_or(0);
            let depth = short(6);
            if short(0) != extents::MAGIC {
                return Err(malformed(offset, format!("extents begin with {:#06x}", short(0))));
            }
            if depth > MAX_DEPTH || expected.is_some_and(|expected| depth != expected) {
                return Err(malformed(offset, format!("a tree of extents of depth {depth}")));
            }
            nodes += 1;
            // A node below the inode has blocks of its own; more of them than blocks are a loop.
            if nodes > wanted.saturating_add(1) || nodes > self.limits.tables / 4096 {
                return Err(malformed(offset, "a tree of extents that does not end"));
            }
            let entries = node.chunks_exact(extents::ENTRY).skip(1).take(usize::from(short(2)));
            for entry in entries {
                let low = |at| u64::from(u32_le(entry, at).unwrap_or(0));
                let logical = low(0);
                if logical >= wanted {
                    continue;
                }
                if depth > 0 {
                    let block = low(4) | u64::from(u16_le(entry, 8).unwrap_or(0)) << 32;
                    let bytes = self.block(block)?;
                    pending.push((block * self.parsed.block, bytes, Some(depth - 1)));
                    continue;
                }
                let len = u64::from(u16_le(entry, 4).unwrap_or(0));
                let unwritten = len > 1 << 15;
                let len = if unwritten { len - (1 << 15) } else { len };
                let physical = low(8) | u64::from(u16_le(entry, 6).unwrap_or(0)) << 32;
                if len > 0 {
                    mapped.push(Mapped { logical, physical, len, unwritten });
                }
            }
        }
        Ok(mapped)
    }

    /// Follows the direct blocks and the three trees of blocks of ext2.
    fn indirect(&mut self, body: &[u8; 60], wanted: u64) -> Result<Vec<Mapped>> {
        let mut mapped = Vec::new();
        let per_block = self.parsed.block / 4;
        let mut logical = 0;
        for at in 0..15_u32 {
            if logical >= wanted {
                break;
            }
            let number = u32_le(body, at as usize * 4).unwrap_or(0);
            let depth = at.saturating_sub(11);
            self.follow(number, depth, logical, wanted, &mut mapped)?;
            logical = logical.saturating_add(per_block.saturating_pow(depth));
        }
        Ok(mapped)
    }

    fn follow(
        &mut self,
        block: u32,
        depth: u32,
        logical: u64,
        wanted: u64,
        mapped: &mut Vec<Mapped>,
    ) -> Result<()> {
        if block == 0 || logical >= wanted {
            return Ok(());
        }
        let physical = u64::from(block);
        if depth == 0 {
            match mapped.last_mut() {
                Some(last)
                    if last.logical + last.len == logical
                        && last.physical + last.len == physical =>
                {
                    last.len += 1;
                }
                _ => mapped.push(Mapped { logical, physical, len: 1, unwritten: false }),
            }
            return Ok(());
        }
        let below = (self.parsed.block / 4).saturating_pow(depth - 1);
        let bytes = self.block(physical)?;
        let mut logical = logical;
        for number in bytes.chunks_exact(4) {
            if logical >= wanted {
                break;
            }
            let number = u32_le(number, 0).unwrap_or(0);
            self.follow(number, depth - 1, logical, wanted, mapped)?;
            logical = logical.saturating_add(below);
        }
        Ok(())
    }
}

/// The length that an inode states, in bytes.
fn len(inode: &[u8]) -> u64 {
    let long = |at| u64::from(u32_le(inode, at).unwrap_or(0));
    // The upper half is something else for what is no file in the first revisions, where it is 0.
    long(0x04) | long(0x6c) << 32
}

/// The names in a directory's blocks, with their inodes. An index is skipped: its blocks look like
/// unused names.
fn names(bytes: &[u8], block: usize) -> Vec<(&[u8], u32)> {
    let mut names = Vec::new();
    for block in bytes.chunks(block.max(1)) {
        let mut at = 0;
        while let Some(inode) = u32_le(block, at) {
            let step = usize::from(u16_le(block, at + 4).unwrap_or(0));
            let name_len = block.get(at + 6).map_or(0, |len| usize::from(*len));
            let name = block.get(at + 8..at + 8 + name_len).unwrap_or_default();
            if inode != 0 && !name.is_empty() && name != b"." && name != b".." {
                names.push((name, inode));
            }
            // A step of 0 or 65535 is a whole block of 64 KiB; less than an entry is the end.
            if step < 8 {
                break;
            }
            at += step;
        }
    }
    names
}
