//! The header block of a tar archive: POSIX.1-1988 ustar, GNU's, and the old one without magic.

use std::collections::BTreeMap;

/// The unit of a tar archive.
pub(crate) const BLOCK: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    File,
    Hardlink,
    Symlink,
    CharDevice,
    BlockDevice,
    Directory,
    Fifo,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Type,
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) size: u64,
    pub(crate) link: Vec<u8>,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the first of its headers is in the archive.
    pub(crate) offset: u64,
}

impl Entry {
    /// An empty file of root's, without a right to anybody.
    pub(crate) fn file(path: Vec<u8>) -> Self {
        Self {
            path,
            kind: Type::File,
            mode: 0,
            uid: 0,
            gid: 0,
            mtime: 0,
            size: 0,
            link: Vec::new(),
            device: (0, 0),
            xattrs: BTreeMap::new(),
            offset: 0,
        }
    }
}

/// The fields: offset and length.
pub(crate) const NAME: (usize, usize) = (0, 100);
pub(crate) const MODE: (usize, usize) = (100, 8);
pub(crate) const UID: (usize, usize) = (108, 8);
pub(crate) const GID: (usize, usize) = (116, 8);
pub(crate) const SIZE: (usize, usize) = (124, 12);
pub(crate) const MTIME: (usize, usize) = (136, 12);
pub(crate) const CHECKSUM: (usize, usize) = (148, 8);
pub(crate) const TYPE: usize = 156;
pub(crate) const LINK: (usize, usize) = (157, 100);
pub(crate) const MAGIC: (usize, usize) = (257, 8);
pub(crate) const MAJOR: (usize, usize) = (329, 8);
pub(crate) const MINOR: (usize, usize) = (337, 8);
pub(crate) const PREFIX: (usize, usize) = (345, 155);

/// A header block.
#[derive(Clone)]
pub(crate) struct Block(pub(crate) [u8; BLOCK]);

impl Block {
    pub(crate) fn new() -> Self {
        Self([0; BLOCK])
    }

    pub(crate) fn field(&self, (at, len): (usize, usize)) -> &[u8] {
        self.0.get(at..at.saturating_add(len)).unwrap_or_default()
    }

    /// A field up to its first NUL.
    pub(crate) fn text(&self, field: (usize, usize)) -> &[u8] {
        self.field(field).split(|byte| *byte == 0).next().unwrap_or_default()
    }

    pub(crate) fn kind(&self) -> u8 {
        self.0.get(TYPE).copied().unwrap_or_default()
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.0.iter().all(|byte| *byte == 0)
    }

    /// Whether the checksum holds, with the bytes taken as unsigned, or as signed by old writers.
    pub(crate) fn is_sound(&self) -> bool {
        let Some(stored) = octal(self.field(CHECKSUM)) else { return false };
        let stored = i64::try_from(stored).unwrap_or(-1);
        let (mut unsigned, mut signed) = (0_i64, 0_i64);
        for (at, byte) in self.0.iter().enumerate() {
            let inside = (CHECKSUM.0..CHECKSUM.0 + CHECKSUM.1).contains(&at);
            let byte = if inside { b' ' } else { *byte };
            unsigned += i64::from(byte);
            signed += i64::from(byte.cast_signed());
        }
        stored == unsigned || stored == signed
    }

    /// A number, in octal digits or in GNU's base 256. `None` for what is neither, or negative.
    pub(crate) fn number(&self, field: (usize, usize)) -> Option<u64> {
        let bytes = self.field(field);
        match bytes.split_first() {
            Some((0x80, rest)) => rest.iter().try_fold(0_u64, |value, byte| {
                value.checked_mul(256)?.checked_add(u64::from(*byte))
            }),
            _ => octal(bytes),
        }
    }

    /// Whether a number is one below 0 in GNU's base 256.
    pub(crate) fn is_negative(&self, field: (usize, usize)) -> bool {
        self.field(field).first().is_some_and(|first| first & 0xc0 == 0xc0)
    }

    pub(crate) fn set(&mut self, (at, len): (usize, usize), bytes: &[u8]) {
        let len = len.min(bytes.len());
        if let (Some(field), Some(bytes)) =
            (self.0.get_mut(at..at.saturating_add(len)), bytes.get(..len))
        {
            field.copy_from_slice(bytes);
        }
    }

    /// Octal digits and a NUL. Says whether the number fits.
    pub(crate) fn set_number(&mut self, field: (usize, usize), value: u64) -> bool {
        let digits = field.1.saturating_sub(1);
        let text = format!("{value:0digits$o}");
        self.set(field, text.as_bytes());
        text.len() == digits
    }

    pub(crate) fn seal(&mut self) {
        self.set(CHECKSUM, b"        ");
        let sum: u64 = self.0.iter().map(|byte| u64::from(*byte)).sum();
        self.set(CHECKSUM, format!("{sum:06o}\0 ").as_bytes());
    }
}

/// Digits, with spaces before and NULs or spaces after; nothing at all is 0.
fn octal(bytes: &[u8]) -> Option<u64> {
    let start = bytes.iter().position(|byte| *byte != b' ').unwrap_or(bytes.len());
    let digits = bytes.get(start..)?.split(|byte| matches!(byte, 0 | b' ')).next()?;
    digits.iter().try_fold(0_u64, |value, digit| match digit {
        b'0'..=b'7' => value.checked_mul(8)?.checked_add(u64::from(digit - b'0')),
        _ => None,
    })
}
