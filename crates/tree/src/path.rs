//! Paths inside a tree: relative, normalised, bytes.

use std::borrow::Borrow;
use std::fmt;

use crate::{Error, Result};

/// The longest path, in bytes, that Linux accepts (`PATH_MAX` less its terminating NUL).
const PATH_MAX: usize = 4095;
/// The longest component, in bytes (`NAME_MAX`).
const NAME_MAX: usize = 255;

/// A path inside a tree: components joined by `/`, no leading or trailing slash, no `.`, no `..`,
/// no NUL, each component at most 255 bytes and the whole at most 4095.
///
/// The empty path is the root. Paths are bytes, as file names are on Linux; they sort by their
/// bytes, which puts each directory before what is in it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TreePath(Box<[u8]>);

impl TreePath {
    /// The root of the tree.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Reads a path, dropping leading slashes, doubled slashes and `.` components.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] for `..`, a NUL, a component or path that is too long.
    pub fn new(path: impl AsRef<[u8]>) -> Result<Self> {
        let path = path.as_ref();
        let invalid = |reason| Error::InvalidPath {
            path: String::from_utf8_lossy(path.get(..200).unwrap_or(path)).into_owned(),
            reason,
        };
        let mut out = Vec::with_capacity(path.len());
        for component in path.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => continue,
                b".." => return Err(invalid("a component is '..'")),
                _ if component.contains(&0) => return Err(invalid("it contains a NUL byte")),
                _ if component.len() > NAME_MAX => {
                    return Err(invalid("a component is longer than 255 bytes"));
                }
                _ => {}
            }
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(component);
        }
        if out.len() > PATH_MAX {
            return Err(invalid("it is longer than 4095 bytes"));
        }
        Ok(Self(out.into_boxed_slice()))
    }

    /// The bytes of the path, without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The last component; `None` for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<&[u8]> {
        if self.is_root() { None } else { self.0.rsplit(|byte| *byte == b'/').next() }
    }

    /// The directory this path is in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        Some(Self(self.0.get(..end).unwrap_or_default().into()))
    }

    /// The components from the root down.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
    }

    /// The path of `name` (which may have several components) below this one.
    ///
    /// # Errors
    /// [`Error::InvalidPath`] as [`TreePath::new`].
    pub fn join(&self, name: impl AsRef<[u8]>) -> Result<Self> {
        let mut joined = self.0.to_vec();
        joined.push(b'/');
        joined.extend_from_slice(name.as_ref());
        Self::new(joined)
    }

    /// Whether this path is `other` or below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(&*other.0)
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    }
}

impl Borrow<[u8]> for TreePath {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_root() {
            return out.write_str("/");
        }
        // A newline or an escape sequence in a file name must not reach somebody's terminal.
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                if character.is_control() {
                    write!(out, "{}", character.escape_default())?;
                } else {
                    write!(out, "{character}")?;
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for TreePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_and_refuses() {
        assert_eq!(TreePath::new("/usr//./lib/").unwrap().as_bytes(), b"usr/lib");
        assert!(TreePath::new("").unwrap().is_root());
        for bad in [&b"a/../b"[..], b"..", b"a\0b", &[b'x'; 256], &b"abcdefg/".repeat(600)] {
            assert!(TreePath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn parents_and_names() {
        let path = TreePath::new("usr/lib/libc.so.6").unwrap();
        assert_eq!(path.file_name(), Some(&b"libc.so.6"[..]));
        assert_eq!(path.parent().unwrap().as_bytes(), b"usr/lib");
        assert!(TreePath::new("usr").unwrap().parent().unwrap().is_root());
        assert!(path.starts_with(&TreePath::new("usr/lib").unwrap()));
        assert!(!path.starts_with(&TreePath::new("usr/li").unwrap()));
    }

    #[test]
    fn display_escapes_what_would_reach_a_terminal() {
        assert_eq!(TreePath::new(b"a\nb\xff").unwrap().to_string(), "a\\nb\\xff");
    }
}
