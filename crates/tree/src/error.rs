//! What can be wrong with a tree, with the path it is wrong at.

use std::path::PathBuf;

use crate::TreePath;

/// Why a tree refused something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A path that no file system could hold or that would leave the tree.
    #[error("invalid path {path:?}: {reason}")]
    InvalidPath {
        /// The path as given, lossily as text.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two different nodes for one path.
    #[error("{path} is already in the tree as a {existing}, and a {new} was to be put there")]
    Conflict {
        /// Where.
        path: TreePath,
        /// What is there.
        existing: &'static str,
        /// What was to be inserted.
        new: &'static str,
    },
    /// A path below something that is not a directory.
    #[error("{path}: its parent {parent} is a {kind}, not a directory")]
    ParentNotDirectory {
        /// What was to be inserted.
        path: TreePath,
        /// The parent in the way.
        parent: TreePath,
        /// What the parent is.
        kind: &'static str,
    },
    /// A hard link to something that is not a regular file of the tree.
    #[error("{path} is a hard link to {target}, which is not a regular file of the tree")]
    DanglingHardlink {
        /// The link.
        path: TreePath,
        /// What it names.
        target: TreePath,
    },
    /// A file changed its size between planning and reading.
    #[error("{path} was {planned} bytes long when the tree was made and is {found} bytes long now")]
    SizeChanged {
        /// The file of the host.
        path: PathBuf,
        /// Bytes when the tree was made.
        planned: u64,
        /// Bytes found when reading.
        found: u64,
    },
    /// Something of the host that no tree holds (a socket under a policy that refuses it, say).
    #[error("{path}: {reason}")]
    Unsupported {
        /// The path on the host.
        path: PathBuf,
        /// Why it cannot be imported.
        reason: &'static str,
    },
    /// The host refused.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
