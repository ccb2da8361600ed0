//! Points in time as people and programs read them, without a library of calendars.

/// Bytes of a [`text`].
const LENGTH: usize = 28;

/// `2026-11-22T12:50:22.123456Z ` (RFC 3339, UTC) for microseconds since 1970.
pub(super) fn text(unix_us: u64) -> [u8; LENGTH] {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let mut text = *b"0000-00-00T00:00:00.000000Z ";
    let fields = [
        (0, 4, year),
        (5, 2, month),
        (8, 2, day),
        (11, 2, second / 3600),
        (14, 2, second / 60 % 60),
        (17, 2, second % 60),
        (20, 6, micros),
    ];
    for (at, width, value) in fields {
        let mut rest = value;
        for byte in text.iter_mut().skip(at).take(width).rev() {
            *byte = b'0'.saturating_add(u8::try_from(rest % 10).unwrap_or(0));
            rest /= 10;
        }
    }
    text
}

/// Year, month and day of the Gregorian calendar for days since 1970-01-01. The year is thought to
/// begin in March, so that the day which some years have more comes last.
fn date(days: u64) -> (u64, u64, u64) {
    /// Days of 400 years, after which all comes again.
    const ERA: u64 = 146_097;
    // 719,468 days from 0000-03-01 to 1970-01-01
    let days = days.saturating_add(719_468);
    let (era, day) = (days / ERA, days % ERA);
    let leaps = (day / 1_460).saturating_add(day / 146_096);
    let year = day.saturating_sub(leaps).saturating_add(day / 36_524) / 365;
    let before = year.saturating_mul(365).saturating_add(year / 4).saturating_sub(year / 100);
    let day = day.saturating_sub(before);
    // months of 31, 30, 31, 30, 31 days from March on, and again
    let month = day.saturating_mul(5).saturating_add(2) / 153;
    let first = month.saturating_mul(153).saturating_add(2) / 5;
    let day = day.saturating_sub(first).saturating_add(1);
    let (month, next) =
        if month < 10 { (month.saturating_add(3), 0) } else { (month.saturating_sub(9), 1) };
    (era.saturating_mul(400).saturating_add(year).saturating_add(next), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_799, "2000-02-29T23:59:59"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (1_735_689_599, "2024-12-31T23:59:59"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (253_402_300_799, "9999-12-31T23:59:59"),
        ] {
            let text = text(seconds * 1_000_000 + 7);
            let text = std::str::from_utf8(&text).unwrap();
            assert_eq!(text, format!("{expected}.000007Z "));
        }
    }

    #[test]
    fn every_day_follows_the_one_before() {
        let mut last = date(0);
        for days in 1..200_000 {
            let (year, month, day) = date(days);
            let next = match last {
                (y, 12, 31) => (y + 1, 1, 1),
                (y, m, d) => {
                    let leap = y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
                    let most = [31, 28 + u64::from(leap), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
                    if d < most[usize::try_from(m).unwrap() - 1] {
                        (y, m, d + 1)
                    } else {
                        (y, m + 1, 1)
                    }
                }
            };
            assert_eq!((year, month, day), next);
            last = next;
        }
    }
}
