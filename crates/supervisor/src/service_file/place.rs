//! Where something stands, and what is wrong there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{MAX_FINDINGS, Source};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct Place {
    /// The file, as it was named.
    #[serde(serialize_with = "shown")]
    pub file: Arc<Path>,
    /// The line, from 1; absent for what concerns the whole file.
    pub line: Option<u32>,
}

impl Place {
    /// A whole file.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self { file: path.into(), line: None }
    }
}

fn shown<S: serde::Serializer>(file: &Arc<Path>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&file.display())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}", self.file.display()),
            None => write!(f, "{}", self.file.display()),
        }
    }
}

/// Something to say about a place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Finding {
    /// Where.
    #[serde(flatten)]
    pub place: Place,
    /// What, and what was probably meant.
    pub text: String,
}

impl Finding {
    pub(crate) fn new(place: Place, text: impl Into<String>) -> Self {
        // What is quoted from a file may have anything in it, and goes to terminals.
        let text = text.into().replace(char::is_control, " ");
        Self { place, text }
    }

    /// The same, with what comes of it before it.
    pub(super) fn before(self, words: &str) -> Self {
        Self { text: format!("{words}{}", self.text), ..self }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

/// Everything that is wrong with service files, by file and line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct Findings(pub Vec<Finding>);

fn lines(findings: &[Finding]) -> String {
    findings.iter().map(Finding::to_string).collect::<Vec<_>>().join("\n")
}

/// As [`settled`]; no findings are no error.
pub(crate) fn settle(sources: &[Source], findings: Vec<Finding>) -> Result<(), Findings> {
    match settled(sources, findings) {
        Findings(none) if none.is_empty() => Ok(()),
        findings => Err(findings),
    }
}

/// Orders findings as the files were given, then by line, and counts what is too much of one file.
pub(crate) fn settled(sources: &[Source], mut findings: Vec<Finding>) -> Findings {
    let order: BTreeMap<&PathBuf, usize> = sources.iter().map(|it| &it.path).zip(0..).collect();
    let rank = |finding: &Finding| order.get(&finding.place.file.to_path_buf()).copied();
    findings.sort_by_cached_key(|finding| (rank(finding), finding.clone()));
    findings.dedup();
    let mut kept: Vec<Finding> = Vec::new();
    let mut surplus: BTreeMap<Arc<Path>, usize> = BTreeMap::new();
    let mut count = 0_usize;
    for finding in findings {
        let same = kept.last().is_some_and(|last| last.place.file == finding.place.file);
        count = if same { count.saturating_add(1) } else { 1 };
        if count <= MAX_FINDINGS {
            kept.push(finding);
        } else {
            let more = surplus.entry(finding.place.file).or_default();
            *more = more.saturating_add(1);
        }
    }
    for (file, more) in surplus {
        kept.push(Finding::new(Place { file, line: None }, format!("and {more} more problems")));
    }
    Findings(kept)
}

/// The known word that was probably meant.
pub(super) fn suggestion<'words>(
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
pub(crate) fn hint<'words>(
    word: &str,
    known: impl IntoIterator<Item = &'words str> + Clone,
) -> String {
    if let Some(meant) = suggestion(word, known.clone()) {
        return format!(", did you mean {meant:?}?");
    }
    let all: Vec<&str> = known.into_iter().collect();
    match all.len() {
        1..=16 => format!(", known here: {}", all.join(", ")),
        _ => String::new(),
    }
}

/// A word as it is shown in a message: quoted, escaped, and of bounded length.
pub(crate) fn quoted(word: &str) -> String {
    match word.char_indices().nth(64) {
        Some((end, _)) => format!("{:?}…", word.get(..end).unwrap_or_default()),
        None => format!("{word:?}"),
    }
}
