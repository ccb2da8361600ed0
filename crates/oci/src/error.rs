//! What can go wrong, and where.

use std::io;
use std::path::{Path, PathBuf};

use oci_spec::image::Digest;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The path on the host.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Bytes could not be read or written.
    #[error("{what}: {source}")]
    Stream {
        /// Whose bytes: a digest, or a name.
        what: String,
        /// What went wrong.
        source: io::Error,
    },
    /// A blob that is not what its descriptor says.
    #[error("{digest}: {reason}")]
    Blob {
        /// The digest that was promised.
        digest: String,
        /// What is there instead.
        reason: String,
    },
    /// A document that is no JSON, too long, or says something that cannot be.
    #[error("{origin}: {reason}")]
    Document {
        /// The file, or the digest.
        origin: String,
        /// What is wrong with it, with line and column where there is one.
        reason: String,
    },
    /// A manifest of an App Container, or what is made of one, with all that is wrong.
    #[error("{}", told(.origin, .problems))]
    Manifest {
        /// The file, or the name.
        origin: String,
        /// What is wrong, each with its path in the document.
        problems: Vec<String>,
    },
    /// No image, or no blob, of this name.
    #[error("{place}: there is no {what}{}", hint(.there))]
    Missing {
        /// Where it was looked for.
        place: String,
        /// What was looked for.
        what: String,
        /// What is there.
        there: Vec<String>,
    },
    /// An entry of a layer or archive that is broken, hostile or refused.
    #[error("{layer}: entry {entry:?} at byte {offset}: {reason}")]
    Entry {
        /// The digest of the layer, or the path of the archive.
        layer: String,
        /// The name of the entry, with what is no printable ASCII escaped.
        entry: String,
        /// Where its header is in the archive, decompressed.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A tree that no layer can hold, for all of these reasons.
    #[error("{}", .0.join("\n"))]
    Unpackable(Vec<String>),
    /// A name of an image, a user or a setting that means nothing.
    #[error("{what}: {reason}")]
    Invalid {
        /// The value as given.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A registry that does not answer, refuses, or lies.
    #[error("{url}: {reason}")]
    Registry {
        /// What was asked for, with the digest where there is one.
        url: String,
        /// What came instead.
        reason: String,
    },
    /// The tree refused a path.
    #[error(transparent)]
    Tree(#[from] kiln_tree::Error),
}

fn told(origin: &str, problems: &[String]) -> String {
    let lines: Vec<String> =
        problems.iter().map(|problem| format!("{origin}: {problem}")).collect();
    lines.join("\n")
}

fn hint(there: &[String]) -> String {
    match there {
        [] => String::new(),
        few => format!(" (there is {})", few.join(", ")),
    }
}

impl Error {
    pub(crate) fn io(
        action: &'static str,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// For errors of streams, in which an error of ours may have travelled.
    pub(crate) fn stream(what: impl ToString) -> impl FnOnce(io::Error) -> Self {
        let what = what.to_string();
        move |source| match source.downcast::<Self>() {
            Ok(ours) => ours,
            Err(source) => Self::Stream { what, source },
        }
    }

    pub(crate) fn blob(digest: &Digest, reason: impl Into<String>) -> Self {
        Self::Blob { digest: digest.to_string(), reason: reason.into() }
    }

    pub(crate) fn document(origin: impl ToString, reason: impl ToString) -> Self {
        Self::Document { origin: origin.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn invalid(what: impl ToString, reason: impl Into<String>) -> Self {
        Self::Invalid { what: what.to_string(), reason: reason.into() }
    }

    /// As an error of a stream, to be unwrapped by [`Error::stream`].
    pub(crate) fn into_io(self) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, self)
    }
}

/// Bytes of somebody else as text for people: short, and nothing a terminal would act on.
pub(crate) fn shown(bytes: &[u8]) -> String {
    let text = bytes.get(..120).map_or_else(
        || bytes.escape_ascii().to_string(),
        |start| format!("{}…", start.escape_ascii()),
    );
    if bytes.len() == 120 { bytes.escape_ascii().to_string() } else { text }
}
