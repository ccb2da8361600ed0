//! Names of hosts, domains and links.

/// Whether this is a host or domain name: labels of 1 to 63 letters, digits and inner hyphens,
/// joined by dots, at most 253 bytes (RFC 1123 section 2.1).
#[must_use]
pub fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

/// Whether the kernel would take this as a link's name, wildcards aside (net/core/dev.c,
/// `dev_valid_name`: at most 15 bytes, no slash, colon or white space, not `.` or `..`).
pub(crate) fn is_link_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 15
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':')
}

/// Whether a pattern fits a whole name: `*` stands for any characters, `?` for one. Takes time in
/// proportion to the product of the lengths.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from) = (0, 0);
    // Where to go on when a guess about the last `*` was wrong.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(from) {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, from + 1));
                at += 1;
            }
            Some(wanted) if wanted == byte || *wanted == b'?' => (at, from) = (at + 1, from + 1),
            _ => match retry {
                Some((star, next)) => {
                    (at, from) = (star, next);
                    retry = Some((star, next + 1));
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("eth0", "eth0", true),
            ("eth0", "eth01", false),
            ("eth*", "eth", true),
            ("eth*", "eth12", true),
            ("*s0", "enp0s0s0", true),
            ("*s0", "enp0s01", false),
            ("e??0", "eth0", true),
            ("e??0", "et0", false),
            ("*", "", true),
            ("", "", true),
            ("a*b*c", "axxbxxbc", true),
            ("a*b*c", "axxbxxb", false),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn names() {
        assert!(is_host_name("node-1.example.org"));
        for bad in ["", "-a", "a-", "a..b", "a_b", "a b", &"a".repeat(64)] {
            assert!(!is_host_name(bad), "{bad}");
        }
        assert!(is_link_name("enp0s31f6"));
        for bad in ["", ".", "..", "a/b", "eth0:1", "a b", "sixteen-letters-"] {
            assert!(!is_link_name(bad), "{bad}");
        }
    }
}
