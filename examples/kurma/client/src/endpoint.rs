//! Where a server is.

use std::fmt;
use std::io;
use std::path::PathBuf;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Bytes both ways.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Endpoint {
    /// A socket of this machine.
    Unix(PathBuf),
    /// `HOST:PORT`, without any protection: whoever is in between reads and changes everything.
    Plain(String),
    /// A server that is asked over TLS.
    #[cfg(feature = "tls")]
    Tls(crate::tls::Secure),
}

impl Endpoint {
    /// A socket of this machine.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix(path.into())
    }

    /// A server at `HOST:PORT` to which the client is known.
    ///
    /// # Errors
    /// [`crate::Error::Identity`].
    #[cfg(feature = "tls")]
    pub fn tls(address: impl Into<String>, identity: &crate::tls::Identity) -> crate::Result<Self> {
        crate::tls::Secure::new(address.into(), identity).map(Self::Tls)
    }

    /// A server that is known by a code.
    #[cfg(feature = "tls")]
    pub(crate) fn unknown(address: &str, code: &crate::Code) -> crate::Result<Self> {
        crate::tls::Secure::unknown(address.to_owned(), code).map(Self::Tls)
    }

    /// What the server is called in requests.
    pub(crate) fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Plain(address) => address,
            #[cfg(feature = "tls")]
            Self::Tls(secure) => &secure.address,
        }
    }

    pub(crate) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Unix(path) => Box::new(UnixStream::connect(path).await?),
            Self::Plain(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            #[cfg(feature = "tls")]
            Self::Tls(secure) => Box::new(secure.connect().await?),
        })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Plain(address) => write!(f, "http://{address}"),
            #[cfg(feature = "tls")]
            Self::Tls(secure) => write!(f, "https://{}", secure.address),
        }
    }
}
