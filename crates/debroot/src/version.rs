//! Debian's order of versions (Debian Policy, section 5.6.12).

use std::cmp::Ordering;

/// Compares two versions as `dpkg --compare-versions` does: epoch, upstream version, revision.
///
/// Any text is compared; whether it is a proper version is [`check`]'s question.
///
/// ```
/// use kiln_debroot::version::compare;
/// use std::cmp::Ordering;
///
/// assert_eq!(compare("1.0~rc1", "1.0"), Ordering::Less);
/// assert_eq!(compare("1:0.9", "2.0"), Ordering::Greater);
/// assert_eq!(compare("2.36-9+deb12u10", "2.36-9+deb12u9"), Ordering::Greater);
/// ```
#[must_use]
pub fn compare(left: &str, right: &str) -> Ordering {
    let (left_epoch, left_upstream, left_revision) = split(left.trim());
    let (right_epoch, right_upstream, right_revision) = split(right.trim());
    compare_numbers(left_epoch, right_epoch)
        .then_with(|| compare_parts(left_upstream, right_upstream))
        .then_with(|| compare_parts(left_revision, right_revision))
}

/// What is wrong with a version, by the rules of the Policy as dpkg enforces them.
///
/// # Errors
/// The reason, in words.
pub fn check(version: &str) -> Result<(), &'static str> {
    if version.is_empty() {
        return Err("a version is empty");
    }
    let after_epoch = match version.split_once(':') {
        Some((epoch, rest)) => {
            let digits = !epoch.is_empty() && epoch.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || epoch.parse::<i32>().is_err() {
                return Err("the epoch of a version is a number below 2147483648");
            }
            rest
        }
        None => version,
    };
    let (upstream, revision) = after_epoch.rsplit_once('-').unwrap_or((after_epoch, "0"));
    if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
        return Err("a version starts with a digit");
    }
    let letter = |more: &'static [u8]| {
        move |byte: u8| {
            byte.is_ascii_alphanumeric() || b".+~".contains(&byte) || more.contains(&byte)
        }
    };
    if !upstream.bytes().all(letter(b"-:")) {
        return Err("a version has only letters, digits and . + - : ~");
    }
    if revision.is_empty() || !revision.bytes().all(letter(b"")) {
        return Err("the revision of a version has only letters, digits and . + ~");
    }
    Ok(())
}

fn split(version: &str) -> (&str, &str, &str) {
    let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Two runs of digits of any length.
fn compare_numbers(left: &str, right: &str) -> Ordering {
    let left = left.trim_start_matches('0');
    let right = right.trim_start_matches('0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

fn compare_parts(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let left_text = take(&mut left, |byte| !byte.is_ascii_digit());
        let right_text = take(&mut right, |byte| !byte.is_ascii_digit());
        let order = compare_text(left_text, right_text);
        if order.is_ne() {
            return order;
        }
        let left_digits = take(&mut left, |byte| byte.is_ascii_digit());
        let right_digits = take(&mut right, |byte| byte.is_ascii_digit());
        let order = compare_numbers(left_digits, right_digits);
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}

fn take<'text>(rest: &mut &'text str, wanted: impl Fn(u8) -> bool) -> &'text str {
    let end = rest.bytes().position(|byte| !wanted(byte)).unwrap_or(rest.len());
    // `end` is before an ASCII digit or after one: always a boundary of characters.
    let (taken, left) = rest.split_at_checked(end).unwrap_or((rest, ""));
    *rest = left;
    taken
}

/// `~` sorts before the end, the end before letters, letters before everything else.
fn compare_text(left: &str, right: &str) -> Ordering {
    let weight = |byte: Option<u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(byte),
        Some(byte) => i32::from(byte) + 256,
    };
    let (mut left, mut right) = (left.bytes(), right.bytes());
    loop {
        let (next_left, next_right) = (left.next(), right.next());
        match weight(next_left).cmp(&weight(next_right)) {
            Ordering::Equal if next_left.is_none() => return Ordering::Equal,
            Ordering::Equal => {}
            order => return order,
        }
    }
}
