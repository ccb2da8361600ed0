//! Which of two versions is the newer one.

use std::cmp::Ordering;

/// Compares versions as the UAPI Group's Version Format Specification (UAPI.10) says: runs of digits
/// as numbers, runs of letters as text, `~` before everything, then the end, `-`, `^` and `.`; other
/// characters only separate.
///
/// ```
/// use kiln_diskimg::boot::bls::compare_versions;
/// use std::cmp::Ordering;
///
/// assert_eq!(compare_versions("6.1.0-9", "6.1.0-10"), Ordering::Less);
/// assert_eq!(compare_versions("257~rc2", "257"), Ordering::Less);
/// ```
#[must_use]
pub fn compare_versions(one: &str, other: &str) -> Ordering {
    let known = |c: &u8| c.is_ascii_alphanumeric() || b"~-^.".contains(c);
    let (mut one, mut other) = (one.as_bytes(), other.as_bytes());
    loop {
        one = skip(one, |c| !known(c));
        other = skip(other, |c| !known(c));
        let (mut left, mut right) = (one.first(), other.first());
        // `~` comes before the end; the end before the separators.
        if left == Some(&b'~') || right == Some(&b'~') {
            match (left == Some(&b'~')).cmp(&(right == Some(&b'~'))).reverse() {
                Ordering::Equal => {}
                order => return order,
            }
            (one, other) = (skip_one(one), skip_one(other));
            continue;
        }
        if left.is_none() || right.is_none() {
            return left.is_some().cmp(&right.is_some());
        }
        for separator in *b"-^." {
            if left == Some(&separator) || right == Some(&separator) {
                match (left == Some(&separator)).cmp(&(right == Some(&separator))).reverse() {
                    Ordering::Equal => {}
                    order => return order,
                }
                (one, other) = (skip_one(one), skip_one(other));
                (left, right) = (None, None);
                break;
            }
        }
        if left.is_none() && right.is_none() {
            continue;
        }
        let digits = one.first().is_some_and(u8::is_ascii_digit)
            || other.first().is_some_and(u8::is_ascii_digit);
        let is = |c: &u8| if digits { c.is_ascii_digit() } else { c.is_ascii_alphabetic() };
        let (mut run, rest) = split(one, is);
        let (mut other_run, other_rest) = split(other, is);
        if digits {
            // A number is newer than letters, and numbers have no length that matters.
            run = skip(run, |c| *c == b'0');
            other_run = skip(other_run, |c| *c == b'0');
            let starts = |of: &[u8]| of.first().is_some_and(u8::is_ascii_digit);
            match starts(one).cmp(&starts(other)) {
                Ordering::Equal => {}
                order => return order,
            }
            match run.len().cmp(&other_run.len()) {
                Ordering::Equal => {}
                order => return order,
            }
        }
        match run.cmp(other_run) {
            Ordering::Equal => (one, other) = (rest, other_rest),
            order => return order,
        }
    }
}

fn skip(text: &[u8], what: impl Fn(&u8) -> bool) -> &[u8] {
    let start = text.iter().position(|c| !what(c)).unwrap_or(text.len());
    text.get(start..).unwrap_or_default()
}

fn skip_one(text: &[u8]) -> &[u8] {
    text.get(1..).unwrap_or_default()
}

fn split(text: &[u8], what: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    text.split_at(text.iter().position(|c| !what(c)).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The specification's own examples, and systemd's for `systemd-analyze compare-versions`.
    #[test]
    fn versions_compare_as_specified() {
        for (one, other) in
            [("11", "~11"), ("1_", "1"), ("_1", "1_"), ("1_", "1.2"), ("1.2.3", "1.3.3")]
                .map(|(one, other)| (one, other))
        {
            let order = compare_versions(one, other);
            let expected = match (one, other) {
                ("11", "~11") => Ordering::Greater,
                ("1_", "1") | ("_1", "1_") => Ordering::Equal,
                _ => Ordering::Less,
            };
            assert_eq!(order, expected, "{one} {other}");
        }
        let ascending = [
            "~1",
            "",
            "ab",
            "abb",
            "abc",
            "0001",
            "002",
            "12",
            "122",
            "122.9",
            "123~rc1-1",
            "123",
            "123-a",
            "123-a.1",
            "123-a1",
            "123-a1.1",
            "123-3",
            "123-3.1",
            "123^patch1",
            "123^1",
            "123.a-1",
            "123.1-1",
            "123a-1",
            "124-1",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for (other_at, other) in ascending.iter().enumerate() {
                assert_eq!(compare_versions(one, other), at.cmp(&other_at), "{one} {other}");
            }
        }
    }
}
