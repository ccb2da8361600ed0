//! Sizes and counts as people read them.

/// A length: three digits, decimal units, as disks and downloads are sold.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut unit_bytes = 1000_u128;
    let mut unit = UNITS[0];
    for next in UNITS.iter().skip(1) {
        // 999.5 kB would be shown as 1000 kB.
        if u128::from(bytes) * 2 < unit_bytes * 1999 {
            break;
        }
        (unit_bytes, unit) = (unit_bytes * 1000, next);
    }
    let tenths = (u128::from(bytes) * 10 + unit_bytes / 2) / unit_bytes;
    if tenths < 1000 {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    } else {
        format!("{} {unit}", (u128::from(bytes) + unit_bytes / 2) / unit_bytes)
    }
}

/// How much longer or shorter something got, with its sign.
pub(crate) fn delta(old: u64, new: u64) -> String {
    let sign = if new < old { '-' } else { '+' };
    format!("{sign}{}", size(new.abs_diff(old)))
}

/// A number with its thousands apart.
pub(crate) fn count(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        let shown = [0, 999, 1000, 1234, 99_949, 99_950, 999_499, 999_500, 1_000_000, 82_345_678];
        assert_eq!(
            shown.map(super::size).join(", "),
            "0 B, 999 B, 1.0 kB, 1.2 kB, 99.9 kB, 100 kB, 999 kB, 1.0 MB, 1.0 MB, 82.3 MB"
        );
        assert_eq!(super::size(u64::MAX), "18.4 EB");
        assert_eq!(super::delta(2000, 500), "-1.5 kB");
        assert_eq!(super::delta(0, 0), "+0 B");
    }

    #[test]
    fn counts() {
        assert_eq!([0, 999, 1000, 1_234_567].map(super::count).join(" "), "0 999 1,000 1,234,567");
    }
}
