//! Numbers in both byte orders, and the two forms of dates.

use crate::field::put;

/// ECMA-119 7.2.3: little-endian, then big-endian.
pub(super) fn both16(number: u16) -> [u8; 4] {
    let mut bytes = [0; 4];
    put(&mut bytes, 0, &number.to_le_bytes());
    put(&mut bytes, 2, &number.to_be_bytes());
    bytes
}

/// ECMA-119 7.3.3: little-endian, then big-endian.
pub(super) fn both32(number: u32) -> [u8; 8] {
    let mut bytes = [0; 8];
    put(&mut bytes, 0, &number.to_le_bytes());
    put(&mut bytes, 4, &number.to_be_bytes());
    bytes
}

/// Year, month, day, hour, minute and second of a time in seconds since 1970, in UTC.
fn civil(seconds: u32) -> [u64; 6] {
    let seconds = u64::from(seconds);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is a year's last; 719,468 days lie between
    // 0000-03-01 and 1970-01-01.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    [year, month, day, rest / 3600, rest / 60 % 60, rest % 60]
}

/// ECMA-119 9.1.5: the date of a record, years counted from 1900, UTC.
pub(super) fn short_date(seconds: u32) -> [u8; 7] {
    let [year, month, day, hour, minute, second] = civil(seconds);
    let narrow = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
    [
        narrow(year.saturating_sub(1900)),
        narrow(month),
        narrow(day),
        narrow(hour),
        narrow(minute),
        narrow(second),
        0,
    ]
}

/// ECMA-119 8.4.26.1: the date of a volume, digits, UTC.
pub(super) fn long_date(seconds: u32) -> [u8; 17] {
    let [year, month, day, hour, minute, second] = civil(seconds);
    let text = format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}00");
    let mut bytes = [0; 17];
    put(&mut bytes, 0, text.as_bytes());
    bytes
}

/// A date of a volume that was not set.
pub(super) const NO_DATE: [u8; 17] = *b"0000000000000000\0";

/// Reads what [`short_date`] gives, with whatever offset from UTC; `None` for what is no date or is
/// outside of 1970 to 2106.
pub(super) fn parse_short_date(bytes: &[u8]) -> Option<u32> {
    let [year, month, day, hour, minute, second, zone] = crate::field::array(bytes, 0)?;
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) = (i64::from(year) + 1900, i64::from(month));
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let of_year = (153 * from_march + 2) / 5 + i64::from(day) - 1;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468;
    let rest = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
    // Quarters of an hour east of Greenwich.
    let zone = i64::from(i8::from_le_bytes([zone])) * 900;
    u32::try_from(days * 86_400 + rest - zone).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden() {
        assert_eq!(both16(0x1234), [0x34, 0x12, 0x12, 0x34]);
        assert_eq!(both32(0x1234_5678), [0x78, 0x56, 0x34, 0x12, 0x12, 0x34, 0x56, 0x78]);
        assert_eq!(&long_date(1_709_210_096), b"2024022912345600\0");
        assert_eq!(short_date(0), [70, 1, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn dates_are_read_back() {
        for seconds in [0, 1, 68_169_600, 951_782_400, 1_709_210_096, 4_000_000_000, u32::MAX] {
            assert_eq!(parse_short_date(&short_date(seconds)), Some(seconds));
        }
        // One hour east of Greenwich.
        assert_eq!(parse_short_date(&[70, 1, 1, 1, 0, 0, 4]), Some(0));
        assert_eq!(parse_short_date(&[70, 0, 1, 1, 0, 0, 4]), None);
        assert_eq!(parse_short_date(&[69, 1, 1, 1, 0, 0, 0]), None);
    }
}
