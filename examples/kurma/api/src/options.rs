//! How the door is kept.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::log::Sink;

/// What nobody may take more of.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Limits {
    /// How long it may take to shake hands. Default: 10 seconds.
    pub handshake: Duration,
    /// How long the head of a request may take, and nothing may come between two. Default: 15 seconds.
    pub head: Duration,
    /// How long nothing may come of a body, and nothing of an answer be taken. Default: 60 seconds.
    pub idle: Duration,
    /// Connections of those who are known; who comes then is turned away. Default: 256.
    pub connections: usize,
    /// Connections of those who are not; who has waited longest makes room. Default: 128.
    pub unknown: usize,
    /// How long a connection of somebody unknown may last. Default: 30 seconds.
    pub visit: Duration,
    /// How long requests may go on after the end was asked for. Default: 10 seconds.
    pub end: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            connections: 256,
            unknown: 128,
            visit: Duration::from_secs(30),
            end: Duration::from_secs(10),
        }
    }
}

/// How the door is kept.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where keys, certificates and who is known are kept. Default: /data.
    pub directory: PathBuf,
    /// Where it is listened for TLS. Default: none.
    pub listen: Vec<SocketAddr>,
    /// Where it is listened without; everybody is an operator there. Default: none.
    pub plain: Vec<SocketAddr>,
    /// The server's socket. Default: /run/kurma/remote/kurma.sock.
    pub server: PathBuf,
    /// Names and addresses that the server's certificate has. Default: none but the one that all have.
    pub names: Vec<String>,
    /// How long codes count. Default: an hour.
    pub lasting: Duration,
    /// What nobody may take more of.
    pub limits: Limits,
    /// Where lines about what is refused and done go. Default: the standard error.
    pub log: Sink,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("directory", &self.directory)
            .field("listen", &self.listen)
            .field("plain", &self.plain)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directory: "/data".into(),
            listen: Vec::new(),
            plain: Vec::new(),
            server: "/run/kurma/remote/kurma.sock".into(),
            names: Vec::new(),
            lasting: Duration::from_secs(3600),
            limits: Limits::default(),
            log: Arc::new(|line| eprintln!("{line}")),
        }
    }
}
