//! Bytes to values and back: the frame, the BOOTP header, the options.
//!
//! Contract: no function here panics or reads past its slice, whatever the bytes are; memory is
//! bounded by the length of the input (an Ethernet frame in practice). Decoding is strict where a
//! wrong guess would configure a machine wrongly (cookie, lengths, checksums) and lenient where the
//! field is known to be careless (no END option, padding, unknown options).
//!
//! Standards: RFC 2131 section 2 (message), RFC 2132 (options), RFC 3396 (long options), RFC 791 and
//! RFC 768 (IPv4 and UDP).

pub mod field;
pub mod message;
pub mod options;
pub mod packet;
pub mod udp;

use core::fmt;

pub use message::{Message, MessageType};
pub use options::{Options, code};
pub use packet::Packet;

/// Why bytes are not a DHCP message (or not a frame that carries one).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Malformed {
    /// Shorter than its fixed part, or than the length that its header states.
    Truncated,
    /// Not Ethernet II with IPv4 inside (after at most one priority tag of VLAN 0).
    NotIpv4,
    /// IPv4 header checksum wrong.
    IpChecksum,
    /// A fragment: DHCP over broadcast is never reassembled here.
    Fragment,
    /// Not UDP.
    NotUdp,
    /// UDP checksum wrong, and the kernel did not say that it is still to be filled in.
    UdpChecksum,
    /// Not sent to the client port 68.
    Port,
    /// The magic cookie 99.130.83.99 is missing (plain BOOTP).
    Cookie,
    /// Hardware type or address length is not Ethernet's.
    Hardware,
    /// No message type option, or not exactly one of one byte with a known value.
    MessageType,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "shorter than its header states",
            Self::NotIpv4 => "not an IPv4 frame",
            Self::IpChecksum => "wrong IPv4 header checksum",
            Self::Fragment => "an IPv4 fragment",
            Self::NotUdp => "not UDP",
            Self::UdpChecksum => "wrong UDP checksum",
            Self::Port => "not sent to port 68",
            Self::Cookie => "no DHCP magic cookie",
            Self::Hardware => "hardware address is not Ethernet",
            Self::MessageType => "no single, valid message type option",
        })
    }
}

impl core::error::Error for Malformed {}

/// An Ethernet (MAC) address: 6 bytes, hardware type 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct HardwareAddr(pub [u8; 6]);

impl HardwareAddr {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether the address may stand for one station: neither all zero nor with the group bit set.
    #[must_use]
    pub const fn is_unicast(self) -> bool {
        let [a, b, c, d, e, f] = self.0;
        a & 1 == 0 && (a | b | c | d | e | f) != 0
    }
}

impl fmt::Display for HardwareAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

impl fmt::Debug for HardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
