//! `bootcmd` and `runcmd`.

use std::fmt;

use crate::{Cursor, Value};

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for a shell.
    Shell(String),
    /// A program with its arguments, which no shell sees.
    Program(Vec<String>),
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shell(line) => write!(f, "sh -c {line:?}"),
            Self::Program(words) => {
                for (at, word) in words.iter().enumerate() {
                    let space = if at == 0 { "" } else { " " };
                    let bare = !word.is_empty()
                        && word.bytes().all(|b| b.is_ascii_graphic() && !b"\"'\\".contains(&b));
                    if bare {
                        write!(f, "{space}{word}")?;
                    } else {
                        write!(f, "{space}{word:?}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

pub(super) fn command(at: &Cursor<'_>) -> Option<Command> {
    if let Value::Scalar(_) = at.node().value {
        // cloud-init lets an element be nothing.
        if at.node().is_null() {
            return None;
        }
        let line = without_nul(at, at.text()?)?;
        return Some(Command::Shell(line));
    }
    at.items()?;
    let words = at.list(|word| without_nul(word, word.word()?));
    match words.first().map(String::as_str) {
        None | Some("") => at.wrong("expected a program and its arguments"),
        Some(_) => Some(Command::Program(words)),
    }
}

/// What goes to execve(2).
fn without_nul(at: &Cursor<'_>, text: &str) -> Option<String> {
    if text.contains('\0') { at.wrong("it has a NUL") } else { Some(text.to_owned()) }
}
