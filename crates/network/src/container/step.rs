//! One step of setting a network of containers up or tearing it down.

use std::fmt;

use super::nft::Table;
use crate::{Change, Mac};

/// One step. `Display` is the command that would do it, a table of nftables as `nft -f` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step(pub(super) What);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    /// On the host.
    Change(Change),
    /// In the container's namespace.
    Inside(Change),
    /// A pair with one end in the container's namespace.
    Pair { link: String, peer: &'static str },
    /// A container reaches itself by the host's port, also where the firewall looks at what is
    /// bridged (`br_netfilter`) and changes destinations there.
    Hairpin { link: String },
    /// A bridge keeps its hardware address, which else is the lowest of its members': whoever knows it would
    /// speak to nobody for a while each time that a member comes or goes.
    Address { bridge: String, mac: Mac },
    /// What is written on a link.
    Alias { link: String, alias: String },
    /// A setting below /proc/sys.
    Sysctl { path: String, value: u32 },
    /// The host's own ports lead to containers, too.
    RouteLocalnet { bridge: String },
    /// A table in the place of the one of its name.
    Table(Table),
    /// No table of this name.
    NoTable(String),
    /// An owner's entry in the book.
    Lease { owner: String, addresses: String },
    /// The owner's entry is struck out.
    GiveBack { owner: String },
}

impl Step {
    /// What it is, on one line.
    pub(super) fn name(&self) -> String {
        match &self.0 {
            What::Table(table) => {
                let rules: usize = table.chains.iter().map(|chain| chain.rules.len()).sum();
                format!("nft: table inet {} with {rules} rules", table.name)
            }
            What::NoTable(name) => format!("nft: no table inet {name}"),
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            What::Change(change) => write!(out, "{change}"),
            What::Inside(change) => write!(out, "in the container: {change}"),
            What::Pair { link, peer } => write!(
                out,
                "ip link add name {link} group {} type veth peer name {peer} netns CONTAINER",
                super::CONTAINERS
            ),
            What::Hairpin { link } => {
                write!(out, "ip link set dev {link} type bridge_slave hairpin on")
            }
            What::Address { bridge, mac } => write!(out, "ip link set dev {bridge} address {mac}"),
            What::Alias { link, alias } => write!(out, "ip link set dev {link} alias {alias:?}"),
            What::Sysctl { path, value } => write!(out, "sysctl -w {path}={value}"),
            What::RouteLocalnet { bridge } => {
                write!(out, "sysctl -w net/ipv4/conf/{bridge}/route_localnet=1")
            }
            What::Table(table) => {
                let name = &table.name;
                write!(out, "nft -f - <<.\ntable inet {name}\ndelete table inet {name}\n{table}.")
            }
            What::NoTable(name) => {
                write!(out, "nft -f - <<.\ntable inet {name}\ndelete table inet {name}\n.")
            }
            What::Lease { owner, addresses } => write!(out, "lease of {owner}: {addresses}"),
            What::GiveBack { owner } => write!(out, "lease of {owner}: given back"),
        }
    }
}
