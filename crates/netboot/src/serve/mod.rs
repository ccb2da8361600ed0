//! The shell: sockets, files and threads around the machines.
//!
//! Nothing here waits without a bound: sockets are looked at again at least twice a second, which is how long
//! ending takes too.

mod asked;
mod batch;
mod dhcp;
mod event;
mod files;
mod http;
mod plain;
mod sending;
mod socket;
mod tftp;
mod transfers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

pub use dhcp::Dhcp;
pub use event::{Event, Transferred};
pub use files::{Files, NoFile};
pub use http::{Http, Tls};
pub use tftp::Tftp;

/// How long a socket is waited for before it is seen whether to end.
const GLANCE: Duration = Duration::from_millis(500);

/// Where it is said what happens.
pub type Sink = Arc<dyn Fn(&Event) + Send + Sync>;

/// Whether to end.
#[derive(Debug, Clone, Default)]
pub struct End(Arc<AtomicBool>);

impl End {
    /// Not yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Now.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// What went wrong with a socket.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be listened there.
    #[error("listen at {address}{}: {source}", .interface.as_ref().map(|it| format!(" on {it}")).unwrap_or_default())]
    Listen {
        /// Where.
        address: std::net::SocketAddr,
        /// On which interface alone.
        interface: Option<String>,
        /// Why not.
        source: std::io::Error,
    },
    /// A socket that cannot be used any more.
    #[error("{what}: {source}")]
    Socket {
        /// Of what.
        what: &'static str,
        /// Why not.
        source: std::io::Error,
    },
    /// Keys and certificates that are none.
    #[error("{}: {problem}", .path.display())]
    Tls {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}
