//! `network`: links by declaration. Two forms: `interfaces`, a list in which the first match counts,
//! and of cloud-init's version 2 (netplan) `ethernets`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::place::quoted;
use crate::{Cursor, Fields};

/// The network of a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// Name servers.
    pub nameservers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// Time servers, by address.
    pub ntp: Vec<IpAddr>,
    /// What links should be like: the first one that matches a link counts.
    pub interfaces: Vec<Interface>,
}

/// What the links that match should be like.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Which links.
    pub selector: Selector,
    /// Whether an address is got by DHCP.
    pub dhcp: bool,
    /// Addresses with the length of their prefix.
    pub addresses: Vec<Subnet>,
    /// The gateway of the default route.
    pub gateway: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub gateway6: Option<Ipv6Addr>,
    /// Name servers of this link.
    pub nameservers: Vec<IpAddr>,
    /// Domains to search.
    pub search: Vec<String>,
    /// The largest packet in bytes.
    pub mtu: Option<u32>,
    /// Whether the network is ready only with it.
    pub required: bool,
    /// Metric of its routes.
    pub metric: Option<u32>,
}

/// Which links a rule is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Those whose name fits: `*` stands for any characters, `?` for one.
    Name(String),
    /// The one with this hardware address.
    Mac([u8; 6]),
}

impl FromStr for Selector {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(mac) = mac(text) {
            return Ok(Self::Mac(mac));
        }
        // net/core/dev.c, dev_valid_name
        let name = !text.is_empty()
            && text.len() <= 15
            && !matches!(text, "." | "..")
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
        if name { Ok(Self::Name(text.to_owned())) } else { Err(()) }
    }
}

fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut bytes {
        let part = parts.next()?;
        let digits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
        *byte = u8::from_str_radix(part, 16).ok().filter(|_| digits)?;
    }
    let [first, ..] = bytes;
    // A station's: no group's, and not all zero.
    let station = first & 1 == 0 && bytes != [0; 6];
    if parts.next().is_none() && station { Some(bytes) } else { None }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Mac(bytes) => {
                let parts = bytes.map(|byte| format!("{byte:02x}"));
                f.write_str(&parts.join(":"))
            }
        }
    }
}

/// An address with the length of its network's prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subnet {
    /// The address.
    pub address: IpAddr,
    /// The length of the prefix in bits.
    pub prefix: u8,
}

impl FromStr for Subnet {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(drop)?;
        let prefix: u8 = prefix.parse().map_err(drop)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let host = !address.is_unspecified() && !address.is_multicast() && !address.is_loopback();
        if (1..=most).contains(&prefix) && host { Ok(Self { address, prefix }) } else { Err(()) }
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

pub(super) fn network(at: &Cursor<'_>) -> Option<Network> {
    let mut fields = at.fields()?;
    // A file of NoCloud may have everything once more below `network`.
    if let Some(inner) = fields.field("network") {
        fields.finish();
        return network(&inner);
    }
    let mut found = Network {
        nameservers: fields.list("nameservers", address),
        search: fields.list("search", domain),
        ntp: fields.list("ntp", address),
        interfaces: fields.list("interfaces", interface),
    };
    let version = fields.get("version", Cursor::integer::<u8>);
    if let Some(version) = version.filter(|version| *version != 2) {
        at.wrong::<()>(format_args!("version {version}, of which only 2 is read"));
    }
    if let Some(ethernets) = fields.field("ethernets") {
        for (name, at) in ethernets.entries().unwrap_or_default() {
            found.interfaces.extend(at.whole(|at| ethernet(name, at)));
        }
    }
    fields.not_supported(&[
        "bonds",
        "bridges",
        "config",
        "dummy-devices",
        "modems",
        "renderer",
        "tunnels",
        "vlans",
        "vrfs",
        "wifis",
    ]);
    fields.finish();
    Some(found)
}

fn interface(at: &Cursor<'_>) -> Option<Interface> {
    let mut fields = at.fields()?;
    let selector = fields.required("match", selector);
    let dhcp = fields.get("dhcp", Cursor::bool).unwrap_or_default();
    let nameservers = fields.list("nameservers", address);
    let search = fields.list("search", domain);
    let gateway = fields.get("gateway", |at| at.parse("an IPv4 address"));
    let gateway6 = fields.get("gateway6", |at| at.parse("an IPv6 address"));
    let required = fields.get("required", Cursor::bool).unwrap_or_default();
    let metric = fields.get("metric", Cursor::integer);
    let (addresses, mtu) = common(&mut fields);
    fields.finish();
    let selector = selector?;
    settled(
        at,
        Interface {
            selector,
            dhcp,
            addresses,
            gateway,
            gateway6,
            nameservers,
            search,
            mtu,
            required,
            metric,
        },
    )
}

/// An entry of `ethernets`, whose name counts unless `match` says another.
fn ethernet(name: &str, at: &Cursor<'_>) -> Option<Interface> {
    let mut fields = at.fields()?;
    let matching = fields.get("match", |at| {
        let mut fields = at.fields()?;
        let by_mac = fields.get("macaddress", selector);
        let by_name = fields.get("name", selector);
        fields.not_supported(&["driver"]);
        fields.finish();
        by_mac.or(by_name)
    });
    let dhcp = fields.get("dhcp4", Cursor::bool).unwrap_or_default();
    let (nameservers, search) = fields
        .get("nameservers", |at| {
            let mut fields = at.fields()?;
            let found = (fields.list("addresses", address), fields.list("search", domain));
            fields.finish();
            Some(found)
        })
        .unwrap_or_default();
    let gateway = fields.get("gateway4", |at| at.parse("an IPv4 address"));
    let gateway6 = fields.get("gateway6", |at| at.parse("an IPv6 address"));
    let optional = fields.get("optional", Cursor::bool).unwrap_or(true);
    let (addresses, mtu) = common(&mut fields);
    let routes = fields.list("routes", route);
    fields.not_supported(&[
        "accept-ra",
        "critical",
        "dhcp-identifier",
        "dhcp4-overrides",
        "dhcp6",
        "dhcp6-overrides",
        "link-local",
        "macaddress",
        "set-name",
        "wakeonlan",
    ]);
    fields.finish();
    let selector = match matching {
        Some(selector) => selector,
        None => match name.parse() {
            Ok(selector) => selector,
            Err(()) => return at.wrong(format_args!("{} is no name of a link", quoted(name))),
        },
    };
    let v4 = routes.iter().find_map(|via| match via {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    let v6 = routes.iter().find_map(|via| match via {
        IpAddr::V6(v6) => Some(*v6),
        IpAddr::V4(_) => None,
    });
    settled(
        at,
        Interface {
            selector,
            dhcp,
            addresses,
            gateway: gateway.or(v4),
            gateway6: gateway6.or(v6),
            nameservers,
            search,
            mtu,
            required: !optional,
            metric: None,
        },
    )
}

/// The gateway of a default route; other routes are not supported.
fn route(at: &Cursor<'_>) -> Option<IpAddr> {
    let mut fields = at.fields()?;
    let via = fields.required("via", address);
    let to = fields.required("to", |at| at.text().map(str::to_owned));
    fields.not_supported(&["metric", "on-link", "scope", "table", "type", "mtu", "from"]);
    fields.finish();
    let to = to?;
    if !matches!(to.as_str(), "default" | "0.0.0.0/0" | "::/0") {
        return at
            .wrong(format_args!("a route to {}: only default ones are supported", quoted(&to)));
    }
    via
}

fn common(fields: &mut Fields<'_>) -> (Vec<Subnet>, Option<u32>) {
    let addresses =
        fields.list("addresses", |at| at.parse("a host's address such as 192.0.2.5/24"));
    let mtu = fields.get("mtu", |at| match at.integer::<u32>()? {
        mtu @ 576..=65_535 => Some(mtu),
        _ => at.expected("576 to 65535"),
    });
    (addresses, mtu)
}

fn settled(at: &Cursor<'_>, interface: Interface) -> Option<Interface> {
    if !interface.dhcp && interface.addresses.is_empty() {
        // Addresses that are wrong have been told of.
        let some = at.node().at(["addresses", "0"]).is_some();
        return if some { None } else { at.wrong("neither dhcp nor addresses") };
    }
    Some(interface)
}

fn selector(at: &Cursor<'_>) -> Option<Selector> {
    at.parse("a link's name (at most 15 characters) or a hardware address")
}

fn address(at: &Cursor<'_>) -> Option<IpAddr> {
    at.parse("an address")
}

fn domain(at: &Cursor<'_>) -> Option<String> {
    let text = at.text()?;
    let name = text.len() <= 253 && text.split('.').all(super::system::is_host_name);
    if name { Some(text.to_owned()) } else { at.expected("a domain name") }
}
