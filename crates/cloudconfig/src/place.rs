//! Where something stands, and what is wrong there.

use std::fmt;
use std::sync::Arc;

/// A line of a file, or of something that is named like one: `user-data`, `the kernel's command line`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The file, as it was named.
    pub source: Arc<str>,
    /// The line, from 1; absent for what concerns the whole file.
    pub line: Option<u32>,
}

impl Place {
    /// A whole file.
    #[must_use]
    pub fn whole(source: impl Into<Arc<str>>) -> Self {
        Self { source: source.into(), line: None }
    }

    pub(crate) fn line(source: &Arc<str>, line: usize) -> Self {
        Self { source: Arc::clone(source), line: u32::try_from(line).ok() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Names come from other machines as well, and go to terminals.
        let source = self.source.replace(char::is_control, " ");
        match self.line {
            Some(line) => write!(f, "{source}:{line}"),
            None => f.write_str(&source),
        }
    }
}

/// What sort of problem a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// It cannot be read at all: not YAML, not UTF-8, beyond a limit.
    Unreadable,
    /// A key that nobody knows.
    Unknown,
    /// Something of cloud-init that is not done here. The rest counts.
    NotSupported,
    /// A value that does not do. It is left out, with what it is a part of where that would be
    /// something else without it.
    Wrong,
    /// Something that counts, and that was probably not meant so.
    Warning,
}

/// Something to say about a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// Which value, as keys joined by dots (`users[0].name`); empty for the whole.
    pub path: String,
    /// What, and what was probably meant.
    pub text: String,
    /// What sort of problem it is.
    pub kind: Kind,
}

impl Finding {
    /// A finding, whose text may quote anything.
    #[must_use]
    pub fn new(kind: Kind, place: Place, path: impl Into<String>, text: impl Into<String>) -> Self {
        // What is quoted from a file may have anything in it, and goes to terminals.
        let clean = |text: String| text.replace(char::is_control, " ");
        Self { place, path: clean(path.into()), text: clean(text.into()), kind }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => write!(f, "{}: {}", self.place, self.text),
            path => write!(f, "{}: {path}: {}", self.place, self.text),
        }
    }
}

/// Everything that is to be said, in the order of the files and then by line. An error for who does
/// not want to go on with what is valid.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Whether there is nothing to say.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each finding.
    pub fn iter(&self) -> std::slice::Iter<'_, Finding> {
        self.0.iter()
    }

    /// Appends what was found elsewhere.
    pub fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// The value, if there is nothing to say about it.
    ///
    /// # Errors
    /// These findings.
    pub fn strict<T>(self, value: T) -> Result<T, Self> {
        if self.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl IntoIterator for Findings {
    type Item = Finding;
    type IntoIter = std::vec::IntoIter<Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Findings {
    type Item = &'a Finding;
    type IntoIter = std::slice::Iter<'a, Finding>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// The findings of one pass: files in the order in which they were first named, each by line; at most
/// `most` of each, and how many more there are.
pub(crate) fn settle(mut findings: Vec<Finding>, most: usize) -> Findings {
    let mut order: Vec<Arc<str>> = Vec::new();
    for finding in &findings {
        if !order.contains(&finding.place.source) {
            order.push(Arc::clone(&finding.place.source));
        }
    }
    let rank = |finding: &Finding| order.iter().position(|it| *it == finding.place.source);
    // Stable: what is found on one line stays in the order of finding.
    findings.sort_by_cached_key(|finding| (rank(finding), finding.place.line));
    findings.dedup();
    let mut kept: Vec<Finding> = Vec::new();
    for source in order {
        let mut of_it = findings.iter().filter(|finding| finding.place.source == source);
        kept.extend(of_it.by_ref().take(most).cloned());
        let more = of_it.count();
        if more > 0 {
            let text = format!("and {more} more problems");
            kept.push(Finding::new(Kind::Warning, Place::whole(source), "", text));
        }
    }
    Findings(kept)
}

/// The known word that was probably meant.
pub(crate) fn suggestion<'words>(
    word: &str,
    known: impl IntoIterator<Item = &'words str>,
) -> Option<&'words str> {
    // the distance of long texts takes long, and says nothing
    if word.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| {
            let length = candidate.chars().count();
            *distance <= length.max(3) / 3 && *distance < length
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// `, did you mean "x"?`, or what is known when that is little, or nothing.
pub(crate) fn hint(word: &str, known: &[&str]) -> String {
    if let Some(meant) = suggestion(word, known.iter().copied()) {
        return format!(", did you mean {meant:?}?");
    }
    match known.len() {
        1..=16 => format!(", known here: {}", known.join(", ")),
        _ => String::new(),
    }
}

/// A text as it is shown in a message: quoted, escaped, and of bounded length.
pub(crate) fn quoted(text: &str) -> String {
    match text.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}
