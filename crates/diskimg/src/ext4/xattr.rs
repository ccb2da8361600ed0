//! Extended attributes (`fs/ext4/xattr.h` of Linux): in the inode as far as they fit, the rest in
//! a block of their own. Access control lists are stored shorter than system calls give them.

use std::collections::BTreeMap;

use super::checksum::{Sums, crc};
use super::{BLOCK, BLOCK_LEN};
use crate::field::{array, index, narrow16, narrow32, put, u16_le, u32_le};

const MAGIC: u32 = 0xea02_0000;
/// Bytes of an entry before its name.
const ENTRY: usize = 16;
/// Bytes of a block's header.
const HEADER: usize = 32;
/// Bytes of zero after the last entry.
const END: usize = 4;
/// Where attributes begin in an inode, and where they may end.
pub(super) const IN_INODE: usize = 160;
const INODE_ROOM: usize = 256 - IN_INODE - 4;
const BLOCK_ROOM: usize = BLOCK_LEN - HEADER;

/// What numbers stand for as the beginning of a name.
const PREFIXES: [(u8, &[u8]); 7] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (8, b"system.richacl"),
    (7, b"system."),
];
/// Of these the beginning is the whole name.
const WHOLE: [u8; 3] = [2, 3, 8];

/// An attribute as it is stored. The order is that in which Linux expects them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Attribute {
    prefix: u8,
    name_len: usize,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Attribute {
    fn new(full: &[u8], value: &[u8]) -> Result<Self, &'static str> {
        let (prefix, name) = PREFIXES
            .iter()
            .find_map(|(prefix, start)| Some((*prefix, full.strip_prefix(*start)?)))
            .ok_or("expected a name in user., trusted., security. or system.")?;
        if WHOLE.contains(&prefix) != name.is_empty() {
            return Err("the name is incomplete or goes on where it should end");
        }
        if name.len() > 255 {
            return Err("the name is longer than 255 bytes");
        }
        let value = match prefix {
            2 | 3 => acl_to_disk(value).ok_or("the value is no access control list")?,
            _ => value.to_vec(),
        };
        Ok(Self { prefix, name_len: name.len(), name: name.to_vec(), value })
    }

    fn len(&self) -> usize {
        ENTRY + self.name.len().next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// The hash of name and value, which Linux compares blocks by.
    fn hash(&self) -> u32 {
        let name =
            self.name.iter().fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        self.value.chunks(4).fold(name, |hash, part| {
            let mut word = [0; 4];
            put(&mut word, 0, part);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// The attributes of an inode.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    in_inode: Vec<Attribute>,
    in_block: Vec<Attribute>,
}

impl Attributes {
    /// Divides attributes between inode and block; tells a problem by its attribute's name.
    pub(super) fn new(
        xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
        mut problem: impl FnMut(String),
    ) -> Self {
        let mut all = Vec::with_capacity(xattrs.len());
        for (name, value) in xattrs {
            match Attribute::new(name, value) {
                Ok(attribute) => all.push(attribute),
                Err(reason) => {
                    problem(format!("attribute \"{}\": {reason}", name.escape_ascii()));
                }
            }
        }
        all.sort();
        let mut attributes = Self::default();
        let (mut inode, mut block) = (END, END);
        for attribute in all {
            let len = attribute.len();
            if inode.saturating_add(len) <= INODE_ROOM {
                inode += len;
                attributes.in_inode.push(attribute);
            } else {
                block = block.saturating_add(len);
                attributes.in_block.push(attribute);
            }
        }
        if block > BLOCK_ROOM {
            problem(format!(
                "the extended attributes are {} bytes more than fit",
                block - BLOCK_ROOM
            ));
        }
        attributes
    }

    /// Whether a block of their own is needed.
    pub(super) fn needs_block(&self) -> bool {
        !self.in_block.is_empty()
    }

    /// Writes what an inode holds into it.
    pub(super) fn put_in_inode(&self, inode: &mut [u8]) {
        if self.in_inode.is_empty() {
            return;
        }
        put(inode, IN_INODE, &MAGIC.to_le_bytes());
        if let Some(area) = inode.get_mut(IN_INODE + 4..) {
            put_entries(area, 0, &self.in_inode);
        }
    }

    /// The block that holds the rest, for its place.
    pub(super) fn block(&self, number: u64, sums: Sums) -> Vec<u8> {
        let mut block = vec![0; index(BLOCK)];
        put(&mut block, 0, &MAGIC.to_le_bytes());
        // One user, one block.
        put(&mut block, 4, &1_u32.to_le_bytes());
        put(&mut block, 8, &1_u32.to_le_bytes());
        put_entries(&mut block, HEADER, &self.in_block);
        let hash = self
            .in_block
            .iter()
            .fold(0_u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
        put(&mut block, 12, &hash.to_le_bytes());
        let sum = crc(sums.block(number), &block);
        put(&mut block, 16, &sum.to_le_bytes());
        block
    }
}

/// Entries from `at` on, values from the area's end.
fn put_entries(area: &mut [u8], mut at: usize, attributes: &[Attribute]) {
    let mut end = area.len();
    for attribute in attributes {
        let name_len = u8::try_from(attribute.name.len()).unwrap_or(u8::MAX);
        put(area, at, &[name_len, attribute.prefix]);
        if !attribute.value.is_empty() {
            end = end.saturating_sub(attribute.value.len().next_multiple_of(4));
            put(area, at + 2, &narrow16(end as u64).to_le_bytes());
            put(area, end, &attribute.value);
        }
        put(area, at + 8, &narrow32(attribute.value.len() as u64).to_le_bytes());
        put(area, at + 12, &attribute.hash().to_le_bytes());
        put(area, at + ENTRY, &attribute.name);
        at += ENTRY + attribute.name.len().next_multiple_of(4);
    }
}

/// Reads the attributes of an inode's area, or of a block (which begins with its header). What is
/// not as it should be is left out.
pub(super) fn parse(bytes: &[u8], in_block: bool, found: &mut BTreeMap<Vec<u8>, Vec<u8>>) {
    if u32_le(bytes, 0) != Some(MAGIC) {
        return;
    }
    // Values are counted from the first entry in an inode, and from the header in a block.
    let (mut at, base) = if in_block { (HEADER, 0) } else { (4, 4) };
    while let Some([name_len, prefix]) = array::<2>(bytes, at) {
        if name_len == 0 && prefix == 0 {
            return;
        }
        let name = at + ENTRY;
        let name_end = name + usize::from(name_len);
        let offset = base + usize::from(u16_le(bytes, at + 2).unwrap_or(0));
        let len = index(u64::from(u32_le(bytes, at + 8).unwrap_or(0)));
        let value = offset.checked_add(len).and_then(|end| bytes.get(offset..end));
        let value = if len == 0 { Some(&[][..]) } else { value };
        let start = PREFIXES.iter().find(|(number, _)| *number == prefix);
        if let (Some(name), Some(value), Some((_, start)), Some(0)) =
            (bytes.get(name..name_end), value, start, u32_le(bytes, at + 4))
        {
            let value = match prefix {
                2 | 3 => acl_from_disk(value),
                _ => Some(value.to_vec()),
            };
            if let Some(value) = value {
                found.insert([start, name].concat(), value);
            }
        }
        at = name_end.next_multiple_of(4);
    }
}

/// Tags of entries that name a user or a group.
const NAMED: [u16; 2] = [0x02, 0x08];

/// From the form of system calls (version 2, eight bytes each) to that of the disk (version 1,
/// numbers only where they mean something).
fn acl_to_disk(value: &[u8]) -> Option<Vec<u8>> {
    let entries = value.strip_prefix(&2_u32.to_le_bytes())?;
    let mut disk = 1_u32.to_le_bytes().to_vec();
    if !entries.len().is_multiple_of(8) {
        return None;
    }
    for entry in entries.chunks_exact(8) {
        let len = if NAMED.contains(&u16_le(entry, 0)?) { 8 } else { 4 };
        disk.extend_from_slice(entry.get(..len)?);
    }
    Some(disk)
}

fn acl_from_disk(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.strip_prefix(&1_u32.to_le_bytes())?;
    let mut acl = 2_u32.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let named = NAMED.contains(&u16_le(rest, 0)?);
        let (entry, after) = rest.split_at_checked(if named { 8 } else { 4 })?;
        acl.extend_from_slice(entry);
        if !named {
            acl.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        rest = after;
    }
    Some(acl)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_control_lists_are_there_and_back() {
        let mut acl = 2_u32.to_le_bytes().to_vec();
        for (tag, perm, id) in [(1_u16, 7_u16, u32::MAX), (2, 6, 1000), (4, 5, u32::MAX)] {
            acl.extend_from_slice(&tag.to_le_bytes());
            acl.extend_from_slice(&perm.to_le_bytes());
            acl.extend_from_slice(&id.to_le_bytes());
        }
        let disk = acl_to_disk(&acl).unwrap();
        assert_eq!(disk.len(), 4 + 4 + 8 + 4);
        assert_eq!(acl_from_disk(&disk), Some(acl));
        assert_eq!(acl_to_disk(b"text"), None);
    }
}
