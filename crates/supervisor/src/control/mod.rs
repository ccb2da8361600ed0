//! The control socket's protocol, without I/O, and a client of it.
//!
//! A Unix stream socket carries [frames](frame) of at most 64 KiB, which carry
//! [requests and answers](protocol) as JSON. The client speaks first, with its version:
//!
//! ```text
//! > {"hello":{"version":1}}
//! < {"hello":{"version":1,"pid":1,"may-read":true,"may-act":true}}
//! > {"restart":{"service":"web","wait-ms":5000}}
//! < {"result":{"effect":"done","text":"web: up after 12.3ms"}}
//! ```
//! Answers that may be long come in several frames, made as the client takes them. Who is at the
//! other end is the kernel's word (`SO_PEERCRED`); [`ControlOptions`] say who may read and who may
//! act.
//!
//! # Example: restart a service, and say how all are
//! ```no_run
//! use std::time::Duration;
//! use kiln_supervisor::control::Client;
//!
//! let mut client = Client::connect("/run/kiln/supervisor.sock")?;
//! let result = client.restart("web", Duration::from_secs(5))?;
//! println!("{}", result.text);
//! for service in client.status(None)? {
//!     println!("{} {}", service.name, service.state);
//! }
//! # Ok::<(), kiln_supervisor::control::ClientError>(())
//! ```

pub(crate) mod admission;
mod chart;
mod client;
pub mod frame;
pub mod protocol;
pub(crate) mod timeline;
mod tree;

use std::path::PathBuf;

pub use admission::{Access, Peer};
pub use chart::{Blame, blame, svg};
pub use client::{Client, ClientError, socket_path};
pub use protocol::{
    ActionResult, Answer, Effect, EventLine, Refusal, RefusalCode, Request, ServiceStatus,
    ServiceTimes, Times, TreeNode,
};
pub use tree::draw;

/// Where the socket usually is.
pub const DEFAULT_SOCKET: &str = "/run/kiln/supervisor.sock";
/// The variable that names another place to clients.
pub const SOCKET_VARIABLE: &str = "KILN_SUPERVISOR_SOCKET";

/// Where the control socket is, and who may do what there.
///
/// Two gates: the file's mode says who can open the socket at all; of those, `read` and `act` say
/// who may ask and who may change. The defaults: the file is for its owner alone; who can open it
/// may read; root and the supervisor's own user may act.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ControlOptions {
    /// The socket's name; directories above it are made (mode 0755).
    pub path: PathBuf,
    /// The file's permission bits (default 0600). 0666 lets everybody ask.
    pub mode: u32,
    /// The file's group (default: the supervisor's own).
    pub group: Option<u32>,
    /// Who may read: status, logs, tree, times, events.
    pub read: Access,
    /// Who may also act: start, stop, restart, reload, shut down.
    pub act: Access,
    /// How many connections there may be at once (default 64). One more displaces the one that has
    /// been idle for longest.
    pub max_connections: usize,
}

impl ControlOptions {
    /// A socket at `path` with the defaults.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            mode: 0o600,
            group: None,
            read: Access::everybody(),
            act: Access::users([0, rustix::process::geteuid().as_raw()]),
            max_connections: 64,
        }
    }
}

impl Default for ControlOptions {
    fn default() -> Self {
        Self::new(DEFAULT_SOCKET)
    }
}
