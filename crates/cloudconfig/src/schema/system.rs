//! `hostname`, `sysctl`, `modules` and `services`.

use std::collections::BTreeMap;

use crate::Cursor;
use crate::place::quoted;

/// A module of the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Module {
    /// Its name.
    pub name: String,
    /// Its parameters, each `NAME=VALUE` or a name.
    pub parameters: Vec<String>,
}

/// RFC 1123 section 2.1: labels of letters, digits and inner hyphens. Linux takes at most 64 bytes.
pub(crate) fn is_host_name(name: &str) -> bool {
    name.len() <= 64
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

pub(super) fn hostname(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    if is_host_name(text) {
        return Some(text.to_owned());
    }
    at.wrong(format_args!(
        "{} is no host name: letters, digits, hyphens and dots, at most 64",
        quoted(text)
    ))
}

pub(super) fn sysctl(at: &Cursor<'_>) -> Option<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (name, at) in at.entries()? {
        let value = at.whole(|at| {
            // It becomes a path below /proc/sys.
            let parts = || name.split(['.', '/']);
            let letters = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:@".contains(&byte);
            if !parts().all(|part| !part.is_empty() && part.bytes().all(letters)) {
                return at.wrong(format_args!("{} is no name of a setting", quoted(name)));
            }
            let value = at.word()?;
            if value.contains(char::is_control)
                && value.contains(|c| c != '\t' && char::is_control(c))
            {
                return at.expected("one line");
            }
            Some(value.to_owned())
        });
        found.extend(value.map(|value| (name.to_owned(), value)));
    }
    Some(found)
}

pub(super) fn module(at: &Cursor<'_>) -> Option<Module> {
    let text = at.text()?;
    let mut words = text.split_ascii_whitespace();
    let name = words.next().unwrap_or_default();
    let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.starts_with('-') || !name.bytes().all(letters) {
        return at.expected("a module's name, and its parameters after it");
    }
    Some(Module { name: name.to_owned(), parameters: words.map(str::to_owned).collect() })
}

pub(super) fn services(at: &Cursor<'_>) -> Option<BTreeMap<String, bool>> {
    let entries = at.entries()?;
    let on = entries.into_iter().filter_map(|(name, at)| Some((name.to_owned(), at.bool()?)));
    Some(on.collect())
}
