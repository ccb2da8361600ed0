//! Which paths are left out: shell patterns, as dpkg's `--path-exclude` has them (`dpkg(1)`).

/// Paths that are not unpacked. Patterns are matched against the absolute path of a file
/// (`/usr/share/doc/bash/README`); `*` and `?` match any character, slashes too, and `[…]` one of
/// a set. The last pattern that matches decides. Directories are left out only when nothing in
/// them is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    rules: Vec<(bool, String)>,
}

impl Filter {
    /// Everything is taken.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Without documentation, manual pages and translations; the copyright files stay.
    #[must_use]
    pub fn without_documentation() -> Self {
        let exclude = [
            "/usr/share/doc/*",
            "/usr/share/doc-base/*",
            "/usr/share/info/*",
            "/usr/share/man/*",
            "/usr/share/lintian/*",
            "/usr/share/locale/*",
        ];
        let filter = exclude.into_iter().fold(Self::new(), Self::exclude);
        filter.include("/usr/share/doc/*/copyright").include("/usr/share/locale/locale.alias")
    }

    /// Leaves out what matches, as well.
    #[must_use]
    pub fn exclude(mut self, pattern: impl Into<String>) -> Self {
        self.rules.push((false, pattern.into()));
        self
    }

    /// Takes what matches, even if a pattern before leaves it out.
    #[must_use]
    pub fn include(mut self, pattern: impl Into<String>) -> Self {
        self.rules.push((true, pattern.into()));
        self
    }

    /// Whether a path, without its leading slash, is taken.
    pub(super) fn takes(&self, path: &[u8]) -> bool {
        let mut absolute = vec![b'/'];
        absolute.extend_from_slice(path);
        let rule = self.rules.iter().rev().find(|(_, rule)| matches(rule.as_bytes(), &absolute));
        rule.is_none_or(|(take, _)| *take)
    }
}

/// Whether a pattern matches a text, without going back further than to the last star.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut rest, mut left) = (pattern, text);
    // Where to go on when what follows the last star does not match: one byte further.
    let mut retry: Option<(&[u8], &[u8])> = None;
    loop {
        let step = match (rest.split_first(), left.split_first()) {
            (None, None) => return true,
            (Some((b'*', after)), _) => {
                retry = Some((after, left));
                rest = after;
                continue;
            }
            (Some((b'?', after)), Some((_, tail))) => Some((after, tail)),
            (Some((b'[', inside)), Some((byte, tail))) => match set(inside, *byte) {
                Some((true, after)) => Some((after, tail)),
                Some((false, _)) => None,
                // Without its end it is no set but a bracket.
                None => (*byte == b'[').then_some((inside, tail)),
            },
            (Some((b'\\', [escaped, after @ ..])), Some((byte, tail))) => {
                (escaped == byte).then_some((after, tail))
            }
            (Some((wanted, after)), Some((byte, tail))) => {
                (wanted == byte).then_some((after, tail))
            }
            (None, Some(_)) | (Some(_), None) => None,
        };
        match (step, retry) {
            (Some((after, tail)), _) => (rest, left) = (after, tail),
            (None, Some((after, [_, tail @ ..]))) => {
                retry = Some((after, tail));
                (rest, left) = (after, tail);
            }
            (None, _) => return false,
        }
    }
}

/// Whether a byte is in the set that starts after a bracket, and what follows the set.
fn set(inside: &[u8], byte: u8) -> Option<(bool, &[u8])> {
    let (negated, members) = match inside {
        [b'!' | b'^', rest @ ..] => (true, rest),
        _ => (false, inside),
    };
    // A bracket that comes first is a member.
    let end = members.iter().skip(1).position(|member| *member == b']')? + 1;
    let (mut members, after) = (members.get(..end)?, members.get(end + 1..)?);
    let mut found = false;
    while let Some((first, rest)) = members.split_first() {
        members = match rest {
            [b'-', last, rest @ ..] => {
                found |= (*first..=*last).contains(&byte);
                rest
            }
            _ => {
                found |= *first == byte;
                rest
            }
        };
    }
    Some((found != negated, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("/usr/share/doc/*", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright.x", false),
            ("a*b*c", "axxbyybzzc", true),
            ("a*b*c", "axxbyybzz", false),
            ("[a-c]?[!x]", "bzy", true),
            ("[a-c]?[!x]", "bzx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("\\*", "*", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn copyright_stays() {
        let filter = Filter::without_documentation();
        assert!(filter.takes(b"usr/share/doc/bash/copyright"));
        assert!(!filter.takes(b"usr/share/doc/bash/README"));
        assert!(filter.takes(b"usr/bin/bash"));
    }
}
