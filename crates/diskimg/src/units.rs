//! Sectors and bytes, which must not be mixed up, and arithmetic on them that cannot wrap.

use std::fmt;
use std::str::FromStr;

/// Bytes of a sector. Every table and file system here uses 512: what BIOS, UEFI on hard disks and
/// all three image formats address by.
pub const SECTOR: u64 = 512;

/// A sector's number, counted from the start of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Lba(pub u64);

impl Lba {
    /// The byte at which the sector begins; `None` when no disk is that long.
    #[must_use]
    pub fn offset(self) -> Option<u64> {
        self.0.checked_mul(SECTOR)
    }
}

impl fmt::Display for Lba {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "LBA {}", self.0)
    }
}

/// A length in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct ByteLen(pub u64);

impl ByteLen {
    /// No bytes.
    pub const ZERO: Self = Self(0);

    /// So many times 1024 bytes; saturates.
    #[must_use]
    pub const fn kib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 10))
    }

    /// So many times 1024² bytes; saturates.
    #[must_use]
    pub const fn mib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 20))
    }

    /// So many times 1024³ bytes; saturates.
    #[must_use]
    pub const fn gib(count: u64) -> Self {
        Self(count.saturating_mul(1 << 30))
    }

    /// How many sectors hold so many bytes.
    #[must_use]
    pub const fn sectors(self) -> u64 {
        self.0.div_ceil(SECTOR)
    }

    /// The next multiple of `unit`; `None` when there is none or `unit` is zero.
    #[must_use]
    pub fn align_up(self, unit: Self) -> Option<Self> {
        self.0.checked_next_multiple_of(unit.0).map(Self)
    }

    /// The sum, when it fits.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }
}

impl fmt::Display for ByteLen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (shift, unit) in [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 >> shift > 0 && self.0.trailing_zeros() >= shift {
                return write!(out, "{} {unit}", self.0 >> shift);
            }
        }
        write!(out, "{} bytes", self.0)
    }
}

/// A length that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no length: expected digits and optionally K, M, G or T (powers of 1024)")]
pub struct ParseByteLenError(String);

impl FromStr for ByteLen {
    type Err = ParseByteLenError;

    /// Reads `4096`, `512K`, `64M`, `2GiB`: powers of 1024.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseByteLenError(text.to_owned());
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit()).unwrap_or(trimmed.len());
        let (digits, unit) = trimmed.split_at(end);
        let shift = match unit.trim() {
            "" | "B" => 0,
            "K" | "k" | "KiB" => 10,
            "M" | "m" | "MiB" => 20,
            "G" | "g" | "GiB" => 30,
            "T" | "t" | "TiB" => 40,
            _ => return Err(error()),
        };
        let count: u64 = digits.parse().map_err(|_| error())?;
        count.checked_mul(1 << shift).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_read_and_print() {
        for (text, bytes, shown) in [
            ("64M", 64 << 20, "64 MiB"),
            ("2GiB", 2 << 30, "2 GiB"),
            ("1000", 1000, "1000 bytes"),
            (" 3 K ", 3072, "3 KiB"),
        ] {
            let len: ByteLen = text.parse().unwrap();
            assert_eq!((len.0, len.to_string().as_str()), (bytes, shown));
        }
        for bad in ["", "M", "12Q", "99999999999T", "-1"] {
            assert!(bad.parse::<ByteLen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn arithmetic_does_not_wrap() {
        assert_eq!(Lba(u64::MAX).offset(), None);
        assert_eq!(ByteLen(u64::MAX).align_up(ByteLen::mib(1)), None);
        assert_eq!(ByteLen(1).align_up(ByteLen::ZERO), None);
        assert_eq!(ByteLen(513).sectors(), 2);
    }
}
