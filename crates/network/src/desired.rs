//! What a network namespace should have, as follows from a plan and from what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::config::{MAIN, everywhere};
use crate::difference::must_be_new;
use crate::state::{
    BondKind, BridgeKind, Kind, LinkState, PROTOCOL, Route, Rule, State, Tunnel, TunnelPeer,
    VlanKind,
};
use crate::{Config, Link, LinkPlan, Mac, Plan, PolicyRule, Problem, RouteKind, Secret, Wireguard};

/// The metric that Linux gives IPv6 routes that have none.
const METRIC_OF_V6: u32 = 1024;

/// What is said of a link.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DesiredLink {
    /// Its name.
    pub name: String,
    /// What it is, if it is to be made.
    pub kind: Option<Kind>,
    /// The bond or bridge that it is a member of; it may be a member of others' all the same.
    pub master: Option<String>,
    /// Its largest packet; none: what it has.
    pub mtu: Option<u32>,
    /// Whether it is up.
    pub up: bool,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Whether router advertisements are believed; none: as it is.
    pub accept_ra: Option<bool>,
    /// Whether it speaks IPv6; none: as it is.
    pub ipv6: Option<bool>,
}

/// What a network namespace should have. What is not in it and was not made here stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Desired {
    /// Links, each after those that it needs.
    pub links: Vec<DesiredLink>,
    /// Routes of ours.
    pub routes: BTreeSet<Route>,
    /// Rules of ours.
    pub rules: BTreeSet<Rule>,
    /// What cannot be, and is left out.
    pub problems: Vec<Problem>,
}

impl Desired {
    /// A link by name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&DesiredLink> {
        self.links.iter().find(|link| link.name == name)
    }

    fn bonds(&self) -> BTreeSet<String> {
        let bonds = self.links.iter().filter(|link| matches!(link.kind, Some(Kind::Bond(_))));
        bonds.map(|link| link.name.clone()).collect()
    }
}

/// The keys of tunnels, by the files that they are from.
pub type Keys = BTreeMap<PathBuf, Secret>;

/// The links that a plan is made for: those that are there (without the loopback), and after them
/// those that will be made. What is made here has no hardware address of its own: it has that of
/// another link, which alone is meant by it.
#[must_use]
pub fn links(config: &Config, state: &State) -> Vec<Link> {
    let made: Vec<&str> = config.made().into_iter().map(|(name, _)| name).collect();
    let there = state.links.iter().filter(|link| {
        // What was made here and is not declared any more will go.
        let is_made = link.is_ours() || made.contains(&link.name.as_str());
        link.name != "lo" && link.ethernet && !is_made
    });
    let mut links: Vec<Link> = there.map(LinkState::as_link).collect();
    // In the order of the configuration, whether they are there or not.
    for name in made {
        let mut link = Link::made_by_software(name, Mac::default());
        link.driver = state.link(name).and_then(|there| there.driver.clone());
        links.push(link);
    }
    links
}

/// What there should be, by a configuration, the plan made of it for [`links`], the keys of its
/// tunnels, and what is there.
#[must_use]
pub fn target(config: &Config, plan: &Plan, keys: &Keys, state: &State) -> Desired {
    let mut desired = Desired::default();
    let mut wanted: BTreeMap<String, DesiredLink> = BTreeMap::new();
    let up = |name: &str| DesiredLink { name: name.to_owned(), up: true, ..DesiredLink::default() };
    for (name, kind) in kinds(config, plan, keys, &mut desired.problems) {
        match state.link(&name) {
            // A device, or something that another program made.
            Some(link)
                if !link.is_ours() && link.kind.as_ref().map(Kind::name) != Some(kind.name()) =>
            {
                let what = link.kind.as_ref().map_or("device", Kind::name);
                let what = format!("there is a {what} of this name already: left alone");
                let place = format_args!("{} {name}", kind.name());
                desired.problems.push(Problem::new(place, what));
            }
            _ => {
                wanted.insert(name.clone(), DesiredLink { kind: Some(kind), ..up(&name) });
            }
        }
    }
    // What was made here once stays only if it is to be made.
    let stays =
        |name: &str| state.link(name).is_some_and(|link| !link.is_ours() && !config.makes(name));
    // A VLAN without its parent is none, nor is one on that.
    loop {
        let lost = wanted.values().find_map(|link| match &link.kind {
            Some(Kind::Vlan(VlanKind { parent: Some(parent), .. })) => {
                let is_there = wanted.contains_key(parent) || stays(parent);
                (!is_there).then(|| link.name.clone())
            }
            _ => None,
        });
        match lost {
            Some(name) => wanted.remove(&name),
            None => break,
        };
    }
    for (member, master) in &plan.members.masters {
        let is_made = wanted.get(master).is_some_and(|master| master.kind.is_some());
        if is_made && (stays(member) || wanted.contains_key(member)) {
            wanted.entry(member.clone()).or_insert_with(|| up(member)).master =
                Some(master.clone());
        }
    }
    for (vlan, parent) in &plan.members.parents {
        if wanted.contains_key(vlan) {
            wanted.entry(parent.clone()).or_insert_with(|| up(parent));
        }
    }
    for planned in &plan.links {
        if !stays(&planned.link) && !wanted.contains_key(&planned.link) {
            continue;
        }
        let link = wanted.entry(planned.link.clone()).or_insert_with(|| up(&planned.link));
        link.up = planned.up;
        link.mtu = planned.mtu;
        link.accept_ra = planned.accept_ra;
        let has_v6 = planned.addresses.iter().any(|net| net.addr().is_ipv6());
        link.ipv6 = planned.ipv6.or_else(|| has_v6.then_some(true));
        for net in &planned.addresses {
            let of_others = state.link(&planned.link).and_then(|there| {
                let same = |one: &&crate::state::AddressState| {
                    one.net.addr() == net.addr() && one.net != *net && one.protocol != PROTOCOL
                };
                there.addresses.iter().find(same)
            });
            match of_others {
                Some(other) if net.addr().is_ipv6() => {
                    let what =
                        format!("{} is there, from somebody else: {net} left out", other.net);
                    desired.problems.push(Problem::new(&planned.because, what));
                }
                _ => link.addresses.push(*net),
            }
        }
        if planned.up {
            desired.routes.extend(routes(planned));
        }
        desired.rules.extend(planned.rules.iter().flat_map(rules));
    }
    let names: Vec<&str> = wanted.keys().map(String::as_str).collect();
    for name in plan.members.order(&names) {
        desired.links.extend(wanted.remove(&name));
    }
    down_below(&mut desired, plan);
    sizes(&mut desired, plan, state);
    let Desired { routes, problems, .. } = &mut desired;
    routes.retain(|route| {
        let other = state.routes.iter().find(|other| {
            other.key() == route.key()
                && other.protocol != PROTOCOL
                && (&other.via, &other.link, other.kind) != (&route.via, &route.link, route.kind)
        });
        if let Some(other) = other {
            let place = format_args!("route {route}");
            problems.push(Problem::new(place, format_args!("somebody else has {other}: left out")));
        }
        other.is_none()
    });
    desired
}

/// A VLAN is not up where its parent is down, and a bond sets its members up.
fn down_below(desired: &mut Desired, plan: &Plan) {
    let mut down: BTreeSet<String> = BTreeSet::new();
    let bonds = desired.bonds();
    for link in &mut desired.links {
        let parent = plan.members.parents.get(&link.name).filter(|parent| down.contains(*parent));
        if let (Some(parent), true) = (parent, link.up) {
            let place = format_args!("vlan {}", link.name);
            desired.problems.push(Problem::new(place, format_args!("{parent} is not set up")));
            link.up = false;
            desired.routes.retain(|route| route.link.as_ref() != Some(&link.name));
        }
        if !link.up {
            down.insert(link.name.clone());
        }
        if let Some(bond) = link.master.take_if(|master| !link.up && bonds.contains(master)) {
            let what = format!("it is not set up, so it is no member of {bond}");
            desired.problems.push(Problem::new(&link.name, what));
        }
    }
}

/// A VLAN's packets fit into its parent's, and members of a bond have the bond's size.
fn sizes(desired: &mut Desired, plan: &Plan, state: &State) {
    let mut known: BTreeMap<String, u32> = BTreeMap::new();
    // Of what was there before: all that is wanted is in `known` when it is asked for.
    let of = |known: &BTreeMap<String, u32>, name: &str| {
        let there = || state.link(name).map(|link| link.mtu);
        known.get(name).copied().or_else(there).unwrap_or(1500)
    };
    let bonds = desired.bonds();
    // What they need comes before them.
    for link in &mut desired.links {
        let parent = plan.members.parents.get(&link.name);
        let bond = link.master.as_ref().filter(|master| bonds.contains(*master));
        let what = match (link.mtu, parent, bond) {
            (Some(mtu), Some(parent), None) if mtu > of(&known, parent) => {
                Some(format!("mtu {mtu} is above {}, that of {parent}", of(&known, parent)))
            }
            (Some(mtu), _, Some(bond)) if mtu != of(&known, bond) => {
                Some(format!("mtu {mtu}, but members have the bond's, {}", of(&known, bond)))
            }
            _ => None,
        };
        if let Some(what) = what {
            desired.problems.push(Problem::new(&link.name, what));
            link.mtu = None;
        }
        // What is made anew has the size of its parent, or the usual one.
        let old = state
            .link(&link.name)
            .filter(|there| !link.kind.as_ref().is_some_and(|kind| must_be_new(there, kind)));
        let mtu = match (link.mtu, parent, bond) {
            (Some(mtu), ..) => mtu,
            (None, _, Some(bond)) => of(&known, bond),
            // It goes down with its parent's.
            (None, Some(parent), None) => {
                let parent = of(&known, parent);
                old.map_or(parent, |old| old.mtu.min(parent))
            }
            (None, None, None) => old.map_or(1500, |old| old.mtu),
        };
        known.insert(link.name.clone(), mtu);
    }
}

/// The links to make, by name.
fn kinds(
    config: &Config,
    plan: &Plan,
    keys: &Keys,
    problems: &mut Vec<Problem>,
) -> Vec<(String, Kind)> {
    let mut kinds = Vec::new();
    for bond in &config.bonds {
        let is_member = |name: &&String| plan.members.masters.get(*name) == Some(&bond.name);
        let kind = BondKind {
            mode: bond.mode,
            monitor: bond.monitor.unwrap_or(100),
            lacp_rate: bond.lacp_rate,
            transmit_hash: bond.transmit_hash,
            primary: bond.primary.as_ref().filter(is_member).cloned(),
        };
        kinds.push((bond.name.clone(), Kind::Bond(kind)));
    }
    for bridge in &config.bridges {
        let kind = BridgeKind {
            stp: bridge.stp,
            forward_delay: u32::from(bridge.delay()).saturating_mul(100),
            vlan_filtering: Some(bridge.vlan_filtering),
        };
        kinds.push((bridge.name.clone(), Kind::Bridge(kind)));
    }
    for veth in &config.veths {
        for (name, peer) in [(&veth.name, &veth.peer), (&veth.peer, &veth.name)] {
            kinds.push((name.clone(), Kind::Veth { peer: Some(peer.clone()) }));
        }
    }
    for vlan in &config.vlans {
        // Without its parent it waits.
        if let Some(parent) = plan.members.parents.get(&vlan.name) {
            let (parent, id, protocol) = (Some(parent.clone()), vlan.id, vlan.protocol);
            kinds.push((vlan.name.clone(), Kind::Vlan(VlanKind { parent, id, protocol })));
        }
    }
    for tunnel in &config.wireguards {
        match tunnel.with(keys) {
            Ok(kind) => kinds.push((tunnel.name.clone(), Kind::Wireguard(Some(kind)))),
            Err(what) => {
                problems.push(Problem::new(format_args!("wireguard {}", tunnel.name), what));
            }
        }
    }
    kinds
}

impl Wireguard {
    fn with(&self, keys: &Keys) -> Result<Tunnel, String> {
        let key = |file: &PathBuf| {
            let none = || format!("no key from {}: left out", file.display());
            keys.get(file).cloned().ok_or_else(none)
        };
        let mut peers = Vec::new();
        for peer in &self.peers {
            let mut allowed_ips: Vec<IpNet> = peer.allowed_ips.iter().map(IpNet::trunc).collect();
            allowed_ips.sort_unstable();
            allowed_ips.dedup();
            peers.push(TunnelPeer {
                public_key: peer.public_key,
                preshared_key: peer.preshared_key_file.as_ref().map(key).transpose()?,
                endpoint: peer.endpoint,
                allowed_ips,
                keepalive: peer.keepalive.unwrap_or(0),
            });
        }
        peers.sort_by_key(|peer| peer.public_key);
        Ok(Tunnel {
            private_key: Some(key(&self.private_key_file)?),
            listen_port: self.listen_port.unwrap_or(0),
            mark: self.mark.unwrap_or(0),
            peers,
        })
    }
}

/// The routes of a link: to its gateways, and where it says.
fn routes(planned: &LinkPlan) -> Vec<Route> {
    let mut routes = Vec::new();
    let mut add = |route: Route| {
        let v6 = route.to.addr().is_ipv6();
        let metric = if v6 && route.metric == 0 { METRIC_OF_V6 } else { route.metric };
        routes.push(Route { metric, ..route });
    };
    for gateway in &planned.gateways {
        let host = IpNet::from(*gateway);
        let link_local = matches!(gateway, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let near = |net: &IpNet| net.prefix_len() < net.max_prefix_len() && net.contains(gateway);
        // The gateway beside a lone address is on the link, which only a route can say.
        if !link_local && !planned.addresses.iter().any(near) {
            add(Route { metric: planned.metric, ..Route::new(host, &planned.link) });
        }
        add(Route {
            metric: planned.metric,
            via: Some(*gateway),
            ..Route::new(everywhere(gateway.is_ipv4()), &planned.link)
        });
    }
    for route in &planned.routes {
        let link = (route.kind == RouteKind::Unicast).then(|| planned.link.clone());
        add(Route {
            table: route.table.unwrap_or(MAIN),
            metric: route.metric.unwrap_or(planned.metric),
            kind: route.kind,
            via: route.via,
            link,
            source: route.source,
            onlink: route.onlink,
            ..Route::new(route.network(), &planned.link)
        });
    }
    routes
}

fn rules(rule: &PolicyRule) -> Vec<Rule> {
    let is_v6 = rule.from.or(rule.to).map(|net| net.addr().is_ipv6());
    let of = |v6| Rule {
        v6,
        priority: rule.priority,
        from: rule.from.map(|net| net.trunc()),
        to: rule.to.map(|net| net.trunc()),
        mark: rule.mark.unwrap_or(0),
        table: rule.table,
        protocol: PROTOCOL,
    };
    is_v6.map_or_else(|| vec![of(false), of(true)], |v6| vec![of(v6)])
}

impl Config {
    /// The files that have the keys of tunnels.
    #[must_use]
    pub fn key_files(&self) -> BTreeSet<PathBuf> {
        let mut files = BTreeSet::new();
        for tunnel in &self.wireguards {
            files.insert(tunnel.private_key_file.clone());
            files.extend(tunnel.peers.iter().filter_map(|peer| peer.preshared_key_file.clone()));
        }
        files
    }

    /// Whether a link of this name is to be made.
    #[must_use]
    pub fn makes(&self, name: &str) -> bool {
        self.made().iter().any(|(made, _)| *made == name)
    }
}
