//! Routes and rules as a configuration has them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::ParseError;

/// A route over an interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct StaticRoute {
    /// Where to: a network, or `default`.
    pub to: Destination,
    /// The next hop; none where the destination is on the link.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub via: Option<IpAddr>,
    /// The address that packets are sent from.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub source: Option<IpAddr>,
    /// The least wins. Default: the interface's.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub metric: Option<u32>,
    /// The routing table. Default: 254, the main one.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub table: Option<u32>,
    /// What becomes of packets. Default: they are sent.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "type", skip_serializing_if = "RouteKind::is_unicast")
    )]
    pub kind: RouteKind,
    /// Whether the next hop is on the link even if no address says so. Default: no.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub onlink: bool,
}

impl StaticRoute {
    /// A route to a network that is on the link.
    #[must_use]
    pub const fn to(to: Destination) -> Self {
        Self {
            to,
            via: None,
            source: None,
            metric: None,
            table: None,
            kind: RouteKind::Unicast,
            onlink: false,
        }
    }

    /// A route over a next hop.
    #[must_use]
    pub const fn via(to: Destination, via: IpAddr) -> Self {
        Self { via: Some(via), ..Self::to(to) }
    }

    /// The network that it leads to: the destination, `default` in the family that the rest says.
    #[must_use]
    pub fn network(&self) -> IpNet {
        match (self.to, self.via.or(self.source)) {
            (Destination::Network(net), _) => net.trunc(),
            (Destination::Default, Some(IpAddr::V6(_))) => everywhere(false),
            (Destination::Default, _) => everywhere(true),
        }
    }
}

/// 0.0.0.0/0 or ::/0.
pub(crate) fn everywhere(v4: bool) -> IpNet {
    if v4 {
        IpNet::V4(ipnet::Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0))
    } else {
        IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0))
    }
}

/// Where a route leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Everywhere that no other route leads to.
    Default,
    /// A network.
    Network(IpNet),
}

impl FromStr for Destination {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let alone = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let net = text.parse().ok().or_else(alone).ok_or_else(|| {
            let shown: String = text.chars().take(60).collect();
            ParseError(format!("{shown:?}, expected default or a network such as 192.0.2.0/24"))
        })?;
        Ok(Self::Network(net))
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => out.write_str("default"),
            Self::Network(net) => net.fmt(out),
        }
    }
}

#[cfg(feature = "serde")]
crate::text::as_text!(Destination);

/// What becomes of packets that a route is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RouteKind {
    /// They are sent.
    #[default]
    Unicast,
    /// They are dropped without a word.
    Blackhole,
    /// They are refused: host unreachable.
    Unreachable,
    /// They are refused: administratively prohibited.
    Prohibit,
}

impl RouteKind {
    /// Whether packets are sent.
    #[must_use]
    pub const fn is_unicast(&self) -> bool {
        matches!(self, Self::Unicast)
    }
}

impl fmt::Display for RouteKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Unicast => "unicast",
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        })
    }
}

/// A rule that says which packets use a routing table. Without `from` and `to` it is for both families.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct PolicyRule {
    /// Where it stands among rules: the least is asked first.
    pub priority: u32,
    /// Packets from this network.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub from: Option<IpNet>,
    /// Packets to this network.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub to: Option<IpNet>,
    /// Packets with this mark of the firewall.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub mark: Option<u32>,
    /// The table that they use.
    pub table: u32,
}

impl PolicyRule {
    /// A rule for all packets.
    #[must_use]
    pub const fn new(priority: u32, table: u32) -> Self {
        Self { priority, from: None, to: None, mark: None, table }
    }
}
