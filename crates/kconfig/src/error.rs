//! What can go wrong, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::requirement::Report;

/// A place in a file: the name that its caller gave to the file, and the line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Site {
    /// The origin as given to [`DotConfig::parse`](crate::DotConfig::parse), mostly a path.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize_arc"))]
    pub file: Arc<str>,
    /// The line, counted from 1.
    pub line: usize,
}

#[cfg(feature = "serde")]
fn serialize_arc<S: serde::Serializer>(text: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Something wrong with one line, found without stopping there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Problem {
    /// Which line.
    pub site: Site,
    /// What is wrong with it, in lower case and without a full stop.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.site, self.message)
    }
}

/// Why a whole operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file could not be written; the one that stood there before is untouched.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is larger than [`Limits::max_bytes`](crate::Limits::max_bytes).
    #[error("{}: larger than {limit} bytes, which no kernel configuration is", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// A name that no option can have.
    #[error("'{0}' is no option name: expected letters, digits and underscores")]
    OptionName(String),
    /// A string value with a line break or a NUL byte in it, which no `.config` line can hold.
    #[error("the value for CONFIG_{0} holds a line break or a NUL byte")]
    OptionValue(String),
    /// A requirement set is not one; all its problems are listed.
    #[error("{origin}: not a requirement set{}", list(problems))]
    Requirements {
        /// The set's origin.
        origin: String,
        /// Every problem found.
        problems: Vec<Problem>,
    },
    /// A configuration lacks required options.
    #[error("{0}")]
    Unsatisfied(Box<Report>),
}

fn list(problems: &[Problem]) -> String {
    use fmt::Write as _;
    problems.iter().fold(String::new(), |mut text, problem| {
        let _ = write!(text, "\n  {problem}");
        text
    })
}

/// This crate's results.
pub type Result<T, E = Error> = std::result::Result<T, E>;
