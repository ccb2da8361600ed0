//! What cannot be, all of it at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Config, Destination, Interface, Problem, Selector, Wireguard, is_driver};
use crate::is_host_name;
use crate::names::is_link_name;
use crate::resolver::{MOST_NAMESERVERS, MOST_SEARCH};

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
            let place = interface.place(at);
            let earlier = self.interfaces.iter().take(at);
            let same = |before: &Interface| {
                before.selector == interface.selector
                    && (before.driver.is_none() || before.driver == interface.driver)
            };
            if earlier.clone().any(same) {
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
        self.check_made(&mut problems);
        self.check_members(&mut problems);
        self.check_sizes(&mut problems);
        problems
    }

    /// The links that are made, each with its place in words; the ends of a pair are two.
    pub(crate) fn made(&self) -> Vec<(&str, String)> {
        let mut made = Vec::new();
        let mut add = |name, kind: &str| made.push((name, format!("{kind} {name}")));
        self.bonds.iter().for_each(|bond| add(&*bond.name, "bond"));
        self.bridges.iter().for_each(|bridge| add(&*bridge.name, "bridge"));
        self.veths.iter().for_each(|veth| {
            add(&*veth.name, "veth");
            add(&*veth.peer, "veth");
        });
        self.vlans.iter().for_each(|vlan| add(&*vlan.name, "vlan"));
        self.wireguards.iter().for_each(|tunnel| add(&*tunnel.name, "wireguard"));
        made
    }

    fn check_made(&self, problems: &mut Vec<Problem>) {
        let mut names = BTreeSet::new();
        for (name, place) in self.made() {
            if !is_link_name(name) || name.contains(['*', '?']) {
                let what = "no name of a link: 1 to 15 letters, digits and signs, but no / : * ?";
                problems.push(Problem::new(&place, what));
            } else if ["lo", "all", "default"].contains(&name) {
                problems.push(Problem::new(&place, "the kernel means something else by this name"));
            }
            if !names.insert(name) {
                problems.push(Problem::new(&place, "another link has this name"));
            }
        }
        for bond in &self.bonds {
            let place = format!("bond {}", bond.name);
            let mut wrong = |what: String| problems.push(Problem::new(&place, what));
            if bond.members.is_empty() {
                wrong("no members".into());
            }
            use super::BondMode::{ActiveBackup, BalanceAlb, BalanceTlb, Lacp};
            if bond.lacp_rate.is_some() && bond.mode != Lacp {
                wrong(format!("lacp-rate is for mode 802.3ad, not for {}", bond.mode));
            }
            if bond.primary.is_some()
                && ![ActiveBackup, BalanceTlb, BalanceAlb].contains(&bond.mode)
            {
                wrong(format!("no member of a bond of mode {} is primary", bond.mode));
            }
            if bond.monitor.is_some_and(|every| !(1..=60_000).contains(&every)) {
                wrong("monitor, expected 1 to 60000 milliseconds".into());
            }
        }
        for bridge in &self.bridges {
            let delay = bridge.delay();
            if bridge.stp && !(2..=30).contains(&delay) || delay > 30 {
                let what = format!("forward-delay {delay}, expected 2 to 30 (0 without stp)");
                problems.push(Problem::new(format_args!("bridge {}", bridge.name), what));
            }
        }
        let mut tags = BTreeMap::new();
        for vlan in &self.vlans {
            let place = format!("vlan {}", vlan.name);
            if !(1..=4094).contains(&vlan.id) {
                problems
                    .push(Problem::new(&place, format_args!("id {}, expected 1 to 4094", vlan.id)));
            }
            let tag = (vlan.parent.to_string(), vlan.protocol, vlan.id);
            if let Some(other) = tags.insert(tag, &vlan.name) {
                let what = format!("{other} is VLAN {} of {} already", vlan.id, vlan.parent);
                problems.push(Problem::new(&place, what));
            }
        }
        let mut ports = BTreeMap::new();
        for tunnel in &self.wireguards {
            let place = format!("wireguard {}", tunnel.name);
            if let Some(port) = tunnel.listen_port
                && let Some(other) = ports.insert(port, &tunnel.name)
            {
                problems
                    .push(Problem::new(&place, format_args!("{other} listens at {port} already")));
            }
            tunnel.check(&place, problems);
        }
    }

    /// Members and parents as far as names tell: twice in masters, in a circle, with addresses.
    fn check_members(&self, problems: &mut Vec<Problem>) {
        let bonds = self.bonds.iter().map(|bond| ("bond", &bond.name, &bond.members));
        let bridges = self.bridges.iter().map(|one| ("bridge", &one.name, &one.members));
        let mut masters: BTreeMap<String, &String> = BTreeMap::new();
        // What a link stands on, by name.
        let mut below: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, name, members) in bonds.chain(bridges) {
            let place = format!("{kind} {name}");
            for member in members {
                if let Some(other) = masters.insert(member.to_string(), name) {
                    let what = if other == name {
                        format!("{member} is there twice")
                    } else {
                        format!("{member} is a member of {other} already")
                    };
                    problems.push(Problem::new(&place, what));
                }
                let Selector::Name(member) = member else { continue };
                below.entry(name).or_default().push(member);
                let has_addresses = |interface: &Interface| {
                    interface.selector == Selector::Name(member.clone())
                        && interface.needs_addresses()
                };
                if let Some(at) = self.interfaces.iter().position(has_addresses)
                    && let Some(interface) = self.interfaces.get(at)
                {
                    let what = format!("a member of {name} has neither addresses nor routes");
                    problems.push(Problem::new(interface.place(at), what));
                }
                if kind == "bond" && self.bonds.iter().any(|bond| bond.name == *member) {
                    problems.push(Problem::new(&place, format_args!("{member} is a bond itself")));
                }
                let has_no_frames = |tunnel: &Wireguard| tunnel.name == *member;
                if self.wireguards.iter().any(has_no_frames) {
                    let what = format!("{member} is a tunnel, which carries no Ethernet frames");
                    problems.push(Problem::new(&place, what));
                }
            }
        }
        for bond in &self.bonds {
            let has_names = bond
                .members
                .iter()
                .all(|member| matches!(member, Selector::Name(name) if !name.contains(['*', '?'])));
            if let Some(primary) = &bond.primary
                && has_names
                && !bond.members.contains(&Selector::Name(primary.clone()))
            {
                let what = format!("primary {primary} is no member");
                problems.push(Problem::new(format_args!("bond {}", bond.name), what));
            }
        }
        for vlan in &self.vlans {
            if let Selector::Name(parent) = &vlan.parent {
                below.entry(&vlan.name).or_default().push(parent);
                if self.wireguards.iter().any(|tunnel| tunnel.name == *parent) {
                    let what = format!("{parent} is a tunnel, which carries no Ethernet frames");
                    problems.push(Problem::new(format_args!("vlan {}", vlan.name), what));
                }
            }
        }
        for (name, place) in self.made() {
            let mut seen = BTreeSet::new();
            let mut open: Vec<&str> = below.get(name).cloned().unwrap_or_default();
            while let Some(next) = open.pop() {
                if next == name {
                    problems.push(Problem::new(
                        &place,
                        "it stands on itself, by its members or parent",
                    ));
                    break;
                }
                if seen.insert(next) {
                    open.extend(below.get(next).into_iter().flatten());
                }
            }
        }
    }

    /// A VLAN's packets have to fit into its parent's.
    fn check_sizes(&self, problems: &mut Vec<Problem>) {
        let mtu = |name: &str| {
            let is_meant = |interface: &&Interface| matches!(&interface.selector, Selector::Name(pattern) if pattern == name);
            self.interfaces.iter().find(is_meant).and_then(|interface| interface.mtu)
        };
        for vlan in &self.vlans {
            let Selector::Name(parent) = &vlan.parent else { continue };
            if let (Some(own), Some(most)) = (mtu(&vlan.name), mtu(parent))
                && own > most
            {
                let what = format!("mtu {own} is above {most}, that of {parent}");
                problems.push(Problem::new(format_args!("vlan {}", vlan.name), what));
            }
        }
        for bond in &self.bonds {
            for member in &bond.members {
                let Selector::Name(member) = member else { continue };
                if let (Some(own), Some(bonds)) = (mtu(member), mtu(&bond.name))
                    && own != bonds
                {
                    let what =
                        format!("mtu {own} of {member}, but members have the bond's, {bonds}");
                    problems.push(Problem::new(format_args!("bond {}", bond.name), what));
                }
            }
        }
    }
}

impl Wireguard {
    fn check(&self, place: &str, problems: &mut Vec<Problem>) {
        let mut wrong = |what: String| problems.push(Problem::new(place, what));
        if !self.private_key_file.is_absolute() {
            wrong(format!("private-key-file {:?} is not absolute", self.private_key_file));
        }
        let mut keys = BTreeSet::new();
        let mut allowed = BTreeMap::new();
        for peer in &self.peers {
            if !keys.insert(peer.public_key) {
                wrong(format!("peer {} is there twice", peer.public_key));
                continue;
            }
            if let Some(file) = peer.preshared_key_file.as_ref().filter(|file| !file.is_absolute())
            {
                wrong(format!("preshared-key-file {file:?} is not absolute"));
            }
            for net in &peer.allowed_ips {
                if let Some(other) = allowed.insert(net.trunc(), peer.public_key) {
                    wrong(format!("{net} is allowed to {other} and to {}", peer.public_key));
                }
            }
            if peer.endpoint.is_some_and(|end| end.port() == 0 || !is_host(end.ip())) {
                wrong(format!("the endpoint of peer {} is no host's", peer.public_key));
            }
        }
    }
}

impl Interface {
    pub(crate) fn place(&self, at: usize) -> String {
        format!("interface {} ({})", at.saturating_add(1), self.selector)
    }

    /// Whether it says something that a member of a bond or bridge cannot have.
    pub(crate) fn needs_addresses(&self) -> bool {
        self.dhcp || !self.addresses.is_empty() || !self.routes.is_empty() || !self.rules.is_empty()
    }

    fn says_something(&self) -> bool {
        self.needs_addresses()
            || !self.up
            || self.mtu.is_some()
            || self.accept_ra.is_some()
            || self.ipv6.is_some()
    }

    fn check(&self, place: &str, problems: &mut Vec<Problem>) {
        let mut wrong = |what: String| problems.push(Problem::new(place, what));
        if !self.says_something() {
            wrong("neither dhcp nor addresses, nor anything else".into());
        }
        if !self.up && (self.dhcp || !self.addresses.is_empty() || !self.routes.is_empty()) {
            wrong("it is not set up, so it can have neither addresses nor routes".into());
        }
        if let Some(driver) = self.driver.as_ref().filter(|driver| !is_driver(driver)) {
            wrong(format!("{driver:?} is no name of a driver"));
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
        let has_v6 = self.addresses.iter().any(|net| net.addr().is_ipv6());
        if self.ipv6 == Some(false) && (has_v6 || self.gateway6.is_some()) {
            wrong("it speaks no IPv6, but has an address of it".into());
        }
        let least = if has_v6 { 1280 } else { 576 };
        if let Some(mtu) = self.mtu
            && !(least..=65_535).contains(&mtu)
        {
            wrong(format!("mtu {mtu}, expected {least} to 65535"));
        }
        self.check_routing(&reached, &mut wrong);
        check_names(place, &self.nameservers, &self.search, problems);
    }

    fn check_routing(&self, reached: &dyn Fn(IpAddr) -> bool, wrong: &mut dyn FnMut(String)) {
        let mut keys = BTreeSet::new();
        for route in &self.routes {
            let to = route.to;
            let table = route.table.unwrap_or(MAIN);
            if !keys.insert((route.network(), table, route.metric)) {
                wrong(format!("route to {to}: there twice with one metric"));
            }
            if let Destination::Network(net) = to
                && net.trunc() != net
            {
                wrong(format!("route to {net}: expected {}, the network", net.trunc()));
            }
            let is_v4 = route.network().addr().is_ipv4();
            for (name, address) in [("via", route.via), ("source", route.source)] {
                let Some(address) = address else { continue };
                if address.is_ipv4() != is_v4 {
                    wrong(format!("route to {to}: {name} {address} is of the other family"));
                } else if !is_host(address) {
                    wrong(format!("route to {to}: {name} {address} is no host's address"));
                }
            }
            match (route.via, route.kind.is_unicast()) {
                (Some(_), false) => {
                    wrong(format!("route to {to}: a {} route has no next hop", route.kind));
                }
                // With DHCP nobody knows yet what is on the link.
                (Some(via), true)
                    if !route.onlink && !self.dhcp && !reached(via) && !self.routed(via) =>
                {
                    let what = "is on no network of its addresses (onlink = true if it is there)";
                    wrong(format!("route to {to}: via {via} {what}"));
                }
                _ => {}
            }
            if table == 0 || table == LOCAL {
                wrong(format!("route to {to}: table {table} is the kernel's"));
            }
        }
        for rule in &self.rules {
            let place = format!("rule {}", rule.priority);
            // 0, 32766 and 32767 are there from the beginning.
            if !(1..32_766).contains(&rule.priority) {
                wrong(format!("{place}: expected a priority of 1 to 32765"));
            }
            if rule.table == 0 {
                wrong(format!("{place}: table 0 is none"));
            }
            if let (Some(from), Some(to)) = (rule.from, rule.to)
                && from.addr().is_ipv4() != to.addr().is_ipv4()
            {
                wrong(format!("{place}: from {from} and to {to} are of two families"));
            }
        }
    }

    /// Whether another of its routes says that an address is on the link.
    fn routed(&self, address: IpAddr) -> bool {
        self.routes.iter().any(|route| route.via.is_none() && route.network().contains(&address))
    }
}

/// The routing table that is used without further rules, and the one of own addresses.
pub(crate) const MAIN: u32 = 254;
pub(crate) const LOCAL: u32 = 255;

fn check_names(place: &str, servers: &[IpAddr], search: &[String], problems: &mut Vec<Problem>) {
    let field = |name: &str| {
        if place.is_empty() { name.to_owned() } else { format!("{place}: {name}") }
    };
    // A machine may ask itself: some have a resolver.
    for server in servers.iter().filter(|server| !is_host(**server) && !server.is_loopback()) {
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
