//! Inodes and their extended attributes (Linux, `fs/erofs/erofs_fs.h`).

use std::collections::BTreeMap;

use crate::field::{narrow16, narrow32, put, u16_le, u32_le, u64_le};

/// Where inodes may begin: multiples of this.
pub(crate) const SLOT: u64 = 32;
/// Bytes of an inode with 16-bit owners, 32-bit length and the volume's time.
pub(crate) const COMPACT: u64 = 32;
/// Bytes of an inode with everything.
pub(crate) const EXTENDED: u64 = 64;

/// How a file's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Storage {
    /// In blocks.
    Plain,
    /// Compressed, an index entry of eight bytes per logical cluster.
    CompressedFull,
    /// In blocks, but what fills no block is after the inode.
    Inline,
    /// Compressed, index entries packed.
    CompressedCompact,
    /// In chunks that may be anywhere.
    Chunks,
}

impl Storage {
    fn number(self) -> u16 {
        match self {
            Self::Plain => 0,
            Self::CompressedFull => 1,
            Self::Inline => 2,
            Self::CompressedCompact => 3,
            Self::Chunks => 4,
        }
    }

    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Plain,
            1 => Self::CompressedFull,
            2 => Self::Inline,
            3 => Self::CompressedCompact,
            4 => Self::Chunks,
            _ => return None,
        })
    }
}

/// An inode's fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Inode {
    pub(crate) extended: bool,
    pub(crate) storage: Storage,
    /// What extended attributes count as (see [`xattr_count`]).
    pub(crate) xattrs: u16,
    /// Kind and permissions.
    pub(crate) mode: u16,
    pub(crate) links: u32,
    pub(crate) len: u64,
    /// First block, number of compressed blocks, device number or chunk format.
    pub(crate) place: u32,
    pub(crate) number: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// `None`: the volume's.
    pub(crate) mtime: Option<u64>,
}

/// Bits of the mode that tell the kind (`S_IFMT` and its values).
pub(crate) mod kind {
    pub(crate) const MASK: u16 = 0o170_000;
    pub(crate) const FIFO: u16 = 0o010_000;
    pub(crate) const CHAR_DEVICE: u16 = 0o020_000;
    pub(crate) const DIRECTORY: u16 = 0o040_000;
    pub(crate) const BLOCK_DEVICE: u16 = 0o060_000;
    pub(crate) const FILE: u16 = 0o100_000;
    pub(crate) const SYMLINK: u16 = 0o120_000;
    pub(crate) const SOCKET: u16 = 0o140_000;
}

impl Inode {
    /// Bytes of the inode itself.
    pub(crate) fn size(&self) -> u64 {
        if self.extended { EXTENDED } else { COMPACT }
    }

    /// Bytes of the extended attributes after it.
    pub(crate) fn xattr_size(&self) -> u64 {
        match self.xattrs {
            0 => 0,
            count => XATTR_HEADER + 4 * (u64::from(count) - 1),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.mode & kind::MASK == kind::DIRECTORY
    }

    /// Its bytes.
    pub(crate) fn emit(&self) -> Vec<u8> {
        let mut bytes = vec![0; crate::field::index(self.size())];
        let format = u16::from(self.extended) | self.storage.number() << 1;
        put(&mut bytes, 0, &format.to_le_bytes());
        put(&mut bytes, 2, &self.xattrs.to_le_bytes());
        put(&mut bytes, 4, &self.mode.to_le_bytes());
        put(&mut bytes, 16, &self.place.to_le_bytes());
        put(&mut bytes, 20, &self.number.to_le_bytes());
        if self.extended {
            put(&mut bytes, 8, &self.len.to_le_bytes());
            put(&mut bytes, 24, &self.uid.to_le_bytes());
            put(&mut bytes, 28, &self.gid.to_le_bytes());
            put(&mut bytes, 32, &self.mtime.unwrap_or(0).to_le_bytes());
            put(&mut bytes, 44, &self.links.to_le_bytes());
        } else {
            put(&mut bytes, 6, &narrow16(u64::from(self.links)).to_le_bytes());
            put(&mut bytes, 8, &narrow32(self.len).to_le_bytes());
            put(&mut bytes, 24, &narrow16(u64::from(self.uid)).to_le_bytes());
            put(&mut bytes, 26, &narrow16(u64::from(self.gid)).to_le_bytes());
        }
        bytes
    }

    /// Reads an inode; `None` when the bytes are too few or the format is none that is known.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let format = u16_le(bytes, 0)?;
        let extended = format & 1 == 1;
        let storage = Storage::from_number(format >> 1 & 7)?;
        let short = |at| u16_le(bytes, at).map(u32::from);
        let long = |at| u32_le(bytes, at);
        Some(Self {
            extended,
            storage,
            xattrs: u16_le(bytes, 2)?,
            mode: u16_le(bytes, 4)?,
            links: if extended { long(44)? } else { short(6)? },
            len: if extended { u64_le(bytes, 8)? } else { u64::from(long(8)?) },
            place: long(16)?,
            number: long(20)?,
            uid: if extended { long(24)? } else { short(24)? },
            gid: if extended { long(28)? } else { short(26)? },
            mtime: if extended { Some(u64_le(bytes, 32)?) } else { None },
        })
    }
}

/// A device number as Linux stores it (`new_encode_dev`); `None` when it does not fit.
pub(crate) fn device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20)
        .then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// Splits a device number.
pub(crate) fn split_device(number: u32) -> (u32, u32) {
    (number >> 8 & 0xfff, (number & 0xff) | (number >> 12 & 0xf_ff00))
}

/// Bytes before the attributes of an inode.
pub(crate) const XATTR_HEADER: u64 = 12;

/// Name prefixes and their numbers. A whole name comes before the prefix that it begins with.
const PREFIXES: [(&[u8], u8); 5] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];

/// The attributes as they stand after an inode; nothing when there are none. Says what does not fit.
pub(crate) fn emit_xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, String> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; crate::field::index(XATTR_HEADER)];
    for (name, value) in xattrs {
        let shown = String::from_utf8_lossy(name);
        let found = PREFIXES.iter().find_map(|(prefix, number)| {
            let rest = name.strip_prefix(*prefix)?;
            // The names of access control lists are whole, the others are prefixes.
            (rest.is_empty() != prefix.ends_with(b".")).then_some((rest, *number))
        });
        let Some((rest, number)) = found else {
            return Err(format!(
                "the attribute {shown:?} is of none of the kinds user, trusted, security and \
                 POSIX access control list"
            ));
        };
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(rest.len()), u16::try_from(value.len()))
        else {
            return Err(format!(
                "the attribute {shown:?} has a name of {} and a value of {} bytes, at most 255 and \
                 65535",
                rest.len(),
                value.len()
            ));
        };
        bytes.extend_from_slice(&[name_len, number]);
        bytes.extend_from_slice(&value_len.to_le_bytes());
        bytes.extend_from_slice(rest);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if xattr_count(bytes.len() as u64).is_none() {
        return Err(format!("the attributes have {} bytes together, at most 262148", bytes.len()));
    }
    Ok(bytes)
}

/// What so many bytes of attributes count as in an inode; `None` when they are too many.
pub(crate) fn xattr_count(len: u64) -> Option<u16> {
    match len.checked_sub(XATTR_HEADER) {
        None => Some(0),
        Some(rest) => u16::try_from(rest / 4 + 1).ok(),
    }
}

/// Reads attributes after an inode into a map; stops at what makes no sense.
pub(crate) fn parse_xattrs(bytes: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut found = BTreeMap::new();
    let shared = usize::from(bytes.get(4).copied().unwrap_or(0));
    let mut at = crate::field::index(XATTR_HEADER) + shared * 4;
    while let Some((name, value, len)) = parse_xattr(bytes.get(at..).unwrap_or_default()) {
        found.insert(name, value);
        at += len;
    }
    found
}

/// Reads one attribute: its name, its value and the bytes that it takes.
pub(crate) fn parse_xattr(bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>, usize)> {
    let name_len = usize::from(*bytes.first()?);
    let number = *bytes.get(1)?;
    let value_len = usize::from(u16_le(bytes, 2)?);
    let (prefix, _) = PREFIXES.iter().find(|(_, known)| *known == number)?;
    let name = [prefix, bytes.get(4..4 + name_len)?].concat();
    let value = bytes.get(4 + name_len..4 + name_len + value_len)?.to_vec();
    Some((name, value, (4 + name_len + value_len).next_multiple_of(4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_read_as_written() {
        let compact = Inode {
            extended: false,
            storage: Storage::Inline,
            xattrs: 3,
            mode: kind::FILE | 0o4755,
            links: 2,
            len: 0xffff_ffff,
            place: 77,
            number: 5,
            uid: 65_535,
            gid: 1,
            mtime: None,
        };
        let extended = Inode { extended: true, mtime: Some(1 << 33), uid: 1 << 20, ..compact };
        for inode in [compact, extended] {
            let bytes = inode.emit();
            assert_eq!(bytes.len() as u64, inode.size());
            assert_eq!(Inode::parse(&bytes), Some(inode));
            assert_eq!(Inode::parse(&bytes[..bytes.len() - 20]), None);
        }
        assert_eq!(compact.xattr_size(), 20);
    }

    #[test]
    fn device_numbers_as_linux_stores_them() {
        assert_eq!(device(8, 1), Some(0x801));
        assert_eq!(device(259, 0x12345), Some(0x1231_0345));
        assert_eq!(split_device(0x1231_0345), (259, 0x12345));
        assert_eq!(device(1 << 12, 0), None);
    }

    #[test]
    fn attributes_are_read_as_written() {
        let mut xattrs = BTreeMap::new();
        assert_eq!(emit_xattrs(&xattrs), Ok(Vec::new()));
        xattrs.insert(b"user.a".to_vec(), b"value".to_vec());
        xattrs.insert(b"security.capability".to_vec(), vec![1; 20]);
        xattrs.insert(b"system.posix_acl_access".to_vec(), vec![2; 44]);
        let bytes = emit_xattrs(&xattrs).unwrap();
        assert_eq!(parse_xattrs(&bytes), xattrs);
        let count = xattr_count(bytes.len() as u64).unwrap();
        assert_eq!(XATTR_HEADER + 4 * (u64::from(count) - 1), bytes.len() as u64);
        for bad in ["system.other", "nothing", "user."] {
            let one = BTreeMap::from([(bad.as_bytes().to_vec(), Vec::new())]);
            assert!(emit_xattrs(&one).is_err(), "{bad}");
        }
    }
}
