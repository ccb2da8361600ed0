//! The toolkit that decodes with: a cursor on a node knows its path and notes what is wrong there.
//! An image decodes sections of its own with it, as this crate does those that it knows.

mod fields;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::str::FromStr;

pub use fields::Fields;

use crate::place::{hint, quoted, settle};
use crate::{Finding, Findings, Kind, Limits, Meaning, Node, Place, Scalar, Value};

/// The findings of one pass over documents.
#[derive(Debug, Default)]
pub struct Notes {
    found: RefCell<Vec<Finding>>,
    /// How many findings there were that spoil what they are in.
    faults: Cell<usize>,
    limits: Limits,
}

impl Notes {
    /// No findings yet.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        Self { limits: limits.clone(), ..Self::default() }
    }

    /// Begins at the root of a document.
    #[must_use]
    pub fn cursor<'a>(&'a self, root: &'a Node) -> Cursor<'a> {
        Cursor { node: root, path: Path(None), notes: self }
    }

    /// Notes something.
    pub fn add(&self, finding: Finding) {
        if !matches!(finding.kind, Kind::NotSupported | Kind::Warning) {
            self.faults.set(self.faults.get().saturating_add(1));
        }
        let mut found = self.found.borrow_mut();
        // Beyond this nothing would be told anyway, except for other files: they are few.
        if found.len() <= self.limits.findings.saturating_mul(64) {
            found.push(finding);
        }
    }

    /// Everything that was noted.
    #[must_use]
    pub fn finish(self) -> Findings {
        settle(self.found.into_inner(), self.limits.findings)
    }
}

/// The way to a node, shared by the cursors below it.
#[derive(Debug, Clone)]
struct Path<'a>(Option<Rc<Link<'a>>>);

#[derive(Debug)]
struct Link<'a> {
    above: Path<'a>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    fn to(&self, step: Step<'a>) -> Self {
        Self(Some(Rc::new(Link { above: self.clone(), step })))
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(link) = &self.0 else { return Ok(()) };
        link.above.fmt(f)?;
        match link.step {
            Step::Index(at) => write!(f, "[{at}]"),
            Step::Key(key) => {
                let dot = if link.above.0.is_some() { "." } else { "" };
                // A key may be as long as its file.
                let shown: String = key.chars().take(64).collect();
                let more = if shown.len() < key.len() { "…" } else { "" };
                write!(f, "{dot}{shown}{more}")
            }
        }
    }
}

/// A node that is being decoded. Every getter notes what is wrong and gives `None`.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    node: &'a Node,
    path: Path<'a>,
    notes: &'a Notes,
}

impl<'a> Cursor<'a> {
    /// The node.
    #[must_use]
    pub fn node(&self) -> &'a Node {
        self.node
    }

    /// Where it stands.
    #[must_use]
    pub fn place(&self) -> &'a Place {
        &self.node.place
    }

    /// Its path, as in findings.
    #[must_use]
    pub fn path(&self) -> String {
        self.path.to_string()
    }

    /// The bounds that hold for this pass.
    #[must_use]
    pub fn limits(&self) -> &'a Limits {
        &self.notes.limits
    }

    /// Notes something about the node.
    pub fn note(&self, kind: Kind, what: impl fmt::Display) {
        let place = self.node.place.clone();
        self.notes.add(Finding::new(kind, place, self.path(), what.to_string()));
    }

    /// The value does not do.
    pub fn wrong<T>(&self, what: impl fmt::Display) -> Option<T> {
        self.note(Kind::Wrong, what);
        None
    }

    /// The value is something else than what was expected.
    pub fn expected<T>(&self, expected: impl fmt::Display) -> Option<T> {
        self.wrong(format_args!("expected {expected}, found {}", self.node.described()))
    }

    /// Reads something that is kept only as a whole: with a fault anywhere in it, it is left out.
    /// What is not supported is no fault.
    pub fn whole<T>(&self, read: impl FnOnce(&Self) -> Option<T>) -> Option<T> {
        let before = self.notes.faults.get();
        let value = read(self);
        if self.notes.faults.get() == before { value } else { None }
    }

    /// Reads a part of something whole that may as well be missing: faults in it do not count there.
    pub fn apart<T>(&self, read: impl FnOnce(&Self) -> T) -> T {
        let before = self.notes.faults.get();
        let value = read(self);
        self.notes.faults.set(before);
        value
    }

    fn scalar(&self, expected: &str) -> Option<&'a Scalar> {
        match &self.node.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => self.expected(expected),
        }
    }

    /// A text. Numbers and truth values want quotes, because other readers take them for such.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        let scalar = self.scalar("a text")?;
        match scalar.meaning() {
            Meaning::Text(text) => Some(text),
            Meaning::Null => self.expected("a text"),
            _ => {
                let found = self.node.described();
                self.wrong(format_args!("expected a text, found {found}: put it in quotes"))
            }
        }
    }

    /// A text, or a number as it was written: an argument of a command.
    #[must_use]
    pub fn word(&self) -> Option<&'a str> {
        let scalar = self.scalar("a text")?;
        match scalar.meaning() {
            Meaning::Integer(_) | Meaning::Float(_) => Some(&scalar.text),
            _ => self.text(),
        }
    }

    /// A truth value.
    #[must_use]
    pub fn bool(&self) -> Option<bool> {
        match self.scalar("true or false")?.meaning() {
            Meaning::Bool(yes) => Some(yes),
            _ => self.expected("true or false"),
        }
    }

    /// A whole number of a type, so in its range.
    #[must_use]
    pub fn integer<T: TryFrom<i64>>(&self) -> Option<T> {
        match self.scalar("a whole number")?.meaning() {
            Meaning::Integer(number) => match T::try_from(number) {
                Ok(number) => Some(number),
                Err(_) => self.wrong(format_args!("{number} is out of range")),
            },
            _ => self.expected("a whole number"),
        }
    }

    /// What a type reads from text.
    #[must_use]
    pub fn parse<T: FromStr>(&self, expected: &str) -> Option<T> {
        let text = self.word()?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(_) => self.expected(expected),
        }
    }

    /// One of some words.
    #[must_use]
    pub fn one_of<T: Clone>(&self, known: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = known.iter().find(|(word, _)| *word == text) {
            return Some(value.clone());
        }
        let words: Vec<&str> = known.iter().map(|(word, _)| *word).collect();
        self.wrong(format_args!("unknown value {}{}", quoted(text), hint(text, &words)))
    }

    /// The elements of a list.
    #[must_use]
    pub fn items(&self) -> Option<Vec<Self>> {
        let Value::List(items) = &self.node.value else { return self.expected("a list") };
        let to = |(at, node)| Self { node, path: self.path.to(Step::Index(at)), notes: self.notes };
        Some(items.iter().enumerate().map(to).collect())
    }

    /// The elements of a list that are read without a fault.
    #[must_use]
    pub fn list<T>(&self, mut read: impl FnMut(&Self) -> Option<T>) -> Vec<T> {
        let items = self.items().unwrap_or_default();
        items.iter().filter_map(|item| item.whole(&mut read)).collect()
    }

    /// A list of texts, or one text that stands for a list of it.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        match &self.node.value {
            Value::Scalar(_) => self.text().map(str::to_owned).into_iter().collect(),
            _ => self.list(|item| item.text().map(str::to_owned)),
        }
    }

    /// The entries of a map whose names are the document's to choose.
    #[must_use]
    pub fn entries(&self) -> Option<Vec<(&'a str, Self)>> {
        let Value::Map(map) = &self.node.value else { return self.expected("a map") };
        let to = |entry: &'a crate::Entry| {
            let path = self.path.to(Step::Key(&entry.key));
            (entry.key.as_str(), Self { node: &entry.node, path, notes: self.notes })
        };
        Some(map.iter().map(to).collect())
    }

    /// The entries of a map whose names are known here.
    #[must_use]
    pub fn fields(&self) -> Option<Fields<'a>> {
        let Value::Map(map) = &self.node.value else { return self.expected("a map") };
        Some(Fields::new(self.clone(), map))
    }
}
