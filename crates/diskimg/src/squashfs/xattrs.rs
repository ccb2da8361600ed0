//! Extended attributes (Linux, `struct squashfs_xattr_entry` and `struct squashfs_xattr_id`).
//!
//! Attributes of an inode are a set: names and values one after the other. Each set is stored once,
//! however many inodes have it; an inode has the set's number.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use super::NONE;
use super::metadata::Metadata;
use crate::Result;
use crate::content::Sink;
use crate::erofs::compress::Spooler;
use crate::erofs::outline::Item;
use crate::field::narrow32;

/// Name prefixes and their numbers. There is none for access control lists.
const PREFIXES: [(&[u8], u16); 3] = [(b"user.", 0), (b"trusted.", 1), (b"security.", 2)];
/// Bytes that Linux lets a name have (`XATTR_NAME_MAX`).
const NAME_MAX: usize = 255;
/// Bytes that Linux lets a value have (`XATTR_SIZE_MAX`).
const VALUE_MAX: usize = 65_536;
/// Bytes of the count before a set in memory.
const COUNT: usize = 4;

/// A set: how many attributes there are, and how they are stored; nothing when there are none. Says
/// what does not fit.
pub(super) fn encode(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> std::result::Result<Vec<u8>, String> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = narrow32(xattrs.len() as u64).to_le_bytes().to_vec();
    for (name, value) in xattrs {
        let shown = String::from_utf8_lossy(name);
        let found = PREFIXES.iter().find_map(|(prefix, number)| {
            let rest = name.strip_prefix(*prefix).filter(|rest| !rest.is_empty())?;
            Some((*number, rest, u16::try_from(rest.len()).ok()?))
        });
        let Some((number, rest, len)) = found else {
            return Err(format!(
                "the attribute {shown:?} is of none of the kinds user, trusted and security"
            ));
        };
        if name.len() > NAME_MAX || value.len() > VALUE_MAX {
            return Err(format!(
                "the attribute {shown:?} has a name of {} and a value of {} bytes, at most \
                 {NAME_MAX} and {VALUE_MAX}",
                name.len(),
                value.len()
            ));
        }
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&len.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(&narrow32(value.len() as u64).to_le_bytes());
        bytes.extend_from_slice(value);
    }
    Ok(bytes)
}

/// The sets of an image by their numbers, which are in the order of the first inodes that have them.
#[derive(Debug, Default)]
pub(super) struct Sets<'plan> {
    numbers: BTreeMap<&'plan [u8], u32>,
    /// Names and values.
    pairs: Metadata,
    /// Where each set is, how many attributes and how many bytes it has.
    sets: Metadata,
}

impl<'plan> Sets<'plan> {
    pub(super) fn new(items: &'plan [Item]) -> Self {
        let mut all = Self::default();
        for item in items {
            let number = narrow32(all.numbers.len() as u64);
            let Some((count, pairs)) = item.xattrs.split_at_checked(COUNT) else { continue };
            if all.numbers.contains_key(item.xattrs.as_slice()) {
                continue;
            }
            all.numbers.insert(&item.xattrs, number);
            let place = all.pairs.push(pairs);
            all.sets.push(&place.reference().to_le_bytes());
            all.sets.push(count);
            all.sets.push(&narrow32(pairs.len() as u64).to_le_bytes());
        }
        all
    }

    /// The number of an inode's set.
    pub(super) fn number(&self, item: &Item) -> u32 {
        self.numbers.get(item.xattrs.as_slice()).copied().unwrap_or(NONE)
    }

    /// Writes the tables; gives where they are found from, `None` when no inode has attributes.
    pub(super) fn write<S: Write + Seek>(
        mut self,
        spooler: &mut Spooler<'_, S>,
    ) -> Result<Option<u64>> {
        if self.numbers.is_empty() {
            return Ok(None);
        }
        let mut head = spooler.position.to_le_bytes().to_vec();
        head.extend_from_slice(&(self.numbers.len() as u64).to_le_bytes());
        spooler.data(&self.pairs.finish())?;
        self.sets.write(spooler, &head).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_stored_as_documented() {
        let mut xattrs = BTreeMap::new();
        assert_eq!(encode(&xattrs), Ok(Vec::new()));
        xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
        xattrs.insert(b"security.ima".to_vec(), Vec::new());
        let expected = b"\x02\0\0\0\x02\0\x03\0ima\0\0\0\0\0\0\x01\0a\x05\0\0\0value";
        assert_eq!(encode(&xattrs).unwrap(), expected);
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let long = format!("user.{}", "n".repeat(251));
        for (name, len) in [("user.", 0), ("system.posix_acl_access", 4), ("a", 0), (&long, 0)] {
            let one = BTreeMap::from([(name.as_bytes().to_vec(), vec![0; len])]);
            assert!(encode(&one).is_err(), "{name}");
        }
        let one = |len| encode(&BTreeMap::from([(b"user.a".to_vec(), vec![0; len])]));
        assert!(one(VALUE_MAX).is_ok() && one(VALUE_MAX + 1).is_err());
    }
}
