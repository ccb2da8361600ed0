//! Names of entries' files, with what is counted in them, and the order of a menu.

use std::cmp::Ordering;
use std::fmt;

use super::{Entry, compare_versions};
use crate::error::Problems;
use crate::{Error, Result};

/// The name of an entry's file: `kiln-6.1+3.conf` is the entry `kiln-6.1` with three tries left.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileName {
    /// The entry's identifier: letters, digits, `+`, `-`, `_` and `.`.
    pub id: String,
    /// Tries that are left; `None` for an entry that is not counted (any more).
    pub tries_left: Option<u32>,
    /// Tries that have been made, if a loader has written that down.
    pub tries_done: Option<u32>,
    /// What follows the last dot: `conf` or `efi`.
    pub extension: String,
}

impl FileName {
    /// The name of an entry of type 1 that is not counted.
    #[must_use]
    pub fn conf(id: impl Into<String>) -> Self {
        let (id, extension) = (id.into(), "conf".to_owned());
        Self { id, tries_left: None, tries_done: None, extension }
    }

    /// The name of a unified kernel image that is not counted.
    #[must_use]
    pub fn efi(id: impl Into<String>) -> Self {
        Self { extension: "efi".to_owned(), ..Self::conf(id) }
    }

    /// The same with so many tries.
    #[must_use]
    pub fn with_tries(mut self, tries: u32) -> Self {
        self.tries_left = Some(tries);
        self
    }

    /// Reads a name.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it ends neither in `.conf` nor in `.efi`, or has no identifier.
    pub fn parse(name: &str) -> Result<Self> {
        let bad = |reason: &str| {
            Error::malformed("boot entry", 0, format!("the file name {name:?} {reason}"))
        };
        let (stem, extension) = name.rsplit_once('.').ok_or_else(|| bad("has no extension"))?;
        if !matches!(extension, "conf" | "efi") {
            return Err(bad("ends neither in .conf nor in .efi"));
        }
        let (mut id, mut tries_left, mut tries_done) = (stem, None, None);
        if let Some((before, counter)) = stem.rsplit_once('+') {
            let (left, done) = match counter.split_once('-') {
                Some((left, done)) => (number(left), number(done).map(Some)),
                None => (number(counter), Some(None)),
            };
            // Anything else after a plus belongs to the identifier.
            if let (Some(left), Some(done)) = (left, done) {
                (id, tries_left, tries_done) = (before, Some(left), done);
            }
        }
        if id.is_empty() {
            return Err(bad("has no identifier"));
        }
        Ok(Self { id: id.to_owned(), tries_left, tries_done, extension: extension.to_owned() })
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        let name = self.to_string();
        let wrong = |c: char| !(c.is_ascii_alphanumeric() || "+-_.".contains(c));
        if self.id.is_empty() || self.id.contains(wrong) {
            problems.0.push(format!(
                "the entry {:?}: its identifier may have ASCII letters, digits and +-_. only",
                self.id
            ));
        } else if Self::parse(&name).ok().as_ref() != Some(self) {
            problems.0.push(format!(
                "the entry {:?}: its file {name:?} would be taken for something else",
                self.id
            ));
        }
        if name.len() > 255 {
            let more = name.len() - 255;
            problems.0.push(format!("the entry {:?}: its name is {more} bytes too long", self.id));
        }
    }

    /// Whether its tries are used up.
    #[must_use]
    pub fn is_bad(&self) -> bool {
        self.tries_left == Some(0)
    }
}

/// Digits only: a sign or nothing is no number.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

impl fmt::Display for FileName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.id)?;
        if let Some(left) = self.tries_left {
            write!(out, "+{left}")?;
            if let Some(done) = self.tries_done {
                write!(out, "-{done}")?;
            }
        }
        write!(out, ".{}", self.extension)
    }
}

/// The order in which a menu shows entries ("Sorting" in the specification): those that have been
/// tried in vain last; those with a sort key first, by key, machine and version, newest first; then
/// by file name, newest first.
#[must_use]
pub fn menu_order(one: (&FileName, &Entry), other: (&FileName, &Entry)) -> Ordering {
    let ((one_name, one), (other_name, other)) = (one, other);
    let by_key = match (&one.sort_key, &other.sort_key) {
        (Some(key), Some(other_key)) => {
            let text = |of: &Option<String>| of.clone().unwrap_or_default();
            key.cmp(other_key)
                .then_with(|| text(&one.machine_id).cmp(&text(&other.machine_id)))
                .then_with(|| compare_versions(&text(&other.version), &text(&one.version)))
        }
        (one, other) => other.is_some().cmp(&one.is_some()),
    };
    one_name
        .is_bad()
        .cmp(&other_name.is_bad())
        .then(by_key)
        .then_with(|| compare_versions(&other_name.id, &one_name.id))
        .then_with(|| other_name.tries_left.cmp(&one_name.tries_left))
        .then_with(|| one_name.tries_done.cmp(&other_name.tries_done))
}
