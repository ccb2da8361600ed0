//! What a run is told, what it tells, and how it ends.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::super::Error;
use crate::client::{Config, Ignored, LostReason, Sent};
use crate::lease::Lease;

/// How to run.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunOptions {
    /// The client's settings.
    pub config: Config,
    /// Configure the interface; otherwise only report. The caller must then put the address on it,
    /// or a server has nowhere to send the answer to a renewal. Default: yes.
    pub apply: bool,
    /// Return with the first lease instead of staying to renew it. Default: no.
    pub once: bool,
    /// How long to try for the first lease, counted anew from the first carrier; without carrier,
    /// from the start. Default: for ever.
    pub deadline: Option<Duration>,
    /// Where to write name servers and search domains. Default: nowhere.
    pub resolv_conf: Option<PathBuf>,
    /// Give the address back when told to stop, and take it off the interface; otherwise both stay
    /// until the lease ends. Default: yes.
    pub release_on_stop: bool,
    /// Stop when this descriptor becomes readable (a pipe's closed end counts). Default: none.
    pub stop: Option<Arc<OwnedFd>>,
    /// Metric of the routes. Two interfaces should have different ones. Default: 100.
    pub metric: u32,
    /// Set the MTU that the lease names. Default: yes.
    pub mtu: bool,
}

impl Default for RunOptions {
    fn default() -> Self {
        Self {
            config: Config::default(),
            apply: true,
            once: false,
            deadline: None,
            resolv_conf: None,
            release_on_stop: true,
            stop: None,
            metric: 100,
            mtu: true,
        }
    }
}

/// What goes on, for people and for programs. `Display` gives a line without the interface's name.
#[derive(Debug)]
#[non_exhaustive]
pub enum Notice<'a> {
    /// The link has carrier.
    LinkUp,
    /// The link lost its carrier.
    LinkDown,
    /// A message went out.
    Sent {
        /// Which.
        kind: Sent,
        /// 1 for the first of its kind in a row.
        attempt: u32,
    },
    /// There is a lease, and the interface is configured.
    Bound(&'a Lease),
    /// The lease was extended, and changes applied.
    Renewed(&'a Lease),
    /// The address is gone from the interface.
    Lost {
        /// Why.
        reason: LostReason,
    },
    /// A server refused what it had offered.
    Refused,
    /// No lease yet.
    StillTrying {
        /// Since the link came up or the last lease was lost.
        elapsed: Duration,
    },
    /// A reply was ignored for a reason not seen before in this run.
    Ignored(Ignored),
    /// Something failed that the lease can do without.
    Problem(&'a Error),
}

impl fmt::Display for Notice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LinkUp => f.write_str("link up"),
            Self::LinkDown => f.write_str("link down"),
            Self::Sent { kind, attempt } => write!(f, "sent {kind}, attempt {attempt}"),
            Self::Bound(lease) | Self::Renewed(lease) => {
                let verb = if matches!(self, Self::Bound(_)) { "bound" } else { "renewed" };
                write!(f, "{verb}: {}/{}", lease.address, lease.prefix_len)?;
                if let Some(gateway) = lease.default_gateway() {
                    write!(f, " via {gateway}")?;
                }
                write!(f, ", server {}", lease.server)?;
                match lease.valid_for {
                    Some(valid) => write!(f, ", for {} s", valid.as_secs()),
                    None => f.write_str(", for ever"),
                }
            }
            Self::Lost { reason } => write!(f, "lost the address: {reason}"),
            Self::Refused => f.write_str("the server refused what it had offered"),
            Self::StillTrying { elapsed } => {
                write!(f, "no DHCP server: still trying after {} s", elapsed.as_secs())
            }
            Self::Ignored(reason) => write!(f, "ignored a reply: {reason}"),
            Self::Problem(error) => write!(f, "problem: {error}"),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With a lease, as `once` asks.
    Bound(Box<Lease>),
    /// Told to stop.
    Stopped,
    /// No lease before the deadline. The interface is left up and without an address.
    TimedOut,
}
