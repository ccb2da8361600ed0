//! Kconfig files, read line by line as `Documentation/kbuild/kconfig-language.rst` has them.

use std::io;
use std::sync::Arc;

use super::expr::{Expr, macro_end};
use super::{Condition, Declaration, Declarations, Kind, Select};
use crate::error::{Problem, Site};

/// Files that source files that source files: Linux goes 7 deep.
const MAX_NESTING: usize = 64;
/// Linux has 1,500 for one architecture.
const MAX_FILES: usize = 50_000;
const MAX_PROBLEMS: usize = 1000;

/// What encloses a line.
struct Frame {
    kind: FrameKind,
    depends: Vec<Condition>,
    visible: Vec<Condition>,
    choice: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum FrameKind {
    If,
    Menu,
    Choice,
}

/// What the attributes that come next belong to.
enum Target {
    Nothing,
    Option(String, Declaration),
    /// The innermost frame.
    Frame,
}

struct Reader<'a, F> {
    variables: &'a [(&'a str, &'a str)],
    open: F,
    files: usize,
    frames: Vec<Frame>,
    target: Target,
    result: Declarations,
}

pub(super) fn read<F: FnMut(&str) -> io::Result<Vec<u8>>>(
    top: &str,
    variables: &[(&str, &str)],
    open: F,
) -> Declarations {
    let result = Declarations::default();
    let (frames, target) = (Vec::new(), Target::Nothing);
    let mut reader = Reader { variables, open, files: 0, frames, target, result };
    reader.file(top, 0, None);
    reader.close();
    reader.result
}

impl<F: FnMut(&str) -> io::Result<Vec<u8>>> Reader<'_, F> {
    fn problem(&mut self, site: Site, message: String) {
        if self.result.problems.len() < MAX_PROBLEMS {
            self.result.problems.push(Problem { site, message });
        }
    }

    fn file(&mut self, name: &str, nesting: usize, from: Option<&Site>) {
        let site = Site { file: Arc::from(name), line: 1 };
        let from = from.unwrap_or(&site);
        self.files += 1;
        if nesting > MAX_NESTING || self.files > MAX_FILES {
            return self.problem(from.clone(), format!("{name}: sourced too often or too deep"));
        }
        let bytes = match (self.open)(name) {
            Ok(bytes) => bytes,
            Err(error) => {
                return self.problem(from.clone(), format!("cannot read {name}: {error}"));
            }
        };
        let text = String::from_utf8_lossy(&bytes);
        let mut lines = text.lines().enumerate().peekable();
        while let Some((number, line)) = lines.next() {
            let site = Site { file: Arc::clone(&site.file), line: number + 1 };
            let mut whole = line.to_owned();
            while whole.ends_with('\\') {
                whole.pop();
                let Some((_, next)) = lines.next() else { break };
                whole.push(' ');
                whole.push_str(next.trim());
            }
            let words = without_comment(&whole).trim();
            if matches!(words, "help" | "---help---") {
                // The text is what is indented at least as its first line is.
                let blank = |line: &str| line.trim().is_empty();
                while lines.next_if(|(_, line)| blank(line)).is_some() {}
                let indent = lines.peek().map_or(0, |(_, line)| indentation(line));
                let is_text = |line: &str| blank(line) || indentation(line) >= indent;
                if indent > 0 {
                    while lines.next_if(|(_, line)| is_text(line)).is_some() {}
                }
                continue;
            }
            if let Some(path) = self.line(words, &site) {
                self.file(&path, nesting + 1, Some(&site));
            }
        }
    }

    /// Takes one line; gives the file that it sources.
    fn line(&mut self, line: &str, site: &Site) -> Option<String> {
        let (word, rest) = split(line);
        match word {
            "" => {}
            "config" | "menuconfig" => {
                self.close();
                let declaration = self.declaration(site);
                self.target = Target::Option(split(rest).0.to_owned(), declaration);
            }
            "choice" => {
                self.open_frame(FrameKind::Choice);
                let number = self.result.choices.len();
                self.result.choices.push(Vec::new());
                if let Some(frame) = self.frames.last_mut() {
                    frame.choice = Some(number);
                }
            }
            "menu" => self.open_frame(FrameKind::Menu),
            "if" => {
                self.open_frame(FrameKind::If);
                self.target = Target::Nothing;
                let condition = condition("if", rest, site);
                if let Some(frame) = self.frames.last_mut() {
                    frame.depends.push(condition);
                }
            }
            "endif" => self.end(FrameKind::If, site),
            "endmenu" => self.end(FrameKind::Menu, site),
            "endchoice" => self.end(FrameKind::Choice, site),
            "source" => {
                self.close();
                return Some(self.expand(unquoted(rest).0));
            }
            "comment" | "mainmenu" => self.close(),
            _ => self.attribute(word, rest, site),
        }
        None
    }

    fn attribute(&mut self, word: &str, rest: &str, site: &Site) {
        let choice = self.frames.last().and_then(|frame| frame.choice);
        let Reader { target, frames, result, .. } = self;
        let own = match target {
            Target::Nothing => return,
            Target::Frame => {
                let Some(frame) = frames.last_mut() else { return };
                match word {
                    "depends" => frame.depends.push(condition("depends on", on(rest), site)),
                    "visible" => frame.visible.push(condition("visible if", split(rest).1, site)),
                    // A choice that cannot be asked for leaves its members alone.
                    "bool" | "tristate" | "prompt" if choice.is_some() => {
                        frame.visible.extend(behind_if(rest).map(|on| condition("if", on, site)));
                    }
                    _ => {}
                }
                return;
            }
            Target::Option(name, own) => (name, own),
        };
        let (name, own) = own;
        let kind = match word {
            "bool" | "def_bool" => Some(Kind::Bool),
            "tristate" | "def_tristate" => Some(Kind::Tristate),
            "string" => Some(Kind::String),
            "int" => Some(Kind::Int),
            "hex" => Some(Kind::Hex),
            _ => None,
        };
        own.kind = own.kind.or(kind);
        match word {
            "depends" => own.depends.push(condition("depends on", on(rest), site)),
            "bool" | "tristate" | "string" | "int" | "hex" | "prompt" if is_quoted(rest) => {
                own.prompt = true;
                own.visible.extend(behind_if(rest).map(|on| condition("if", on, site)));
            }
            "select" => {
                let (target, rest) = split(rest);
                let condition = split(rest).1;
                let condition = (!condition.is_empty()).then(|| Expr::parse(condition));
                let select = Select { by: name.clone(), condition, site: site.clone() };
                result.selects.entry(target.to_owned()).or_default().push(select);
            }
            "range" => {
                let (low, rest) = split(rest);
                let (high, condition) = split(rest);
                if condition.is_empty() {
                    own.ranges.push((low.to_owned(), high.to_owned(), site.clone()));
                }
            }
            _ => {}
        }
    }

    fn declaration(&self, site: &Site) -> Declaration {
        let all = |of: fn(&Frame) -> &Vec<Condition>| {
            self.frames.iter().flat_map(of).cloned().collect::<Vec<_>>()
        };
        Declaration {
            site: site.clone(),
            kind: None,
            prompt: false,
            depends: all(|frame| &frame.depends),
            visible: all(|frame| &frame.visible),
            ranges: Vec::new(),
            choice: self.frames.iter().rev().find_map(|frame| frame.choice),
        }
    }

    /// Ends the option under way.
    fn close(&mut self) {
        if let Target::Option(name, declaration) =
            std::mem::replace(&mut self.target, Target::Nothing)
        {
            let members = declaration.choice.and_then(|at| self.result.choices.get_mut(at));
            if let Some(members) = members {
                members.push(name.clone());
            }
            self.result.options.entry(name).or_default().push(declaration);
        }
    }

    fn open_frame(&mut self, kind: FrameKind) {
        self.close();
        let (depends, visible) = (Vec::new(), Vec::new());
        self.frames.push(Frame { kind, depends, visible, choice: None });
        self.target = Target::Frame;
    }

    fn end(&mut self, kind: FrameKind, site: &Site) {
        self.close();
        match self.frames.pop_if(|frame| frame.kind == kind) {
            Some(_) => {}
            None => self.problem(site.clone(), "ends what was not begun".to_owned()),
        }
    }

    fn expand(&self, path: &str) -> String {
        self.variables.iter().fold(path.to_owned(), |path, (name, value)| {
            path.replace(&format!("$({name})"), value).replace(&format!("${name}"), value)
        })
    }
}

fn condition(word: &'static str, text: &str, site: &Site) -> Condition {
    Condition { word, expr: Expr::parse(text), site: site.clone() }
}

/// The first word of a line, and the rest.
fn split(line: &str) -> (&str, &str) {
    let line = line.trim();
    let end = line.find(|c: char| c.is_whitespace() || c == '"').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    (word, rest.trim())
}

/// What stands behind the `on` of `depends on`.
fn on(rest: &str) -> &str {
    match split(rest) {
        ("on", rest) => rest,
        _ => rest,
    }
}

fn is_quoted(text: &str) -> bool {
    text.starts_with(['"', '\''])
}

/// The text in quotes at the front, and what is behind it.
fn unquoted(text: &str) -> (&str, &str) {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        return split(text);
    };
    let inner = text.get(1..).unwrap_or_default();
    let mut escaped = false;
    for (at, c) in inner.char_indices() {
        if c == quote && !escaped {
            return (inner.get(..at).unwrap_or_default(), inner.get(at + 1..).unwrap_or_default());
        }
        escaped = c == '\\' && !escaped;
    }
    (inner, "")
}

/// The condition of a prompt.
fn behind_if(prompt: &str) -> Option<&str> {
    match split(unquoted(prompt).1) {
        ("if", condition) => Some(condition),
        _ => None,
    }
}

/// A `#` begins a comment, except in quotes and macros.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut at = 0;
    let bytes = line.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match (quote, byte) {
            (None, b'#') => return line.get(..at).unwrap_or(line),
            (None, b'"' | b'\'') => quote = Some(byte),
            (None, b'$') if bytes.get(at + 1) == Some(&b'(') => {
                at += line.get(at..).map_or(1, macro_end);
                continue;
            }
            (Some(_), b'\\') => at += 1,
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
        at += 1;
    }
    line
}

/// In columns; a tab goes to the next multiple of eight.
fn indentation(line: &str) -> usize {
    line.bytes()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .fold(0, |column, byte| if byte == b'\t' { (column / 8 + 1) * 8 } else { column + 1 })
}
