//! Why a command did not do what it is for.

use std::io;

/// Why, and what to do next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{0}")]
    Client(#[from] kurma_client::Error),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error(
        "{0:?} is neither a socket's path nor https://HOST[:PORT] (or http://, which nothing protects)"
    )]
    Host(String),
    #[error("{host} does not know this program: there is nothing in {directory}")]
    Unknown { host: String, directory: String },
    #[error("the server knows this program already: {directory} (--force: anew)")]
    Enrolled { directory: String },
    #[error("neither HOME nor KURMA_CONFIG says where certificates are kept")]
    Home,
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("{0}")]
    Enter(String),
}

impl Problem {
    /// What to do next.
    pub(crate) fn hint(&self, host: &str) -> Option<String> {
        let enroll = |host: &str| {
            format!(
                "kurma enroll {host} --code CODE, with the code that the server shows, or that an operator asks for: kurma access code --role ROLE"
            )
        };
        let source = match self {
            Self::Unknown { host, .. } => return Some(enroll(host)),
            Self::Client(kurma_client::Error::Connect { source, .. }) => source,
            // a certificate is judged after hands were shaken
            Self::Client(kurma_client::Error::Broken { problem, .. })
                if problem.contains("received fatal alert") =>
            {
                return Some(format!(
                    "the server refuses the certificate of this program; to have another: {} --force",
                    enroll(host)
                ));
            }
            _ => return None,
        };
        Some(match source.kind() {
            io::ErrorKind::NotFound if host.starts_with('/') => {
                "start kurma-server here, or say with --host (or KURMA_HOST) where one runs"
                    .to_owned()
            }
            io::ErrorKind::PermissionDenied => "this socket is for root".to_owned(),
            io::ErrorKind::InvalidData => {
                "somebody else answers there, or the server has been made anew: ask for a code to enroll again (--force)"
                    .to_owned()
            }
            _ => format!("is a kurma-server at {host}?"),
        })
    }
}
