//! The requests that carry out changes (rtnetlink(7)).

use std::net::IpAddr;

use ipnet::IpNet;

use super::read::{AF_INET, AF_INET6};
use super::socket::request;
use super::wire::{F_CREATE, F_EXCL, F_REPLACE, Message};
use crate::RouteKind;
use crate::change::broadcast;
use crate::state::{GROUP, Kind, Route, Rule};

const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const NEWRULE: u16 = 32;
const DELRULE: u16 = 33;

const IFF_UP: u32 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_GROUP: u16 = 27;

/// `struct ifinfomsg` of the link with an index (0: by name), with flags to change.
fn ifinfo(index: u32, flags: u32, mask: u32) -> [u8; 16] {
    let mut fixed = [0; 16];
    let fields = [(4, index), (8, flags), (12, mask)];
    for (at, value) in fields {
        if let Some(field) = fixed.get_mut(at..at + 4) {
            field.copy_from_slice(&value.to_ne_bytes());
        }
    }
    fixed
}

/// A new link. `lower` is the index of a VLAN's parent.
pub(super) fn add_link(name: &str, kind: &Kind, group: u32, lower: Option<u32>) -> Message {
    let mut message = request(NEWLINK, F_CREATE | F_EXCL, &ifinfo(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .u32(IFLA_GROUP, group);
    if let Some(lower) = lower {
        message = message.u32(IFLA_LINK, lower);
    }
    linkinfo(message, kind, Some(group), None)
}

/// Other settings of a link. `primary` is the index of a bond's primary member.
pub(super) fn set_kind(index: u32, kind: &Kind, primary: Option<u32>) -> Message {
    let message = request(NEWLINK, 0, &ifinfo(index, 0, 0));
    linkinfo(message, kind, None, primary)
}

/// `new` is the group of a link that is made.
fn linkinfo(message: Message, kind: &Kind, new: Option<u32>, primary: Option<u32>) -> Message {
    message.nest(IFLA_LINKINFO, |info| {
        let info = info.text(1, kind.name());
        match kind {
            Kind::Bond(bond) => info.nest(2, |data| {
                // With members, the kernel takes no mode, not even the same one.
                let mut data = if new.is_some() { data.u8(1, bond.mode.number()) } else { data };
                data = data.u32(3, bond.monitor);
                if let Some(hash) = bond.transmit_hash {
                    data = data.u8(14, hash.number());
                }
                if let Some(rate) = bond.lacp_rate {
                    data = data.u8(21, rate.number());
                }
                match primary {
                    Some(primary) => data.u32(11, primary),
                    None => data,
                }
            }),
            Kind::Vlan(vlan) => info.nest(2, |data| {
                data.u16(1, vlan.id).bytes(5, &vlan.protocol.number().to_be_bytes())
            }),
            Kind::Bridge(bridge) => info.nest(2, |data| {
                let data = data.u32(1, bridge.forward_delay).u32(5, u32::from(bridge.stp));
                match bridge.vlan_filtering {
                    Some(filtering) => data.u8(7, u8::from(filtering)),
                    None => data,
                }
            }),
            Kind::Veth { peer: Some(peer) } => info.nest(2, |data| {
                data.nest(1, |end| {
                    let group = new.unwrap_or(GROUP);
                    end.raw(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, peer).u32(IFLA_GROUP, group)
                })
            }),
            _ => info,
        }
    })
}

pub(super) fn remove_link(index: u32) -> Message {
    request(DELLINK, 0, &ifinfo(index, 0, 0))
}

pub(super) fn set_group(index: u32) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).u32(IFLA_GROUP, GROUP)
}

/// What somebody wants to have written on it.
#[cfg(feature = "container")]
pub(crate) fn set_alias(index: u32, alias: &str) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).bytes(20, alias.as_bytes())
}

/// The hardware address.
#[cfg(feature = "container")]
pub(crate) fn set_address(index: u32, mac: crate::Mac) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).bytes(1, &mac.0)
}

/// A bridge sends what came from a member back to it, if that is where it is for.
#[cfg(feature = "container")]
pub(crate) fn set_hairpin(index: u32) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).nest(IFLA_LINKINFO, |info| {
        // IFLA_INFO_SLAVE_KIND, IFLA_INFO_SLAVE_DATA with IFLA_BRPORT_MODE.
        info.text(4, "bridge").nest(5, |data| data.u8(4, 1))
    })
}

/// A pair with one end in the namespace that a descriptor is.
#[cfg(feature = "container")]
pub(crate) fn add_pair(name: &str, group: u32, peer: &str, namespace: i32) -> Message {
    request(NEWLINK, F_CREATE | F_EXCL, &ifinfo(0, 0, 0))
        .text(IFLA_IFNAME, name)
        .u32(IFLA_GROUP, group)
        .nest(IFLA_LINKINFO, |info| {
            info.text(1, "veth").nest(2, |data| {
                data.nest(1, |end| {
                    let end = end.raw(&ifinfo(0, 0, 0)).text(IFLA_IFNAME, peer);
                    end.u32(28, namespace.cast_unsigned())
                })
            })
        })
}

pub(super) fn set_mtu(index: u32, mtu: u32) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).u32(IFLA_MTU, mtu)
}

/// Master 0 is none.
pub(super) fn set_master(index: u32, master: u32) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).u32(IFLA_MASTER, master)
}

pub(super) fn set_up(index: u32, up: bool) -> Message {
    request(NEWLINK, 0, &ifinfo(index, if up { IFF_UP } else { 0 }, IFF_UP))
}

/// A setting of IPv4 (`IPV4_DEVCONF_…`), which needs no /proc.
pub(crate) fn set_ipv4(index: u32, setting: u16, value: u32) -> Message {
    request(NEWLINK, 0, &ifinfo(index, 0, 0)).nest(IFLA_AF_SPEC, |families| {
        families.nest(u16::from(AF_INET), |inet| inet.nest(1, |conf| conf.u32(setting, value)))
    })
}

/// A family's number, and an address's bytes.
fn family(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

/// Adds an address that is there to stay, with who sets it, or removes one.
pub(super) fn address(index: u32, net: IpNet, add: Option<u8>, without_dad: bool) -> Message {
    // struct ifaddrmsg: family, prefix length, flags, scope, index (4).
    let [a, b, c, d] = index.to_ne_bytes();
    let (family, bytes) = family(net.addr());
    // IFA_F_NODAD: nobody else can have it.
    let flags = if without_dad && add.is_some() && family == AF_INET6 { 2 } else { 0 };
    let fixed = [family, net.prefix_len(), flags, 0, a, b, c, d];
    let message = if add.is_some() {
        request(NEWADDR, F_CREATE | F_EXCL, &fixed)
    } else {
        request(DELADDR, 0, &fixed)
    };
    let message = message.bytes(2, &bytes).bytes(1, &bytes);
    match (add, broadcast(net)) {
        (None, _) => message,
        (Some(protocol), Some(broadcast)) => message.bytes(4, &broadcast.octets()).u8(11, protocol),
        (Some(protocol), None) => message.u8(11, protocol),
    }
}

/// What is to be done with a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Replace,
    Remove,
}

pub(super) fn route(route: &Route, index: Option<u32>, verb: Verb) -> Message {
    // struct rtmsg: family, destination and source length, TOS, table, protocol, scope, type,
    // flags (4).
    let (family_number, destination) = family(route.to.addr());
    let kind = match route.kind {
        RouteKind::Unicast => 1,
        RouteKind::Blackhole => 6,
        RouteKind::Unreachable => 7,
        RouteKind::Prohibit => 8,
    };
    let scope = match (verb, route.via) {
        // Nowhere: any.
        (Verb::Remove, _) => 255,
        // On the link.
        (_, None) if family_number == AF_INET && route.kind.is_unicast() => 253,
        _ => 0,
    };
    let flags = if route.onlink { 4_u32 } else { 0 };
    let [a, b, c, d] = flags.to_ne_bytes();
    let fixed = [
        family_number,
        route.to.prefix_len(),
        0,
        0,
        // A table above 255 stands in its attribute alone.
        u8::try_from(route.table).unwrap_or(0),
        route.protocol,
        scope,
        kind,
        a,
        b,
        c,
        d,
    ];
    let mut message = match verb {
        Verb::Add => request(NEWROUTE, F_CREATE | F_EXCL, &fixed),
        Verb::Replace => request(NEWROUTE, F_CREATE | F_REPLACE, &fixed),
        Verb::Remove => request(DELROUTE, 0, &fixed),
    };
    message = message.u32(15, route.table).u32(6, route.metric);
    if route.to.prefix_len() > 0 {
        message = message.bytes(1, &destination);
    }
    if let Some(index) = index {
        message = message.u32(4, index);
    }
    if let Some(source) = route.source {
        message = message.bytes(7, &family(source).1);
    }
    if let Some(via) = route.via {
        let (number, bytes) = family(via);
        message = if number == family_number {
            message.bytes(5, &bytes)
        } else {
            message.bytes(18, &[&u16::from(number).to_ne_bytes()[..], &bytes].concat())
        };
    }
    message
}

pub(super) fn rule(rule: &Rule, add: bool) -> Message {
    let family_number = if rule.v6 { AF_INET6 } else { AF_INET };
    let len = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let table = u8::try_from(rule.table).unwrap_or(0);
    // FR_ACT_TO_TBL.
    let fixed = [family_number, len(rule.to), len(rule.from), 0, table, 0, 0, 1, 0, 0, 0, 0];
    let mut message =
        if add { request(NEWRULE, F_CREATE | F_EXCL, &fixed) } else { request(DELRULE, 0, &fixed) };
    message = message.u32(6, rule.priority).u32(15, rule.table).u8(21, rule.protocol);
    for (kind, net) in [(1, rule.to), (2, rule.from)] {
        if let Some(net) = net {
            message = message.bytes(kind, &family(net.addr()).1);
        }
    }
    if rule.mark != 0 {
        message = message.u32(10, rule.mark);
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::read;
    use crate::linux::wire::messages;
    use crate::state::PROTOCOL;

    /// What is written is what is read: of the bodies of requests and of the kernel's answers the
    /// layout is the same.
    #[test]
    fn routes_rules_and_addresses_come_back() {
        let mut wanted = Route::new("10.1.0.0/16".parse().unwrap(), "eth0");
        wanted.via = Some("192.0.2.1".parse().unwrap());
        wanted.metric = 7;
        wanted.table = 1000;
        wanted.onlink = true;
        wanted.source = Some("192.0.2.9".parse().unwrap());
        let bytes = route(&wanted, Some(3), Verb::Add).finish(1);
        let (found, index) = read::route(messages(&bytes).next().unwrap().body).unwrap();
        assert_eq!(index, Some(3));
        assert_eq!(Route { link: wanted.link.clone(), ..found }, wanted);

        let wanted = Rule {
            v6: true,
            priority: 100,
            from: Some("2001:db8::/48".parse().unwrap()),
            to: None,
            mark: 5,
            table: 1000,
            protocol: PROTOCOL,
        };
        let bytes = rule(&wanted, true).finish(1);
        assert_eq!(read::rule(messages(&bytes).next().unwrap().body), Some(wanted));

        let net: IpNet = "192.0.2.9/24".parse().unwrap();
        let bytes = address(4, net, Some(PROTOCOL), false).finish(1);
        let (index, found) = read::address(messages(&bytes).next().unwrap().body).unwrap();
        assert_eq!((index, found.net, found.protocol), (4, net, PROTOCOL));
    }

    /// RTM_NEWROUTE of `ip -4 route add default via 192.0.2.1 dev 3 metric 100 proto 107`, by
    /// linux/rtnetlink.h.
    #[test]
    fn golden_default_route() {
        let mut wanted = Route::new("0.0.0.0/0".parse().unwrap(), "eth0");
        wanted.via = Some("192.0.2.1".parse().unwrap());
        wanted.metric = 100;
        let bytes = route(&wanted, Some(3), Verb::Add).finish(1);
        let expected = [
            &[60, 0, 0, 0, 24, 0, 0x05, 0x06, 1, 0, 0, 0, 0, 0, 0, 0][..],
            &[2, 0, 0, 0, 254, 107, 0, 1, 0, 0, 0, 0],
            &[8, 0, 15, 0, 254, 0, 0, 0],
            &[8, 0, 6, 0, 100, 0, 0, 0],
            &[8, 0, 4, 0, 3, 0, 0, 0],
            &[8, 0, 5, 0, 192, 0, 2, 1],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }
}
