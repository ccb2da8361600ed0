//! What can be wrong, with where and what was expected.

use std::fmt;
use std::io;

/// Why an image could not be planned, written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Everything that is wrong with a plan, found before a byte was written.
    #[error("{what}: {problems}")]
    Plan {
        /// What was planned ("disk", "fat volume").
        what: &'static str,
        /// All of it.
        problems: Problems,
    },
    /// A structure of an image that is not as its format demands.
    #[error("{format}: byte {offset}: {reason}")]
    Malformed {
        /// The format ("qcow2", "gpt").
        format: &'static str,
        /// Where in what was read, in bytes.
        offset: u64,
        /// What is there and what was expected.
        reason: String,
    },
    /// A structure that is valid but not handled.
    #[error("{format}: {what} is not supported")]
    Unsupported {
        /// The format.
        format: &'static str,
        /// What it asks for.
        what: String,
    },
    /// An input that exceeds the caller's [`Limits`](crate::Limits).
    #[error("{format}: {what} is {found}, more than the limit of {limit}")]
    Limit {
        /// The format.
        format: &'static str,
        /// What there is too much of.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much is allowed.
        limit: u64,
    },
    /// Something that was looked for and is not there.
    #[error("{what} not found in {place}")]
    NotFound {
        /// What.
        what: String,
        /// Where it was looked for.
        place: String,
    },
    /// A tree refused something.
    #[error(transparent)]
    Tree(#[from] kiln_tree::Error),
    /// Reading or writing failed.
    #[error("{action}: {source}")]
    Io {
        /// What was done.
        action: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }

    pub(crate) fn malformed(format: &'static str, offset: u64, reason: impl Into<String>) -> Self {
        Self::Malformed { format, offset, reason: reason.into() }
    }

    pub(crate) fn unsupported(format: &'static str, what: impl Into<String>) -> Self {
        Self::Unsupported { format, what: what.into() }
    }
}

/// What is wrong with a plan: never empty, in the order of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<String>);

impl fmt::Display for Problems {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return out.write_str(only);
        }
        write!(out, "{} problems", self.0.len())?;
        for problem in &self.0 {
            write!(out, "\n  {problem}")?;
        }
        Ok(())
    }
}

impl Problems {
    /// Fails with what was found, if anything was.
    pub(crate) fn check(self, what: &'static str) -> crate::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Plan { what, problems: self }) }
    }
}
