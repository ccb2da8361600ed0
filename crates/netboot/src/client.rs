//! Who asks: what a machine that boots says of itself (RFC 4578, RFC 3004).

use core::fmt;

use kiln_dhcp_wire::{HardwareAddr, Message, code};

/// What kind of machine it is, and what its firmware wants: the numbers that IANA keeps as "Processor
/// Architecture Types" (RFC 4578 section 2.1, RFC 5970 section 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// A PC with a BIOS.
    Bios,
    /// UEFI for x86 with 32 bits.
    UefiX86,
    /// UEFI for x86-64.
    UefiX64,
    /// UEFI for ARM with 32 bits.
    UefiArm32,
    /// UEFI for ARM with 64 bits.
    UefiArm64,
    /// Another, by its number.
    Other(u16),
}

impl Architecture {
    /// By the number on the wire, and whether the firmware takes its program over HTTP.
    #[must_use]
    pub const fn from_wire(number: u16) -> (Self, bool) {
        match number {
            0 => (Self::Bios, false),
            6 => (Self::UefiX86, false),
            // 9 is EFI byte code in the registry; firmware for x86-64 says either
            7 | 9 => (Self::UefiX64, false),
            10 => (Self::UefiArm32, false),
            11 => (Self::UefiArm64, false),
            15 => (Self::UefiX86, true),
            16 => (Self::UefiX64, true),
            18 => (Self::UefiArm32, true),
            19 => (Self::UefiArm64, true),
            20 => (Self::Bios, true),
            other => (Self::Other(other), false),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bios => f.write_str("BIOS"),
            Self::UefiX86 => f.write_str("UEFI x86"),
            Self::UefiX64 => f.write_str("UEFI x86-64"),
            Self::UefiArm32 => f.write_str("UEFI ARM"),
            Self::UefiArm64 => f.write_str("UEFI ARM64"),
            Self::Other(number) => write!(f, "architecture {number}"),
        }
    }
}

/// What of a machine asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// Its firmware, which loads a program with TFTP.
    Pxe,
    /// Its firmware, which loads a program over HTTP.
    Http,
    /// iPXE, which takes a script.
    Ipxe,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pxe => "PXE",
            Self::Http => "HTTP boot",
            Self::Ipxe => "iPXE",
        })
    }
}

/// A machine that boots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// The hardware address of the link that it boots over.
    pub mac: HardwareAddr,
    /// What kind of machine it is.
    pub architecture: Architecture,
    /// What of it asks.
    pub stage: Stage,
    /// The identifier of the machine, as it came (option 97: a type, then 16 bytes).
    pub machine: Option<[u8; 17]>,
}

impl Client {
    /// The machine that has sent a message; `None` when it does not want to boot.
    #[must_use]
    pub fn of(message: &Message) -> Option<Self> {
        let options = &message.options;
        let class = options.get(code::VENDOR_CLASS).unwrap_or_default();
        // "PXEClient:Arch:00007:UNDI:003016", and the same with HTTPClient
        let (is_pxe, is_http) = (class.starts_with(b"PXEClient"), class.starts_with(b"HTTPClient"));
        let user = options.get(code::USER_CLASS).unwrap_or_default();
        // Plain text, where RFC 3004 wants a length before it; some write that.
        let is_ipxe = user == b"iPXE" || user == b"\x04iPXE" || options.get(code::IPXE).is_some();
        if !(is_pxe || is_http || is_ipxe) {
            return None;
        }
        let number = match options.get(code::ARCHITECTURES) {
            Some([a, b, ..]) => u16::from_be_bytes([*a, *b]),
            _ => in_class(class).unwrap_or_default(),
        };
        let (architecture, over_http) = Architecture::from_wire(number);
        let stage = match (is_ipxe, is_http || over_http) {
            (true, _) => Stage::Ipxe,
            (false, true) => Stage::Http,
            (false, false) => Stage::Pxe,
        };
        let machine = options.fixed::<17>(code::MACHINE_ID);
        Some(Self { mac: message.chaddr, architecture, stage, machine })
    }
}

/// The number of the architecture in a vendor class.
fn in_class(class: &[u8]) -> Option<u16> {
    let text = core::str::from_utf8(class).ok()?;
    let (_, rest) = text.split_once(":Arch:")?;
    rest.get(..5)?.parse().ok()
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {})", self.mac, self.stage, self.architecture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_dhcp_wire::MessageType;

    fn message(options: &[(u8, &[u8])]) -> Message {
        let mac = HardwareAddr([2, 0, 0, 0, 0, 1]);
        let mut message = Message::new(false, MessageType::Discover, 1, mac);
        for (code, data) in options {
            message.options.set(*code, *data);
        }
        message
    }

    #[test]
    fn machines_are_told_apart() {
        let pxe = (code::VENDOR_CLASS, &b"PXEClient:Arch:00007:UNDI:003016"[..]);
        for (options, expected) in [
            (vec![pxe, (code::ARCHITECTURES, &[0, 0])], "02:00:00:00:00:01 (PXE, BIOS)"),
            (vec![pxe], "02:00:00:00:00:01 (PXE, UEFI x86-64)"),
            (
                vec![pxe, (code::ARCHITECTURES, &[0, 9, 0, 0]), (code::USER_CLASS, b"iPXE")],
                "02:00:00:00:00:01 (iPXE, UEFI x86-64)",
            ),
            (vec![(code::IPXE, b"\xb1\x01\x01")], "02:00:00:00:00:01 (iPXE, BIOS)"),
            (
                vec![(code::VENDOR_CLASS, b"HTTPClient:Arch:00016:UNDI:003001")],
                "02:00:00:00:00:01 (HTTP boot, UEFI x86-64)",
            ),
            (
                vec![pxe, (code::ARCHITECTURES, &[0, 77])],
                "02:00:00:00:00:01 (PXE, architecture 77)",
            ),
        ] {
            let client = Client::of(&message(&options)).unwrap();
            assert_eq!(client.to_string(), expected);
        }
        assert_eq!(Client::of(&message(&[])), None);
        assert_eq!(Client::of(&message(&[(code::VENDOR_CLASS, b"udhcp 1.35")])), None);
        let short = Client::of(&message(&[pxe, (code::MACHINE_ID, &[0, 1])])).unwrap();
        assert_eq!(short.machine, None);
    }
}
