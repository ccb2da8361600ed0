//! Networks of containers: namespaces, a bridge with NAT, addresses by lease, ports of the host.
//!
//! # Example: a container with a port
//!
//! ```no_run
//! use kiln_network::container::{BridgeNetwork, Namespace, Networks};
//!
//! let mut network = BridgeNetwork::new("pods", "pods0");
//! network.gateways = vec!["10.220.0.1/16".parse()?, "fd00:220::1/64".parse()?];
//! let networks = Networks::new("/run/kiln/networks");
//! networks.up(&network)?;
//!
//! let namespace = Namespace::keep("/run/netns/web".as_ref())?;
//! let attached = networks.attach(&network, "web", &namespace, &["8080:80".parse()?])?;
//! println!("{:?}", attached.lease.addresses);
//!
//! networks.detach(&network, "web")?;
//! Namespace::remove("/run/netns/web".as_ref())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::names::is_link_name;
use crate::{Problem, resolv_conf};

mod book;
mod forward;
mod host;
mod namespace;
mod nft;
mod pool;
mod rules;
mod step;

pub use book::{Book, Lease, Refusal};
pub use forward::{Forward, Transport};
pub use host::{Attached, Networks};
pub use namespace::Namespace;
pub use pool::Pool;
pub use step::Step;

/// The group of links that are made for containers (`ip link show group 27500`); those of a
/// configuration are in another, so that neither removes the other's.
pub const CONTAINERS: u32 = 27_500;

/// The protocol of addresses that bridges of containers have.
pub const PROTOCOL: u8 = 108;

/// A bridge that containers are attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BridgeNetwork {
    /// Its name: small letters, digits and hyphens.
    pub name: String,
    /// The name of the bridge.
    pub bridge: String,
    /// The bridge's addresses, at most one of each family: the gateways of containers, and the
    /// networks that they have theirs from.
    pub gateways: Vec<IpNet>,
    /// The largest packet in bytes. Default: what the kernel has, 1500.
    pub mtu: Option<u32>,
    /// Whether containers speak with the world by the host's address. Default: yes.
    pub masquerade: bool,
    /// Whether others than the host reach containers without a forwarded port. Default: no.
    pub open: bool,
    /// Name servers of containers.
    pub nameservers: Vec<IpAddr>,
    /// Domains that containers search.
    pub search: Vec<String>,
}

impl BridgeNetwork {
    /// A network of a name, with a bridge of a name, without addresses yet.
    #[must_use]
    pub fn new(name: impl Into<String>, bridge: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            bridge: bridge.into(),
            gateways: Vec::new(),
            mtu: None,
            masquerade: true,
            open: false,
            nameservers: Vec::new(),
            search: Vec::new(),
        }
    }

    /// Everything that is wrong, at once; empty when nothing is.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let place = format!("network {:?}", self.name);
        let mut wrong = |what: String| problems.push(Problem::new(&place, what));
        let is_small =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=32).contains(&self.name.len()) || !self.name.bytes().all(is_small) {
            wrong("expected a name of 1 to 32 small letters, digits and hyphens".into());
        }
        let is_pattern = self.bridge.contains(['*', '?', '"']);
        if !is_link_name(&self.bridge) || is_pattern || self.bridge == "lo" {
            wrong(format!("{:?} is no name of a bridge", self.bridge));
        }
        if self.gateways.is_empty() {
            wrong("no gateway, so containers have no addresses".into());
        }
        for (at, gateway) in self.gateways.iter().enumerate() {
            let same = |other: &IpNet| other.addr().is_ipv4() == gateway.addr().is_ipv4();
            if self.gateways.iter().take(at).any(same) {
                wrong(format!("gateway {gateway}: a second one of its family"));
            }
            let is_edge = gateway.addr() == gateway.network()
                || gateway.addr().is_ipv4() && gateway.addr() == gateway.broadcast();
            let has_edge = gateway.max_prefix_len() - gateway.prefix_len() > 1;
            if !crate::config::is_host(gateway.addr()) || has_edge && is_edge {
                wrong(format!("gateway {gateway} is no host's address"));
            } else if gateway.prefix_len() == 0 || Pool::new(*gateway).take("").is_none() {
                wrong(format!("gateway {gateway}: its network has no room for containers"));
            }
        }
        let has_v6 = self.gateways.iter().any(|gateway| gateway.addr().is_ipv6());
        let least = if has_v6 { 1280 } else { 576 };
        if self.mtu.is_some_and(|mtu| !(least..=65_535).contains(&mtu)) {
            wrong(format!("mtu, expected {least} to 65535"));
        }
        problems
    }

    /// The text of a container's /etc/resolv.conf.
    #[must_use]
    pub fn resolv_conf(&self) -> String {
        resolv_conf([(self.nameservers.as_slice(), self.search.as_slice())])
    }
}

/// What went wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The network cannot be as it was said.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config(Vec<Problem>),
    /// An owner's name that is none, or a port that cannot lead anywhere.
    #[error("{0}")]
    Asked(String),
    /// There is no lease to be had.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The book of leases.
    #[error("{}: {source}", path.display())]
    Book {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The kernel did not say what is there.
    #[error(transparent)]
    Netlink(#[from] crate::linux::Error),
    /// A step failed; those before it are done.
    #[error("{step}: {source}")]
    Step {
        /// The command that would have done it; for a table of nftables its name.
        step: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The container's namespace cannot be entered.
    #[error("enter the namespace of {owner}: {source}")]
    Namespace {
        /// The container.
        owner: String,
        /// What the kernel said.
        source: io::Error,
    },
}
