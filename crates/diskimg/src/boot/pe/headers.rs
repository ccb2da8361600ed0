//! The headers of an executable, and its sections.

use std::ops::Range;

use crate::field::{array, index, u16_le, u32_le};
use crate::{Error, Result};

/// How much of a file is searched for its headers. Those of real programs end before 4 KiB.
pub(super) const HEAD: u64 = 64 << 10;
/// Bytes of an entry of the section table.
pub(crate) const SECTION: usize = 40;
/// As many as Windows loads; a stub for UEFI has a dozen.
const MAX_SECTIONS: usize = 96;
/// The data directory of the certificate table, and that of debugging data.
const SECURITY: usize = 4;
pub(crate) const DEBUG: usize = 6;

/// Bits of [`Section::characteristics`].
pub mod characteristics {
    /// It is code.
    pub const CODE: u32 = 0x20;
    /// It is data that the file holds.
    pub const INITIALIZED_DATA: u32 = 0x40;
    /// It can be executed.
    pub const EXECUTE: u32 = 0x2000_0000;
    /// It can be read.
    pub const READ: u32 = 0x4000_0000;
    /// It can be written.
    pub const WRITE: u32 = 0x8000_0000;
}

/// A section of an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Section {
    /// Its name, at most eight bytes; what is no UTF-8 is replaced.
    pub name: String,
    /// Where it is in memory, counted from where the image is loaded.
    pub virtual_address: u32,
    /// Bytes in memory. What exceeds `len` is zero there.
    pub virtual_size: u32,
    /// Where it is in the file.
    pub offset: u32,
    /// Bytes in the file, filling up included.
    pub len: u32,
    /// See [`characteristics`].
    pub characteristics: u32,
}

impl Section {
    /// The bytes of the file that are its content, filling up left out.
    #[must_use]
    pub fn content(&self) -> Range<u64> {
        let start = u64::from(self.offset);
        start..start + u64::from(self.len.min(self.virtual_size))
    }

    pub(crate) fn emit(&self) -> [u8; SECTION] {
        let mut out = [0; SECTION];
        let name = self.name.as_bytes();
        crate::field::put(&mut out, 0, name.get(..name.len().min(8)).unwrap_or_default());
        for (at, value) in [
            (8, self.virtual_size),
            (12, self.virtual_address),
            (16, self.len),
            (20, self.offset),
            (36, self.characteristics),
        ] {
            crate::field::put(&mut out, at, &value.to_le_bytes());
        }
        out
    }

    fn parse(block: &[u8], at: usize) -> Option<Self> {
        let name: [u8; 8] = array(block, at)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        Some(Self {
            name: String::from_utf8_lossy(name.get(..end)?).into_owned(),
            virtual_size: u32_le(block, at + 8)?,
            virtual_address: u32_le(block, at + 12)?,
            len: u32_le(block, at + 16)?,
            offset: u32_le(block, at + 20)?,
            characteristics: u32_le(block, at + 36)?,
        })
    }
}

/// The headers of an executable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Headers {
    /// The machine: 0x8664 is x86-64, 0xaa64 is ARM64.
    pub machine: u16,
    /// What sections begin at a multiple of in memory.
    pub section_alignment: u32,
    /// What sections begin at a multiple of in the file.
    pub file_alignment: u32,
    /// Bytes in memory, all sections included.
    pub size_of_image: u32,
    /// Bytes of the file before the first section.
    pub size_of_headers: u32,
    /// The checksum of the file; 0 is none.
    pub checksum: u32,
    /// What kind of program it is: 10 is an application of UEFI.
    pub subsystem: u16,
    /// The sections in the order of the table.
    pub sections: Vec<Section>,
    /// Where the certificate table is in the file; empty when the file is not signed.
    pub certificates: Range<u64>,
    /// The byte at which the COFF header begins.
    pub(crate) coff: usize,
    /// The byte at which the optional header begins.
    pub(crate) optional: usize,
    /// The byte at which the data directories begin, and how many there are.
    pub(crate) directories: (usize, usize),
    /// The byte at which the section table begins.
    pub(crate) table: usize,
}

impl Headers {
    /// Reads the headers at the start of a file of `file_len` bytes. `head` has to reach to the end
    /// of the section table; what lies in the file is checked against the file's length.
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte.
    pub fn parse(head: &[u8], file_len: u64) -> Result<Self> {
        let bad = |at: usize, reason: &str| Error::malformed("pe", at as u64, reason);
        if head.get(..2) != Some(b"MZ") {
            return Err(bad(0, "it does not begin with MZ, so it is no executable for UEFI"));
        }
        let short = |at| bad(at, "the file or what is read of it ends within the headers");
        let pe = index(u64::from(u32_le(head, 0x3c).ok_or_else(|| short(0x3c))?));
        if array(head, pe) != Some(*b"PE\0\0") {
            return Err(bad(pe, "there is no PE header"));
        }
        let coff = pe + 4;
        let optional = coff + 20;
        let wide = match u16_le(head, optional) {
            Some(0x20b) => true,
            Some(0x10b) => false,
            Some(_) => return Err(bad(optional, "the optional header is of no known kind")),
            None => return Err(short(optional)),
        };
        let word = |at| u16_le(head, at).ok_or_else(|| short(at));
        let number = |at| u32_le(head, at).ok_or_else(|| short(at));
        let count = usize::from(word(coff + 2)?);
        if count > MAX_SECTIONS {
            let reason = format!("{count} sections, more than {MAX_SECTIONS}");
            return Err(bad(coff + 2, &reason));
        }
        let table = optional + usize::from(word(coff + 16)?);
        let directories = optional + if wide { 112 } else { 96 };
        if table < directories {
            return Err(bad(coff + 16, "the optional header is too short"));
        }
        let fitting = (table - directories) / 8;
        let directory_count = index(u64::from(number(directories - 4)?)).min(fitting);
        let mut sections = Vec::with_capacity(count);
        for at in (0..count).map(|at| table + at * SECTION) {
            let section = Section::parse(head, at).ok_or_else(|| short(at))?;
            if u64::from(section.offset) + u64::from(section.len) > file_len {
                let reason = format!(
                    "the section {:?} ends at byte {}, but the file at byte {file_len}",
                    section.name,
                    u64::from(section.offset) + u64::from(section.len)
                );
                return Err(bad(at, &reason));
            }
            sections.push(section);
        }
        let mut certificates = 0..0;
        if directory_count > SECURITY {
            let at = directories + SECURITY * 8;
            let (start, len) = (u64::from(number(at)?), u64::from(number(at + 4)?));
            if start + len > file_len {
                return Err(bad(at, "the certificate table ends after the file"));
            }
            if start > 0 && len > 0 {
                certificates = start..start + len;
            }
        }
        let size_of_headers = number(optional + 60)?;
        if u64::from(size_of_headers) > file_len
            || index(u64::from(size_of_headers)) < table + count * SECTION
        {
            return Err(bad(optional + 60, "the headers' size is not that of the headers"));
        }
        Ok(Self {
            machine: word(coff)?,
            section_alignment: number(optional + 32)?,
            file_alignment: number(optional + 36)?,
            size_of_image: number(optional + 56)?,
            size_of_headers,
            checksum: number(optional + 64)?,
            subsystem: word(optional + 68)?,
            sections,
            certificates,
            coff,
            optional,
            directories: (directories, directory_count),
            table,
        })
    }

    /// The first section of a name.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }

    /// The byte at which the checksum is.
    pub(crate) fn checksum_at(&self) -> usize {
        self.optional + 64
    }

    /// The byte at which a data directory is (an address and a length), if there is that many.
    pub(crate) fn directory_at(&self, number: usize) -> Option<usize> {
        (number < self.directories.1).then(|| self.directories.0 + number * 8)
    }

    /// The byte at which the certificate table's place and length are.
    pub(crate) fn security_at(&self) -> Option<usize> {
        self.directory_at(SECURITY)
    }
}
