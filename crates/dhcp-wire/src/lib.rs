//! Bytes to values and back: the frame, the BOOTP header, the options.
//!
//! Contract: no function here panics or reads past its slice, whatever the bytes are; memory is
//! bounded by the length of the input (an Ethernet frame in practice). Decoding is strict where a
//! wrong guess would configure a machine wrongly (cookie, lengths, checksums) and lenient where the
//! field is known to be careless (no END option, padding, unknown options).
//!
//! Standards: RFC 2131 section 2 (message), RFC 2132 (options), RFC 3396 (long options), RFC 4578 (what PXE adds),
//! RFC 791 and RFC 768 (IPv4 and UDP).
//!
//! ```
//! use kiln_dhcp_wire::{HardwareAddr, Message, MessageType, code};
//!
//! let mac: HardwareAddr = "02:00:00:00:00:01".parse()?;
//! let mut message = Message::new(true, MessageType::Ack, 7, mac);
//! message.options.set(code::ROUTER, [10, 0, 0, 1]);
//! message.file = b"boot.efi".to_vec();
//! let bytes = message.encode();
//! assert_eq!(Message::decode(&bytes)?, message);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

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

/// A text that is no hardware address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoHardwareAddr;

impl fmt::Display for NoHardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected six bytes in hexadecimal, as 02:00:00:00:00:01")
    }
}

impl core::error::Error for NoHardwareAddr {}

impl core::str::FromStr for HardwareAddr {
    type Err = NoHardwareAddr;

    /// Reads `02:00:00:00:00:01` or `02-00-00-00-00-01`.
    fn from_str(text: &str) -> Result<Self, NoHardwareAddr> {
        let mut bytes = [0; 6];
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().filter(|part| part.len() == 2).ok_or(NoHardwareAddr)?;
            if !part.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(NoHardwareAddr);
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| NoHardwareAddr)?;
        }
        if parts.next().is_some() { Err(NoHardwareAddr) } else { Ok(Self(bytes)) }
    }
}

impl fmt::Debug for HardwareAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hardware_addresses_as_text() {
        let mac = HardwareAddr([0x52, 0x54, 0, 0xab, 0xcd, 0xef]);
        assert_eq!("52:54:00:ab:cd:ef".parse(), Ok(mac));
        assert_eq!("52-54-00-AB-CD-EF".parse(), Ok(mac));
        assert_eq!(mac.to_string().parse(), Ok(mac));
        for bad in
            ["", "52:54:00:ab:cd", "52:54:00:ab:cd:ef:00", "5:54:00:ab:cd:ef", "+2:54:00:ab:cd:ef"]
        {
            assert_eq!(bad.parse::<HardwareAddr>(), Err(NoHardwareAddr), "{bad}");
        }
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
