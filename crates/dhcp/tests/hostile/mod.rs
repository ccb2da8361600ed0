//! A server that answers wrongly in one chosen way: what the core and the shell are both tested
//! with.
#![allow(dead_code, reason = "each of the two test programs uses a part of it")]

use std::net::Ipv4Addr;

use kiln_dhcp::HardwareAddr;
use kiln_dhcp::wire::udp::{self, Endpoints};
use kiln_dhcp::wire::{Message, MessageType, code, field};

/// What an honest answer gives.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 77, 9, 9);
pub(crate) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
pub(crate) const SERVER_MAC: HardwareAddr = HardwareAddr([0x02, 0x53, 0x52, 0x56, 0, 1]);

/// Clearly bad replies: none may lead to an address.
pub(crate) const BAD: [&str; 19] = [
    "wrong-xid",
    "wrong-chaddr",
    "op-request",
    "bad-cookie",
    "no-serverid",
    "serverid-0",
    "yiaddr-bcast",
    "yiaddr-mcast",
    "yiaddr-loop",
    "yiaddr-netaddr",
    "bad-udp-csum",
    "bad-ip-csum",
    "ip-len-over",
    "ipfrag",
    "ack-other-server",
    "lease-0",
    "no-lease",
    "type-len0",
    "trunc-240",
];

/// More that must not lead to an address.
pub(crate) const ALSO_BAD: [&str; 10] = [
    "trunc-200",
    "yiaddr-0",
    "yiaddr-subnet-bcast",
    "ack-other-ip",
    "other-client-id",
    "lease-len2",
    "dup-type",
    "ack-no-offer",
    "hlen-16",
    "zero-len-opts",
];

/// Odd, and still good enough to be used.
pub(crate) const ODD: [&str; 20] = [
    "ok",
    "no-end",
    "zero-udp-csum",
    "vlan-prio",
    "giaddr-set",
    "broadcast-reply",
    "pad-flood",
    "big-1400",
    "overload-ok",
    "opt-code-only",
    "gw-offlink",
    "gw-0",
    "dns-len5",
    "dns-60",
    "host-shell",
    "domain-newline",
    "121-plen33",
    "mtu-68",
    "lease-inf",
    "t1-gt-lease",
];

/// An honest answer to `request`.
pub(crate) fn honest(request: &Message) -> Message {
    let kind = match request.kind {
        MessageType::Discover => MessageType::Offer,
        _ => MessageType::Ack,
    };
    let mut reply = Message::new(true, kind, request.xid, request.chaddr);
    reply.yiaddr = ADDRESS;
    reply
        .options
        .set(code::SERVER_ID, SERVER.octets())
        .set(code::SUBNET_MASK, [255, 255, 0, 0])
        .set(code::ROUTER, SERVER.octets())
        .set(code::DNS, SERVER.octets())
        .set(code::LEASE_TIME, 3600_u32.to_be_bytes());
    reply
}

/// The payload of a frame that this crate's client sent (IPv4 without options).
pub(crate) fn payload_of(frame: &[u8]) -> Option<&[u8]> {
    (frame.get(12..15)? == [0x08, 0x00, 0x45]).then(|| frame.get(42..)).flatten()
}

/// The frame that a server answers `request` with in the given case, if it answers.
pub(crate) fn answer(case: &str, request: &Message) -> Option<Vec<u8>> {
    let mut reply = honest(request);
    let ack = reply.kind == MessageType::Ack;
    let options = &mut reply.options;
    match case {
        "wrong-xid" => reply.xid ^= 1,
        "wrong-chaddr" => reply.chaddr.0[5] ^= 1,
        "op-request" => reply.reply = false,
        "no-serverid" => options.remove(code::SERVER_ID),
        "serverid-0" => discard(options.set(code::SERVER_ID, [0; 4])),
        "yiaddr-0" => reply.yiaddr = Ipv4Addr::UNSPECIFIED,
        "yiaddr-bcast" => reply.yiaddr = Ipv4Addr::BROADCAST,
        "yiaddr-mcast" => reply.yiaddr = Ipv4Addr::new(224, 0, 0, 9),
        "yiaddr-loop" => reply.yiaddr = Ipv4Addr::new(127, 0, 0, 9),
        "yiaddr-netaddr" => reply.yiaddr = Ipv4Addr::new(10, 77, 0, 0),
        "yiaddr-subnet-bcast" => reply.yiaddr = Ipv4Addr::new(10, 77, 255, 255),
        "ack-other-server" if ack => discard(options.set(code::SERVER_ID, [10, 77, 0, 2])),
        "ack-other-ip" if ack => reply.yiaddr = Ipv4Addr::new(10, 77, 8, 8),
        "ack-no-offer" => reply.kind = MessageType::Ack,
        "other-client-id" => discard(options.set(code::CLIENT_ID, [1, 2, 3, 4, 5, 6, 7])),
        "lease-0" => discard(options.set(code::LEASE_TIME, [0; 4])),
        "lease-len2" => discard(options.set(code::LEASE_TIME, [14, 16])),
        "lease-inf" => discard(options.set(code::LEASE_TIME, [255; 4])),
        "no-lease" => options.remove(code::LEASE_TIME),
        "t1-gt-lease" => discard(
            options
                .set(code::RENEWAL_TIME, 9000_u32.to_be_bytes())
                .set(code::REBINDING_TIME, 8000_u32.to_be_bytes()),
        ),
        "giaddr-set" => reply.giaddr = Ipv4Addr::new(10, 77, 0, 9),
        "gw-offlink" => discard(options.set(code::ROUTER, [192, 0, 2, 1])),
        "gw-0" => discard(options.set(code::ROUTER, [0; 4])),
        "dns-len5" => discard(options.set(code::DNS, [10, 77, 0, 1, 10])),
        "dns-60" => discard(
            options.set(code::DNS, (0..60).flat_map(|n| [10, 77, 3, n]).collect::<Vec<u8>>()),
        ),
        "host-shell" => discard(options.set(code::HOST_NAME, *b"x;touch /tmp/owned;`id`$(id)")),
        "domain-newline" => {
            discard(options.set(code::DOMAIN_NAME, *b"example.org\nnameserver 6.6.6.6"))
        }
        "121-plen33" => {
            discard(options.set(code::CLASSLESS_ROUTES, [33, 10, 0, 0, 0, 0, 10, 77, 0, 1]))
        }
        "mtu-68" => discard(options.set(code::MTU, [0, 68])),
        "big-1400" => {
            for code in 200..205 {
                options.set(code, vec![b'x'; 210]);
            }
        }
        "zero-len-opts" => {
            for code in [code::SUBNET_MASK, code::ROUTER, code::LEASE_TIME, code::SERVER_ID] {
                options.set(code, []);
            }
        }
        _ => {}
    }

    let mut payload = reply.encode();
    let end = payload.iter().rposition(|byte| *byte == code::END).unwrap_or(payload.len());
    match case {
        "bad-cookie" => payload[field::COOKIE].copy_from_slice(&[0; 4]),
        "type-len0" => {
            // Option 53 of length 0; its value becomes a PAD.
            payload[field::OPTIONS + 1] = 0;
            payload[field::OPTIONS + 2] = 0;
        }
        "dup-type" => discard(payload.splice(end..=end, [53, 1, 6, 255])),
        "trunc-200" => payload.truncate(200),
        "trunc-240" => payload.truncate(240),
        "no-end" => payload.truncate(end),
        "opt-code-only" => {
            payload.truncate(end);
            payload.push(code::NTP);
        }
        "pad-flood" => discard(payload.splice(end..end, [0; 900])),
        "hlen-16" => payload[field::HLEN] = 16,
        "overload-ok" => {
            // Everything behind the message type moves to file.
            let moved: Vec<u8> = payload.drain(field::OPTIONS + 3..=end).collect();
            payload[field::FILE.start..field::FILE.start + moved.len()].copy_from_slice(&moved);
            payload.splice(field::OPTIONS + 3..field::OPTIONS + 3, [52, 1, 1, 255]);
        }
        _ => {}
    }

    let unicast = case != "broadcast-reply";
    let to = Endpoints {
        source_mac: SERVER_MAC,
        destination_mac: if unicast { request.chaddr } else { HardwareAddr::BROADCAST },
        source: SERVER,
        destination: if unicast { ADDRESS } else { Ipv4Addr::BROADCAST },
        source_port: 67,
        destination_port: 68,
    };
    let mut frame = udp::encode(&to, &payload)?;
    match case {
        "bad-udp-csum" => frame[40] ^= 0x5a,
        "zero-udp-csum" => frame[40..42].fill(0),
        "bad-ip-csum" => frame[24] ^= 0x5a,
        "ip-len-over" => {
            let len = u16::from_be_bytes([frame[16], frame[17]]) + 100;
            frame[16..18].copy_from_slice(&len.to_be_bytes());
            fix_ip_checksum(&mut frame);
        }
        "ipfrag" => {
            frame[20] = 0x20; // more fragments
            fix_ip_checksum(&mut frame);
        }
        "vlan-prio" => discard(frame.splice(12..12, [0x81, 0x00, 0xe0, 0x00])),
        _ => {}
    }
    Some(frame)
}

fn fix_ip_checksum(frame: &mut [u8]) {
    frame[24..26].fill(0);
    let mut sum: u32 =
        frame[14..34].chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let sum = !u16::try_from(sum).unwrap();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// Ends a chain of calls that gives back what it was called on.
pub(crate) fn discard<T>(_: T) {}
