//! One step from a state to another. `Display` is the command that would do it.

use std::fmt;

use ipnet::IpNet;

use crate::state::{GROUP, Kind, Route, Rule, TunnelPeer};
use crate::{BondMode, Key, Secret};

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// Makes a link.
    AddLink {
        /// Its name.
        name: String,
        /// What it is.
        kind: Kind,
        /// The group that it is in from the beginning.
        group: u32,
    },
    /// Removes a link of ours.
    RemoveLink {
        /// Its name.
        name: String,
    },
    /// Takes a link that was there before as one of ours.
    MarkLink {
        /// Its name.
        name: String,
    },
    /// Changes settings of a bond or bridge.
    SetKind {
        /// Its name.
        name: String,
        /// What it is to be.
        kind: Kind,
    },
    /// Changes a WireGuard tunnel. What is `None` stays.
    SetTunnel {
        /// Its name.
        name: String,
        /// Its private key.
        private_key: Option<Secret>,
        /// The port that it listens at.
        listen_port: Option<u16>,
        /// The mark on its packets.
        mark: Option<u32>,
        /// Peers to add or to change.
        peers: Vec<TunnelPeer>,
        /// Peers to forget.
        forget: Vec<Key>,
    },
    /// Sets the largest packet.
    SetMtu {
        /// The link.
        link: String,
        /// Bytes.
        mtu: u32,
    },
    /// Makes a link a member of a bond or bridge, or of none.
    SetMaster {
        /// The link.
        link: String,
        /// The bond or bridge.
        master: Option<String>,
    },
    /// Sets a link up or down.
    SetUp {
        /// The link.
        link: String,
        /// Which.
        up: bool,
    },
    /// Says which router advertisements are believed.
    AcceptRa {
        /// The link.
        link: String,
        /// 0: none, 2: all.
        value: u32,
    },
    /// Says whether a link speaks IPv6.
    DisableIpv6 {
        /// The link.
        link: String,
        /// Whether it does not.
        disable: bool,
    },
    /// Lets IPv4 addresses stay when the first one of their network is removed.
    PromoteSecondaries {
        /// The link.
        link: String,
    },
    /// Adds an address.
    AddAddress {
        /// The link.
        link: String,
        /// The address and the length of its prefix.
        net: IpNet,
        /// Who sets it.
        protocol: u8,
    },
    /// Removes an address.
    RemoveAddress {
        /// The link.
        link: String,
        /// The address and the length of its prefix.
        net: IpNet,
    },
    /// Adds a route.
    AddRoute(Route),
    /// Puts a route in the place of the one with its destination, table and metric.
    ReplaceRoute(Route),
    /// Removes a route.
    RemoveRoute(Route),
    /// Adds a rule.
    AddRule(Rule),
    /// Removes a rule.
    RemoveRule(Rule),
}

fn family(net: IpNet) -> &'static str {
    if net.addr().is_ipv6() { "ip -6" } else { "ip -4" }
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddLink { name, kind, group } => {
                out.write_str("ip link add")?;
                if let Kind::Vlan(vlan) = kind
                    && let Some(parent) = &vlan.parent
                {
                    write!(out, " link {parent}")?;
                }
                write!(out, " name {name} group {group} type ")?;
                match kind {
                    Kind::Vlan(vlan) => {
                        write!(out, "vlan protocol {} id {}", vlan.protocol, vlan.id)
                    }
                    Kind::Veth { peer: Some(peer) } => {
                        write!(out, "veth peer name {peer} group {group}")
                    }
                    kind => settings(kind, out),
                }
            }
            Self::RemoveLink { name } => write!(out, "ip link delete dev {name}"),
            Self::MarkLink { name } => write!(out, "ip link set dev {name} group {GROUP}"),
            Self::SetKind { name, kind } => {
                write!(out, "ip link set dev {name} type ")?;
                settings(kind, out)
            }
            Self::SetTunnel { name, private_key, listen_port, mark, peers, forget } => {
                write!(out, "wg set {name}")?;
                if private_key.is_some() {
                    out.write_str(" private-key (hidden)")?;
                }
                if let Some(port) = listen_port {
                    write!(out, " listen-port {port}")?;
                }
                if let Some(mark) = mark {
                    write!(out, " fwmark {mark:#x}")?;
                }
                for peer in peers {
                    write!(out, " peer {}", peer.public_key)?;
                    if peer.preshared_key.is_some() {
                        out.write_str(" preshared-key (hidden)")?;
                    }
                    if let Some(endpoint) = peer.endpoint {
                        write!(out, " endpoint {endpoint}")?;
                    }
                    write!(out, " persistent-keepalive {}", peer.keepalive)?;
                    let nets: Vec<String> = peer.allowed_ips.iter().map(IpNet::to_string).collect();
                    write!(out, " allowed-ips \"{}\"", nets.join(","))?;
                }
                for key in forget {
                    write!(out, " peer {key} remove")?;
                }
                Ok(())
            }
            Self::SetMtu { link, mtu } => write!(out, "ip link set dev {link} mtu {mtu}"),
            Self::SetMaster { link, master: Some(master) } => {
                write!(out, "ip link set dev {link} master {master}")
            }
            Self::SetMaster { link, master: None } => {
                write!(out, "ip link set dev {link} nomaster")
            }
            Self::SetUp { link, up } => {
                write!(out, "ip link set dev {link} {}", if *up { "up" } else { "down" })
            }
            // With slashes: a name may have dots.
            Self::AcceptRa { link, value } => {
                write!(out, "sysctl -w net/ipv6/conf/{link}/accept_ra={value}")
            }
            Self::DisableIpv6 { link, disable } => {
                write!(out, "sysctl -w net/ipv6/conf/{link}/disable_ipv6={}", u8::from(*disable))
            }
            Self::PromoteSecondaries { link } => {
                write!(out, "sysctl -w net/ipv4/conf/{link}/promote_secondaries=1")
            }
            Self::AddAddress { link, net, protocol } => {
                write!(out, "{} address add {net}", family(*net))?;
                if let Some(broadcast) = broadcast(*net) {
                    write!(out, " broadcast {broadcast}")?;
                }
                write!(out, " dev {link} proto {protocol}")
            }
            Self::RemoveAddress { link, net } => {
                write!(out, "{} address delete {net} dev {link}", family(*net))
            }
            Self::AddRoute(route) => write!(out, "{} route add {route}", family(route.to)),
            Self::ReplaceRoute(route) => write!(out, "{} route replace {route}", family(route.to)),
            Self::RemoveRoute(route) => write!(out, "{} route delete {route}", family(route.to)),
            Self::AddRule(rule) => write!(out, "{} rule add {rule}", rule_family(rule)),
            Self::RemoveRule(rule) => write!(out, "{} rule delete {rule}", rule_family(rule)),
        }
    }
}

fn rule_family(rule: &Rule) -> &'static str {
    if rule.v6 { "ip -6" } else { "ip -4" }
}

/// The broadcast address of an IPv4 network that has one.
pub(crate) fn broadcast(net: IpNet) -> Option<std::net::Ipv4Addr> {
    match net {
        IpNet::V4(net) if net.prefix_len() < 31 => Some(net.broadcast()),
        _ => None,
    }
}

fn settings(kind: &Kind, out: &mut fmt::Formatter<'_>) -> fmt::Result {
    match kind {
        // The rate is told even where the mode has none: `ip` would refuse it.
        Kind::Bond(bond) if bond.mode != BondMode::Lacp && bond.lacp_rate.is_some() => {
            let mut bond = bond.clone();
            bond.lacp_rate = None;
            write!(out, "{}", Kind::Bond(bond))
        }
        Kind::Wireguard(_) => out.write_str("wireguard"),
        kind => write!(out, "{kind}"),
    }
}
