//! What a slot is to be filled with, and the text by which a kernel and an initramfs that lie beside
//! it say so.

use std::fmt::{self, Write as _};

use super::{FORMAT, Part};
use crate::{Error, Result};

/// Longer texts are none.
const LONGEST: usize = 16 << 10;

/// A system that is to replace the one in a slot.
///
/// It has a text form, for whoever carries a system from where it is made to where it is installed:
///
/// ```
/// use kiln_diskimg::slots::{Part, Release};
///
/// let mut release = Release::new("2.0", Part::of(b"kernel"), Part::of(b"initramfs"));
/// release.command_line = "console=ttyS0 quiet".to_owned();
/// let text = release.to_string();
/// assert!(text.starts_with("version 2.0\nkernel 6 "));
/// assert!(text.ends_with("\noptions console=ttyS0 quiet\n"));
/// assert_eq!(Release::parse(text.as_bytes())?, release);
/// # Ok::<(), kiln_diskimg::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Release {
    /// Its version: up to 128 bytes, no control characters.
    pub version: String,
    /// Its command line. Default: empty.
    pub command_line: String,
    /// Its kernel.
    pub kernel: Part,
    /// Its initramfs.
    pub initrd: Part,
    /// Whether it may be older than what runs. Default: no. No text says it.
    pub allow_older: bool,
}

impl Release {
    /// A system of this version from its parts.
    #[must_use]
    pub fn new(version: impl Into<String>, kernel: Part, initrd: Part) -> Self {
        let (version, command_line) = (version.into(), String::new());
        Self { version, command_line, kernel, initrd, allow_older: false }
    }

    /// Reads the text form: lines of a key and a value, each key once; lines that are empty or begin
    /// with `#` say nothing.
    ///
    /// | key | value |
    /// |---|---|
    /// | `version` | the version |
    /// | `kernel`, `initrd` | bytes, and SHA-256 in hexadecimal digits |
    /// | `options` | the command line; may be absent |
    ///
    /// # Errors
    /// [`Error::Malformed`] with the byte of a line that is not understood, or of the end where a key
    /// is missing; [`Error::Limit`] for more than 16 KiB.
    pub fn parse(text: &[u8]) -> Result<Self> {
        if text.len() > LONGEST {
            let (found, limit) = (text.len() as u64, LONGEST as u64);
            return Err(Error::Limit { format: FORMAT, what: "length of a release", found, limit });
        }
        let wrong = |at: usize, what: String| Error::malformed(FORMAT, at as u64, what);
        let (mut version, mut kernel, mut initrd, mut options) = (None, None, None, None);
        let mut at = 0_usize;
        for line in text.split(|byte| *byte == b'\n') {
            let start = at;
            at = at.saturating_add(line.len()).saturating_add(1);
            let line = std::str::from_utf8(line)
                .map_err(|_| wrong(start, "a line is no UTF-8".to_owned()))?
                .trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (key, value) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            let value = value.trim();
            let of_part = || {
                part(value)
                    .ok_or_else(|| wrong(start, format!("{key}: expected bytes and SHA-256")))
            };
            let twice = match key {
                "version" => version.replace(value.to_owned()).is_some(),
                "kernel" => kernel.replace(of_part()?).is_some(),
                "initrd" => initrd.replace(of_part()?).is_some(),
                "options" => options.replace(value.to_owned()).is_some(),
                _ => {
                    let key: String = key.chars().take(32).collect();
                    return Err(wrong(start, format!("unknown key {key:?}")));
                }
            };
            if twice {
                return Err(wrong(start, format!("{key} is there twice")));
            }
        }
        let missing = |key: &str| wrong(text.len(), format!("there is no line {key:?}"));
        let mut release = Self::new(
            version.filter(|it| !it.is_empty()).ok_or_else(|| missing("version"))?,
            kernel.ok_or_else(|| missing("kernel"))?,
            initrd.ok_or_else(|| missing("initrd"))?,
        );
        release.command_line = options.unwrap_or_default();
        Ok(release)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "version {}", self.version)?;
        for (key, part) in [("kernel", &self.kernel), ("initrd", &self.initrd)] {
            write!(out, "{key} {} ", part.len)?;
            part.sha256.iter().try_for_each(|byte| write!(out, "{byte:02x}"))?;
            out.write_char('\n')?;
        }
        writeln!(out, "options {}", self.command_line)
    }
}

fn part(text: &str) -> Option<Part> {
    let (len, digits) = text.split_once(char::is_whitespace)?;
    let digits = digits.trim();
    let mut sha256 = [0_u8; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (to, pair) in sha256.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        // `from_str_radix` takes a sign, of which there is none
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        *to = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    let len = len.bytes().all(|digit| digit.is_ascii_digit()).then(|| len.parse().ok())??;
    Some(Part { len, sha256 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        Release::parse(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let digest = "0".repeat(64);
        let good = format!("# made\nversion 1\n\nkernel 5 {digest}\ninitrd 6 {digest}\n");
        assert_eq!(Release::parse(good.as_bytes()).unwrap().initrd.len, 6);
        for (text, expected) in [
            (String::new(), "there is no line \"version\""),
            ("version 1\n".to_owned(), "there is no line \"kernel\""),
            (format!("{good}version 2\n"), "version is there twice"),
            (format!("{good}colour red\n"), "unknown key \"colour\""),
            (good.replace("kernel 5", "kernel +5"), "kernel: expected bytes and SHA-256"),
            (good.replace("kernel 5 00", "kernel 5 +0"), "kernel: expected bytes and SHA-256"),
            (good.replace("6 00", "6 "), "initrd: expected bytes and SHA-256"),
            (good.replace("version 1", "version"), "there is no line \"version\""),
        ] {
            let found = said(&text);
            assert!(found.contains(expected), "{text}: {found}");
        }
        assert!(said("version 1\nkernel x\n").contains("byte 10"));
        assert!(said(&"#".repeat(LONGEST + 1)).contains("16384"));
        assert!(Release::parse(b"version \xff\n").is_err());
    }
}
