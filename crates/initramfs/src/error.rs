//! What can go wrong, with where.

use std::fmt;
use std::path::PathBuf;

use crate::cpio::{Position, Problem};

/// Why an archive could not be written or read, or a closure not found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The tree holds what a kernel would refuse or silently lose: every such node.
    #[error("the tree cannot be an initramfs:{}", List(.0))]
    Unpackable(Vec<Problem>),
    /// A segment that cannot be at its place.
    #[error("segment {index}: {reason}")]
    Segment {
        /// Which one, counted from 0.
        index: usize,
        /// Why not.
        reason: &'static str,
    },
    /// A name for a compression that is none, or a level outside its range.
    #[error("compression {given:?}: expected {expected}")]
    Compression {
        /// What was given.
        given: String,
        /// What could have been.
        expected: &'static str,
    },
    /// This build was made without the codec.
    #[error("{what} needs the feature `{feature}` of kiln-initramfs, which this build lacks")]
    FeatureMissing {
        /// What was asked for.
        what: String,
        /// The Cargo feature.
        feature: &'static str,
    },
    /// The input ends inside something.
    #[error("{at}: the input ends inside {inside}")]
    Truncated {
        /// Where it ends.
        at: Position,
        /// What is incomplete.
        inside: &'static str,
    },
    /// The input is not what the kernel reads.
    #[error("{at}: {reason}")]
    Malformed {
        /// Where.
        at: Position,
        /// What was found and what was expected.
        reason: String,
    },
    /// The input is larger than the reader's [`Limits`](crate::cpio::Limits) allow.
    #[error("{at}: more than {limit} {what}, which is the limit")]
    Limit {
        /// Where the limit was hit.
        at: Position,
        /// What there is too much of.
        what: &'static str,
        /// How much is allowed.
        limit: u64,
    },
    /// The destination or the source of an archive failed.
    #[error("{action}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of the host failed, or changed while it was packed.
    #[error("{action} {path}: {source}")]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The content of a node in memory or on the host could not be read.
    #[error("content of {path}: {source}")]
    Content {
        /// The path in the tree.
        path: kiln_tree::TreePath,
        /// What went wrong.
        source: std::io::Error,
    },
    /// The tree refused a node.
    #[error(transparent)]
    Tree(#[from] kiln_tree::Error),
    /// Files that a program needs are not there: all of them.
    #[cfg(feature = "elf")]
    #[error("the closure is incomplete:{}", List(.0))]
    Unresolved(Vec<crate::elf::Problem>),
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl Fn(std::io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// One problem stands on the line of the message, several on lines of their own.
struct List<'list, T>(&'list [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            [one] => write!(out, " {one}"),
            many => many.iter().try_for_each(|problem| write!(out, "\n  {problem}")),
        }
    }
}
