//! A lease: what the network told this machine, checked, in the terms of those who use it.

use core::net::Ipv4Addr;
use core::time::Duration;

use crate::client::{ClasslessRoutes, Config, Ignored, OffLinkGateway};
use crate::wire::{Message, code, options};

/// Name servers kept; a resolver reads three.
const MOST_DNS: usize = 3;
const MOST_NTP: usize = 8;
const MOST_ROUTES: usize = 64;
const MOST_SEARCH: usize = 6;

/// A route to add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Route {
    /// First address of the destination; 0.0.0.0 with prefix 0 is the default route.
    pub destination: Ipv4Addr,
    /// Length of the destination's prefix, 0 to 32 bits.
    pub prefix_len: u8,
    /// The next hop, or `None` when the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
}

/// An address for a time, and the parameters that came with it. All durations in JSON are seconds.
///
/// Everything in it was checked: the address is one that a host may have, names hold letters,
/// digits, hyphens and dots only, routes lead through gateways that can be reached, times are in
/// order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix, 1 to 32 bits.
    pub prefix_len: u8,
    /// Broadcast address of the subnet; `None` from prefix 31 on.
    pub broadcast: Option<Ipv4Addr>,
    /// The server that granted the lease (option 54).
    pub server: Ipv4Addr,
    /// Routes in the order in which they must be added, on-link ones before those that need them.
    pub routes: Vec<Route>,
    /// Name servers (option 6), at most three.
    pub dns: Vec<Ipv4Addr>,
    /// Domain of this host (option 15).
    pub domain: Option<String>,
    /// Domains to search (option 119), at most six.
    pub search: Vec<String>,
    /// Host name that the server suggests (option 12). Reported, never set.
    pub host_name: Option<String>,
    /// Time servers (option 42), at most eight.
    pub ntp: Vec<Ipv4Addr>,
    /// MTU in bytes (option 26), within the range of the settings.
    pub mtu: Option<u16>,
    /// When the lease was asked for, on the caller's clock: all times below count from here.
    #[cfg_attr(feature = "serde", serde(with = "seconds"))]
    pub acquired_at: Duration,
    /// How long the address may be used; `None` for ever.
    #[cfg_attr(feature = "serde", serde(with = "optional_seconds"))]
    pub valid_for: Option<Duration>,
    /// T1: when to ask the server for more; `None` never.
    #[cfg_attr(feature = "serde", serde(with = "optional_seconds"))]
    pub renew_after: Option<Duration>,
    /// T2: when to ask any server for more; `None` never.
    #[cfg_attr(feature = "serde", serde(with = "optional_seconds"))]
    pub rebind_after: Option<Duration>,
}

impl Lease {
    /// When the address must be gone, on the caller's clock; `None` never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Duration> {
        self.valid_for.and_then(|valid| self.acquired_at.checked_add(valid))
    }

    /// When to begin to renew.
    #[must_use]
    pub fn renew_at(&self) -> Option<Duration> {
        self.renew_after.and_then(|after| self.acquired_at.checked_add(after))
    }

    /// When to begin to rebind.
    #[must_use]
    pub fn rebind_at(&self) -> Option<Duration> {
        self.rebind_after.and_then(|after| self.acquired_at.checked_add(after))
    }

    /// The gateway of the default route.
    #[must_use]
    pub fn default_gateway(&self) -> Option<Ipv4Addr> {
        self.routes.iter().find(|route| route.prefix_len == 0).and_then(|route| route.gateway)
    }

    /// Reads an OFFER or ACK whose transaction and sender are already known to be right.
    pub(crate) fn from_reply(
        reply: &Message,
        config: &Config,
        acquired_at: Duration,
    ) -> Result<Self, Ignored> {
        let options = &reply.options;
        let server = server_id(reply)?;
        let address = reply.yiaddr;
        let prefix_len = prefix_len(reply, address).ok_or(Ignored::Address)?;
        if !is_host_address(address, prefix_len) {
            return Err(Ignored::Address);
        }
        let (valid_for, renew_after, rebind_after) = times(reply, config)?;
        let mask = mask(prefix_len);
        let subnet_broadcast = Ipv4Addr::from_bits(address.to_bits() | !mask);

        let mut dns: Vec<_> =
            options.addresses(code::DNS).filter(|a| is_server_address(*a)).collect();
        dedup(&mut dns);
        dns.truncate(MOST_DNS);
        let mut ntp: Vec<_> =
            options.addresses(code::NTP).filter(|a| is_server_address(*a)).collect();
        dedup(&mut ntp);
        ntp.truncate(MOST_NTP);
        let search = options
            .get(code::DOMAIN_SEARCH)
            .and_then(options::domain_list)
            .map(|mut names| {
                names.retain(|name| is_host_name(name));
                names.truncate(MOST_SEARCH);
                names
            })
            .unwrap_or_default();

        Ok(Self {
            address,
            prefix_len,
            broadcast: (prefix_len < 31).then_some(subnet_broadcast),
            server,
            routes: routes(reply, config, address, prefix_len),
            dns,
            domain: options.get(code::DOMAIN_NAME).and_then(name),
            search,
            host_name: options.get(code::HOST_NAME).and_then(name),
            ntp,
            mtu: options
                .fixed::<2>(code::MTU)
                .map(u16::from_be_bytes)
                .filter(|mtu| config.mtu.contains(mtu)),
            acquired_at,
            valid_for,
            renew_after,
            rebind_after,
        })
    }
}

/// The server identifier, which tells servers apart: it must be there and be a host's.
pub(crate) fn server_id(reply: &Message) -> Result<Ipv4Addr, Ignored> {
    reply
        .options
        .address(code::SERVER_ID)
        .filter(|server| is_server_address(*server))
        .ok_or(Ignored::ServerId)
}

const fn mask(prefix_len: u8) -> u32 {
    match prefix_len {
        0 => 0,
        1..=31 => u32::MAX << (32 - prefix_len),
        _ => u32::MAX,
    }
}

/// From option 1 when it is a mask of 1 to 32 leading ones; from the class of the address when it
/// is not there or not a mask (RFC 950); `None` above class C.
fn prefix_len(reply: &Message, address: Ipv4Addr) -> Option<u8> {
    let stated = reply.options.number(code::SUBNET_MASK).filter(|mask| {
        let ones = mask.leading_ones();
        ones > 0 && ones == mask.count_ones()
    });
    match stated {
        Some(mask) => u8::try_from(mask.leading_ones()).ok(),
        None => match address.octets()[0] {
            0..=127 => Some(8),
            128..=191 => Some(16),
            192..=223 => Some(24),
            _ => None,
        },
    }
}

/// Whether a host may have this address on a subnet of this size.
fn is_host_address(address: Ipv4Addr, prefix_len: u8) -> bool {
    if !is_server_address(address) {
        return false;
    }
    let host = address.to_bits() & !mask(prefix_len);
    prefix_len >= 31 || (host != 0 && host != !mask(prefix_len))
}

/// Whether something may listen at this address: not 0/8, loopback, multicast or broadcast.
fn is_server_address(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0
        || address.is_loopback()
        || address.is_multicast()
        || address.is_broadcast())
}

fn dedup(addresses: &mut Vec<Ipv4Addr>) {
    let mut seen = Vec::new();
    addresses.retain(|address| {
        let fresh = !seen.contains(address);
        seen.push(*address);
        fresh
    });
}

type Times = (Option<Duration>, Option<Duration>, Option<Duration>);

/// Lease time, T1 and T2. A lease of all ones has no end and no timers (RFC 2131 section 3.3).
/// T1 and T2 out of order are replaced by half and seven eighths (section 4.4.5).
fn times(reply: &Message, config: &Config) -> Result<Times, Ignored> {
    let valid = match reply.options.number(code::LEASE_TIME) {
        Some(0) => return Err(Ignored::LeaseTime),
        Some(u32::MAX) => return Ok((None, None, None)),
        Some(seconds) => Duration::from_secs(seconds.into()),
        None => config.fallback_lease.ok_or(Ignored::LeaseTime)?,
    }
    .max(config.shortest_lease)
    .max(Duration::from_secs(1));
    let stated = |code| reply.options.number(code).map(|s| Duration::from_secs(s.into()));
    let t1 = stated(code::RENEWAL_TIME);
    let t2 = stated(code::REBINDING_TIME);
    let (t1, t2) = match (t1, t2) {
        (Some(t1), Some(t2)) => (t1, t2),
        (Some(t1), None) => (t1, valid * 7 / 8),
        (None, Some(t2)) => (valid / 2, t2),
        (None, None) => (valid / 2, valid * 7 / 8),
    };
    let (t1, t2) =
        if !t1.is_zero() && t1 < t2 && t2 < valid { (t1, t2) } else { (valid / 2, valid * 7 / 8) };
    Ok((Some(valid), Some(t1), Some(t2)))
}

/// Option 121 when there and whole, else option 3. Routes whose gateway cannot be reached are left
/// out, or get an on-link host route before them.
fn routes(reply: &Message, config: &Config, address: Ipv4Addr, prefix_len: u8) -> Vec<Route> {
    let classless = match config.classless_routes {
        ClasslessRoutes::Ignore => None,
        _ => reply.options.get(code::CLASSLESS_ROUTES).and_then(classless_routes),
    };
    let wanted = match classless {
        Some(mut routes) => {
            if let ClasslessRoutes::NoShorterThan(shortest) = config.classless_routes {
                routes.retain(|route| route.prefix_len == 0 || route.prefix_len >= shortest);
            }
            // On-link ones first; otherwise the order is the server's.
            routes.sort_by_key(|route| route.gateway.is_some());
            routes
        }
        None => reply
            .options
            .addresses(code::ROUTER)
            .find(|gateway| is_server_address(*gateway))
            .map(|gateway| Route {
                destination: Ipv4Addr::UNSPECIFIED,
                prefix_len: 0,
                gateway: Some(gateway),
            })
            .into_iter()
            .collect(),
    };

    let mut routes: Vec<Route> = Vec::new();
    for route in wanted {
        if let Some(gateway) = route.gateway {
            if !is_server_address(gateway) || gateway == address {
                continue;
            }
            let on_subnet = covers(address, prefix_len, gateway);
            let reached = on_subnet
                || routes.iter().any(|known| {
                    known.gateway.is_none() && covers(known.destination, known.prefix_len, gateway)
                });
            if !reached {
                // With /32 there is no subnet for a gateway to be on: the server can only mean
                // that it is on the link.
                if prefix_len < 32 && config.off_link_gateway == OffLinkGateway::Skip {
                    continue;
                }
                routes.push(Route { destination: gateway, prefix_len: 32, gateway: None });
            }
        }
        if !routes.contains(&route) {
            routes.push(route);
        }
    }
    routes.truncate(MOST_ROUTES);
    routes
}

const fn covers(network: Ipv4Addr, prefix_len: u8, address: Ipv4Addr) -> bool {
    (network.to_bits() ^ address.to_bits()) & mask(prefix_len) == 0
}

/// RFC 3442: prefix length, as many bytes of the destination as it needs, gateway; 0.0.0.0 as
/// gateway means on the link. `None` when any of it is wrong, so that option 3 counts again.
fn classless_routes(mut data: &[u8]) -> Option<Vec<Route>> {
    let mut routes = Vec::new();
    while let [prefix_len @ 0..=32, rest @ ..] = data {
        let (significant, rest) = rest.split_at_checked(usize::from(prefix_len.div_ceil(8)))?;
        let (gateway, rest) = rest.split_first_chunk::<4>()?;
        let mut octets = [0; 4];
        octets.iter_mut().zip(significant).for_each(|(octet, byte)| *octet = *byte);
        let destination = Ipv4Addr::from_bits(u32::from_be_bytes(octets) & mask(*prefix_len));
        let gateway = Ipv4Addr::from(*gateway);
        // A route to this host, to a group or to nowhere is dropped; the rest still counts.
        let usable = !destination.is_loopback() && !destination.is_multicast();
        // Only a default route may be on the link without saying where: that is everything.
        if usable && routes.len() < MOST_ROUTES {
            routes.push(Route {
                destination,
                prefix_len: *prefix_len,
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            });
        }
        data = rest;
    }
    (data.is_empty() && !routes.is_empty()).then_some(routes)
}

/// A name from the wire: trailing NULs (some servers send C strings) and one final dot removed, then
/// as strict as [`is_host_name`].
fn name(data: &[u8]) -> Option<String> {
    let end = data.iter().rposition(|byte| *byte != 0)? + 1;
    let text = core::str::from_utf8(data.get(..end)?).ok()?;
    let text = text.strip_suffix('.').unwrap_or(text);
    is_host_name(text).then(|| text.to_owned())
}

/// Labels of 1 to 63 letters, digits and inner hyphens, joined by dots, at most 253 bytes (RFC 1123
/// section 2.1).
pub(crate) fn is_host_name(name: &str) -> bool {
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

#[cfg(feature = "serde")]
mod seconds {
    use core::time::Duration;

    pub(super) fn serialize<S: serde::Serializer>(d: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_f64(d.as_secs_f64())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<Duration, D::Error> {
        let seconds = <f64 as serde::Deserialize>::deserialize(d)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

#[cfg(feature = "serde")]
mod optional_seconds {
    use core::time::Duration;

    #[expect(clippy::ref_option, reason = "the shape that serde's `with` asks for")]
    pub(super) fn serialize<S: serde::Serializer>(
        duration: &Option<Duration>,
        s: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => s.serialize_some(&duration.as_secs_f64()),
            None => s.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        d: D,
    ) -> Result<Option<Duration>, D::Error> {
        let seconds = <Option<f64> as serde::Deserialize>::deserialize(d)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
    }
}
