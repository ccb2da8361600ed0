//! A directory's record (ECMA-119 9.1).

use crate::field::{array, u32_le};

#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) extent: u32,
    pub(super) len: u32,
    pub(super) date: [u8; 7],
    flags: u8,
    identifier: Vec<u8>,
    pub(super) system_use: Vec<u8>,
}

impl Record {
    /// The first record of a sector's rest, and what follows it; `None` when there is none.
    pub(super) fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let len = usize::from(*bytes.first()?);
        if len < 34 {
            return None;
        }
        let (record, rest) = bytes.split_at_checked(len)?;
        let identifier_len = usize::from(*record.get(32)?);
        let identifier = record.get(33..33 + identifier_len)?.to_vec();
        let fixed = (33 + identifier_len).next_multiple_of(2);
        let record = Self {
            extent: u32_le(record, 2)?,
            len: u32_le(record, 10)?,
            date: array(record, 18)?,
            flags: *record.get(25)?,
            identifier,
            system_use: record.get(fixed..).unwrap_or_default().to_vec(),
        };
        Some((record, rest))
    }

    /// Whether it is the directory's own or its parent's.
    pub(super) fn is_dot(&self) -> bool {
        matches!(self.identifier.as_slice(), [0 | 1])
    }

    pub(super) fn is_directory(&self) -> bool {
        self.flags & 0x02 != 0
    }

    pub(super) fn is_associated(&self) -> bool {
        self.flags & 0x04 != 0
    }

    pub(super) fn has_more_extents(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// The name without its version and without the dot of an empty extension.
    pub(super) fn iso_name(&self) -> Vec<u8> {
        let name = self.identifier.split(|byte| *byte == b';').next().unwrap_or_default();
        let name = if self.is_directory() { name } else { name.strip_suffix(b".").unwrap_or(name) };
        name.to_vec()
    }

    pub(super) fn joliet_name(&self) -> Vec<u8> {
        let units: Vec<u16> = self
            .identifier
            .chunks_exact(2)
            .filter_map(|pair| array(pair, 0).map(u16::from_be_bytes))
            .collect();
        let text = String::from_utf16_lossy(&units);
        let name = text.rsplit_once(';').map_or(text.as_str(), |(name, _)| name);
        name.as_bytes().to_vec()
    }
}
