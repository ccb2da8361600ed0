//! What can go wrong, and where.

use std::path::{Path, PathBuf};

use crate::resolve::Problem;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused.
    #[error("{action} {}: {source}{}", path.display(), hint(source))]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be had from where it should be.
    #[error("cannot fetch {uri}: {reason}")]
    Fetch {
        /// Its address.
        uri: String,
        /// Why not.
        reason: String,
    },
    /// A file that is not in the cache was needed while nothing may be fetched.
    #[error("{package}: {} is not there and nothing may be fetched (offline)", path.display())]
    Offline {
        /// The package, with its version.
        package: String,
        /// Where it would be.
        path: PathBuf,
    },
    /// A file whose bytes are not those that were promised.
    #[error(
        "{package}: {} is not what was promised: its SHA-256 is {found}, not {expected}{}",
        path.display(), remedy(path)
    )]
    Digest {
        /// The package with its version, or the address of an index.
        package: String,
        /// The file.
        path: PathBuf,
        /// The digest that was promised.
        expected: String,
        /// The digest of the file.
        found: String,
    },
    /// A release file that nobody trusted has signed, or not properly.
    #[error("{origin}: {reason}")]
    Signature {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A release file that says something impossible, or nothing of what was asked for.
    #[error("{origin}: {reason}")]
    Release {
        /// The file.
        origin: String,
        /// What is wrong.
        reason: String,
    },
    /// A line of a control file, package index or lock that cannot be understood.
    #[error("{origin}:{line}: {reason}")]
    Syntax {
        /// The file.
        origin: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The packages asked for cannot be had, for all of these reasons.
    #[error("{}", list(.0))]
    Unresolvable(Vec<Problem>),
    /// A package file that is broken or hostile.
    #[error("{}: {reason}", path.display())]
    Deb {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the name of the member or path concerned.
        reason: String,
    },
    /// Packages that cannot be in one root together, for all of these reasons.
    #[error("{}", .0.join("\n"))]
    Root(Vec<String>),
    /// The tree refused a path.
    #[error(transparent)]
    Tree(#[from] kiln_tree::Error),
}

impl Error {
    /// For implementations of [`Fetch`](crate::fetch::Fetch).
    pub fn fetch(uri: impl Into<String>, reason: impl ToString) -> Self {
        Self::Fetch { uri: uri.into(), reason: reason.to_string() }
    }

    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn syntax(origin: &str, line: usize, reason: impl Into<String>) -> Self {
        Self::Syntax { origin: origin.into(), line, reason: reason.into() }
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; nothing was left behind: make room and try again"
        }
        _ => "",
    }
}

/// A file of the cache can be had again; what an archive gives is what it gives.
fn remedy(path: &Path) -> &'static str {
    if path.is_absolute() { "; remove it to have it fetched again" } else { "" }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
