//! Directories: one block of names, or leaves in the order of their hashes under an index.

use super::checksum::crc;
use super::{BLOCK_LEN, htree};
use crate::field::{narrow16, narrow32, put};

/// What a name leads to, as directories record it (`filetype`).
pub(super) mod file_type {
    pub(in crate::ext4) const REGULAR: u8 = 1;
    pub(in crate::ext4) const DIRECTORY: u8 = 2;
    pub(in crate::ext4) const CHARACTER: u8 = 3;
    pub(in crate::ext4) const BLOCK: u8 = 4;
    pub(in crate::ext4) const FIFO: u8 = 5;
    pub(in crate::ext4) const SOCKET: u8 = 6;
    pub(in crate::ext4) const SYMLINK: u8 = 7;
    /// The checksum at the end of a block, which looks like an unused entry.
    pub(super) const CHECKSUM: u8 = 0xde;
}

/// Bytes of the checksum's entry.
const TAIL: usize = 12;
/// Bytes of names in a block.
const ROOM: usize = BLOCK_LEN - TAIL;
/// Bytes of `.` or `..`.
const DOT: usize = 12;
/// Where the index begins in a directory's first block and in those below.
const ROOT_INDEX: usize = 32;
const NODE_INDEX: usize = 8;
/// Entries of an index block: what is left before the checksum of eight bytes.
const ROOT_ENTRIES: usize = (BLOCK_LEN - ROOT_INDEX - 8) / 8;
const NODE_ENTRIES: usize = (BLOCK_LEN - NODE_INDEX - 8) / 8;

/// A name in a directory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name<'tree> {
    pub(super) name: &'tree [u8],
    pub(super) inode: u32,
    pub(super) file_type: u8,
}

impl Name<'_> {
    fn len(&self) -> usize {
        (8 + self.name.len()).next_multiple_of(4)
    }
}

/// A directory's blocks.
#[derive(Debug, Clone)]
pub(super) struct Directory {
    pub(super) bytes: Vec<u8>,
    /// Whether it has an index.
    pub(super) indexed: bool,
}

/// Makes a directory with the number `own` in the directory `parent`. `seed` is the inode's, for
/// checksums. `None` when there are more names than two levels of index can lead to.
pub(super) fn emit(
    own: u32,
    parent: u32,
    names: &[Name<'_>],
    seed: u32,
    hash_seed: &[u32; 4],
) -> Option<Directory> {
    let dots = [(&b"."[..], own), (b"..", parent)].map(|(name, inode)| Name {
        name,
        inode,
        file_type: file_type::DIRECTORY,
    });
    let total: usize = names.iter().map(Name::len).sum();
    if total + 2 * DOT <= ROOM {
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        leaf(&mut bytes, dots.iter().chain(names), seed);
        return Some(Directory { bytes, indexed: false });
    }
    let mut hashed: Vec<((u32, u32), &Name<'_>)> =
        names.iter().map(|name| (htree::hash(name.name, hash_seed), name)).collect();
    hashed.sort_unstable_by(|(a, left), (b, right)| a.cmp(b).then(left.name.cmp(right.name)));
    let leaves = pack(&hashed);
    let nodes = if leaves.len() <= ROOT_ENTRIES { 0 } else { leaves.len().div_ceil(NODE_ENTRIES) };
    if nodes > ROOT_ENTRIES {
        return None;
    }

    // The index: each leaf with the first hash in it. The lowest bit, which no hash has, says that
    // names of this hash are in the leaf before, too.
    let mut index = Vec::with_capacity(leaves.len());
    let mut before = None;
    for (number, part) in (1 + nodes..).zip(&leaves) {
        let first = part.first().map_or(0, |((hash, _), _)| *hash);
        let continued = u32::from(before == Some(first));
        index.push((first | continued, narrow32(number as u64)));
        before = part.last().map(|((hash, _), _)| *hash);
    }
    let mut bytes = Vec::with_capacity((1 + nodes + leaves.len()) * BLOCK_LEN);
    let mut root = vec![0; BLOCK_LEN];
    entry(&mut root, 0, &dots[0], DOT);
    entry(&mut root, DOT, &dots[1], BLOCK_LEN - DOT);
    // Four bytes of zero, the hash, the length of this header, the levels below.
    let levels = u8::from(nodes > 0);
    put(&mut root, 24, &[0, 0, 0, 0, htree::HALF_MD4, 8, levels, 0]);
    if nodes == 0 {
        index_block(&mut root, ROOT_INDEX, ROOT_ENTRIES, &index, seed);
        bytes.extend_from_slice(&root);
    } else {
        let parts: Vec<&[(u32, u32)]> = index.chunks(NODE_ENTRIES).collect();
        let above: Vec<(u32, u32)> = (1..)
            .zip(&parts)
            .map(|(number, part)| (part.first().map_or(0, |(hash, _)| *hash), number))
            .collect();
        index_block(&mut root, ROOT_INDEX, ROOT_ENTRIES, &above, seed);
        bytes.extend_from_slice(&root);
        for part in parts {
            let mut node = vec![0; BLOCK_LEN];
            // One unused entry over the whole block, for those who know no index.
            put(&mut node, 4, &narrow16(BLOCK_LEN as u64).to_le_bytes());
            index_block(&mut node, NODE_INDEX, NODE_ENTRIES, part, seed);
            bytes.extend_from_slice(&node);
        }
    }
    for part in leaves {
        leaf(&mut bytes, part.iter().map(|(_, name)| *name), seed);
    }
    Some(Directory { bytes, indexed: true })
}

/// The directory in which `e2fsck` puts what it finds: `mke2fs` gives it four blocks.
pub(super) fn emit_empty_blocks(directory: &mut Directory, blocks: usize, seed: u32) {
    while !directory.indexed && directory.bytes.len() < blocks * BLOCK_LEN {
        leaf(&mut directory.bytes, std::iter::empty(), seed);
    }
}

/// Cuts sorted names into blocks.
fn pack<'names, 'tree>(
    hashed: &'names [((u32, u32), &'tree Name<'tree>)],
) -> Vec<&'names [((u32, u32), &'tree Name<'tree>)]> {
    let mut leaves = Vec::new();
    let (mut from, mut filled) = (0, 0);
    for (at, (_, name)) in hashed.iter().enumerate() {
        if filled + name.len() > ROOM {
            leaves.extend(hashed.get(from..at));
            (from, filled) = (at, 0);
        }
        filled += name.len();
    }
    leaves.extend(hashed.get(from..));
    leaves
}

fn index_block(block: &mut [u8], at: usize, most: usize, entries: &[(u32, u32)], seed: u32) {
    for ((hash, number), place) in entries.iter().zip((at..).step_by(8)) {
        put(block, place, &hash.to_le_bytes());
        put(block, place + 4, &number.to_le_bytes());
    }
    // The first entry needs no hash: its place says how many there can be and are.
    put(block, at, &narrow16(most as u64).to_le_bytes());
    put(block, at + 2, &narrow16(entries.len() as u64).to_le_bytes());
    let used = block.get(..at + entries.len() * 8).unwrap_or_default();
    // The four bytes before the checksum and its own place count as zero.
    let sum = crc(crc(seed, used), &[0; 8]);
    put(block, at + most * 8 + 4, &sum.to_le_bytes());
}

/// Appends a block of names, the last of which has what is left of the block.
fn leaf<'names, 'tree: 'names>(
    bytes: &mut Vec<u8>,
    names: impl Iterator<Item = &'names Name<'tree>>,
    seed: u32,
) {
    let start = bytes.len();
    bytes.resize(start + BLOCK_LEN, 0);
    let block = bytes.get_mut(start..).unwrap_or_default();
    let (mut last, mut at) = (0, 0);
    for name in names {
        entry(block, at, name, name.len());
        last = at;
        at += name.len();
    }
    put(block, last + 4, &narrow16((ROOM - last) as u64).to_le_bytes());
    put(block, ROOM + 4, &narrow16(TAIL as u64).to_le_bytes());
    put(block, ROOM + 7, &[file_type::CHECKSUM]);
    let sum = crc(seed, block.get(..ROOM).unwrap_or_default());
    put(block, ROOM + 8, &sum.to_le_bytes());
}

fn entry(block: &mut [u8], at: usize, name: &Name<'_>, len: usize) {
    put(block, at, &name.inode.to_le_bytes());
    put(block, at + 4, &narrow16(len as u64).to_le_bytes());
    let name_len = u8::try_from(name.name.len()).unwrap_or(u8::MAX);
    put(block, at + 6, &[name_len, name.file_type]);
    put(block, at + 8, name.name);
}
