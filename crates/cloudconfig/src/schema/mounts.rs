//! `mounts`.

use crate::{Cursor, Value};

/// A line of fstab(5).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// What: a device, `LABEL=`, `UUID=`, or what the type of file system takes.
    pub what: String,
    /// Where; `none` for swap.
    pub target: String,
    /// The type. Default: `auto`.
    pub fstype: String,
    /// The options. Default: `defaults,nofail`.
    pub options: String,
    /// The fifth and the sixth field. Default: 0 and 2.
    pub dump: u8,
    /// When it is checked.
    pub pass: u8,
}

/// As cloud-init has it, each element is a list in the order of fstab's fields.
pub(super) fn mount(at: &Cursor<'_>) -> Option<Mount> {
    let items = at.items()?;
    if !(2..=6).contains(&items.len()) {
        let found = items.len();
        return at.wrong(format_args!(
            "a list of {found}, expected 2 to 6: what, where, type, options, dump, pass"
        ));
    }
    // An empty field is one that nobody has said: RancherOS's users write `["/dev/vdb", "", "swap", ""]`.
    let is_said = |item: &&Cursor<'_>| match &item.node().value {
        Value::Scalar(scalar) => !item.node().is_null() && !scalar.text.is_empty(),
        _ => true,
    };
    let field = |at: usize| items.get(at).filter(is_said);
    let text = |at: usize| field(at).and_then(word);
    let number = |at: usize| field(at).and_then(|it| it.parse::<u8>("0 to 255"));
    let what = text(0);
    let fstype = text(2);
    let target = match field(1) {
        Some(at) => target(at),
        None if fstype.as_deref() == Some("swap") => Some("none".into()),
        None => at.wrong("where to mount it is missing"),
    };
    if what.is_none() && field(0).is_none() {
        return at.wrong("what to mount is missing");
    }
    Some(Mount {
        what: what?,
        target: target?,
        fstype: fstype.unwrap_or_else(|| "auto".into()),
        options: text(3).unwrap_or_else(|| "defaults,nofail".into()),
        dump: number(4).unwrap_or(0),
        pass: number(5).unwrap_or(2),
    })
}

/// A field of fstab(5): not empty. Blanks are escaped when it is written.
fn word(at: &Cursor<'_>) -> Option<String> {
    let text = at.word()?;
    if text.is_empty() || text.contains(char::is_control) {
        return at.expected("a field of one line");
    }
    Some(text.to_owned())
}

fn target(at: &Cursor<'_>) -> Option<String> {
    let text = word(at)?;
    if matches!(text.as_str(), "none" | "swap") || text == "/" {
        return Some(text);
    }
    if !text.starts_with('/') || text.split('/').any(|part| matches!(part, "." | "..")) {
        return at.expected("an absolute path without \"..\", or none for swap");
    }
    Some(text)
}
