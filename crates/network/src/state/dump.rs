//! A state as text, for people and for snapshots.

use std::fmt;

use super::{Kind, LinkState, State};
use crate::BondMode;

impl fmt::Display for State {
    /// A line for each link, with its addresses below it; then routes and rules.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.links {
            write!(out, "{link}")?;
        }
        for route in &self.routes {
            writeln!(out, "route {route}")?;
        }
        for rule in &self.rules {
            let family = if rule.v6 { "6" } else { "4" };
            writeln!(out, "rule{family} {rule}")?;
        }
        Ok(())
    }
}

impl fmt::Display for LinkState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "link {}", self.name)?;
        if let Some(kind) = &self.kind {
            write!(out, " {kind}")?;
        } else if let Some(driver) = &self.driver {
            write!(out, " ({driver})")?;
        }
        if let Some(mac) = self.mac {
            write!(out, " {mac}")?;
        }
        if let Some(mac) = self.permanent_mac.filter(|mac| self.mac != Some(*mac)) {
            write!(out, " (permanent {mac})")?;
        }
        write!(out, " mtu {}", self.mtu)?;
        out.write_str(match (self.up, self.carrier) {
            (true, true) => " up",
            (true, false) => " up, no carrier",
            (false, _) => " down",
        })?;
        if let Some(master) = &self.master {
            write!(out, " member of {master}")?;
        }
        if self.is_ours() {
            out.write_str(" ours")?;
        }
        if self.disable_ipv6 == Some(true) {
            out.write_str(" without IPv6")?;
        }
        if let Some(alias) = &self.alias {
            write!(out, " {alias:?}")?;
        }
        writeln!(out)?;
        if let Some(Kind::Wireguard(Some(tunnel))) = &self.kind {
            for peer in &tunnel.peers {
                write!(out, "  peer {}", peer.public_key)?;
                if let Some(endpoint) = peer.endpoint {
                    write!(out, " at {endpoint}")?;
                }
                if peer.preshared_key.is_some() {
                    out.write_str(" shared key (hidden)")?;
                }
                if peer.keepalive != 0 {
                    write!(out, " every {} s", peer.keepalive)?;
                }
                for net in &peer.allowed_ips {
                    write!(out, " {net}")?;
                }
                writeln!(out)?;
            }
        }
        for address in &self.addresses {
            write!(out, "  address {}", address.net)?;
            if address.protocol != 0 {
                write!(out, " proto {}", address.protocol)?;
            }
            if !address.permanent {
                out.write_str(" for a time")?;
            }
            if address.tentative {
                out.write_str(" tentative")?;
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Kind {
    /// As `ip link add type` takes it, where that has words for it.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())?;
        match self {
            Self::Bond(bond) => {
                write!(out, " mode {} miimon {}", bond.mode, bond.monitor)?;
                if let Some(rate) = bond.lacp_rate.filter(|_| bond.mode == BondMode::Lacp) {
                    write!(out, " lacp_rate {rate}")?;
                }
                if let Some(hash) = bond.transmit_hash {
                    write!(out, " xmit_hash_policy {hash}")?;
                }
                if let Some(primary) = &bond.primary {
                    write!(out, " primary {primary}")?;
                }
            }
            Self::Vlan(vlan) => {
                write!(out, " protocol {} id {}", vlan.protocol, vlan.id)?;
                if let Some(parent) = &vlan.parent {
                    write!(out, " over {parent}")?;
                }
            }
            Self::Bridge(bridge) => {
                let stp = u8::from(bridge.stp);
                write!(out, " stp_state {stp} forward_delay {}", bridge.forward_delay)?;
                if let Some(filtering) = bridge.vlan_filtering {
                    write!(out, " vlan_filtering {}", u8::from(filtering))?;
                }
            }
            Self::Veth { peer: Some(peer) } => write!(out, " peer {peer}")?,
            Self::Wireguard(Some(tunnel)) => {
                if tunnel.private_key.is_some() {
                    out.write_str(" key (hidden)")?;
                }
                write!(out, " listens at {}", tunnel.listen_port)?;
                if tunnel.mark != 0 {
                    write!(out, " mark {:#x}", tunnel.mark)?;
                }
            }
            Self::Veth { peer: None } | Self::Wireguard(None) | Self::Other { .. } => {}
        }
        Ok(())
    }
}
