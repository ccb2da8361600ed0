//! What the kernel's messages say of links, addresses, routes and rules (rtnetlink(7)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::wire::{attributes, text, u16_at, u32_at};
use crate::config::{LOCAL, everywhere};
use crate::state::{AddressState, BondKind, BridgeKind, Kind, LinkState, Route, Rule, VlanKind};
use crate::{BondMode, LacpRate, Mac, RouteKind, TransmitHash, VlanProtocol};

pub(crate) const AF_INET: u8 = 2;
pub(crate) const AF_INET6: u8 = 10;

const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 0x1;
const IFF_LOWER_UP: u32 = 0x1_0000;

/// A link, with the numbers of others that it names.
#[derive(Debug, Clone, Default)]
pub(super) struct RawLink {
    pub(super) link: LinkState,
    /// Index of its master.
    pub(super) master: Option<u32>,
    /// Index of its parent or peer, where that is in this namespace.
    pub(super) lower: Option<u32>,
    /// Index of a bond's primary member.
    pub(super) primary: Option<u32>,
    /// The bus and the name of the device behind it.
    pub(super) device: Option<(String, String)>,
}

/// `struct ifinfomsg`: family, pad, type (2), index (4), flags (4), change (4).
pub(super) fn link(body: &[u8]) -> Option<RawLink> {
    let flags = u32_at(body, 8)?;
    let mut raw = RawLink::default();
    let mut elsewhere = false;
    let (mut bus, mut device) = (None, None);
    let link = &mut raw.link;
    link.index = u32_at(body, 4)?;
    link.ethernet = u16_at(body, 2)? == ARPHRD_ETHER;
    link.up = flags & IFF_UP != 0;
    link.carrier = flags & IFF_LOWER_UP != 0;
    let mut lower = None;
    for (kind, data) in attributes(body.get(16..)?) {
        match kind {
            1 => link.mac = data.try_into().ok().map(Mac),
            3 => link.name = text(data),
            4 => link.mtu = u32_at(data, 0).unwrap_or(0),
            5 => lower = u32_at(data, 0).filter(|index| *index != 0),
            10 => raw.master = u32_at(data, 0).filter(|index| *index != 0),
            18 => info(data, link, &mut raw.primary),
            20 => link.alias = Some(text(data)),
            26 => families(data, link),
            27 => link.group = u32_at(data, 0).unwrap_or(0),
            // The peer's namespace.
            37 => elsewhere = true,
            54 => link.permanent_mac = data.try_into().ok().map(Mac),
            56 => device = Some(text(data)),
            57 => bus = Some(text(data)),
            _ => {}
        }
    }
    link.ethernet &= link.mac.is_some();
    // Linux before 5.14 names no device.
    link.physical = device.is_some() || link.kind.is_none() && link.ethernet;
    link.driver = link.kind.as_ref().map(|kind| kind.name().to_owned());
    raw.lower = lower.filter(|_| !elsewhere);
    raw.device = bus.zip(device);
    Some(raw)
}

/// `IFLA_LINKINFO`: the kind, and what belongs to it.
fn info(data: &[u8], link: &mut LinkState, primary: &mut Option<u32>) {
    let mut name = String::new();
    let mut settings: &[u8] = &[];
    for (kind, data) in attributes(data) {
        match kind {
            1 => name = text(data),
            2 => settings = data,
            _ => {}
        }
    }
    if name.is_empty() {
        return;
    }
    let number = |wanted: u16| attributes(settings).find(|(kind, _)| *kind == wanted);
    let u8_of = |wanted| number(wanted).and_then(|(_, data)| data.first().copied());
    let u16_of = |wanted| number(wanted).and_then(|(_, data)| u16_at(data, 0));
    let u32_of = |wanted| number(wanted).and_then(|(_, data)| u32_at(data, 0));
    link.kind = Some(match name.as_str() {
        "bond" => {
            *primary = u32_of(11).filter(|index| *index != 0);
            Kind::Bond(BondKind {
                mode: u8_of(1).and_then(BondMode::from_number).unwrap_or(BondMode::BalanceRr),
                monitor: u32_of(3).unwrap_or(0),
                transmit_hash: u8_of(14).and_then(TransmitHash::from_number),
                lacp_rate: u8_of(21).and_then(LacpRate::from_number),
                primary: None,
            })
        }
        "vlan" => {
            let protocol = u16_of(5).map(u16::from_be).and_then(VlanProtocol::from_number);
            Kind::Vlan(VlanKind {
                parent: None,
                id: u16_of(1).unwrap_or(0),
                protocol: protocol.unwrap_or_default(),
            })
        }
        "bridge" => Kind::Bridge(BridgeKind {
            forward_delay: u32_of(1).unwrap_or(0),
            stp: u32_of(5).unwrap_or(0) != 0,
            vlan_filtering: u8_of(7).map(|value| value != 0),
        }),
        "veth" => Kind::Veth { peer: None },
        "wireguard" => Kind::Wireguard(None),
        _ => Kind::Other { name },
    });
}

/// `IFLA_AF_SPEC`: settings by family, as arrays of numbers.
fn families(data: &[u8], link: &mut LinkState) {
    for (family, data) in attributes(data) {
        for (kind, numbers) in attributes(data) {
            let setting = |at: usize| u32_at(numbers, at.checked_mul(4)?);
            match (family, kind) {
                // IFLA_INET_CONF begins with number 1; IPV4_DEVCONF_PROMOTE_SECONDARIES is 20.
                (2, 1) => link.promote_secondaries = setting(19).unwrap_or(0) != 0,
                // IFLA_INET6_CONF: DEVCONF_ACCEPT_RA is 3, DEVCONF_DISABLE_IPV6 26.
                (10, 2) => {
                    link.accept_ra = setting(3);
                    link.disable_ipv6 = setting(26).map(|value| value != 0);
                }
                _ => {}
            }
        }
    }
}

fn ip(family: u8, data: &[u8]) -> Option<IpAddr> {
    match family {
        AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
        AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
        _ => None,
    }
}

/// `struct ifaddrmsg`: family, prefix length, flags, scope, index (4). The link's index and the
/// address.
pub(super) fn address(body: &[u8]) -> Option<(u32, AddressState)> {
    let (family, prefix_len) = (*body.first()?, *body.get(1)?);
    let mut flags = u32::from(*body.get(2)?);
    let index = u32_at(body, 4)?;
    let (mut address, mut local, mut protocol) = (None, None, 0);
    for (kind, data) in attributes(body.get(8..)?) {
        match kind {
            1 => address = ip(family, data),
            2 => local = ip(family, data),
            8 => flags = u32_at(data, 0).unwrap_or(flags),
            11 => protocol = data.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    let net = IpNet::new(local.or(address)?, prefix_len).ok()?;
    // IFA_F_PERMANENT; IFA_F_TENTATIVE and IFA_F_DADFAILED.
    let (permanent, tentative) = (flags & 0x80 != 0, flags & 0x48 != 0);
    Some((index, AddressState { net, protocol, permanent, tentative }))
}

/// `struct rtmsg`: family, destination and source length, TOS, table, protocol, scope, type, flags (4).
/// The route and the index of its link; none of those that are not kept.
pub(super) fn route(body: &[u8]) -> Option<(Route, Option<u32>)> {
    let (family, prefix_len) = (*body.first()?, *body.get(1)?);
    let mut table = u32::from(*body.get(4)?);
    let protocol = *body.get(5)?;
    let kind = match *body.get(7)? {
        1 => RouteKind::Unicast,
        6 => RouteKind::Blackhole,
        7 => RouteKind::Unreachable,
        8 => RouteKind::Prohibit,
        // Local, broadcast, anycast, multicast: the kernel's own.
        _ => return None,
    };
    let flags = u32_at(body, 8)?;
    // RTM_F_CLONED: the kernel's memory of one destination.
    if flags & 0x200 != 0 || !matches!(family, AF_INET | AF_INET6) {
        return None;
    }
    let mut to = everywhere(family == AF_INET);
    let (mut via, mut source, mut index, mut metric) = (None, None, None, 0);
    let mut onlink = flags & 4 != 0;
    for (kind, data) in attributes(body.get(12..)?) {
        match kind {
            1 => to = IpNet::new(ip(family, data)?, prefix_len).ok()?,
            4 => index = u32_at(data, 0),
            5 => via = ip(family, data),
            6 => metric = u32_at(data, 0).unwrap_or(0),
            7 => source = ip(family, data),
            // Several next hops: the first stands for all. `struct rtnexthop`: length (2), flags,
            // hops, index (4).
            9 => {
                let len = usize::from(u16_at(data, 0)?);
                index = u32_at(data, 4);
                onlink = data.get(2).is_some_and(|flags| flags & 4 != 0);
                for (kind, data) in attributes(data.get(8..len)?) {
                    match kind {
                        5 => via = ip(family, data),
                        18 => via = other_family(data),
                        _ => {}
                    }
                }
            }
            15 => table = u32_at(data, 0).unwrap_or(table),
            18 => via = other_family(data),
            _ => {}
        }
    }
    if table == LOCAL {
        return None;
    }
    // What is dropped goes over no link, though the kernel says that it were the loopback.
    let index = index.filter(|_| kind == RouteKind::Unicast);
    let route = Route { to, table, metric, kind, via, link: None, source, onlink, protocol };
    Some((route, index))
}

/// `RTA_VIA`: family (2) and address.
fn other_family(data: &[u8]) -> Option<IpAddr> {
    ip(u8::try_from(u16_at(data, 0)?).ok()?, data.get(2..)?)
}

/// `struct fib_rule_hdr`: family, destination and source length, TOS, table, two reserved, action,
/// flags (4).
pub(super) fn rule(body: &[u8]) -> Option<Rule> {
    let (family, to_len, from_len) = (*body.first()?, *body.get(1)?, *body.get(2)?);
    if !matches!(family, AF_INET | AF_INET6) {
        return None;
    }
    // Only FR_ACT_TO_TBL leads to a table.
    let to_table = *body.get(7)? == 1;
    let mut rule = Rule {
        v6: family == AF_INET6,
        priority: 0,
        from: None,
        to: None,
        mark: 0,
        table: u32::from(*body.get(4)?),
        protocol: 0,
    };
    for (kind, data) in attributes(body.get(12..)?) {
        match kind {
            1 => rule.to = IpNet::new(ip(family, data)?, to_len).ok(),
            2 => rule.from = IpNet::new(ip(family, data)?, from_len).ok(),
            6 => rule.priority = u32_at(data, 0).unwrap_or(0),
            10 => rule.mark = u32_at(data, 0).unwrap_or(0),
            15 => rule.table = u32_at(data, 0).unwrap_or(rule.table),
            21 => rule.protocol = data.first().copied().unwrap_or(0),
            _ => {}
        }
    }
    rule.table = if to_table { rule.table } else { 0 };
    Some(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = (link(&bytes), address(&bytes), route(&bytes), rule(&bytes));
        }
    }
}
