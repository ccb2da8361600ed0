//! What a change does to a state, as far as the kernel is known to do it. Changes are thought through
//! on it before the kernel is asked, and tests hold it against the kernel.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{AddressState, GROUP, Kind, LinkState, Route, State, Tunnel};
use crate::config::MAIN;
use crate::{Change, RouteKind};

/// Why the kernel would refuse a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// `rtm_protocol` of routes that the kernel makes itself.
const KERNEL: u8 = 2;

fn refuse<T>(why: impl Into<String>) -> Result<T, Refused> {
    Err(Refused(why.into()))
}

impl State {
    /// Does to this value what the kernel would do to itself.
    ///
    /// # Errors
    /// [`Refused`] where the kernel would not do it; then nothing is changed.
    pub fn apply(&mut self, change: &Change) -> Result<(), Refused> {
        match change {
            Change::AddLink { name, kind, group } => self.add_link(name, kind, *group),
            Change::RemoveLink { name } => {
                self.needs(name)?;
                self.remove_link(name);
                Ok(())
            }
            Change::MarkLink { name } => self.with(name, |link| link.group = GROUP),
            Change::SetKind { name, kind } => self.with(name, |link| {
                link.kind = Some(match (&link.kind, kind) {
                    (Some(Kind::Bond(before)), Kind::Bond(bond)) => {
                        let mut bond = bond.clone();
                        bond.lacp_rate = bond.lacp_rate.or(before.lacp_rate);
                        bond.transmit_hash = bond.transmit_hash.or(before.transmit_hash);
                        bond.primary = bond.primary.or_else(|| before.primary.clone());
                        Kind::Bond(bond)
                    }
                    (Some(Kind::Bridge(before)), Kind::Bridge(bridge)) => {
                        let mut bridge = bridge.clone();
                        bridge.vlan_filtering = bridge.vlan_filtering.or(before.vlan_filtering);
                        Kind::Bridge(bridge)
                    }
                    (_, kind) => kind.clone(),
                });
            }),
            Change::SetTunnel { .. } => self.set_tunnel(change),
            Change::SetMtu { link, mtu } => self.set_mtu(link, *mtu),
            Change::SetMaster { link, master } => self.set_master(link, master.as_deref()),
            Change::SetUp { link, up } => self.set_up(link, *up),
            Change::AcceptRa { link, value } => {
                self.with(link, |link| link.accept_ra = Some(*value))
            }
            Change::DisableIpv6 { link, disable } => {
                self.with(link, |link| link.disable_ipv6 = Some(*disable))?;
                if *disable {
                    self.flush(link, false, true);
                }
                Ok(())
            }
            Change::PromoteSecondaries { link } => {
                self.with(link, |link| link.promote_secondaries = true)
            }
            Change::AddAddress { link, net, protocol } => self.add_address(link, *net, *protocol),
            Change::RemoveAddress { link, net } => self.remove_address(link, *net),
            Change::AddRoute(route) => self.add_route(route, false),
            Change::ReplaceRoute(route) => self.add_route(route, true),
            Change::RemoveRoute(route) if self.routes.remove(route) => Ok(()),
            Change::RemoveRoute(_) => refuse("no such route"),
            Change::AddRule(rule) if self.rules.insert(rule.clone()) => Ok(()),
            Change::AddRule(_) => refuse("the rule is there"),
            Change::RemoveRule(rule) if self.rules.remove(rule) => Ok(()),
            Change::RemoveRule(_) => refuse("no such rule"),
        }
    }

    fn needs(&self, name: &str) -> Result<&LinkState, Refused> {
        self.link(name).ok_or_else(|| Refused(format!("there is no link {name}")))
    }

    fn with(&mut self, name: &str, change: impl FnOnce(&mut LinkState)) -> Result<(), Refused> {
        match self.link_mut(name) {
            Some(link) => {
                change(link);
                Ok(())
            }
            None => refuse(format!("there is no link {name}")),
        }
    }

    fn add_link(&mut self, name: &str, kind: &Kind, group: u32) -> Result<(), Refused> {
        let mut names = vec![name];
        let mut mtu = 1500;
        match kind {
            Kind::Vlan(vlan) => {
                let Some(parent) = &vlan.parent else { return refuse("a VLAN of nothing") };
                mtu = self.needs(parent)?.mtu;
                let is_same = |link: &LinkState| match &link.kind {
                    Some(Kind::Vlan(other)) => {
                        (&other.parent, other.id, other.protocol)
                            == (&vlan.parent, vlan.id, vlan.protocol)
                    }
                    _ => false,
                };
                if self.links.iter().any(is_same) {
                    return refuse(format!("{parent} has VLAN {} already", vlan.id));
                }
            }
            Kind::Veth { peer } => names.extend(peer.as_deref()),
            Kind::Wireguard(_) => mtu = 1420,
            _ => {}
        }
        if let Some(name) = names.iter().find(|name| self.link(name).is_some()) {
            return refuse(format!("there is a link {name}"));
        }
        for new in names.iter().copied() {
            let index = self.links.iter().map(|link| link.index).max().unwrap_or(0) + 1;
            let mut link = LinkState::new(index, new);
            link.group = group;
            link.mtu = mtu;
            link.ethernet = !matches!(kind, Kind::Wireguard(_));
            link.driver = Some(kind.name().to_owned());
            link.accept_ra = Some(1);
            link.disable_ipv6 = Some(false);
            link.kind = Some(match kind {
                Kind::Veth { .. } => Kind::Veth {
                    peer: names.iter().find(|other| **other != new).map(|one| (*one).to_owned()),
                },
                // It is given its keys and peers afterwards.
                Kind::Wireguard(_) => Kind::Wireguard(Some(Tunnel::default())),
                kind => kind.clone(),
            });
            self.links.push(link);
        }
        Ok(())
    }

    /// With what stands on it: VLANs, the other end of a pair.
    fn remove_link(&mut self, name: &str) {
        let mut open = vec![name.to_owned()];
        let mut left_down = Vec::new();
        while let Some(name) = open.pop() {
            self.flush(&name, true, true);
            let is_bond =
                self.link(&name).is_some_and(|link| matches!(link.kind, Some(Kind::Bond(_))));
            self.links.retain(|link| link.name != name);
            for link in &mut self.links {
                if link.master.as_ref() == Some(&name) {
                    link.master = None;
                    left_down.extend(is_bond.then(|| link.name.clone()));
                }
                match &link.kind {
                    Some(Kind::Vlan(vlan)) if vlan.parent.as_ref() == Some(&name) => {
                        open.push(link.name.clone());
                    }
                    Some(Kind::Veth { peer }) if peer.as_ref() == Some(&name) => {
                        open.push(link.name.clone());
                    }
                    _ => {}
                }
            }
        }
        // What a bond had, it leaves down. It is there: `set_up` has nothing to refuse.
        for name in left_down {
            let _ = self.set_up(&name, false);
        }
    }

    fn set_tunnel(&mut self, change: &Change) -> Result<(), Refused> {
        let Change::SetTunnel { name, private_key, listen_port, mark, peers, forget } = change
        else {
            return refuse("no tunnel");
        };
        let Some(LinkState { kind: Some(Kind::Wireguard(tunnel)), .. }) = self.link_mut(name)
        else {
            return refuse(format!("there is no tunnel {name}"));
        };
        let tunnel = tunnel.get_or_insert_with(Tunnel::default);
        if let Some(key) = private_key {
            tunnel.private_key = Some(key.clone()).filter(|key| !key.is_none());
        }
        tunnel.listen_port = listen_port.unwrap_or(tunnel.listen_port);
        tunnel.mark = mark.unwrap_or(tunnel.mark);
        tunnel.peers.retain(|peer| !forget.contains(&peer.public_key));
        for peer in peers {
            let mut peer = peer.clone();
            // Without one, the kernel keeps the endpoint that it knows.
            let before = tunnel.peers.iter().find(|other| other.public_key == peer.public_key);
            peer.endpoint = peer.endpoint.or_else(|| before.and_then(|before| before.endpoint));
            tunnel.peers.retain(|other| other.public_key != peer.public_key);
            // An address is one peer's alone.
            for other in &mut tunnel.peers {
                other.allowed_ips.retain(|net| !peer.allowed_ips.contains(net));
            }
            tunnel.peers.push(peer);
        }
        tunnel.peers.sort_by_key(|peer| peer.public_key);
        Ok(())
    }

    fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<(), Refused> {
        let link = self.needs(name)?;
        if let Some(Kind::Vlan(vlan)) = &link.kind
            && let Some(parent) = &vlan.parent
            && self.needs(parent)?.mtu < mtu
        {
            return refuse(format!("{parent} has less"));
        }
        let is_bond = matches!(link.kind, Some(Kind::Bond(_)));
        self.with(name, |link| link.mtu = mtu)?;
        for link in &mut self.links {
            let is_above = matches!(&link.kind, Some(Kind::Vlan(vlan))
                if vlan.parent.as_deref() == Some(name));
            if is_above && link.mtu > mtu || is_bond && link.master.as_deref() == Some(name) {
                link.mtu = mtu;
            }
        }
        Ok(())
    }

    fn set_master(&mut self, name: &str, master: Option<&str>) -> Result<(), Refused> {
        let link = self.needs(name)?;
        let mut mtu = link.mtu;
        if let Some(master) = master {
            let kind = &self.needs(master)?.kind;
            match kind {
                Some(Kind::Bond(_)) if link.up => {
                    return refuse(format!("{name} is up, which no new member of a bond may be"));
                }
                Some(Kind::Bond(_)) => mtu = self.needs(master)?.mtu,
                Some(Kind::Bridge(_)) => {}
                _ => return refuse(format!("{master} has no members")),
            }
        }
        let was_bonded = link.master.as_ref().and_then(|master| self.link(master));
        let leaves_bond = was_bonded.is_some_and(|old| matches!(old.kind, Some(Kind::Bond(_))));
        if leaves_bond {
            self.set_up(name, false)?;
        }
        let joins_bond = mtu != self.needs(name)?.mtu || {
            let new = master.and_then(|master| self.link(master));
            new.is_some_and(|new| matches!(new.kind, Some(Kind::Bond(_))))
        };
        self.with(name, |link| {
            link.master = master.map(str::to_owned);
            link.mtu = mtu;
        })?;
        if joins_bond {
            // A bond sets its members up.
            self.set_up(name, true)?;
        }
        Ok(())
    }

    fn set_up(&mut self, name: &str, up: bool) -> Result<(), Refused> {
        let link = self.needs(name)?;
        if link.up == up {
            return Ok(());
        }
        if up
            && let Some(Kind::Vlan(vlan)) = &link.kind
            && let Some(parent) = &vlan.parent
            && !self.needs(parent)?.up
        {
            return refuse(format!("{parent} is down"));
        }
        if !up {
            self.flush(name, false, true);
            self.routes.retain(|route| route.link.as_deref() != Some(name));
            // VLANs go down with their parent.
            let above = self.links.iter().filter(|link| {
                matches!(&link.kind, Some(Kind::Vlan(vlan)) if vlan.parent.as_deref() == Some(name))
            });
            let above: Vec<String> = above.map(|link| link.name.clone()).collect();
            for name in above {
                self.set_up(&name, false)?;
            }
        }
        self.with(name, |link| (link.up, link.carrier) = (up, up))?;
        if up {
            let nets: Vec<IpNet> =
                self.needs(name)?.addresses.iter().map(|address| address.net).collect();
            nets.iter().for_each(|net| self.connect(name, *net));
        }
        Ok(())
    }

    /// Takes away addresses, and all routes of their family.
    fn flush(&mut self, name: &str, v4: bool, v6: bool) {
        if let Some(link) = self.link_mut(name) {
            link.addresses.retain(|one| if one.net.addr().is_ipv4() { !v4 } else { !v6 });
        }
        self.routes.retain(|route| {
            let is_meant = if route.to.addr().is_ipv4() { v4 } else { v6 };
            route.link.as_deref() != Some(name) || !is_meant
        });
    }

    /// The kernel's own route to the network of an address.
    fn connect(&mut self, name: &str, net: IpNet) {
        if net.prefix_len() == net.max_prefix_len() && net.addr().is_ipv4() {
            return;
        }
        let mut route = Route::new(net, name);
        route.protocol = KERNEL;
        match net {
            IpNet::V4(_) => route.source = Some(net.addr()),
            IpNet::V6(_) => route.metric = 256,
        }
        let has = self.routes.iter().any(|old| {
            (old.to, &old.link, old.protocol) == (route.to, &route.link, route.protocol)
        });
        if !has {
            self.routes.insert(route);
        }
    }

    fn add_address(&mut self, name: &str, net: IpNet, protocol: u8) -> Result<(), Refused> {
        let link = self.needs(name)?;
        let is_v6 = net.addr().is_ipv6();
        let has = |one: &AddressState| one.net == net || is_v6 && one.net.addr() == net.addr();
        if link.addresses.iter().any(has) {
            return refuse(format!("{name} has {net}"));
        }
        if is_v6 && link.disable_ipv6 == Some(true) {
            return refuse(format!("{name} speaks no IPv6"));
        }
        let up = link.up;
        self.with(name, |link| link.addresses.push(AddressState::new(net, protocol)))?;
        if up {
            self.connect(name, net);
        }
        Ok(())
    }

    fn remove_address(&mut self, name: &str, net: IpNet) -> Result<(), Refused> {
        let link = self.needs(name)?;
        let Some(at) = link.addresses.iter().position(|one| one.net == net) else {
            return refuse(format!("{name} has no {net}"));
        };
        let same = |one: &AddressState| one.net.trunc() == net.trunc();
        let is_first = link.addresses.iter().position(same) == Some(at);
        let takes_all = is_first && net.addr().is_ipv4() && !link.promote_secondaries;
        self.with(name, |link| {
            link.addresses.retain(|one| one.net != net && !(takes_all && same(one)));
        })?;
        let left = self.needs(name)?.addresses.clone();
        if net.addr().is_ipv4() && !left.iter().any(|one| one.net.addr().is_ipv4()) {
            self.flush(name, true, false);
            return Ok(());
        }
        let is_used = |address: IpAddr| left.iter().any(|one| one.net.addr() == address);
        self.routes.retain(|route| {
            let is_here = route.link.as_deref() == Some(name);
            let loses_source = net.addr().is_ipv4() && route.source == Some(net.addr());
            let is_connected = is_here
                && route.protocol == KERNEL
                && route.to == net.trunc()
                && !left.iter().any(same);
            !is_connected && (!loses_source || is_used(net.addr()))
        });
        let up = self.needs(name)?.up;
        for one in left.iter().filter(|one| up && same(one)) {
            self.connect(name, one.net);
        }
        Ok(())
    }

    fn add_route(&mut self, route: &Route, replace: bool) -> Result<(), Refused> {
        if let Some(name) = &route.link
            && !self.needs(name)?.up
        {
            return refuse(format!("{name} is down"));
        }
        if let Some(via) = route.via
            && !route.onlink
            && !self.reaches(route, via)
        {
            return refuse(format!("{via} is on no network"));
        }
        let same = self.routes.iter().find(|old| old.key() == route.key()).cloned();
        match same {
            Some(_) if !replace => refuse("there is such a route"),
            Some(old) => {
                self.routes.remove(&old);
                self.routes.insert(route.clone());
                Ok(())
            }
            None => {
                self.routes.insert(route.clone());
                Ok(())
            }
        }
    }

    fn reaches(&self, route: &Route, via: IpAddr) -> bool {
        let link_local = matches!(via, IpAddr::V6(v6) if v6.is_unicast_link_local());
        link_local
            || self.routes.iter().any(|near| {
                near.via.is_none()
                    && near.kind == RouteKind::Unicast
                    && (near.table == MAIN || near.table == route.table)
                    && (route.link.is_none() || near.link == route.link)
                    && near.to.contains(&via)
            })
    }
}
