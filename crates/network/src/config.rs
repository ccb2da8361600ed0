//! What an image says about its network.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::names::{fits, is_link_name};
use crate::resolver::{MOST_NAMESERVERS, MOST_SEARCH};
use crate::{Link, Mac, ParseError, is_host_name};

/// The network of a machine. In TOML: the table `[network]`, with one `[[network.interface]]` for
/// each rule.
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
}

/// What the links that match should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Interface {
    /// Which links: a name, in which `*` and `?` are wildcards, or a hardware address.
    #[cfg_attr(feature = "serde", serde(rename = "match"))]
    pub selector: Selector,
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
}

impl Interface {
    /// Links that are brought up, and nothing else yet.
    #[must_use]
    pub fn matching(selector: Selector) -> Self {
        Self {
            selector,
            dhcp: false,
            addresses: Vec::new(),
            gateway: None,
            gateway6: None,
            nameservers: Vec::new(),
            search: Vec::new(),
            mtu: None,
            required: false,
            metric: None,
        }
    }

    /// Links that get their address by DHCP.
    #[must_use]
    pub fn dhcp(selector: Selector) -> Self {
        Self { dhcp: true, ..Self::matching(selector) }
    }
}

/// Which links a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Those whose name fits: `*` stands for any characters, `?` for one.
    Name(String),
    /// The one with this hardware address.
    Mac(Mac),
}

impl Selector {
    /// Whether a link is meant.
    #[must_use]
    pub fn matches(&self, link: &Link) -> bool {
        match self {
            Self::Name(pattern) => fits(pattern, &link.name),
            Self::Mac(mac) => *mac == link.mac,
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
        if is_link_name(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        let shown: String = text.chars().take(40).collect();
        Err(ParseError(format!(
            "{shown:?} is neither the name of a link (at most 15 characters, * and ? are \
             wildcards) nor a hardware address"
        )))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => out.write_str(name),
            Self::Mac(mac) => mac.fmt(out),
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

impl Config {
    /// Everything that is wrong, at once; empty when nothing is.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Some(name) = &self.hostname
            && (!is_host_name(name) || name.len() > 64)
        {
            let expected = "expected letters, digits, hyphens and dots, at most 64";
            problems.push(Problem::new("hostname", format_args!("{name:?}, {expected}")));
        }
        check_names("", &self.nameservers, &self.search, &mut problems);
        for server in self.ntp.iter().filter(|server| !is_host(**server)) {
            problems.push(Problem::new("ntp", format_args!("{server} is no host's address")));
        }
        let mut seen: Vec<IpAddr> = Vec::new();
        for (at, interface) in self.interfaces.iter().enumerate() {
            let place = format!("interface {} ({})", at.saturating_add(1), interface.selector);
            let earlier = self.interfaces.iter().take(at);
            if earlier.clone().any(|before| before.selector == interface.selector) {
                let what = "an interface above matches the same links";
                problems.push(Problem::new(&place, what));
            }
            interface.check(&place, &mut problems);
            for address in &interface.addresses {
                if seen.contains(&address.addr()) {
                    let what = format_args!("the address {} is there twice", address.addr());
                    problems.push(Problem::new(&place, what));
                }
                seen.push(address.addr());
            }
        }
        problems
    }
}

impl Interface {
    fn check(&self, place: &str, problems: &mut Vec<Problem>) {
        let mut wrong = |what: String| problems.push(Problem::new(place, what));
        if !self.dhcp && self.addresses.is_empty() {
            wrong("neither dhcp nor addresses".into());
        }
        for address in &self.addresses {
            if !is_host(address.addr()) {
                wrong(format!("{} is no host's address", address.addr()));
            } else if let IpNet::V4(net) = address
                && net.prefix_len() < 31
                && (net.addr() == net.network() || net.addr() == net.broadcast())
            {
                wrong(format!("{net} is the address of a network, not of a host"));
            } else if address.prefix_len() == 0 {
                wrong(format!("{address} has an empty prefix"));
            }
        }
        let reached = |gateway: IpAddr| {
            let mut same =
                self.addresses.iter().filter(|net| net.addr().is_ipv4() == gateway.is_ipv4());
            let host_only = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
            match gateway {
                IpAddr::V6(v6) if v6.is_unicast_link_local() => true,
                _ => same.any(|net| host_only(net) || net.contains(&gateway)),
            }
        };
        let gateways =
            [self.gateway.map(IpAddr::from), self.gateway6.map(IpAddr::from)].into_iter().flatten();
        for gateway in gateways {
            if !reached(gateway) {
                wrong(format!("gateway {gateway} is on no network of its addresses"));
            } else if self.addresses.iter().any(|net| net.addr() == gateway) {
                wrong(format!("gateway {gateway} is its own address"));
            }
        }
        let least = if self.addresses.iter().any(|net| net.addr().is_ipv6()) { 1280 } else { 576 };
        if let Some(mtu) = self.mtu
            && !(least..=65_535).contains(&mtu)
        {
            wrong(format!("mtu {mtu}, expected {least} to 65535"));
        }
        check_names(place, &self.nameservers, &self.search, problems);
    }
}

fn check_names(place: &str, servers: &[IpAddr], search: &[String], problems: &mut Vec<Problem>) {
    let field = |name: &str| {
        if place.is_empty() { name.to_owned() } else { format!("{place}: {name}") }
    };
    for server in servers.iter().filter(|server| !is_host(**server)) {
        let what = format_args!("{server} is no host's address");
        problems.push(Problem::new(field("nameservers"), what));
    }
    for (name, count, most) in
        [("nameservers", servers.len(), MOST_NAMESERVERS), ("search", search.len(), MOST_SEARCH)]
    {
        if count > most {
            let what = format_args!("{count}, of which a resolver reads {most}");
            problems.push(Problem::new(field(name), what));
        }
    }
    for domain in search.iter().filter(|domain| !is_host_name(domain)) {
        let what = format_args!("{domain:?} is no domain name");
        problems.push(Problem::new(field("search"), what));
    }
}

/// Whether one host may have this address and others reach it there.
pub(crate) fn is_host(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, ..] = v4.octets();
            first != 0 && !v4.is_loopback() && !v4.is_multicast() && !v4.is_broadcast()
        }
        IpAddr::V6(v6) => !v6.is_unspecified() && !v6.is_loopback() && !v6.is_multicast(),
    }
}

/// Why a text is no configuration. `Display` gives a line for each problem.
#[cfg(feature = "toml")]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReadError {
    /// It is not the TOML that was expected.
    Toml {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What was found and expected.
        message: String,
    },
    /// It says something that cannot be.
    Problems(Vec<Problem>),
}

#[cfg(feature = "toml")]
impl fmt::Display for ReadError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Toml { line, column, message } => write!(out, "{line}:{column}: {message}"),
            Self::Problems(problems) => {
                for (at, problem) in problems.iter().enumerate() {
                    write!(out, "{}{problem}", if at == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(feature = "toml")]
impl std::error::Error for ReadError {}

#[cfg(feature = "toml")]
#[derive(Default, serde::Serialize, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct File {
    network: Config,
}

/// Reads a file that has the table `[network]` and nothing else.
///
/// # Errors
/// [`ReadError::Toml`] with the place, or everything that [`Config::check`] finds.
///
/// ```
/// let text = "[network]\nhostname = \"node-1\"\n\n[[network.interface]]\nmatch = \"eth*\"\ndhcp = true\n";
/// let config = kiln_network::from_toml(text)?;
/// assert_eq!(config.interfaces.len(), 1);
/// # Ok::<(), kiln_network::ReadError>(())
/// ```
#[cfg(feature = "toml")]
pub fn from_toml(text: &str) -> Result<Config, ReadError> {
    let file: File = toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = text.get(..at).unwrap_or_default();
        let line = before.matches('\n').count().saturating_add(1);
        let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        ReadError::Toml { line, column, message }
    })?;
    let problems = file.network.check();
    if problems.is_empty() { Ok(file.network) } else { Err(ReadError::Problems(problems)) }
}

/// The file that [`from_toml`] reads.
///
/// # Errors
/// Only if the serialiser fails, which it has no reason to.
#[cfg(feature = "toml")]
pub fn to_toml(config: &Config) -> Result<String, toml::ser::Error> {
    toml::to_string(&File { network: config.clone() })
}
