//! What can go wrong while indexes are read or made.

use std::fmt;
use std::path::PathBuf;

/// Why no index could be had.
///
/// Only what leaves nothing to work with is an error: a file that cannot be read, or input larger
/// than the bounds. What merely spoils a part (a malformed line, a dependency that is not there)
/// is a [`Problem`] of the index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file or directory could not be read.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was being read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A module is compressed in a way that this build cannot undo.
    #[error("{}: compressed, and this build is without the feature `{feature}`", path.display())]
    Compressed {
        /// The module's file.
        path: PathBuf,
        /// The feature of this crate that reads it.
        feature: &'static str,
    },
    /// The input is larger than any real one by a wide margin.
    #[error("{what}: expected at most {most}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The bound that was passed.
        most: u64,
    },
}

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn limit(what: &'static str, most: usize) -> Self {
        Self::Limit { what, most: u64::try_from(most).unwrap_or(u64::MAX) }
    }
}

/// Something wrong with one module or one line; the index is usable without it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Problem {
    /// A line that does not have the shape its file asks for; it was skipped.
    Malformed {
        /// The file's name, such as `modules.dep`.
        file: &'static str,
        /// The line's number, counted from 1.
        line: usize,
        /// What was expected there.
        expected: &'static str,
    },
    /// A line about a module that `modules.dep` does not list; it was skipped.
    NoSuchModule {
        /// The file's name, such as `modules.alias`.
        file: &'static str,
        /// The line's number, counted from 1.
        line: usize,
        /// The name that is not listed.
        module: String,
    },
    /// A module needs one that is neither here nor built in.
    MissingDependency {
        /// The module that needs it.
        module: String,
        /// The name of the one that is not there.
        needs: String,
    },
    /// Modules need each other in a ring; the kernel can load none of them.
    Cycle {
        /// The names along the ring; the last needs the first.
        modules: Vec<String>,
    },
    /// Two modules have one name; the index has the other one.
    Shadowed {
        /// The path of the module left out.
        path: String,
        /// The path of the module that counts.
        by: String,
    },
    /// A file that is named like a module and has no module information.
    NotAModule {
        /// Its path below the module directory.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A module without a `depends=` record: it is taken to depend on nothing.
    NoDepends {
        /// Its path below the module directory.
        path: String,
    },
    /// A module for another kernel than most of its neighbours.
    OtherKernel {
        /// Its path below the module directory.
        path: String,
        /// The release that it was made for.
        made_for: String,
        /// The release of the neighbours.
        others: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed { file, line, expected } => {
                write!(f, "{file}:{line}: expected {expected}; the line was skipped")
            }
            Self::NoSuchModule { file, line, module } => {
                write!(f, "{file}:{line}: `{module}` is not in modules.dep; the line was skipped")
            }
            Self::MissingDependency { module, needs } => {
                write!(f, "{module}: needs `{needs}`, which is neither a module here nor built in")
            }
            Self::Cycle { modules } => {
                write!(f, "modules need each other in a ring: {}", modules.join(" -> "))
            }
            Self::Shadowed { path, by } => write!(f, "{path}: left out, {by} has the same name"),
            Self::NotAModule { path, why } => write!(f, "{path}: not a kernel module: {why}"),
            Self::NoDepends { path } => {
                write!(f, "{path}: has no depends= record; taken to need nothing")
            }
            Self::OtherKernel { path, made_for, others } => {
                write!(f, "{path}: made for kernel {made_for}, the others are for {others}")
            }
        }
    }
}
