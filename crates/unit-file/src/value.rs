//! Values of settings: time spans (systemd.time(7)), sizes and shares (systemd.resource-control(5)).

use std::time::Duration;

/// A time span; `None` for `infinity`.
///
/// # Errors
/// A sentence that says what is none.
pub fn duration(text: &str) -> Result<Option<Duration>, String> {
    if text == "infinity" {
        return Ok(None);
    }
    let wrong = || format!("{text:?} is no time span");
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let number: f64 = number.parse().map_err(|_| wrong())?;
        let after = after.trim_start();
        let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        total += number * seconds(unit).ok_or_else(wrong)?;
        rest = after.trim_start();
    }
    Duration::try_from_secs_f64(total).map(Some).map_err(|_| wrong())
}

fn seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "us" | "usec" | "µs" | "μs" => 1e-6,
        "ms" | "msec" => 1e-3,
        "" | "s" | "sec" | "second" | "seconds" => 1.0,
        "m" | "min" | "minute" | "minutes" => 60.0,
        "h" | "hr" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        "M" | "month" | "months" => 2_629_800.0,
        "y" | "year" | "years" => 31_557_600.0,
        _ => return None,
    })
}

/// A truth value (systemd.syntax(7)); `None` for what is none.
#[must_use]
pub fn boolean(text: &str) -> Option<bool> {
    let is = |words: [&str; 4]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(["1", "yes", "true", "on"]) {
        Some(true)
    } else {
        is(["0", "no", "false", "off"]).then_some(false)
    }
}

/// A size in bytes, with suffixes to the base of 1024.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text.get(digits.len()..)? {
        "" | "B" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return None,
    };
    digits.trim().parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// A share such as `20%`, in per cent.
#[must_use]
pub fn percent(text: &str) -> Option<u64> {
    text.strip_suffix('%')?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_those_of_the_manual() {
        // systemd.time(7), "Parsing Time Spans".
        let found = |text| duration(text).unwrap().unwrap().as_secs_f64();
        assert!((found("2 h") - 7200.0).abs() < 1e-9);
        assert!((found("2hours") - 7200.0).abs() < 1e-9);
        assert!((found("1y 12month") - 2.0 * 31_557_600.0).abs() < 1e-3);
        assert!((found("300ms20s 5day") - (432_020.3)).abs() < 1e-6);
        assert!((found("1.5") - 1.5).abs() < 1e-9);
        assert_eq!(duration("infinity"), Ok(None));
        for wrong in ["", "5 parsecs", "s", "-1", "1..2"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_and_shares() {
        assert_eq!(size("512M"), Some(512 << 20));
        assert_eq!(size("1024"), Some(1024));
        assert_eq!(size("18446744073709551615T"), None);
        assert_eq!(size("10%"), None);
        assert_eq!(percent("150%"), Some(150));
    }
}
