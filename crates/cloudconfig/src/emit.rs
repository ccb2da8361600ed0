//! A tree as YAML text, which reads back to the same tree.

use crate::{Meaning, Node, Scalar, Value};

/// YAML 1.2 section 7.4.2: a key of more than 1024 characters, its quotes included, is announced by `?`.
const IMPLICIT_KEY: usize = 1024;

impl Node {
    /// The tree as YAML, for people and for [`crate::document::read`]. It says the same when it is
    /// read again, wherever the limits of reading allow it.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        let mut out = String::new();
        match &self.value {
            Value::Scalar(scalar) => {
                out.push_str(&written(scalar, 2));
                out.push('\n');
            }
            _ if is_empty(self) => {
                out.push_str(empty(self));
                out.push('\n');
            }
            _ => block(self, 0, &mut out),
        }
        out
    }
}

fn is_empty(node: &Node) -> bool {
    match &node.value {
        Value::Scalar(_) => false,
        Value::List(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
    }
}

fn empty(node: &Node) -> &'static str {
    if matches!(node.value, Value::List(_)) { "[]" } else { "{}" }
}

/// The lines of a list or a map that is not empty.
fn block(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::List(items) => {
            for item in items {
                out.push_str(&" ".repeat(indent));
                out.push('-');
                after(item, indent, out);
            }
        }
        Value::Map(map) => {
            for entry in map {
                out.push_str(&" ".repeat(indent));
                let key = key(&entry.key);
                if key.chars().count() > IMPLICIT_KEY {
                    out.push_str("? ");
                    out.push_str(&key);
                    out.push('\n');
                    out.push_str(&" ".repeat(indent));
                } else {
                    out.push_str(&key);
                }
                out.push(':');
                after(&entry.node, indent, out);
            }
        }
        Value::Scalar(_) => {}
    }
}

/// What stands after `-` or `key:`.
fn after(node: &Node, indent: usize, out: &mut String) {
    match &node.value {
        Value::Scalar(scalar) => {
            let text = written(scalar, indent.saturating_add(2));
            if !text.is_empty() {
                out.push(' ');
                out.push_str(&text);
            }
            out.push('\n');
        }
        _ if is_empty(node) => {
            out.push(' ');
            out.push_str(empty(node));
            out.push('\n');
        }
        _ => {
            out.push('\n');
            block(node, indent.saturating_add(2), out);
        }
    }
}

fn key(text: &str) -> String {
    if is_bare(text) && text != "<<" { text.to_owned() } else { double_quoted(text) }
}

/// A scalar, without the break after it. The lines of a block are indented.
fn written(scalar: &Scalar, indent: usize) -> String {
    match scalar.meaning() {
        Meaning::Text(text) if is_bare(text) && is_text(text) => text.to_owned(),
        Meaning::Text(text) => literal(text, indent).unwrap_or_else(|| double_quoted(text)),
        Meaning::Null => "null".into(),
        _ => scalar.text.clone(),
    }
}

/// A scalar on one line.
pub(crate) fn one_line(scalar: &Scalar) -> String {
    match scalar.meaning() {
        Meaning::Text(text) if !(is_bare(text) && is_text(text)) => double_quoted(text),
        _ => written(scalar, 0),
    }
}

fn is_text(text: &str) -> bool {
    matches!(Scalar { text: text.to_owned(), plain: true }.meaning(), Meaning::Text(_))
}

/// Whether a text can stand without quotes wherever it may: fewer than YAML allows.
fn is_bare(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric() || matches!(first, b'/' | b'_'))
        && bytes.all(|byte| {
            byte.is_ascii_alphanumeric()
                || matches!(byte, b'/' | b'_' | b'-' | b'.' | b'+' | b'@' | b'=')
        })
}

/// A text of several lines as a literal block, where that keeps each character.
fn literal(text: &str, indent: usize) -> Option<String> {
    let body = text.strip_suffix('\n').unwrap_or(text);
    let plain_line = |line: &str| {
        !line.ends_with(' ') && line.chars().all(|c| c == ' ' || (c.is_ascii_graphic()))
    };
    // The first line says how deep the block is indented.
    if !body.contains('\n')
        || body.starts_with([' ', '\n'])
        || body.ends_with('\n')
        || !body.split('\n').all(plain_line)
    {
        return None;
    }
    let mut out = String::from(if body.len() == text.len() { "|-" } else { "|" });
    for line in body.split('\n') {
        out.push('\n');
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
    }
    Some(out)
}

/// YAML 1.2 section 5.7: escapes for whatever is not plainly printable.
fn double_quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            ' '..='~' => out.push(c),
            c if c.is_alphanumeric() => out.push(c),
            c if u32::from(c) <= 0xff => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c if u32::from(c) <= 0xffff => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}
