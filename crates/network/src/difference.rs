//! The steps from what is there to what should be.

use std::collections::BTreeSet;

use ipnet::IpNet;

use crate::Change;
use crate::desired::{Desired, DesiredLink};
use crate::state::{BridgeKind, GROUP, Kind, LinkState, PROTOCOL, State, Tunnel, TunnelPeer};

/// The changes that make a state as desired, none if it is. Only what was made here is removed, and
/// only what `desired` names is changed.
///
/// What is new is added before what is old is removed, where one does not stand in the way of the
/// other, so that connections are lost for as short as can be.
#[must_use]
pub fn difference(state: &State, desired: &Desired) -> Vec<Change> {
    let mut steps = Steps { now: state.clone(), changes: Vec::new(), desired };
    for link in &desired.links {
        steps.link(link);
    }
    steps.primaries();
    steps.masters();
    steps.addresses();
    steps.routes();
    steps.rules();
    steps.remove();
    // What went with something that was removed.
    steps.routes();
    steps.changes
}

struct Steps<'a> {
    /// What is there after the changes so far.
    now: State,
    changes: Vec<Change>,
    desired: &'a Desired,
}

impl Steps<'_> {
    fn add(&mut self, change: Change) {
        // What the kernel would refuse is asked for all the same: it is the kernel that says so.
        let _ = self.now.apply(&change);
        self.changes.push(change);
    }

    /// Our links that nobody wants, with this kind.
    fn unwanted(&self, kind: Option<&str>) -> Vec<String> {
        let unwanted = self.now.links.iter().filter(|link| {
            let is_made = self.desired.link(&link.name).is_some_and(|wanted| wanted.kind.is_some());
            link.is_ours()
                && !is_made
                && kind.is_none_or(|kind| link.kind.as_ref().is_some_and(|own| own.name() == kind))
        });
        unwanted.map(|link| link.name.clone()).collect()
    }

    /// Links of this kind that have to be removed to become what is wanted.
    fn to_be_new(&self, kind: &str) -> Vec<String> {
        let old = self.now.links.iter().filter(|link| {
            let wanted = self.desired.link(&link.name).and_then(|wanted| wanted.kind.as_ref());
            link.kind.as_ref().is_some_and(|own| own.name() == kind)
                && wanted.is_some_and(|wanted| must_be_new(link, wanted))
        });
        old.map(|link| link.name.clone()).collect()
    }

    fn drop_link(&mut self, name: String) {
        // The other end of a pair goes with the first.
        if self.now.link(&name).is_some() {
            self.add(Change::RemoveLink { name });
        }
    }

    fn link(&mut self, wanted: &DesiredLink) {
        let name = wanted.name.clone();
        if let Some(kind) = &wanted.kind {
            self.make(&name, kind);
        }
        let Some(there) = self.now.link(&name).cloned() else { return };
        if let Some(ipv6) = wanted.ipv6
            && there.disable_ipv6 != Some(!ipv6)
        {
            self.add(Change::DisableIpv6 { link: name.clone(), disable: !ipv6 });
        }
        // 1 is "unless this machine forwards packets", as containers make it do.
        let ra = wanted.accept_ra.map(|accept| if accept { 2 } else { 0 });
        if let Some(value) = ra
            && there.accept_ra != Some(value)
        {
            self.add(Change::AcceptRa { link: name.clone(), value });
        }
        if wanted.master.is_some() && there.master != wanted.master {
            let master = wanted.master.as_ref().and_then(|master| self.now.link(master));
            let is_bond = master.is_some_and(|link| matches!(link.kind, Some(Kind::Bond(_))));
            if is_bond && there.up {
                self.add(Change::SetUp { link: name.clone(), up: false });
            }
            self.add(Change::SetMaster { link: name.clone(), master: wanted.master.clone() });
        }
        if wanted.master.is_none() && self.should_leave(&there) {
            self.add(Change::SetMaster { link: name.clone(), master: None });
        }
        let Some(there) = self.now.link(&name).cloned() else { return };
        if let Some(mtu) = wanted.mtu
            && there.mtu != mtu
        {
            self.add(Change::SetMtu { link: name.clone(), mtu });
        }
        if there.up != wanted.up {
            self.add(Change::SetUp { link: name, up: wanted.up });
        }
    }

    /// Sees to it that a link is there and is what it should be.
    fn make(&mut self, name: &str, kind: &Kind) {
        let there = self.now.link(name).cloned();
        if there.as_ref().is_some_and(|there| must_be_new(there, kind)) {
            self.add(Change::RemoveLink { name: name.to_owned() });
        }
        if self.now.link(name).is_none() {
            // They may have what this one needs: a VLAN's number, a port.
            let mut old = self.unwanted(Some(kind.name()));
            old.extend(self.to_be_new(kind.name()));
            for name in old {
                self.drop_link(name);
            }
            // The other end may be there with another partner.
            if let Kind::Veth { peer: Some(peer) } = kind {
                self.drop_link(peer.clone());
            }
            let mut kind = kind.clone();
            match &mut kind {
                // It has no members yet.
                Kind::Bond(bond) => bond.primary = None,
                // Kernels without it do not even take a no.
                Kind::Bridge(bridge) => {
                    bridge.vlan_filtering = bridge.vlan_filtering.filter(|filters| *filters);
                }
                _ => {}
            }
            self.add(Change::AddLink { name: name.to_owned(), kind, group: GROUP });
        } else if there.is_some_and(|there| !there.is_ours()) {
            self.add(Change::MarkLink { name: name.to_owned() });
        }
        let Some(there) = self.now.link(name).and_then(|link| link.kind.clone()) else { return };
        match (there, kind) {
            (Kind::Bond(there), Kind::Bond(wanted)) => {
                let is_same = there.monitor == wanted.monitor
                    && (wanted.transmit_hash.is_none()
                        || there.transmit_hash == wanted.transmit_hash);
                if !is_same {
                    let mut wanted = wanted.clone();
                    (wanted.primary, wanted.lacp_rate) = (None, None);
                    self.add(Change::SetKind { name: name.to_owned(), kind: Kind::Bond(wanted) });
                }
            }
            (Kind::Bridge(there), Kind::Bridge(wanted)) => {
                let filters = |bridge: &BridgeKind| bridge.vlan_filtering.unwrap_or(false);
                let vlan_filtering =
                    wanted.vlan_filtering.filter(|_| filters(wanted) != filters(&there));
                let wanted = BridgeKind { vlan_filtering, ..wanted.clone() };
                let set =
                    |kind| Change::SetKind { name: name.to_owned(), kind: Kind::Bridge(kind) };
                // With the spanning tree protocol the kernel takes no delay below 2 s, and it looks
                // at the delay first.
                if there.stp && !wanted.stp && wanted.forward_delay < 200 {
                    let forward_delay = there.forward_delay;
                    let first = BridgeKind { stp: false, forward_delay, vlan_filtering: None };
                    self.add(set(first));
                }
                let is_same =
                    (there.stp, there.forward_delay) == (wanted.stp, wanted.forward_delay);
                if !is_same || vlan_filtering.is_some() {
                    self.add(set(wanted));
                }
            }
            (Kind::Wireguard(there), Kind::Wireguard(Some(wanted))) => {
                self.changes_of_tunnel(name, &there.unwrap_or_default(), wanted);
            }
            _ => {}
        }
    }

    fn changes_of_tunnel(&mut self, name: &str, there: &Tunnel, wanted: &Tunnel) {
        let has = |key| there.peers.iter().find(|peer| peer.public_key == key);
        let is_good = |peer: &&TunnelPeer| {
            has(peer.public_key).is_some_and(|there| {
                // Without a declared endpoint the peer is where it was heard from.
                let endpoint = peer.endpoint.or(there.endpoint);
                TunnelPeer { endpoint, ..(*peer).clone() } == *there
            })
        };
        let peers: Vec<TunnelPeer> =
            wanted.peers.iter().filter(|peer| !is_good(peer)).cloned().collect();
        let is_wanted = |key| wanted.peers.iter().any(|peer| peer.public_key == key);
        let keys = there.peers.iter().map(|peer| peer.public_key);
        let forget: Vec<_> = keys.filter(|key| !is_wanted(*key)).collect();
        let private_key =
            (there.private_key != wanted.private_key).then(|| wanted.private_key.clone()).flatten();
        // 0 leaves the choice to the kernel.
        let listen_port =
            Some(wanted.listen_port).filter(|port| *port != 0 && *port != there.listen_port);
        let mark = Some(wanted.mark).filter(|mark| *mark != there.mark);
        if private_key.is_some()
            || listen_port.is_some()
            || mark.is_some()
            || !peers.is_empty()
            || !forget.is_empty()
        {
            let name = name.to_owned();
            self.add(Change::SetTunnel { name, private_key, listen_port, mark, peers, forget });
        }
    }

    /// A bond takes one of its members for its primary only when it has it.
    fn primaries(&mut self) {
        for wanted in &self.desired.links {
            let Some(Kind::Bond(kind)) = &wanted.kind else { continue };
            let Some(LinkState { kind: Some(Kind::Bond(there)), .. }) = self.now.link(&wanted.name)
            else {
                continue;
            };
            if kind.primary.is_some() && kind.primary != there.primary {
                let mut kind = kind.clone();
                kind.lacp_rate = None;
                self.add(Change::SetKind { name: wanted.name.clone(), kind: Kind::Bond(kind) });
            }
        }
    }

    /// Whether a link is a member of one of ours that does not have it by what is wanted.
    fn should_leave(&self, link: &LinkState) -> bool {
        let Some(master) = &link.master else { return false };
        let is_made = self.desired.link(master).is_some_and(|master| master.kind.is_some());
        let wanted = self.desired.link(&link.name).and_then(|wanted| wanted.master.as_ref());
        wanted != Some(master) && (is_made || self.now.link(master).is_some_and(LinkState::is_ours))
    }

    /// Of links that nobody speaks of, too, those leave that are members of what stays.
    fn masters(&mut self) {
        let gone = self.unwanted(None);
        let leave = self.now.links.iter().filter(|link| {
            self.should_leave(link) && !link.master.as_ref().is_some_and(|m| gone.contains(m))
        });
        let leave: Vec<String> = leave.map(|link| link.name.clone()).collect();
        for link in leave {
            self.add(Change::SetMaster { link, master: None });
        }
    }

    fn addresses(&mut self) {
        for wanted in &self.desired.links {
            for net in &wanted.addresses {
                let Some(there) = self.now.link(&wanted.name) else { break };
                if there.addresses.iter().any(|one| one.net == *net) {
                    continue;
                }
                // Where it stands in the way, it goes first: on another link, or in IPv6 with another
                // prefix.
                let is_old = |link: &LinkState, one: IpNet| {
                    let same = one.addr() == net.addr();
                    same && (link.name != wanted.name || net.addr().is_ipv6())
                };
                let old: Vec<(String, IpNet)> = self
                    .ours()
                    .filter(|(link, one)| is_old(link, *one) && !self.wants(link, *one))
                    .map(|(link, one)| (link.name.clone(), one))
                    .collect();
                for (link, net) in old {
                    self.remove_address(link, net);
                }
                let (link, net) = (wanted.name.clone(), *net);
                self.add(Change::AddAddress { link, net, protocol: PROTOCOL });
            }
        }
        // With its last IPv4 address a link loses its routes: before there are new ones.
        let has_new = |link: &LinkState| {
            let wanted = self.desired.link(&link.name);
            wanted.is_some_and(|wanted| wanted.addresses.iter().any(|net| net.addr().is_ipv4()))
        };
        let lone = self.ours().filter(|(link, net)| net.addr().is_ipv4() && !has_new(link));
        let lone: Vec<(String, IpNet)> = lone.map(|(link, net)| (link.name.clone(), net)).collect();
        let gone = self.unwanted(None);
        for (link, net) in lone.into_iter().filter(|(link, _)| !gone.contains(link)) {
            self.remove_address(link, net);
        }
    }

    /// The addresses that were set here.
    fn ours(&self) -> impl Iterator<Item = (&LinkState, IpNet)> {
        self.now.links.iter().flat_map(|link| {
            let ours = link.addresses.iter().filter(|one| one.protocol == PROTOCOL);
            ours.map(move |one| (link, one.net))
        })
    }

    fn wants(&self, link: &LinkState, net: IpNet) -> bool {
        self.desired.link(&link.name).is_some_and(|wanted| wanted.addresses.contains(&net))
    }

    fn remove_address(&mut self, link: String, net: IpNet) {
        let Some(there) = self.now.link(&link) else { return };
        // It may have gone with another.
        if !there.addresses.iter().any(|one| one.net == net) {
            return;
        }
        let stays = |other: &crate::state::AddressState| {
            other.net != net && other.net.trunc() == net.trunc()
        };
        if net.addr().is_ipv4() && !there.promote_secondaries && there.addresses.iter().any(stays) {
            self.add(Change::PromoteSecondaries { link: link.clone() });
        }
        self.add(Change::RemoveAddress { link, net });
    }

    fn routes(&mut self) {
        // Those that lead to next hops before those that need them.
        let mut wanted: Vec<_> = self.desired.routes.iter().collect();
        wanted.sort_by_key(|route| (route.via.is_some(), std::cmp::Reverse(route.to.prefix_len())));
        for route in wanted {
            let same: Vec<_> =
                self.now.routes.iter().filter(|there| there.key() == route.key()).collect();
            if same.contains(&route) {
                continue;
            }
            let hop = |there: &&&crate::state::Route| {
                there.protocol != PROTOCOL
                    && (&there.via, &there.link, there.kind)
                        == (&route.via, &route.link, route.kind)
            };
            if same.iter().any(|there| hop(&there)) {
                // Somebody else says the same.
                continue;
            }
            if same.iter().any(|there| there.protocol == PROTOCOL) {
                self.add(Change::ReplaceRoute(route.clone()));
            } else {
                self.add(Change::AddRoute(route.clone()));
            }
        }
    }

    fn rules(&mut self) {
        let new: Vec<_> = self.desired.rules.difference(&self.now.rules).cloned().collect();
        for rule in new {
            self.add(Change::AddRule(rule));
        }
        let ours = |rule: &&crate::state::Rule| rule.protocol == PROTOCOL;
        let old: BTreeSet<_> = self.now.rules.iter().filter(ours).cloned().collect();
        for rule in old.difference(&self.desired.rules) {
            self.add(Change::RemoveRule(rule.clone()));
        }
    }

    /// What was made here and nobody wants any more: last, so that what replaces it is there.
    fn remove(&mut self) {
        let unwanted = self.now.routes.iter().filter(|route| route.protocol == PROTOCOL);
        let unwanted: Vec<_> = unwanted
            .filter(|route| !self.desired.routes.contains(*route))
            .filter(|route| {
                // With their link they go by themselves.
                let link = route.link.as_ref().and_then(|link| self.now.link(link));
                !link.is_some_and(|link| self.unwanted(None).contains(&link.name))
            })
            .cloned()
            .collect();
        for route in unwanted {
            self.add(Change::RemoveRoute(route));
        }
        let gone = self.unwanted(None);
        let old: Vec<(String, IpNet)> = self
            .ours()
            .filter(|(link, net)| !self.wants(link, *net) && !gone.contains(&link.name))
            .map(|(link, net)| (link.name.clone(), net))
            .collect();
        for (link, net) in old {
            self.remove_address(link, net);
        }
        for name in gone {
            self.drop_link(name);
        }
    }
}

/// Whether a link of this name cannot become what is wanted.
pub(crate) fn must_be_new(there: &LinkState, wanted: &Kind) -> bool {
    match (&there.kind, wanted) {
        (Some(Kind::Bond(there)), Kind::Bond(wanted)) => {
            there.mode != wanted.mode
                || wanted.lacp_rate.is_some() && there.lacp_rate != wanted.lacp_rate
        }
        (Some(Kind::Vlan(there)), Kind::Vlan(wanted)) => there != wanted,
        (Some(Kind::Veth { peer: there }), Kind::Veth { peer: wanted }) => there != wanted,
        (Some(there), wanted) => there.name() != wanted.name(),
        (None, _) => true,
    }
}
