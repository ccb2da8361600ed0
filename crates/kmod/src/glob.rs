//! Patterns as `fnmatch(3)` reads them without flags, which is how modprobe matches aliases.
//!
//! `*` any run, `?` any byte, `[a-f]`, `[!x]` and `[^x]` one byte of a set, `\x` the byte `x`.
//! Only the last `*` is ever reconsidered, so that a match costs at most
//! (pattern length × text length) steps, whatever the pattern. Named classes such as `[:digit:]`
//! are not read: no kernel writes them.

/// `-` and `_` are one character in the names of modules and in aliases outside of brackets.
pub(crate) const fn fold(byte: u8) -> u8 {
    if byte == b'-' { b'_' } else { byte }
}

/// Whether `byte` starts something other than itself in a pattern.
pub(crate) const fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[' | b'\\')
}

/// Whether the whole of `text`, which is folded already, matches `pattern`.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if pattern.get(p) == Some(&b'*') {
            p = p.saturating_add(1);
            star = Some((p, t));
            continue;
        }
        let Some(&byte) = text.get(t) else {
            // Every later start of the last `*` would leave even less text for the same rest.
            return p == pattern.len();
        };
        if let Some(next) = step(pattern, p, byte) {
            p = next;
            t = t.saturating_add(1);
            continue;
        }
        match star {
            Some((after, from)) => {
                if after == pattern.len() {
                    return true;
                }
                star = Some((after, from.saturating_add(1)));
                p = after;
                t = from.saturating_add(1);
            }
            None => return false,
        }
    }
}

/// Matches one byte at pattern position `at`: where the pattern goes on, or `None`.
fn step(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    let here = *pattern.get(at)?;
    match here {
        b'?' => Some(at.saturating_add(1)),
        b'[' => match bracket(pattern, at.saturating_add(1), byte) {
            Bracket::Set { hit, next } => hit.then_some(next),
            Bracket::Unclosed => (byte == b'[').then_some(at.saturating_add(1)),
        },
        b'\\' => {
            let quoted = *pattern.get(at.saturating_add(1))?;
            (fold(quoted) == byte).then_some(at.saturating_add(2))
        }
        _ => (fold(here) == byte).then_some(at.saturating_add(1)),
    }
}

enum Bracket {
    Set { hit: bool, next: usize },
    Unclosed,
}

/// Reads a bracket expression whose `[` is just before `at`.
fn bracket(pattern: &[u8], mut at: usize, byte: u8) -> Bracket {
    let negated = matches!(pattern.get(at), Some(b'!' | b'^'));
    if negated {
        at = at.saturating_add(1);
    }
    let mut hit = false;
    let mut first = true;
    loop {
        let Some(&here) = pattern.get(at) else { return Bracket::Unclosed };
        if here == b']' && !first {
            return Bracket::Set { hit: hit != negated, next: at.saturating_add(1) };
        }
        first = false;
        let Some((low, after)) = member(pattern, at) else { return Bracket::Unclosed };
        at = after;
        let ends_range = pattern.get(at) == Some(&b'-')
            && !matches!(pattern.get(at.saturating_add(1)), None | Some(b']'));
        let high = if ends_range {
            let Some((high, after)) = member(pattern, at.saturating_add(1)) else {
                return Bracket::Unclosed;
            };
            at = after;
            high
        } else {
            low
        };
        hit |= (low..=high).contains(&byte);
    }
}

/// One byte of a set, which a backslash may quote.
fn member(pattern: &[u8], at: usize) -> Option<(u8, usize)> {
    match *pattern.get(at)? {
        b'\\' => Some((*pattern.get(at.saturating_add(1))?, at.saturating_add(2))),
        byte => Some((byte, at.saturating_add(1))),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[track_caller]
    fn check(pattern: &str, text: &str, expected: bool) {
        assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} on {text}");
    }

    /// POSIX.1-2017, XCU 2.13.1 and 2.13.2.
    #[test]
    fn posix_patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("", "a", false),
            ("a", "", false),
            ("*", "", true),
            ("**", "x/y", true),
            ("a*c", "abbc", true),
            ("a*c", "abbcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("a?c", "ac", false),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[^a-c]x", "bx", false),
            ("[]a]", "]", true),
            ("[!]a]", "]", false),
            ("[a-]", "-", true),
            ("[0-9A-F]*", "F00", true),
            ("[", "[", true),
            ("[abc", "[abc", true),
            ("[abc", "a", false),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a\\", "a\\", false),
            ("[\\]]", "]", true),
        ] {
            check(pattern, text, expected);
        }
    }

    /// The shapes that `scripts/mod/file2alias.c` writes.
    #[test]
    fn kernel_aliases() {
        check("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv0sd0bc02sc00i00", true);
        check("pci:v00001AF4d*sv*sd*bc*sc*i*", "pci:v00008086d00001000sv0sd0bc02sc00i00", false);
        check("acpi*:PNP0C0C:*", "acpi:PNP0C0C:", true);
        check("usb:v0421p0[0-3]*d*", "usb:v0421p0234d0001", true);
        check("fs-vfat", "fs_vfat", true);
    }

    #[test]
    fn hostile_pattern_is_quadratic_at_worst() {
        let pattern = "a*".repeat(500) + "b";
        check(&pattern, &"a".repeat(4000), false);
    }
}
