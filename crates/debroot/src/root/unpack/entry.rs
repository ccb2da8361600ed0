//! What an entry of a package says, and why it may be refused.

use std::io::Read;

use kiln_tree::{Metadata, TreePath};

use crate::Error;

/// Why an entry of a package is not unpacked.
pub(super) enum Refused {
    Because(String),
    Error(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<kiln_tree::Error> for Refused {
    fn from(error: kiln_tree::Error) -> Self {
        Self::Because(error.to_string())
    }
}

/// The path of an entry below the root.
pub(super) fn inside(raw: &[u8]) -> Result<TreePath, Refused> {
    if raw.first() == Some(&b'/') {
        let path = String::from_utf8_lossy(raw);
        return Err(Refused::Because(format!("{path}: absolute paths are refused")));
    }
    Ok(TreePath::new(raw)?)
}

pub(super) fn link_target(
    entry: &tar::Entry<'_, Box<dyn Read>>,
    named: &dyn Fn() -> String,
) -> Result<Vec<u8>, Refused> {
    entry
        .link_name_bytes()
        .map(std::borrow::Cow::into_owned)
        .filter(|target| !target.is_empty())
        .ok_or_else(|| Refused::Because(format!("{}: a link to nothing", named())))
}

pub(super) fn metadata(entry: &tar::Entry<'_, Box<dyn Read>>) -> Result<Metadata, Refused> {
    let header = entry.header();
    let broken = |error: std::io::Error| {
        let path = entry.path_bytes();
        Refused::Because(format!("{}: {error}", String::from_utf8_lossy(&path)))
    };
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    let mode = header.mode().map_err(broken)? & 0o7777;
    let meta = Metadata::new(u16::try_from(mode).unwrap_or(0))
        .owned_by(number(header.uid().map_err(broken)?), number(header.gid().map_err(broken)?))
        .modified_at(number(header.mtime().map_err(broken)?));
    Ok(meta)
}
