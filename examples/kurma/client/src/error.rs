//! Why there is no answer.

use crate::rpc::Fault;

/// Why something that was asked for has not come about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nobody is there.
    #[error("{endpoint}: {source}")]
    Connect {
        /// Who was asked.
        endpoint: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The conversation broke.
    #[error("{endpoint}: the server broke off: {problem}")]
    Broken {
        /// Who was asked.
        endpoint: String,
        /// What was wrong.
        problem: String,
    },
    /// It took too long.
    #[error("{endpoint}: no answer within {seconds} s")]
    Slow {
        /// Who was asked.
        endpoint: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server says no.
    #[error("{0}")]
    Refused(#[from] Fault),
    /// A certificate or key of the caller cannot be used.
    #[error("the certificates of this client: {0}")]
    Identity(String),
    /// A file of the caller.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

/// What this crate's operations give.
pub type Result<T, E = Error> = std::result::Result<T, E>;
