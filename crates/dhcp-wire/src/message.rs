//! A whole DHCP message as an owned value.

use core::net::Ipv4Addr;

use crate::{HardwareAddr, Malformed, Options, Packet, code, field};

/// Option 53 (RFC 2132 section 9.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MessageType {
    /// Client looks for servers.
    Discover = 1,
    /// Server offers an address.
    Offer = 2,
    /// Client takes an offer, or extends or checks a lease.
    Request = 3,
    /// Client found the address in use.
    Decline = 4,
    /// Server grants.
    Ack = 5,
    /// Server refuses: the client's address is wrong here.
    Nak = 6,
    /// Client gives its address back.
    Release = 7,
    /// Client asks for parameters only.
    Inform = 8,
}

impl MessageType {
    /// From the number on the wire.
    #[must_use]
    pub const fn from_wire(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Discover,
            2 => Self::Offer,
            3 => Self::Request,
            4 => Self::Decline,
            5 => Self::Ack,
            6 => Self::Nak,
            7 => Self::Release,
            8 => Self::Inform,
            _ => return None,
        })
    }
}

/// A DHCP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `false` from client to server, `true` from server to client.
    pub reply: bool,
    /// Option 53.
    pub kind: MessageType,
    /// Transaction identifier.
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// The client asks for broadcast replies.
    pub broadcast: bool,
    /// The client's configured address.
    pub ciaddr: Ipv4Addr,
    /// The address given.
    pub yiaddr: Ipv4Addr,
    /// Next server.
    pub siaddr: Ipv4Addr,
    /// Relay agent.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub chaddr: HardwareAddr,
    /// Name of the server of the boot file; empty where the field holds options. At most 64 bytes:
    /// a longer one is written as option 66.
    pub sname: Vec<u8>,
    /// Name of the boot file; empty where the field holds options. At most 128 bytes: a longer one is
    /// written as option 67.
    pub file: Vec<u8>,
    /// Every option but 52 and 53.
    pub options: Options,
}

impl Message {
    /// An otherwise empty message.
    #[must_use]
    pub const fn new(reply: bool, kind: MessageType, xid: u32, chaddr: HardwareAddr) -> Self {
        Self {
            reply,
            kind,
            xid,
            secs: 0,
            broadcast: false,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            yiaddr: Ipv4Addr::UNSPECIFIED,
            siaddr: Ipv4Addr::UNSPECIFIED,
            giaddr: Ipv4Addr::UNSPECIFIED,
            chaddr,
            sname: Vec::new(),
            file: Vec::new(),
            options: Options::new(),
        }
    }

    /// Reads a UDP payload.
    ///
    /// # Errors
    /// [`Malformed`], when the fixed part, the hardware address or option 53 is not right. `op`
    /// other than 1 and 2 counts as a request, which a client ignores.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let packet = Packet::new(bytes)?;
        let chaddr = packet.chaddr()?;
        let mut options = Options::decode(&packet);
        let kind = options
            .fixed::<1>(code::MESSAGE_TYPE)
            .and_then(|[value]| MessageType::from_wire(value))
            .ok_or(Malformed::MessageType)?;
        options.remove(code::MESSAGE_TYPE);
        let overload = packet.overload();
        let text = |field: &[u8], holds_options: bool| match holds_options {
            true => Vec::new(),
            false => field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
        };
        Ok(Self {
            reply: packet.op() == field::BOOTREPLY,
            kind,
            xid: packet.xid(),
            secs: packet.secs(),
            broadcast: packet.broadcast(),
            ciaddr: packet.ciaddr(),
            yiaddr: packet.yiaddr(),
            siaddr: packet.siaddr(),
            giaddr: packet.giaddr(),
            chaddr,
            sname: text(packet.sname(), overload & 2 != 0),
            file: text(packet.file(), overload & 1 != 0),
            options,
        })
    }

    /// The UDP payload: at least 300 bytes, option 53 first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; field::OPTIONS];
        out[field::OP] = if self.reply { field::BOOTREPLY } else { field::BOOTREQUEST };
        out[field::HTYPE] = field::ETHERNET;
        out[field::HLEN] = 6;
        out[field::XID].copy_from_slice(&self.xid.to_be_bytes());
        out[field::SECS].copy_from_slice(&self.secs.to_be_bytes());
        let flags = if self.broadcast { field::BROADCAST } else { 0 };
        out[field::FLAGS].copy_from_slice(&flags.to_be_bytes());
        out[field::CIADDR].copy_from_slice(&self.ciaddr.octets());
        out[field::YIADDR].copy_from_slice(&self.yiaddr.octets());
        out[field::SIADDR].copy_from_slice(&self.siaddr.octets());
        out[field::GIADDR].copy_from_slice(&self.giaddr.octets());
        out[field::CHADDR.start..field::CHADDR.start + 6].copy_from_slice(&self.chaddr.0);
        out[field::COOKIE].copy_from_slice(&field::MAGIC);
        out.extend([code::MESSAGE_TYPE, 1, self.kind as u8]);
        let texts = [
            (&self.sname, field::SNAME, code::BOOT_SERVER),
            (&self.file, field::FILE, code::BOOT_FILE),
        ];
        let mut long = Options::new();
        for (text, field, code) in texts {
            if text.len() <= field.len() {
                out[field.start..field.start + text.len()].copy_from_slice(text);
            } else if self.options.get(code).is_none() {
                long.set(code, text.clone());
            }
        }
        long.encode(&mut out);
        if out.last() == Some(&code::END) {
            out.pop();
        }
        self.options.encode(&mut out);
        if out.len() < field::MINIMUM_LEN {
            out.resize(field::MINIMUM_LEN, 0);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_discover_rfc2131_figure_1() {
        let mac = HardwareAddr([2, 0, 0, 0, 0, 1]);
        let mut message = Message::new(false, MessageType::Discover, 0x0102_0304, mac);
        message.secs = 5;
        message.broadcast = true;
        message.options.set(code::CLIENT_ID, [1, 2, 0, 0, 0, 0, 1]);
        let bytes = message.encode();
        assert_eq!(bytes.len(), 300);
        assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
        assert_eq!(bytes[28..34], mac.0);
        assert_eq!(
            bytes[236..253],
            *b"\x63\x82\x53\x63\x35\x01\x01\x3d\x07\x01\x02\0\0\0\0\x01\xff"
        );
        assert_eq!(Message::decode(&bytes), Ok(message));
    }

    #[test]
    fn names_of_boot_files_stand_in_the_header_or_in_options() {
        let mut message = Message::new(true, MessageType::Offer, 1, HardwareAddr::default());
        message.file = b"ipxe.efi".to_vec();
        message.sname = b"boot".to_vec();
        let bytes = message.encode();
        assert_eq!(bytes[field::FILE.start..][..9], *b"ipxe.efi\0");
        assert_eq!(Message::decode(&bytes), Ok(message.clone()));
        message.file = vec![b'x'; 200];
        let read = Message::decode(&message.encode()).unwrap();
        assert_eq!((read.file.len(), read.options.get(code::BOOT_FILE).unwrap().len()), (0, 200));
        // a field that holds options holds no name
        let mut bytes = Message::new(true, MessageType::Offer, 1, HardwareAddr::default()).encode();
        bytes[field::FILE.start..][..4].copy_from_slice(&[12, 1, b'h', 255]);
        bytes[field::OPTIONS + 3..][..4].copy_from_slice(&[code::OVERLOAD, 1, 1, code::END]);
        let read = Message::decode(&bytes).unwrap();
        assert_eq!(
            (read.file.as_slice(), read.options.get(code::HOST_NAME)),
            (&b""[..], Some(&b"h"[..]))
        );
    }

    #[test]
    fn decode_names_what_is_wrong() {
        let mac = HardwareAddr([2, 0, 0, 0, 0, 1]);
        let good = Message::new(true, MessageType::Offer, 1, mac).encode();
        assert_eq!(Message::decode(&good[..200]), Err(Malformed::Truncated));
        assert_eq!(Message::decode(&good[..240]), Err(Malformed::MessageType));
        let mut bad = good.clone();
        bad[236] = 0;
        assert_eq!(Message::decode(&bad), Err(Malformed::Cookie));
        let mut bad = good.clone();
        bad[2] = 16;
        assert_eq!(Message::decode(&bad), Err(Malformed::Hardware));
        let mut bad = good;
        bad[242] = 77;
        assert_eq!(Message::decode(&bad), Err(Malformed::MessageType));
    }
}
