/// Why there is no root.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A list that is none.
    #[error("the list of chunks, line {line}: {problem}")]
    List {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A list that nobody who is trusted has signed.
    #[error("the list of chunks: {0}")]
    Signature(String),
    /// A list that does not come.
    #[error("{file}: {problem}")]
    NoList {
        /// Where it should be.
        file: String,
        /// What went wrong last.
        problem: String,
    },
    /// A download that was given up.
    #[error("{file}: {problem}; {verified} of {size} bytes were there")]
    GaveUp {
        /// The name that the list has for it.
        file: String,
        /// What went wrong last.
        problem: String,
        /// Bytes that were found to be right.
        verified: u64,
        /// Bytes that there should be.
        size: u64,
    },
    /// What cannot be asked for.
    #[error("{url}: {problem}")]
    Source {
        /// An address or path.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A verified archive that cannot be unpacked.
    #[error("unpack {kind}: {problem}")]
    Unpack {
        /// What it is.
        kind: crate::Kind,
        /// What is wrong.
        problem: String,
    },
    /// What the host refuses.
    #[error("{what}: {source}")]
    Io {
        /// What was to be done, with the path.
        what: String,
        /// What the host says.
        source: std::io::Error,
    },
}

/// What most functions give.
pub type Result<T, E = Error> = std::result::Result<T, E>;
