//! What the server of the Kurma-like system is asked and answers, and a client of it.
//!
//! Pods and images are managed by JSON-RPC 2.0 at `/rpc` ([`rpc`]); what streams has an address of its
//! own: `POST /images/create`, `GET /containers/logs`, and the websocket `/containers/enter`
//! ([`enter`]). `GET /info` says what machine it is, and `GET /schema` what can be asked. Over a network it is
//! asked by who is known to it (`enroll`).
//!
//! ```no_run
//! # async fn list() -> kurma_client::Result<()> {
//! use kurma_client::{Client, Endpoint};
//!
//! let client = Client::new(Endpoint::unix("/run/kurma/kurma.sock"));
//! for pod in client.pods().await? {
//!     println!("{} {} {}", pod.uuid, pod.name, pod.state);
//! }
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod client;
#[cfg(feature = "tls")]
mod code;
mod endpoint;
#[cfg(feature = "tls")]
pub mod enroll;
pub mod enter;
mod error;
mod lingering;
mod role;
pub mod rpc;
#[cfg(feature = "tls")]
pub mod tls;
mod types;

pub use client::{Client, Logs};
#[cfg(feature = "tls")]
pub use code::{Code, NoCode};
pub use endpoint::Endpoint;
pub use error::{Error, Result};
pub use lingering::Lingering;
pub use role::Role;
pub use types::{App, AppState, Create, HostInfo, Image, Lease, Pod, PodState, Upgrade, Upgraded};

/// Where the server listens on its own machine.
pub const SOCKET: &str = "/run/kurma/kurma.sock";
/// The port of the remote API.
pub const PORT: u16 = 12312;
