//! Beside an existing DHCP server: who wants to boot is told from where, and nothing else (PXE 2.1, section 2.2).

use std::net::{Ipv4Addr, SocketAddrV4};

use kiln_dhcp_wire::{Message, MessageType, code};

use crate::{Boot, Client};

/// The port that boot servers are asked at, directly.
pub const PORT: u16 = 4011;
pub(crate) const CLIENT_PORT: u16 = 68;
pub(crate) const SERVER_PORT: u16 = 67;

/// An answer, and where it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// What is said.
    pub message: Message,
    /// To whom. Who has no address yet is told by broadcast.
    pub to: SocketAddrV4,
}

/// What a proxy answers to a message that came to port 67 or 4011 (`directly`) from somebody; `None` to what is not
/// for it.
#[must_use]
pub fn answer(
    boot: &Boot,
    asked: &Message,
    from: SocketAddrV4,
    directly: bool,
) -> Option<(Client, Reply)> {
    let kind = match (asked.kind, directly) {
        (MessageType::Discover, false) => MessageType::Offer,
        (MessageType::Request | MessageType::Inform, true) => MessageType::Ack,
        _ => return None,
    };
    if asked.reply {
        return None;
    }
    let client = Client::of(asked)?;
    let mut message = Message::new(true, kind, asked.xid, asked.chaddr);
    (message.ciaddr, message.giaddr) = (asked.ciaddr, asked.giaddr);
    message.broadcast = asked.broadcast;
    message.options.set(code::SERVER_ID, boot.address.octets());
    if !boot.tell(&client, &mut message) {
        return None;
    }
    let to = if directly {
        from
    } else if asked.giaddr.is_unspecified() {
        SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
    } else {
        SocketAddrV4::new(asked.giaddr, SERVER_PORT)
    };
    Some((client, Reply { message, to }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kiln_dhcp_wire::HardwareAddr;

    fn asked(kind: MessageType) -> Message {
        let mut asked = Message::new(false, kind, 7, HardwareAddr([2, 0, 0, 0, 0, 1]));
        asked.options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00007:UNDI:003016");
        asked.options.set(code::MACHINE_ID, [1; 17]);
        asked
    }

    #[test]
    fn who_boots_is_told_by_broadcast_and_others_are_not() {
        let boot = Boot::new([192, 0, 2, 1].into(), 80);
        let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
        let (_, reply) = answer(&boot, &asked(MessageType::Discover), from, false).unwrap();
        assert_eq!(reply.to, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        let message = Message::decode(&reply.message.encode()).unwrap();
        assert_eq!((message.kind, message.xid, message.reply), (MessageType::Offer, 7, true));
        assert_eq!(message.yiaddr, Ipv4Addr::UNSPECIFIED);
        assert_eq!(message.siaddr, boot.address);
        assert_eq!(message.file, b"ipxe.efi");
        assert_eq!(message.options.get(code::VENDOR_CLASS), Some(&b"PXEClient"[..]));
        assert_eq!(message.options.get(code::MACHINE_ID), Some(&[1; 17][..]));
        // addresses are another server's
        assert_eq!(answer(&boot, &asked(MessageType::Request), from, false), None);
        let mut other = asked(MessageType::Discover);
        other.options.remove(code::VENDOR_CLASS);
        assert_eq!(answer(&boot, &other, from, false), None);
        let mut relayed = asked(MessageType::Discover);
        relayed.giaddr = [198, 51, 100, 1].into();
        let (_, reply) = answer(&boot, &relayed, from, false).unwrap();
        assert_eq!(reply.to, SocketAddrV4::new(relayed.giaddr, 67));
        let mut back = asked(MessageType::Discover);
        back.reply = true;
        assert_eq!(answer(&boot, &back, from, false), None);
    }

    #[test]
    fn who_asks_directly_is_answered_directly() {
        let boot = Boot::new([192, 0, 2, 1].into(), 80);
        let from = SocketAddrV4::new([192, 0, 2, 77].into(), 4011);
        let (_, reply) = answer(&boot, &asked(MessageType::Request), from, true).unwrap();
        assert_eq!((reply.to, reply.message.kind), (from, MessageType::Ack));
        assert_eq!(answer(&boot, &asked(MessageType::Discover), from, true), None);
    }
}
