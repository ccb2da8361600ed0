//! Directories: blocks of entries, each followed by the names of that block, sorted by bytes.

use super::BLOCK;
use super::inode::kind;
use crate::field::{index, narrow16, u16_le, u64_le};

/// Bytes of an entry without its name.
const ENTRY: usize = 12;

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'name> {
    pub(super) name: &'name [u8],
    /// Where its inode is, in slots of 32 bytes.
    pub(super) inode: u64,
    /// The mode that its inode has.
    pub(super) mode: u16,
}

/// A name as it was read, and the slot of its inode.
pub(super) type Named = (Vec<u8>, u64);

/// The number that an entry has for a kind of inode.
fn file_type(mode: u16) -> u8 {
    match mode & kind::MASK {
        kind::FILE => 1,
        kind::DIRECTORY => 2,
        kind::CHAR_DEVICE => 3,
        kind::BLOCK_DEVICE => 4,
        kind::FIFO => 5,
        kind::SOCKET => 6,
        kind::SYMLINK => 7,
        _ => 0,
    }
}

/// The length of a directory with such names, in their order.
pub(super) fn len<'name>(names: impl Iterator<Item = &'name [u8]>) -> u64 {
    let mut blocks = 0;
    let mut used = 0;
    for name in names {
        let more = ENTRY + name.len();
        if used + more > index(BLOCK) {
            blocks += 1;
            used = 0;
        }
        used += more;
    }
    blocks * BLOCK + used as u64
}

/// A directory's bytes. The entries are sorted by name, `.` and `..` among them.
pub(super) fn emit(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = entries;
    while !rest.is_empty() {
        let mut used = 0;
        let fits = rest.iter().take_while(|entry| {
            used += ENTRY + entry.name.len();
            used <= index(BLOCK)
        });
        // A name has at most 255 bytes, so that at least one fits.
        let (block, later) = rest.split_at(fits.count().max(1));
        bytes.resize(bytes.len().next_multiple_of(index(BLOCK)), 0);
        let mut name_at = block.len() * ENTRY;
        for entry in block {
            bytes.extend_from_slice(&entry.inode.to_le_bytes());
            bytes.extend_from_slice(&narrow16(name_at as u64).to_le_bytes());
            bytes.extend_from_slice(&[file_type(entry.mode), 0]);
            name_at += entry.name.len();
        }
        for entry in block {
            bytes.extend_from_slice(entry.name);
        }
        rest = later;
    }
    bytes
}

/// Reads the entries of one block, names and inodes; says at which of its bytes what is wrong.
pub(super) fn parse(block: &[u8]) -> Result<Vec<Named>, (usize, &'static str)> {
    let first = usize::from(u16_le(block, 8).ok_or((0, "there is no first entry"))?);
    if first < ENTRY || !first.is_multiple_of(ENTRY) || first >= block.len() {
        return Err((8, "the first name is not after whole entries and inside of the block"));
    }
    let count = first / ENTRY;
    let mut found = Vec::with_capacity(count);
    for number in 0..count {
        let at = number * ENTRY;
        let start = u16_le(block, at + 8).map(usize::from);
        let end = if number + 1 < count {
            u16_le(block, at + ENTRY + 8).map(usize::from)
        } else {
            Some(block.len())
        };
        let name = start.zip(end).and_then(|(start, end)| block.get(start..end));
        let mut name = name.ok_or((at + 8, "a name is not inside of the block"))?;
        if number + 1 == count {
            // Zeroes may fill the block.
            name = name.split(|byte| *byte == 0).next().unwrap_or_default();
        }
        if name.is_empty() || name.len() > 255 || name.contains(&0) || name.contains(&b'/') {
            return Err((at + 8, "a name is empty, too long or has bytes that no name has"));
        }
        let inode = u64_le(block, at).ok_or((at, "an entry is cut"))?;
        found.push((name.to_vec(), inode));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_as_written() {
        let names: Vec<String> = (0..1000).map(|at| format!("{at:04} a longer name")).collect();
        for count in [0, 1, 2, 131, 132, 500, 1000] {
            let entries: Vec<Entry<'_>> = names
                .iter()
                .take(count)
                .zip(1..)
                .map(|(name, inode)| Entry { name: name.as_bytes(), inode, mode: kind::FILE })
                .collect();
            let bytes = emit(&entries);
            assert_eq!(bytes.len() as u64, len(entries.iter().map(|entry| entry.name)));
            let mut found = Vec::new();
            for block in bytes.chunks(4096) {
                found.extend(parse(block).unwrap());
            }
            let expected: Vec<_> =
                entries.iter().map(|entry| (entry.name.to_vec(), entry.inode)).collect();
            assert_eq!(found, expected);
        }
    }
}
