//! `write_files`.

use std::fmt;

use crate::place::{hint, quoted};
use crate::unpack::{self, Inflated};
use crate::{Cursor, Meaning, Value};

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct WriteFile {
    /// Where, absolute and without `..`.
    pub path: String,
    /// What, decoded.
    pub content: Vec<u8>,
    /// Whose. Default: root's.
    pub owner: Owner,
    /// Mode bits. Default: 0644.
    pub mode: u32,
    /// Whether it goes behind what is there. Default: no.
    pub append: bool,
    /// The container that it is for (RancherOS). Default: the system.
    pub container: Option<String>,
}

/// A user and a group, by name or number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: String,
    /// The group.
    pub group: String,
}

impl Default for Owner {
    fn default() -> Self {
        Self { user: "root".into(), group: "root".into() }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.user, self.group)
    }
}

/// How a content is written down: compressed, base64.
const ENCODINGS: &[(&str, (bool, bool))] = &[
    ("text/plain", (false, false)),
    ("plain", (false, false)),
    ("b64", (false, true)),
    ("base64", (false, true)),
    ("gz", (true, false)),
    ("gzip", (true, false)),
    ("gz+b64", (true, true)),
    ("gz+base64", (true, true)),
    ("gzip+b64", (true, true)),
    ("gzip+base64", (true, true)),
];

pub(super) fn file(at: &Cursor<'_>) -> Option<WriteFile> {
    let mut fields = at.fields()?;
    let path = fields.required("path", path);
    let text = fields.field("content");
    let encoding = fields.get("encoding", encoding).unwrap_or_default();
    let file = WriteFile {
        path: path.unwrap_or_default(),
        content: text.and_then(|at| content(&at, encoding)).unwrap_or_default(),
        owner: fields.get("owner", owner).unwrap_or_default(),
        mode: fields.get("permissions", mode).unwrap_or(0o644),
        append: fields.get("append", Cursor::bool).unwrap_or_default(),
        container: fields.get("container", |at| at.text().map(str::to_owned)),
    };
    // Without these it would be another file, or one at another time.
    for key in ["source", "defer"] {
        if let Some(at) = fields.field(key) {
            at.wrong::<()>("not supported, so this file is not written");
        }
    }
    fields.finish();
    Some(file)
}

/// An absolute path that stays where it says, and that a kernel takes.
pub(super) fn path(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    let parts = || text.split('/').filter(|part| !part.is_empty());
    if !text.starts_with('/') {
        return at.expected("an absolute path");
    }
    if text.contains('\0') || parts().any(|part| matches!(part, "." | "..") || part.len() > 255) {
        return at.expected("a path without \".\" and \"..\", of names of at most 255 bytes");
    }
    if text.len() > 4095 || parts().next().is_none() || text.ends_with('/') {
        return at.expected("the path of a file");
    }
    Some(text.to_owned())
}

fn encoding(at: &Cursor<'_>) -> Option<(bool, bool)> {
    let text = at.text()?;
    let known = ENCODINGS.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if let Some((_, how)) = known {
        return Some(*how);
    }
    let names: Vec<&str> = ENCODINGS.iter().map(|(name, _)| *name).collect();
    at.wrong(format_args!("unknown value {}{}", quoted(text), hint(text, &names)))
}

fn content(at: &Cursor<'_>, (compressed, base64): (bool, bool)) -> Option<Vec<u8>> {
    // A number is a fine content; a truth value is refused, because it is written in several ways.
    let text = at.word()?;
    let mut bytes = if base64 {
        match unpack::base64(text.as_bytes()) {
            Some(bytes) => bytes,
            None => return at.wrong("not base64"),
        }
    } else {
        text.as_bytes().to_vec()
    };
    let most = at.limits().file_bytes;
    if compressed {
        bytes = match unpack::gunzip(&bytes, most) {
            Inflated::Bytes(bytes) => bytes,
            Inflated::TooLong => {
                return at.wrong(format_args!("more than {most} bytes when unpacked"));
            }
            Inflated::Broken => return at.wrong("not gzip"),
        };
    }
    if bytes.len() > most {
        return at
            .wrong(format_args!("{} bytes, of which at most {most} are written", bytes.len()));
    }
    Some(bytes)
}

fn owner(at: &Cursor<'_>) -> Option<Owner> {
    let text = at.word()?;
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let root = |name: &str| if name.is_empty() { "root".to_owned() } else { name.to_owned() };
    for name in [user, group] {
        let number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
        let number = number && name.parse::<u32>().is_ok_and(|id| id != u32::MAX);
        if !(name.is_empty() || number || super::is_account_name(name)) {
            return at.wrong(format_args!("{} is no name of a user or a group", quoted(name)));
        }
    }
    Some(Owner { user: root(user), group: root(group) })
}

/// Octal digits. A number must show that it is octal: other readers take 644 for decimal.
fn mode(at: &Cursor<'_>) -> Option<u32> {
    let Value::Scalar(scalar) = &at.node().value else {
        return at.expected("an octal mode such as \"0644\"");
    };
    let digits = match scalar.meaning() {
        Meaning::Text(text) => text,
        Meaning::Integer(_) if scalar.text.starts_with('0') => &scalar.text,
        Meaning::Integer(_) => {
            let text = &scalar.text;
            return at
                .wrong(format_args!("{text} is decimal, expected an octal mode: \"0{text}\""));
        }
        _ => return at.expected("an octal mode such as \"0644\""),
    };
    let digits = digits.strip_prefix("0o").unwrap_or(digits);
    let octal =
        (1..=5).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    match u32::from_str_radix(digits, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Some(mode),
        _ => at.expected("an octal mode such as \"0644\""),
    }
}
