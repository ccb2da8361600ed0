//! What a kernel has: links, addresses, routes, rules. A value, with no kernel behind it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::config::MAIN;
use crate::{BondMode, Key, LacpRate, Link, Mac, RouteKind, Secret, TransmitHash, VlanProtocol};

mod dump;
mod model;

pub use model::Refused;

/// The group of links that were made here (`ip link show group 27499`). The kernel sets it in the
/// moment in which it makes the link.
pub const GROUP: u32 = 27_499;

/// The protocol of routes, rules and addresses that were made here (`ip route show proto 107`): one
/// that nobody has in iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 107;

/// What a network namespace has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct State {
    /// Its links, in order of their indexes.
    pub links: Vec<LinkState>,
    /// Its routes, without those of the table of own addresses.
    pub routes: BTreeSet<Route>,
    /// Its rules.
    pub rules: BTreeSet<Rule>,
}

impl State {
    /// A link by name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkState> {
        self.links.iter().find(|link| link.name == name)
    }

    /// A link by index.
    #[must_use]
    pub fn at(&self, index: u32) -> Option<&LinkState> {
        self.links.iter().find(|link| link.index == index)
    }

    pub(crate) fn link_mut(&mut self, name: &str) -> Option<&mut LinkState> {
        self.links.iter_mut().find(|link| link.name == name)
    }
}

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct LinkState {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address now, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// The one that it was made with, where the driver knows.
    pub permanent_mac: Option<Mac>,
    /// Whether it is Ethernet (and not the loopback, a tunnel of packets).
    pub ethernet: bool,
    /// Whether it is a device, and not made by software.
    pub physical: bool,
    /// Its driver; for links made by software their kind.
    pub driver: Option<String>,
    /// Its largest packet in bytes.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it has carrier.
    pub carrier: bool,
    /// The group that it is in; [`GROUP`] where it was made here.
    pub group: u32,
    /// What somebody wrote on it.
    pub alias: Option<String>,
    /// The bond or bridge that it is a member of.
    pub master: Option<String>,
    /// What it is, where it was made by software.
    pub kind: Option<Kind>,
    /// Its addresses.
    pub addresses: Vec<AddressState>,
    /// `accept_ra`: 0 no router advertisements, 1 unless packets are forwarded, 2 always.
    pub accept_ra: Option<u32>,
    /// Whether it speaks no IPv6.
    pub disable_ipv6: Option<bool>,
    /// Whether an IPv4 address of a network stays when the first one of that network is removed.
    pub promote_secondaries: bool,
}

impl LinkState {
    /// A link that is down and has nothing.
    #[must_use]
    pub fn new(index: u32, name: impl Into<String>) -> Self {
        Self { index, name: name.into(), mtu: 1500, ethernet: true, ..Self::default() }
    }

    /// Whether it was made here.
    #[must_use]
    pub const fn is_ours(&self) -> bool {
        self.group == GROUP
    }

    /// As the planner knows it.
    #[must_use]
    pub fn as_link(&self) -> Link {
        let mac = self.permanent_mac.or(self.mac).unwrap_or_default();
        let mut link = if self.physical {
            Link::physical(&self.name, mac)
        } else {
            Link::made_by_software(&self.name, mac)
        };
        link.driver.clone_from(&self.driver);
        link
    }
}

/// What a link that was made by software is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Kind {
    /// A bond.
    Bond(BondKind),
    /// A VLAN.
    Vlan(VlanKind),
    /// A bridge.
    Bridge(BridgeKind),
    /// One end of a pair.
    Veth {
        /// The other, where it is in the same namespace.
        peer: Option<String>,
    },
    /// A WireGuard tunnel; none where nobody asked or may ask what it knows.
    Wireguard(Option<Tunnel>),
    /// Something else, by the kernel's word.
    Other {
        /// The word.
        name: String,
    },
}

impl Kind {
    /// The kernel's word for it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Bond(_) => "bond",
            Self::Vlan(_) => "vlan",
            Self::Bridge(_) => "bridge",
            Self::Veth { .. } => "veth",
            Self::Wireguard(_) => "wireguard",
            Self::Other { name } => name,
        }
    }
}

/// A bond's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct BondKind {
    /// How its members share the work.
    pub mode: BondMode,
    /// Milliseconds between looks at their carrier.
    pub monitor: u32,
    /// How often an LACP partner is asked to send; none where this kernel or mode has no such thing.
    pub lacp_rate: Option<LacpRate>,
    /// What chooses a member.
    pub transmit_hash: Option<TransmitHash>,
    /// The member that works whenever it can.
    pub primary: Option<String>,
}

/// A VLAN's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct VlanKind {
    /// The link that its frames go over; none where that is in another namespace.
    pub parent: Option<String>,
    /// Its number.
    pub id: u16,
    /// How frames are tagged.
    pub protocol: VlanProtocol,
}

/// A bridge's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct BridgeKind {
    /// Whether it speaks the spanning tree protocol.
    pub stp: bool,
    /// Hundredths of a second until a new member forwards.
    pub forward_delay: u32,
    /// Whether members heed VLAN tags; none where this kernel does not know how, and in a change: as
    /// it is.
    pub vlan_filtering: Option<bool>,
}

/// A WireGuard tunnel's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Tunnel {
    /// Its private key, where it has one.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub private_key: Option<Secret>,
    /// The UDP port that it listens at.
    pub listen_port: u16,
    /// The mark that the firewall sees; 0 is none.
    pub mark: u32,
    /// Whom it speaks with, in order of their keys.
    pub peers: Vec<TunnelPeer>,
}

/// The other end of a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct TunnelPeer {
    /// Its public key.
    pub public_key: Key,
    /// The key that both ends share.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub preshared_key: Option<Secret>,
    /// Where it is, or was heard from.
    pub endpoint: Option<SocketAddr>,
    /// The addresses that it may use, sorted.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between packets that keep the way open; 0 is never.
    pub keepalive: u16,
}

impl TunnelPeer {
    /// A peer that may use no address yet.
    #[must_use]
    pub const fn new(public_key: Key) -> Self {
        Self {
            public_key,
            preshared_key: None,
            endpoint: None,
            allowed_ips: Vec::new(),
            keepalive: 0,
        }
    }
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct AddressState {
    /// The address and the length of its network's prefix.
    pub net: IpNet,
    /// Who set it, as far as the kernel knows (5.18 and later); [`PROTOCOL`] for us.
    pub protocol: u8,
    /// Whether it stays until somebody takes it away.
    pub permanent: bool,
    /// Whether the kernel still looks for others that have it, or has found one.
    pub tentative: bool,
}

impl AddressState {
    /// An address that is there to stay.
    #[must_use]
    pub const fn new(net: IpNet, protocol: u8) -> Self {
        Self { net, protocol, permanent: true, tentative: false }
    }
}

/// A route. Two of one family with the same destination, table and metric are for the same packets.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Route {
    /// The network that it leads to.
    pub to: IpNet,
    /// The routing table.
    pub table: u32,
    /// Among routes to one destination the least wins.
    pub metric: u32,
    /// What becomes of packets.
    pub kind: RouteKind,
    /// The next hop.
    pub via: Option<IpAddr>,
    /// The link that packets are sent over.
    pub link: Option<String>,
    /// The address that packets are sent from.
    pub source: Option<IpAddr>,
    /// Whether the next hop is on the link even if no address says so.
    pub onlink: bool,
    /// Who made it; [`PROTOCOL`] for us.
    pub protocol: u8,
}

impl Route {
    /// A route of ours over a link, in the main table.
    #[must_use]
    pub fn new(to: IpNet, link: impl Into<String>) -> Self {
        Self {
            to: to.trunc(),
            table: MAIN,
            metric: 0,
            kind: RouteKind::Unicast,
            via: None,
            link: Some(link.into()),
            source: None,
            onlink: false,
            protocol: PROTOCOL,
        }
    }

    /// What routes for the same packets have in common.
    pub(crate) const fn key(&self) -> (IpNet, u32, u32) {
        (self.to, self.table, self.metric)
    }
}

/// A rule that says which packets use which routing table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Rule {
    /// Its family.
    pub v6: bool,
    /// Where it stands: the least is asked first.
    pub priority: u32,
    /// Packets from this network.
    pub from: Option<IpNet>,
    /// Packets to this network.
    pub to: Option<IpNet>,
    /// Packets with this mark; 0 is no mark.
    pub mark: u32,
    /// The table; 0 where the rule does something else.
    pub table: u32,
    /// Who made it; [`PROTOCOL`] for us.
    pub protocol: u8,
}

impl fmt::Display for Route {
    /// As `ip route` takes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.kind.is_unicast() {
            write!(out, "{} ", self.kind)?;
        }
        match self.to.prefix_len() {
            0 => out.write_str("default")?,
            _ => write!(out, "{}", self.to)?,
        }
        if let Some(via) = self.via {
            // A gateway of the other family has to say so.
            let family = if via.is_ipv6() && self.to.addr().is_ipv4() { "inet6 " } else { "" };
            write!(out, " via {family}{via}")?;
        }
        if let Some(link) = &self.link {
            write!(out, " dev {link}")?;
        }
        if self.table != MAIN {
            write!(out, " table {}", self.table)?;
        }
        write!(out, " proto {}", self.protocol)?;
        if let Some(source) = self.source {
            write!(out, " src {source}")?;
        }
        if self.metric != 0 {
            write!(out, " metric {}", self.metric)?;
        }
        if self.onlink {
            out.write_str(" onlink")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rule {
    /// As `ip rule` takes it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from {
            Some(from) => write!(out, "from {from}")?,
            None => out.write_str("from all")?,
        }
        if let Some(to) = self.to {
            write!(out, " to {to}")?;
        }
        if self.mark != 0 {
            write!(out, " fwmark {:#x}", self.mark)?;
        }
        if self.table != 0 {
            write!(out, " lookup {}", self.table)?;
        }
        write!(out, " pref {} proto {}", self.priority, self.protocol)
    }
}
