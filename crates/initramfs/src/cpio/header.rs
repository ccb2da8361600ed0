//! The 110-byte header of a newc entry: constants, parse and emit side by side.
//!
//! ```text
//! offset  len  field          offset  len  field
//!      0    6  magic              54    8  filesize (bytes)
//!      6    8  ino                62    8  dev major
//!     14    8  mode               70    8  dev minor
//!     22    8  uid                78    8  rdev major
//!     30    8  gid                86    8  rdev minor
//!     38    8  nlink              94    8  namesize (with the NUL)
//!     46    8  mtime (s)         102    8  check
//! ```
//!
//! Every number is eight ASCII hexadecimal digits, the most significant first. Source:
//! `Documentation/driver-api/early-userspace/buffer-format.rst` of the Linux kernel.

use std::fmt;

/// The length of a header in bytes.
pub const HEADER_LEN: usize = 110;
/// The name of the entry that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";
/// The largest `namesize` (`PATH_MAX`, with the NUL) that the kernel takes.
pub const NAME_SIZE_MAX: u32 = 4096;

/// The bits of a mode that say what a file is (`S_IFMT`).
pub const S_IFMT: u32 = 0o170_000;
/// A socket.
pub const S_IFSOCK: u32 = 0o140_000;
/// A symbolic link.
pub const S_IFLNK: u32 = 0o120_000;
/// A regular file.
pub const S_IFREG: u32 = 0o100_000;
/// A block device.
pub const S_IFBLK: u32 = 0o060_000;
/// A directory.
pub const S_IFDIR: u32 = 0o040_000;
/// A character device.
pub const S_IFCHR: u32 = 0o020_000;
/// A named pipe.
pub const S_IFIFO: u32 = 0o010_000;

/// Which of the two variants of the format an entry is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Magic `070701`: the check field is zero and nobody reads it.
    #[default]
    Newc,
    /// Magic `070702`: the check field is the sum of the content's bytes, modulo 2³².
    Crc,
}

impl Format {
    /// The six bytes that an entry begins with.
    #[must_use]
    pub fn magic(self) -> &'static [u8; 6] {
        match self {
            Self::Newc => b"070701",
            Self::Crc => b"070702",
        }
    }
}

/// The numbers of an entry's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Header {
    /// The variant.
    pub format: Format,
    /// The inode; names that share it, the device and the file type are hard links.
    pub ino: u32,
    /// File type ([`S_IFMT`]) and permission bits.
    pub mode: u32,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// How many names the file has.
    pub nlink: u32,
    /// Modification time in seconds since 1970.
    pub mtime: u32,
    /// The content's length in bytes.
    pub file_size: u32,
    /// Major number of the device that the file was on.
    pub dev_major: u32,
    /// Minor number of the device that the file was on.
    pub dev_minor: u32,
    /// Major number of a device node.
    pub rdev_major: u32,
    /// Minor number of a device node.
    pub rdev_minor: u32,
    /// The name's length in bytes, with its NUL and whatever NULs pad it.
    pub name_size: u32,
    /// The sum of the content's bytes in a [`Format::Crc`] entry.
    pub check: u32,
}

/// Why 110 bytes are not a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeaderError {
    /// The magic of the old portable format, `070707`, which the kernel does not read.
    OldPortable,
    /// Some other magic.
    Magic([u8; 6]),
    /// A field that is not eight hexadecimal digits.
    Field {
        /// Where in the header it begins.
        offset: usize,
    },
}

impl fmt::Display for HeaderError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldPortable => {
                out.write_str("magic 070707: the old portable format, expected newc (070701)")
            }
            Self::Magic(magic) => {
                write!(
                    out,
                    "no cpio magic: \"{}\", expected 070701 or 070702",
                    magic.escape_ascii()
                )
            }
            Self::Field { offset } => {
                write!(out, "header byte {offset}: expected eight hexadecimal digits")
            }
        }
    }
}

impl std::error::Error for HeaderError {}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// [`HeaderError`]. Blanks, signs and `0x` are no digits, as in the kernel since 6.14.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, HeaderError> {
        let (magic, rest) = bytes.split_at(6);
        let format = match magic {
            b"070701" => Format::Newc,
            b"070702" => Format::Crc,
            b"070707" => return Err(HeaderError::OldPortable),
            other => {
                let mut magic = [0; 6];
                magic.copy_from_slice(other);
                return Err(HeaderError::Magic(magic));
            }
        };
        let mut fields = [0_u32; 13];
        for (index, (field, digits)) in fields.iter_mut().zip(rest.chunks_exact(8)).enumerate() {
            for digit in digits {
                let value = char::from(*digit)
                    .to_digit(16)
                    .ok_or(HeaderError::Field { offset: 6 + 8 * index })?;
                *field = (*field << 4) | value;
            }
        }
        let [ino, mode, uid, gid, nlink, mtime, file_size, rest @ ..] = fields;
        let [dev_major, dev_minor, rdev_major, rdev_minor, name_size, check] = rest;
        Ok(Self {
            format,
            ino,
            mode,
            uid,
            gid,
            nlink,
            mtime,
            file_size,
            dev_major,
            dev_minor,
            rdev_major,
            rdev_minor,
            name_size,
            check,
        })
    }

    /// The bytes of the header, digits in upper case as GNU cpio writes them.
    #[must_use]
    pub fn emit(&self) -> [u8; HEADER_LEN] {
        const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
        let mut bytes = [b'0'; HEADER_LEN];
        let (magic, rest) = bytes.split_at_mut(6);
        magic.copy_from_slice(self.format.magic());
        let fields = [
            self.ino,
            self.mode,
            self.uid,
            self.gid,
            self.nlink,
            self.mtime,
            self.file_size,
            self.dev_major,
            self.dev_minor,
            self.rdev_major,
            self.rdev_minor,
            self.name_size,
            self.check,
        ];
        for (digits, mut field) in rest.chunks_exact_mut(8).zip(fields) {
            for digit in digits.iter_mut().rev() {
                *digit = DIGITS[(field & 15) as usize];
                field >>= 4;
            }
        }
        bytes
    }

    /// The file type's bits.
    #[must_use]
    pub fn file_type(&self) -> u32 {
        self.mode & S_IFMT
    }
}

/// How many NULs bring a length to the next multiple of four.
pub(crate) fn pad4(len: u64) -> u64 {
    len.wrapping_neg() & 3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// buffer-format.rst, "cpio_header"; the bytes are what GNU cpio 2.13 wrote for `etc`.
    #[test]
    fn golden() {
        let golden = b"070701\
            00000001000041ED00000000000000000000000200000000\
            00000000000000000000000000000000000000000000000400000000";
        let header =
            Header { ino: 1, mode: 0o040_755, nlink: 2, name_size: 4, ..Header::default() };
        assert_eq!(header.emit().escape_ascii().to_string(), golden.escape_ascii().to_string());
        assert_eq!(Header::parse(golden), Ok(header));
    }

    #[test]
    fn each_field_is_at_its_place() {
        let header = Header {
            format: Format::Crc,
            ino: 1,
            mode: 2,
            uid: 3,
            gid: 4,
            nlink: 5,
            mtime: 6,
            file_size: 7,
            dev_major: 8,
            dev_minor: 9,
            rdev_major: 10,
            rdev_minor: 11,
            name_size: 12,
            check: 0xfeed_beef,
        };
        let bytes = header.emit();
        for (index, offset) in (13..102).step_by(8).enumerate() {
            assert_eq!(char::from(bytes[offset]).to_digit(16), u32::try_from(index + 1).ok());
        }
        assert_eq!(&bytes[102..], b"FEEDBEEF");
        assert_eq!(Header::parse(&bytes), Ok(header));
    }

    /// `initramfs_test_hdr_hex` of the kernel: what a lenient number parser would take.
    #[test]
    fn only_digits_are_digits() {
        for (bad, at) in
            [(&b"0x000001"[..], 6), (b" 0000001", 22), (b"+0000001", 54), (b"0000000G", 102)]
        {
            let mut bytes = Header::default().emit();
            bytes[at..at + 8].copy_from_slice(bad);
            assert_eq!(Header::parse(&bytes), Err(HeaderError::Field { offset: at }));
        }
        let mut bytes = Header::default().emit();
        bytes[6..14].copy_from_slice(b"00abCDef");
        assert_eq!(Header::parse(&bytes).map(|header| header.ino), Ok(0x00ab_cdef));
    }

    #[test]
    fn foreign_magics_are_told_apart() {
        let mut bytes = Header::default().emit();
        bytes[5] = b'7';
        assert_eq!(Header::parse(&bytes), Err(HeaderError::OldPortable));
        bytes[..6].copy_from_slice(b"!<arch");
        assert_eq!(Header::parse(&bytes), Err(HeaderError::Magic(*b"!<arch")));
    }

    #[test]
    fn padding() {
        assert_eq!([0, 1, 2, 3, 4, 5].map(pad4), [0, 3, 2, 1, 0, 3]);
    }
}
