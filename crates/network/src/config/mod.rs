//! What an image says about its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::names::{fits, is_link_name};
use crate::{Link, Mac, ParseError};

mod check;
mod made;
mod routing;
#[cfg(feature = "toml")]
mod text;

#[cfg(feature = "linux")]
pub(crate) use check::LOCAL;
pub(crate) use check::{MAIN, is_host};
pub use made::{
    Bond, BondMode, Bridge, LacpRate, Peer, TransmitHash, Veth, Vlan, VlanProtocol, Wireguard,
};
pub(crate) use routing::everywhere;
pub use routing::{Destination, PolicyRule, RouteKind, StaticRoute};
#[cfg(feature = "toml")]
pub use text::{Mistake, ReadError, from_toml, to_toml};

/// The network of a machine. In TOML: the table `[network]`, with one `[[network.interface]]` for
/// each rule, and one `[[network.bond]]`, `[[network.vlan]]` and so on for each link that is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Config {
    /// The machine's name; without one, the one that a DHCP server gives.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Option::is_none"))]
    pub hostname: Option<String>,
    /// Name servers, asked before those of interfaces and of DHCP; at most three.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub nameservers: Vec<IpAddr>,
    /// Domains to search; at most six.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub search: Vec<String>,
    /// Time servers by address, asked before those of DHCP.
    #[cfg_attr(feature = "serde", serde(skip_serializing_if = "Vec::is_empty"))]
    pub ntp: Vec<IpAddr>,
    /// What links should be like: the first one that matches a link counts. Without any, the first
    /// physical link is configured by DHCP.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "interface", skip_serializing_if = "Vec::is_empty")
    )]
    pub interfaces: Vec<Interface>,
    /// Bonds to make.
    #[cfg_attr(feature = "serde", serde(rename = "bond", skip_serializing_if = "Vec::is_empty"))]
    pub bonds: Vec<Bond>,
    /// VLANs to make.
    #[cfg_attr(feature = "serde", serde(rename = "vlan", skip_serializing_if = "Vec::is_empty"))]
    pub vlans: Vec<Vlan>,
    /// Bridges to make.
    #[cfg_attr(feature = "serde", serde(rename = "bridge", skip_serializing_if = "Vec::is_empty"))]
    pub bridges: Vec<Bridge>,
    /// Pairs of Ethernet links to make.
    #[cfg_attr(feature = "serde", serde(rename = "veth", skip_serializing_if = "Vec::is_empty"))]
    pub veths: Vec<Veth>,
    /// WireGuard tunnels to make.
    #[cfg_attr(
        feature = "serde",
        serde(rename = "wireguard", skip_serializing_if = "Vec::is_empty")
    )]
    pub wireguards: Vec<Wireguard>,
}

/// What the links that match should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Interface {
    /// Which links: a name, in which `*` and `?` are wildcards, a hardware address, or
    /// `driver:` and a driver's name.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub selector: Selector,
    /// Of these only those with this driver, in which `*` and `?` are wildcards.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub driver: Option<String>,
    /// Whether the link is set up. Default: yes.
    #[cfg_attr(
        feature = "serde",
        serde(default = "yes", skip_serializing_if = "std::clone::Clone::clone")
    )]
    pub up: bool,
    /// Whether an address is got by DHCP. Default: no.
    #[cfg_attr(feature = "serde", serde(default))]
    pub dhcp: bool,
    /// Addresses with the length of their prefix.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub addresses: Vec<IpNet>,
    /// The gateway of the default route, on a network of the addresses.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6; a link-local address is on every link.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers of this link.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub nameservers: Vec<IpAddr>,
    /// Domains to search.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub search: Vec<String>,
    /// The largest packet in bytes. Default: what the link has, or what a DHCP server says.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub mtu: Option<u32>,
    /// Whether the network is ready only when this interface is configured. Where none is required,
    /// it is ready with the first one. Default: no.
    #[cfg_attr(feature = "serde", serde(default))]
    pub required: bool,
    /// Metric of its routes: the least wins. Default: 100 and the link's position.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub metric: Option<u32>,
    /// Whether router advertisements are believed, also where the machine forwards packets. Default:
    /// what the kernel does.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub accept_ra: Option<bool>,
    /// Whether the link speaks IPv6. Default: what the kernel does.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub ipv6: Option<bool>,
    /// Routes over the link beside those of the gateways.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "route", skip_serializing_if = "Vec::is_empty")
    )]
    pub routes: Vec<StaticRoute>,
    /// Rules that say which packets use which routing table.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "rule", skip_serializing_if = "Vec::is_empty")
    )]
    pub rules: Vec<PolicyRule>,
}

#[cfg(feature = "serde")]
const fn yes() -> bool {
    true
}

impl Interface {
    /// Links that are brought up, and nothing else yet.
    #[must_use]
    pub fn matching(selector: Selector) -> Self {
        Self {
            selector,
            driver: None,
            up: true,
            dhcp: false,
            addresses: Vec::new(),
            gateway: None,
            gateway6: None,
            nameservers: Vec::new(),
            search: Vec::new(),
            mtu: None,
            required: false,
            metric: None,
            accept_ra: None,
            ipv6: None,
            routes: Vec::new(),
            rules: Vec::new(),
        }
    }

    /// Links that get their address by DHCP.
    #[must_use]
    pub fn dhcp(selector: Selector) -> Self {
        Self { dhcp: true, ..Self::matching(selector) }
    }

    /// Whether a link is meant.
    #[must_use]
    pub fn matches(&self, link: &Link) -> bool {
        self.selector.matches(link)
            && self.driver.as_ref().is_none_or(|driver| drives(driver, link))
    }
}

fn drives(pattern: &str, link: &Link) -> bool {
    link.driver.as_deref().is_some_and(|driver| fits(pattern, driver))
}

/// What comes before a driver's name.
const DRIVER: &str = "driver:";

/// Whether this may be a driver's name, wildcards included.
fn is_driver(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
}

/// Which links a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Selector {
    /// Those whose name fits: `*` stands for any characters, `?` for one.
    Name(String),
    /// The one with this hardware address: its own, where a bond has given it another.
    Mac(Mac),
    /// Those whose driver fits, as in a name; for links made by software the driver is their kind.
    Driver(String),
}

impl Selector {
    /// Whether a link is meant.
    #[must_use]
    pub fn matches(&self, link: &Link) -> bool {
        match self {
            Self::Name(pattern) => fits(pattern, &link.name),
            Self::Mac(mac) => *mac == link.mac,
            Self::Driver(pattern) => drives(pattern, link),
        }
    }
}

impl FromStr for Selector {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Ok(mac) = text.parse::<Mac>() {
            return if mac.is_station() {
                Ok(Self::Mac(mac))
            } else {
                Err(ParseError(format!("{mac} is not the hardware address of a station")))
            };
        }
        if let Some(driver) = text.strip_prefix(DRIVER).filter(|driver| is_driver(driver)) {
            return Ok(Self::Driver(driver.to_owned()));
        }
        if is_link_name(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(ParseError(format!(
            "{shown:?} is neither the name of a link (at most 15 characters, * and ? are \
             wildcards), nor a hardware address, nor driver: and a driver's name"
        )))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::Mac(mac) => mac.fmt(out),
            Self::Driver(driver) => write!(out, "{DRIVER}{driver}"),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Selector {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Selector {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'_, str>>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Something that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Problem {
    /// Where: a field, an interface, a word of the command line.
    pub place: String,
    /// What, and what was expected.
    pub what: String,
}

impl Problem {
    pub(crate) fn new(place: impl fmt::Display, what: impl fmt::Display) -> Self {
        Self { place: place.to_string(), what: what.to_string() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.place, self.what)
    }
}
