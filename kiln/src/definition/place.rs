//! Where something stands in a definition file, and what is wrong there.

use std::fmt;
use std::ops::{Deref, Range};
use std::path::Path;

/// A position in a text: both numbers begin at 1, and a column counts characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The line.
    pub line: u32,
    /// The character in it.
    pub column: u32,
}

impl Place {
    /// The place of a byte of a text.
    #[must_use]
    pub fn of(text: &str, offset: usize) -> Self {
        let before = text.get(..offset.min(text.len())).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Self { line: number(line), column: number(column) }
    }

    pub(super) fn of_span(text: &str, span: &Range<usize>) -> Self {
        Self::of(text, span.start)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}", self.line, self.column)
    }
}

/// A value with the place where it was given; `None` when no file says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<T> {
    /// The value.
    pub value: T,
    /// Where it stands.
    pub at: Option<Place>,
}

impl<T> Placed<T> {
    /// A value that was given elsewhere: on a command line, or by a program.
    pub fn nowhere(value: T) -> Self {
        Self { value, at: None }
    }

    /// A value at a place.
    pub fn new(value: T, at: Place) -> Self {
        Self { value, at: Some(at) }
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One thing that is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub at: Option<Place>,
    /// What, and what to do about it.
    pub text: String,
}

impl Problem {
    /// Something wrong with a placed value.
    pub fn new(at: Option<Place>, text: impl Into<String>) -> Self {
        Self { at, text: text.into() }
    }

    /// As a line for people, with the file's name in front.
    #[must_use]
    pub fn in_file(&self, file: &Path) -> String {
        match self.at {
            Some(at) => format!("{}:{at}: {}", file.display(), self.text),
            None => self.text.clone(),
        }
    }
}

/// The known word that was probably meant.
pub(crate) fn suggestion<'words>(
    word: &str,
    known: impl IntoIterator<Item = &'words str>,
) -> Option<&'words str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= candidate.chars().count().max(3) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// ` (did you mean "x"?)`, or the list of what is known when it is short, or nothing.
pub(crate) fn hint<'words>(
    word: &str,
    known: impl IntoIterator<Item = &'words str> + Clone,
) -> String {
    if let Some(meant) = suggestion(word, known.clone()) {
        return format!("; did you mean {meant:?}?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    match all.len() {
        0 => String::new(),
        1..=16 => format!("; known here: {}", all.join(", ")),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_characters() {
        let text = "a = 1\nü = 2\n";
        assert_eq!(Place::of(text, 0).to_string(), "1:1");
        assert_eq!(Place::of(text, text.find('2').unwrap()).to_string(), "2:5");
        assert_eq!(Place::of(text, 1000).to_string(), "3:1");
    }

    #[test]
    fn suggestions_are_near() {
        assert_eq!(suggestion("pacages", ["packages", "kernel"]), Some("packages"));
        assert_eq!(suggestion("frobnicate", ["packages", "kernel"]), None);
    }
}
