//! Reads a volume that may be hostile: every length is bounded by the volume and by the caller's
//! limits, every directory is read once.

use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::TreePath;

use super::index::{Index, Stretch};
use super::inode::{self, Inode, SLOT, Storage, kind};
use super::superblock::{self, Superblock};
use super::{decompress, directory};
use crate::container::{BlockSource, check_range};
use crate::field::{array, index, u16_le, u32_le};
use crate::guid::Guid;
use crate::{Error, Limits, Result};

/// What one volume may ask for that is read here.
const SUPPORTED: u32 = superblock::ZERO_PADDING
    | superblock::COMPRESSOR_CONFIGS
    | superblock::CHUNKS
    | superblock::HEAD2
    | superblock::INLINE_CLUSTERS;
/// In a chunk's format: entries of eight bytes instead of four.
const CHUNK_INDEXES: u32 = 0x20;
/// A chunk that is a hole.
const HOLE: u32 = u32::MAX;

/// A file, directory or something else of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// Its path.
    pub path: TreePath,
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u64,
    /// Names of the inode.
    pub links: u32,
    /// Bytes.
    pub len: u64,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
    /// The number of its inode; names of one file share it.
    pub inode: u64,
}

impl Found {
    /// Whether it is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & kind::MASK == kind::DIRECTORY
    }

    /// Whether it is a regular file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.mode & kind::MASK == kind::FILE
    }

    /// Whether it is a symbolic link; [`Reader::read`] gives where to.
    #[must_use]
    pub fn is_symlink(&self) -> bool {
        self.mode & kind::MASK == kind::SYMLINK
    }
}

/// A volume that can be listed and read.
///
/// Read are files in blocks, in chunks and compressed with LZ4 (with the feature `lz4`), in either
/// form of index; not those that share fragments or other devices.
pub struct Reader<'source> {
    source: &'source mut dyn BlockSource,
    limits: Limits,
    superblock: Superblock,
}

impl std::fmt::Debug for Reader<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Reader").field("superblock", &self.superblock).finish_non_exhaustive()
    }
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("erofs", offset, reason)
}

fn beyond(what: &'static str, found: u64, limit: u64) -> Error {
    Error::Limit { format: "erofs", what, found, limit }
}

impl<'source> Reader<'source> {
    /// Reads the superblock of a volume that begins at the source's first byte.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no EROFS volume or its checksum is wrong,
    /// [`Error::Unsupported`] for features that are not known.
    pub fn open(source: &'source mut dyn BlockSource, limits: &Limits) -> Result<Self> {
        let mut bytes = [0; superblock::LEN];
        source.read_at(superblock::OFFSET, &mut bytes)?;
        let superblock = Superblock::parse(&bytes)?;
        if superblock.compatible & superblock::CHECKSUM != 0 {
            let end = (1_u64 << superblock.block_bits).max(superblock::OFFSET + 128);
            let mut rest = vec![0; index(end - superblock::OFFSET)];
            source.read_at(superblock::OFFSET, &mut rest)?;
            let sum = superblock::checksum(&rest);
            if sum != superblock.checksum {
                let reason =
                    format!("the checksum is {:#010x}, expected {sum:#010x}", superblock.checksum);
                return Err(malformed(superblock::OFFSET + 4, reason));
            }
        }
        let unknown = superblock.incompatible & !SUPPORTED;
        if unknown != 0 {
            return Err(Error::unsupported("erofs", format!("the features {unknown:#x}")));
        }
        Ok(Self { source, limits: limits.clone(), superblock })
    }

    /// Its label; `None` when it has none.
    #[must_use]
    pub fn label(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.superblock.label);
        let text = text.trim_end_matches('\0');
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Its identifier.
    #[must_use]
    pub fn uuid(&self) -> Guid {
        Guid(self.superblock.uuid)
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_len(&self) -> u64 {
        1 << self.superblock.block_bits
    }

    /// How many blocks the volume has, as it says.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        u64::from(self.superblock.blocks)
    }

    /// How many inodes the volume has, as it says.
    #[must_use]
    pub fn inodes(&self) -> u64 {
        self.superblock.inodes
    }

    /// Everything in the volume but the root, sorted by path.
    ///
    /// # Errors
    /// [`Error::Malformed`] for inodes and directories that make no sense or are their own parents,
    /// [`Error::Limit`] for too many files or too deep directories.
    pub fn list(&mut self) -> Result<Vec<Found>> {
        let mut found: Vec<Found> = Vec::new();
        let mut pending = vec![(TreePath::root(), u64::from(self.superblock.root))];
        let mut seen = BTreeSet::new();
        let mut read = 0_u64;
        while let Some((directory, number)) = pending.pop() {
            let depth = directory.components().count();
            if depth > self.limits.depth {
                return Err(beyond("depth", depth as u64, self.limits.depth as u64));
            }
            let (at, inode) = self.inode(number)?;
            if !inode.is_directory() {
                return Err(malformed(at, format!("{directory}: this is no directory")));
            }
            if !seen.insert(number) {
                let reason = format!("{directory}: the directory is in the volume twice");
                return Err(malformed(at, reason));
            }
            read = read.saturating_add(inode.len);
            if read > self.limits.tables {
                return Err(beyond("length of all directories", read, self.limits.tables));
            }
            let bytes = self.content(&directory.to_string(), at, &inode)?;
            let block = index(self.block_len());
            for chunk in bytes.chunks(block) {
                let entries = directory::parse(chunk).map_err(|(byte, reason)| {
                    malformed(at, format!("{directory}: byte {byte} of a block: {reason}"))
                })?;
                for (name, number) in entries {
                    if name == b"." || name == b".." {
                        continue;
                    }
                    if found.len() >= self.limits.files {
                        let limit = self.limits.files as u64;
                        return Err(beyond("number of files", limit + 1, limit));
                    }
                    let entry = self.found(&directory, &name, number)?;
                    if entry.is_directory() {
                        pending.push((entry.path.clone(), number));
                    }
                    found.push(entry);
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// A file's bytes, or where a symbolic link leads.
    ///
    /// # Errors
    /// [`Error::Malformed`] for blocks outside of the volume and for compressed data that do not
    /// decompress; [`Error::Unsupported`]; [`Error::Limit`] when the file is too long.
    pub fn read(&mut self, file: &Found) -> Result<Vec<u8>> {
        let (at, inode) = self.inode(file.inode)?;
        if !(file.is_file() || file.is_symlink()) || inode.mode != file.mode {
            return Err(malformed(at, format!("{}: this is neither file nor link", file.path)));
        }
        self.content(&file.path.to_string(), at, &inode)
    }

    /// The extended attributes of something, by their full names. Those that are of no known kind
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Malformed`] when they are not inside of the volume.
    pub fn xattrs(&mut self, file: &Found) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let (at, inode) = self.inode(file.inode)?;
        let size = inode.xattr_size();
        if size == 0 {
            return Ok(BTreeMap::new());
        }
        let bytes = self.bytes(at.saturating_add(inode.size()), size)?;
        let mut found = inode::parse_xattrs(&bytes);
        let shared = usize::from(bytes.get(4).copied().unwrap_or(0));
        for number in 0..shared {
            let Some(slot) = u32_le(&bytes, 12 + number * 4) else { break };
            let start = u64::from(self.superblock.xattr_block) << self.superblock.block_bits;
            let start = start.saturating_add(u64::from(slot) * 4);
            let head: [u8; 4] = array(&self.bytes(start, 4)?, 0).unwrap_or_default();
            let [name, _, low, high] = head;
            let len = 4 + u64::from(name) + u64::from(u16::from_le_bytes([low, high]));
            if let Some((name, value, _)) = inode::parse_xattr(&self.bytes(start, len)?) {
                found.insert(name, value);
            }
        }
        Ok(found)
    }

    fn found(&mut self, directory: &TreePath, name: &[u8], number: u64) -> Result<Found> {
        let (at, inode) = self.inode(number)?;
        let path = directory.join(name).map_err(|error| malformed(at, error.to_string()))?;
        let device = matches!(inode.mode & kind::MASK, kind::CHAR_DEVICE | kind::BLOCK_DEVICE);
        Ok(Found {
            path,
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            mtime: inode.mtime.unwrap_or(self.superblock.build_time),
            links: inode.links,
            len: inode.len,
            device: device.then(|| inode::split_device(inode.place)),
            inode: number,
        })
    }

    /// An inode and where it is.
    fn inode(&mut self, number: u64) -> Result<(u64, Inode)> {
        let start = u64::from(self.superblock.meta_block) << self.superblock.block_bits;
        let at = number.checked_mul(SLOT).and_then(|at| at.checked_add(start));
        let at = at.unwrap_or(u64::MAX);
        let mut bytes = self.bytes(at, inode::COMPACT)?;
        if u16_le(&bytes, 0).is_some_and(|format| format & 1 == 1) {
            bytes = self.bytes(at, inode::EXTENDED)?;
        }
        let inode = Inode::parse(&bytes)
            .ok_or_else(|| malformed(at, "an inode of a format that is not known"))?;
        Ok((at, inode))
    }

    /// So many bytes, which must be inside of the volume before memory is taken for them.
    fn bytes(&mut self, at: u64, len: u64) -> Result<Vec<u8>> {
        if len == 0 {
            // The place of nothing may be anywhere.
            return Ok(Vec::new());
        }
        check_range("erofs", at, index(len), self.source.len())?;
        let mut bytes = vec![0; index(len)];
        self.source.read_at(at, &mut bytes)?;
        Ok(bytes)
    }

    fn content(&mut self, path: &str, at: u64, inode: &Inode) -> Result<Vec<u8>> {
        let len = inode.len;
        if len > self.limits.file_len {
            return Err(beyond("length of a file", len, self.limits.file_len));
        }
        let start = u64::from(inode.place) << self.superblock.block_bits;
        let behind = at.saturating_add(inode.size() + inode.xattr_size());
        match inode.storage {
            Storage::Plain => self.bytes(start, len),
            Storage::Inline => {
                let tail = len % self.block_len();
                let mut bytes = self.bytes(start, len - tail)?;
                bytes.extend_from_slice(&self.bytes(behind, tail)?);
                Ok(bytes)
            }
            Storage::Chunks => self.chunks(path, behind, inode),
            Storage::CompressedFull | Storage::CompressedCompact => {
                self.decompressed(path, behind.saturating_add(7) / 8 * 8, inode)
            }
        }
    }

    fn chunks(&mut self, path: &str, behind: u64, inode: &Inode) -> Result<Vec<u8>> {
        let bits = u32::from(self.superblock.block_bits) + (inode.place & 0x1f);
        let chunk = 1_u64 << bits.min(40);
        let count = inode.len.div_ceil(chunk);
        let width = if inode.place & CHUNK_INDEXES == 0 { 4 } else { 8 };
        let entries = self.bytes(behind.div_ceil(width) * width, count * width)?;
        let mut bytes = Vec::new();
        for entry in entries.chunks(index(width)) {
            // The longer form has a device before the block.
            let device = if width == 8 { u16_le(entry, 2).unwrap_or(0) } else { 0 };
            if device != 0 {
                let what = format!("{path}: a chunk on the further device {device}");
                return Err(Error::unsupported("erofs", what));
            }
            let block = u32_le(entry, index(width) - 4).unwrap_or(HOLE);
            let len = chunk.min(inode.len - bytes.len() as u64);
            if block == HOLE {
                bytes.resize(bytes.len() + index(len), 0);
            } else {
                let start = u64::from(block) << self.superblock.block_bits;
                bytes.extend_from_slice(&self.bytes(start, len)?);
            }
        }
        Ok(bytes)
    }

    fn decompressed(&mut self, path: &str, header: u64, inode: &Inode) -> Result<Vec<u8>> {
        let map = self.bytes(header, 8)?;
        let index = Index::open(&self.superblock, inode, header, &map)?;
        let table = self.bytes(index.start(), index.len())?;
        let mut bytes = Vec::new();
        for stretch in index.stretches(&table)? {
            let Stretch { start, end, at, len, .. } = stretch;
            if start != bytes.len() as u64 {
                let reason = format!("{path}: an extent begins at byte {start} of the file");
                return Err(malformed(header, reason));
            }
            let stored = self.bytes(at, len)?;
            decompress::stretch(&self.superblock, &stretch, &stored, &mut bytes)
                .map_err(|reason| malformed(at, format!("{path}: {reason}")))?;
            debug_assert_eq!(end, bytes.len() as u64);
        }
        if bytes.len() as u64 != inode.len {
            let reason =
                format!("{path}: the extents have {} bytes, not {}", bytes.len(), inode.len);
            return Err(malformed(header, reason));
        }
        Ok(bytes)
    }
}
