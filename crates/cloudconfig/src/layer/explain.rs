//! Where each value is from, as text.

use std::fmt::Write as _;

use super::{Merged, joined};
use crate::{Node, Value};

/// Characters of a value that are shown.
const SHOWN: usize = 60;

impl Merged {
    /// A line for each value: its path, what it is, where it is from and what it took the place of.
    #[must_use]
    pub fn explain(&self) -> String {
        let mut out = String::new();
        self.leaves(&self.root, "", &mut out);
        out
    }

    fn leaves(&self, node: &Node, path: &str, out: &mut String) {
        // What was replaced as a whole is told where it was, even if maps and lists are there now.
        let replaced = self.replaced.get(path);
        match &node.value {
            Value::Map(map) if !map.is_empty() && replaced.is_none() => {
                for entry in map {
                    self.leaves(&entry.node, &joined(path, &entry.key), out);
                }
            }
            Value::List(items) if !items.is_empty() && replaced.is_none() => {
                for (at, item) in items.iter().enumerate() {
                    self.leaves(item, &format!("{path}[{at}]"), out);
                }
            }
            _ => {
                let path = path.replace(char::is_control, " ");
                // Writing to a String does not fail.
                let _ = write!(out, "{path} = {} ({}", shown(node), node.place);
                for lower in replaced.into_iter().flatten().rev() {
                    let _ = write!(out, ", instead of {} of {}", shown(lower), lower.place);
                }
                out.push_str(")\n");
            }
        }
    }
}

/// A value on one line.
fn shown(node: &Node) -> String {
    let whole = flow(node);
    match whole.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", whole.get(..end).unwrap_or_default()),
        None => whole,
    }
}

/// Flow style, no longer than what is shown of it needs.
fn flow(node: &Node) -> String {
    let mut out = String::new();
    let joined = |parts: &mut dyn Iterator<Item = String>, out: &mut String| {
        for (at, part) in parts.enumerate() {
            if out.len() > SHOWN.saturating_mul(4) {
                break;
            }
            if at > 0 {
                out.push_str(", ");
            }
            out.push_str(&part);
        }
    };
    match &node.value {
        Value::Scalar(scalar) => {
            let part: String = scalar.text.chars().take(SHOWN.saturating_add(1)).collect();
            let short = crate::Scalar { text: part, plain: scalar.plain };
            return crate::emit::one_line(&short);
        }
        Value::List(items) => {
            out.push('[');
            joined(&mut items.iter().map(flow), &mut out);
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            let mut entries =
                map.iter().map(|entry| format!("{}: {}", entry.key, flow(&entry.node)));
            joined(&mut entries, &mut out);
            out.push('}');
        }
    }
    out.replace(char::is_control, " ")
}
