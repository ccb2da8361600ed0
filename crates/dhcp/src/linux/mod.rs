//! The shell: runs a [`Client`](crate::Client) on an interface of this machine.
//!
//! What it takes care of, so that the core need not: the packet socket (filter locked before it
//! sees a frame), carrier, `CLOCK_BOOTTIME` (a machine that slept past the end of its lease notices
//! on waking), the address with lifetimes (the kernel removes it even if this process dies), routes
//! marked `proto dhcp`, MTU, resolv.conf. No program is started and no name is looked up.

mod interface;
mod netlink;
mod packet_socket;
mod resolv;
mod run;
mod sys;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use interface::{Interface, interfaces, wait_for_interface};
pub use netlink::{Address, Link, LinkMonitor, LinkNews, Netlink, Origin, RouteTo};
pub use run::{Notice, Outcome, RunOptions, run};

use crate::client::ConfigError;

/// Why the shell gave up. Nothing that a server says leads here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings or the interface's hardware address cannot be used.
    #[error("settings: {0}")]
    Config(#[from] ConfigError),
    /// There is no interface of this name.
    #[error("interface {0}: not found")]
    NotFound(String),
    /// Not Ethernet, or without a hardware address of 6 bytes.
    #[error("interface {0}: not Ethernet")]
    NotEthernet(String),
    /// The interface went away.
    #[error("interface {0}: removed while in use")]
    Gone(String),
    /// No interface that the filter accepts came up with in time.
    #[error("no suitable interface within {0:?}")]
    NoInterface(Duration),
    /// A system call on behalf of an interface failed.
    #[error("interface {interface}: {what}: {source}")]
    Interface {
        /// Its name.
        interface: String,
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// resolv.conf could not be written.
    #[error("{path}: {source}")]
    ResolvConf {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What the functions of this module return.
pub type Result<T> = std::result::Result<T, Error>;

fn system(what: &'static str) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::System { what, source }
}

/// `CLOCK_BOOTTIME`: goes on while the machine sleeps, never steps.
fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
