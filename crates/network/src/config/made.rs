//! Links that are made: bonds, VLANs, bridges, pairs, tunnels.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::{Key, Selector};

/// Several links that act as one.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Bond {
    /// Its name.
    pub name: String,
    /// The links that it is made of. They have no addresses of their own.
    pub members: Vec<Selector>,
    /// How they share the work. Default: one works, the others stand by.
    #[cfg_attr(feature = "serde", serde(default))]
    pub mode: BondMode,
    /// Milliseconds between looks at the carrier of members. Default: 100.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub monitor: Option<u32>,
    /// How often the partner sends (802.3ad).
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub lacp_rate: Option<LacpRate>,
    /// What chooses the member that a packet is sent over.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub transmit_hash: Option<TransmitHash>,
    /// The name of the member that works whenever it can.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub primary: Option<String>,
}

impl Bond {
    /// An active-backup bond.
    #[must_use]
    pub fn new(name: impl Into<String>, members: Vec<Selector>) -> Self {
        Self {
            name: name.into(),
            members,
            mode: BondMode::default(),
            monitor: None,
            lacp_rate: None,
            transmit_hash: None,
            primary: None,
        }
    }
}

/// How the members of a bond share the work (linux/if_bonding.h).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum BondMode {
    /// Packets go over one after the other.
    #[cfg_attr(feature = "serde", serde(rename = "balance-rr"))]
    BalanceRr,
    /// One works, the others stand by.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "active-backup"))]
    ActiveBackup,
    /// Chosen by addresses.
    #[cfg_attr(feature = "serde", serde(rename = "balance-xor"))]
    BalanceXor,
    /// Everything goes over all.
    #[cfg_attr(feature = "serde", serde(rename = "broadcast"))]
    Broadcast,
    /// As agreed with the switch (IEEE 802.3ad, LACP).
    #[cfg_attr(feature = "serde", serde(rename = "802.3ad"))]
    Lacp,
    /// What is sent is shared by load.
    #[cfg_attr(feature = "serde", serde(rename = "balance-tlb"))]
    BalanceTlb,
    /// What is received, too.
    #[cfg_attr(feature = "serde", serde(rename = "balance-alb"))]
    BalanceAlb,
}

impl BondMode {
    /// The number that the kernel has for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::BalanceRr => 0,
            Self::ActiveBackup => 1,
            Self::BalanceXor => 2,
            Self::Broadcast => 3,
            Self::Lacp => 4,
            Self::BalanceTlb => 5,
            Self::BalanceAlb => 6,
        }
    }

    /// What the kernel means by a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::BalanceRr,
            1 => Self::ActiveBackup,
            2 => Self::BalanceXor,
            3 => Self::Broadcast,
            4 => Self::Lacp,
            5 => Self::BalanceTlb,
            6 => Self::BalanceAlb,
            _ => return None,
        })
    }
}

impl fmt::Display for BondMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::BalanceRr => "balance-rr",
            Self::ActiveBackup => "active-backup",
            Self::BalanceXor => "balance-xor",
            Self::Broadcast => "broadcast",
            Self::Lacp => "802.3ad",
            Self::BalanceTlb => "balance-tlb",
            Self::BalanceAlb => "balance-alb",
        })
    }
}

/// How often an LACP partner is asked to send.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum LacpRate {
    /// Every 30 seconds.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "slow"))]
    Slow,
    /// Every second.
    #[cfg_attr(feature = "serde", serde(rename = "fast"))]
    Fast,
}

impl LacpRate {
    /// The number that the kernel has for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Slow => 0,
            Self::Fast => 1,
        }
    }

    /// What the kernel means by a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Slow,
            1 => Self::Fast,
            _ => return None,
        })
    }
}

impl fmt::Display for LacpRate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Slow => "slow",
            Self::Fast => "fast",
        })
    }
}

/// What chooses the member that a packet goes over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum TransmitHash {
    /// Hardware addresses.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "layer2"))]
    Layer2,
    /// Addresses and ports.
    #[cfg_attr(feature = "serde", serde(rename = "layer3+4"))]
    Layer34,
    /// Hardware addresses and addresses.
    #[cfg_attr(feature = "serde", serde(rename = "layer2+3"))]
    Layer23,
    /// As `layer2+3`, of what is in a tunnel.
    #[cfg_attr(feature = "serde", serde(rename = "encap2+3"))]
    Encap23,
    /// As `layer3+4`, of what is in a tunnel.
    #[cfg_attr(feature = "serde", serde(rename = "encap3+4"))]
    Encap34,
    /// The VLAN and who sends.
    #[cfg_attr(feature = "serde", serde(rename = "vlan+srcmac"))]
    VlanSourceMac,
}

impl TransmitHash {
    /// The number that the kernel has for it.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Layer2 => 0,
            Self::Layer34 => 1,
            Self::Layer23 => 2,
            Self::Encap23 => 3,
            Self::Encap34 => 4,
            Self::VlanSourceMac => 5,
        }
    }

    /// What the kernel means by a number.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Layer2,
            1 => Self::Layer34,
            2 => Self::Layer23,
            3 => Self::Encap23,
            4 => Self::Encap34,
            5 => Self::VlanSourceMac,
            _ => return None,
        })
    }
}

impl fmt::Display for TransmitHash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Layer2 => "layer2",
            Self::Layer34 => "layer3+4",
            Self::Layer23 => "layer2+3",
            Self::Encap23 => "encap2+3",
            Self::Encap34 => "encap3+4",
            Self::VlanSourceMac => "vlan+srcmac",
        })
    }
}

/// One VLAN of another link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Vlan {
    /// Its name.
    pub name: String,
    /// The link that its frames go over: the first that fits.
    pub parent: Selector,
    /// Its number, 1 to 4094.
    pub id: u16,
    /// How frames are tagged. Default: 802.1Q.
    #[cfg_attr(
        feature = "serde",
        serde(default, skip_serializing_if = "VlanProtocol::is_default")
    )]
    pub protocol: VlanProtocol,
}

impl Vlan {
    /// A VLAN by 802.1Q.
    #[must_use]
    pub fn new(name: impl Into<String>, parent: Selector, id: u16) -> Self {
        Self { name: name.into(), parent, id, protocol: VlanProtocol::default() }
    }
}

/// How frames of a VLAN are tagged; the number is the EtherType.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub enum VlanProtocol {
    /// As customers do (IEEE 802.1Q).
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "802.1q"))]
    Dot1Q,
    /// As providers do (IEEE 802.1ad).
    #[cfg_attr(feature = "serde", serde(rename = "802.1ad"))]
    Dot1Ad,
}

impl VlanProtocol {
    /// The number that the kernel has for it.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::Dot1Q => 0x8100,
            Self::Dot1Ad => 0x88a8,
        }
    }

    /// What the kernel means by a number.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0x8100 => Self::Dot1Q,
            0x88a8 => Self::Dot1Ad,
            _ => return None,
        })
    }
}

impl fmt::Display for VlanProtocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Dot1Q => "802.1q",
            Self::Dot1Ad => "802.1ad",
        })
    }
}

#[cfg(feature = "serde")]
impl VlanProtocol {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A switch made by software.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// The links that it joins. They have no addresses of their own.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub members: Vec<Selector>,
    /// Whether it speaks the spanning tree protocol. Default: no.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub stp: bool,
    /// Seconds until a new member forwards. Default: 0 without the spanning tree protocol, else 15.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub forward_delay: Option<u16>,
    /// Whether members heed VLAN tags. Default: no.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "std::ops::Not::not"))]
    pub vlan_filtering: bool,
}

impl Bridge {
    /// A bridge of these links.
    #[must_use]
    pub fn new(name: impl Into<String>, members: Vec<Selector>) -> Self {
        Self { name: name.into(), members, stp: false, forward_delay: None, vlan_filtering: false }
    }

    /// Seconds until a new member forwards.
    #[must_use]
    pub fn delay(&self) -> u16 {
        self.forward_delay.unwrap_or(if self.stp { 15 } else { 0 })
    }
}

/// Two Ethernet links: what is sent over one is received by the other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Veth {
    /// The name of one.
    pub name: String,
    /// The name of the other.
    pub peer: String,
}

impl Veth {
    /// A pair.
    #[must_use]
    pub fn new(name: impl Into<String>, peer: impl Into<String>) -> Self {
        Self { name: name.into(), peer: peer.into() }
    }
}

/// A WireGuard tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Wireguard {
    /// Its name.
    pub name: String,
    /// The file that has its private key, as `wg genkey` prints it.
    pub private_key_file: PathBuf,
    /// The UDP port that it listens at. Default: the kernel chooses one.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub listen_port: Option<u16>,
    /// The mark that the firewall sees on its packets.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub mark: Option<u32>,
    /// Whom it speaks with.
    #[cfg_attr(
        feature = "serde",
        serde(default, rename = "peer", skip_serializing_if = "Vec::is_empty")
    )]
    pub peers: Vec<Peer>,
}

impl Wireguard {
    /// A tunnel without peers.
    #[must_use]
    pub fn new(name: impl Into<String>, private_key_file: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            private_key_file: private_key_file.into(),
            listen_port: None,
            mark: None,
            peers: Vec::new(),
        }
    }
}

/// The other end of a WireGuard tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Peer {
    /// Its public key.
    pub public_key: Key,
    /// The file that has the key that both ends share.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub preshared_key_file: Option<PathBuf>,
    /// Where it is. Without: it has to speak first.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub endpoint: Option<SocketAddr>,
    /// The addresses that it may use.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Vec::is_empty"))]
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between packets that keep the way open.
    #[cfg_attr(feature = "serde", serde(default, skip_serializing_if = "Option::is_none"))]
    pub keepalive: Option<u16>,
}

impl Peer {
    /// A peer that speaks first, and may use no address yet.
    #[must_use]
    pub const fn new(public_key: Key) -> Self {
        Self {
            public_key,
            preshared_key_file: None,
            endpoint: None,
            allowed_ips: Vec::new(),
            keepalive: None,
        }
    }
}
