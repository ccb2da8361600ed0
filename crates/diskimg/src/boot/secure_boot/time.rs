//! Points in time as the firmware holds them.

use crate::field::{put, u16_le};

/// A point in time in UTC, to the second (EFI_TIME: 16 bytes, little-endian).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Timestamp {
    /// 1900 to 9999; 0 in a variable that needs no signature.
    pub year: u16,
    /// 1 to 12.
    pub month: u8,
    /// 1 to 31.
    pub day: u8,
    /// 0 to 23.
    pub hour: u8,
    /// 0 to 59.
    pub minute: u8,
    /// 0 to 59.
    pub second: u8,
}

impl Timestamp {
    /// Bytes of its form in a variable.
    pub(crate) const LEN: usize = 16;

    /// The time so many seconds after 1970; `None` after the year 9999.
    #[must_use]
    pub fn from_unix(seconds: u64) -> Option<Self> {
        let (mut days, rest) = (seconds / 86_400, seconds % 86_400);
        if days > 3_000_000 {
            return None;
        }
        let leap = |year: u64| {
            year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
        };
        let mut year = 1970;
        while days >= 365 + u64::from(leap(year)) {
            days -= 365 + u64::from(leap(year));
            year += 1;
        }
        if year > 9999 {
            return None;
        }
        let february = 28 + u64::from(leap(year));
        let mut month = 1;
        for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
            if days < len {
                break;
            }
            days -= len;
            month += 1;
        }
        let small = |value: u64| u8::try_from(value).ok();
        Some(Self {
            year: u16::try_from(year).ok()?,
            month: small(month)?,
            day: small(days + 1)?,
            hour: small(rest / 3600)?,
            minute: small(rest / 60 % 60)?,
            second: small(rest % 60)?,
        })
    }

    pub(crate) fn emit(self) -> [u8; Self::LEN] {
        let mut out = [0; Self::LEN];
        put(&mut out, 0, &self.year.to_le_bytes());
        put(&mut out, 2, &[self.month, self.day, self.hour, self.minute, self.second]);
        out
    }

    pub(crate) fn parse(block: &[u8], at: usize) -> Option<Self> {
        let year = u16_le(block, at)?;
        let [month, day, hour, minute, second] = crate::field::array(block, at + 2)?;
        Some(Self { year, month, day, hour, minute, second })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (seconds, expected) in [
            (0, (1970, 1, 1, 0, 0, 0)),
            (946_684_800, (2000, 1, 1, 0, 0, 0)),
            (951_782_399, (2000, 2, 28, 23, 59, 59)),
            (951_782_400, (2000, 2, 29, 0, 0, 0)),
            (951_868_800, (2000, 3, 1, 0, 0, 0)),
            (4_107_542_399, (2100, 2, 28, 23, 59, 59)),
            (4_107_542_400, (2100, 3, 1, 0, 0, 0)),
            (253_402_300_799, (9999, 12, 31, 23, 59, 59)),
        ] {
            let it = Timestamp::from_unix(seconds).unwrap();
            let found = (it.year, it.month, it.day, it.hour, it.minute, it.second);
            assert_eq!(found, expected);
            assert_eq!(Timestamp::parse(&it.emit(), 0), Some(it));
        }
        assert_eq!(Timestamp::from_unix(253_402_300_800), None);
        assert_eq!(Timestamp::from_unix(u64::MAX), None);
    }
}
