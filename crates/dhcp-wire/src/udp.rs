//! Ethernet, IPv4 and UDP around a message, for a host that has no address yet and so cannot use a
//! UDP socket.

use core::net::Ipv4Addr;

use crate::{HardwareAddr, Malformed};

/// UDP port of clients.
pub const CLIENT_PORT: u16 = 68;
/// UDP port of servers.
pub const SERVER_PORT: u16 = 67;

const ETHERNET_LEN: usize = 14;
const IP_LEN: usize = 20;
const UDP_LEN: usize = 8;
const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
const PROTOCOL_UDP: u8 = 17;

/// Whether the UDP checksum of a received frame means anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChecksumState {
    /// It is on the wire as the sender computed it: check it.
    #[default]
    Complete,
    /// The kernel says that it has yet to be filled in (`TP_STATUS_CSUMNOTREADY`): the frame comes
    /// from this host or over a virtual link that leaves the work to the receiver.
    NotReady,
}

/// Where a frame goes to and comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Source hardware address.
    pub source_mac: HardwareAddr,
    /// Destination hardware address.
    pub destination_mac: HardwareAddr,
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Source UDP port.
    pub source_port: u16,
    /// Destination UDP port.
    pub destination_port: u16,
}

/// A UDP datagram found in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Addresses and ports.
    pub endpoints: Endpoints,
    /// UDP payload.
    pub payload: &'a [u8],
}

/// The ones' complement sum of RFC 1071 over the concatenation of `parts`, each of which but the
/// last must have an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        let mut words = part.chunks_exact(2);
        for word in &mut words {
            if let [high, low] = word {
                sum += u64::from(u16::from_be_bytes([*high, *low]));
            }
        }
        if let [last] = words.remainder() {
            sum += u64::from(*last) << 8;
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

fn pseudo_header(source: Ipv4Addr, destination: Ipv4Addr, udp_len: u16) -> [u8; 12] {
    let [a, b, c, d] = source.octets();
    let [e, f, g, h] = destination.octets();
    let [i, j] = udp_len.to_be_bytes();
    [a, b, c, d, e, f, g, h, 0, PROTOCOL_UDP, i, j]
}

/// Builds a frame with both checksums; `None` when `payload` does not fit an IPv4 packet.
#[must_use]
pub fn encode(to: &Endpoints, payload: &[u8]) -> Option<Vec<u8>> {
    let udp_len = u16::try_from(UDP_LEN + payload.len()).ok()?;
    let total_len = u16::try_from(IP_LEN + UDP_LEN + payload.len()).ok()?;

    let mut ip = [0_u8; IP_LEN];
    ip[0] = 0x45;
    ip[1] = 0xc0; // DSCP CS6, network control, as other clients mark these few frames
    ip[2..4].copy_from_slice(&total_len.to_be_bytes());
    ip[6] = 0x40; // do not fragment
    ip[8] = 64;
    ip[9] = PROTOCOL_UDP;
    ip[12..16].copy_from_slice(&to.source.octets());
    ip[16..20].copy_from_slice(&to.destination.octets());
    let sum = checksum(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut udp = [0_u8; UDP_LEN];
    udp[0..2].copy_from_slice(&to.source_port.to_be_bytes());
    udp[2..4].copy_from_slice(&to.destination_port.to_be_bytes());
    udp[4..6].copy_from_slice(&udp_len.to_be_bytes());
    let sum = checksum(&[&pseudo_header(to.source, to.destination, udp_len), &udp, payload]);
    // Zero would mean "no checksum" (RFC 768).
    let sum = if sum == 0 { 0xffff } else { sum };
    udp[6..8].copy_from_slice(&sum.to_be_bytes());

    let mut frame = Vec::with_capacity(ETHERNET_LEN + usize::from(total_len));
    frame.extend_from_slice(&to.destination_mac.0);
    frame.extend_from_slice(&to.source_mac.0);
    frame.extend_from_slice(&ETHERTYPE_IPV4);
    frame.extend_from_slice(&ip);
    frame.extend_from_slice(&udp);
    frame.extend_from_slice(payload);
    Some(frame)
}

/// Finds the datagram in a frame. Ethernet padding behind it is cut off; an IPv4 length that
/// reaches past the frame, a fragment or a wrong checksum is refused.
///
/// # Errors
/// [`Malformed`], saying which.
pub fn decode(frame: &[u8], state: ChecksumState) -> Result<Datagram<'_>, Malformed> {
    let (ethernet, mut rest) =
        frame.split_first_chunk::<ETHERNET_LEN>().ok_or(Malformed::Truncated)?;
    let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, t0, t1] = *ethernet;
    let mut ethertype = [t0, t1];
    if ethertype == ETHERTYPE_VLAN {
        // 802.1p: a tag that carries a priority and VLAN 0 is no VLAN at all.
        let ([p0, p1, inner @ ..], after) =
            rest.split_first_chunk::<4>().ok_or(Malformed::Truncated)?;
        if u16::from_be_bytes([*p0, *p1]) & 0x0fff != 0 {
            return Err(Malformed::NotIpv4);
        }
        ethertype = *inner;
        rest = after;
    }
    if ethertype != ETHERTYPE_IPV4 {
        return Err(Malformed::NotIpv4);
    }

    let (ip, _) = rest.split_first_chunk::<IP_LEN>().ok_or(Malformed::Truncated)?;
    let header_len = usize::from(ip[0] & 0x0f) * 4;
    let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
    if ip[0] >> 4 != 4 || header_len < IP_LEN {
        return Err(Malformed::NotIpv4);
    }
    let packet = rest.get(..total_len).ok_or(Malformed::Truncated)?;
    let (header, segment) = packet.split_at_checked(header_len).ok_or(Malformed::Truncated)?;
    if checksum(&[header]) != 0 {
        return Err(Malformed::IpChecksum);
    }
    // More-fragments bit or an offset; "do not fragment" and the reserved bit do not matter.
    if u16::from_be_bytes([ip[6], ip[7]]) & 0x3fff != 0 {
        return Err(Malformed::Fragment);
    }
    if ip[9] != PROTOCOL_UDP {
        return Err(Malformed::NotUdp);
    }
    let source = Ipv4Addr::new(ip[12], ip[13], ip[14], ip[15]);
    let destination = Ipv4Addr::new(ip[16], ip[17], ip[18], ip[19]);

    let (udp, _) = segment.split_first_chunk::<UDP_LEN>().ok_or(Malformed::Truncated)?;
    let [sp0, sp1, dp0, dp1, l0, l1, c0, c1] = *udp;
    let udp_len = u16::from_be_bytes([l0, l1]);
    let datagram = segment.get(..usize::from(udp_len)).ok_or(Malformed::Truncated)?;
    let payload = datagram.get(UDP_LEN..).ok_or(Malformed::Truncated)?;
    let destination_port = u16::from_be_bytes([dp0, dp1]);
    if destination_port != CLIENT_PORT {
        return Err(Malformed::Port);
    }
    let unchecked = [c0, c1] == [0, 0] || state == ChecksumState::NotReady;
    if !unchecked && checksum(&[&pseudo_header(source, destination, udp_len), datagram]) != 0 {
        return Err(Malformed::UdpChecksum);
    }
    Ok(Datagram {
        endpoints: Endpoints {
            source_mac: HardwareAddr([s0, s1, s2, s3, s4, s5]),
            destination_mac: HardwareAddr([d0, d1, d2, d3, d4, d5]),
            source,
            destination,
            source_port: u16::from_be_bytes([sp0, sp1]),
            destination_port,
        },
        payload,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: Endpoints = Endpoints {
        source_mac: HardwareAddr([2, 0, 0, 0, 0, 2]),
        destination_mac: HardwareAddr([2, 0, 0, 0, 0, 1]),
        source: Ipv4Addr::new(10, 77, 0, 1),
        destination: Ipv4Addr::new(10, 77, 9, 9),
        source_port: 67,
        destination_port: 68,
    };

    #[test]
    fn rfc1071_example() {
        // RFC 1071 section 3: the sum of these is ddf2.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]]), !0xddf2);
    }

    #[test]
    fn round_trip_with_padding_and_priority_tag() {
        for payload in [&b"even"[..], b"odd"] {
            let mut frame = encode(&TO, payload).unwrap();
            frame.extend([0xee; 9]);
            let back = decode(&frame, ChecksumState::Complete).unwrap();
            assert_eq!((back.endpoints, back.payload), (TO, payload));
            let mut tagged = frame[..12].to_vec();
            tagged.extend([0x81, 0x00, 0xe0, 0x00]);
            tagged.extend(&frame[12..]);
            assert_eq!(decode(&tagged, ChecksumState::Complete).unwrap().payload, payload);
            tagged[15] = 5; // VLAN 5 is another network
            assert_eq!(decode(&tagged, ChecksumState::Complete), Err(Malformed::NotIpv4));
        }
    }

    #[test]
    fn every_flipped_byte_behind_ethernet_is_noticed() {
        let frame = encode(&TO, b"payload!").unwrap();
        for at in ETHERNET_LEN..frame.len() {
            let mut bad = frame.clone();
            bad[at] ^= 0x55;
            assert!(decode(&bad, ChecksumState::Complete).is_err(), "byte {at}");
        }
    }

    #[test]
    fn checksum_not_ready_or_absent_is_accepted() {
        let mut frame = encode(&TO, b"x").unwrap();
        frame[ETHERNET_LEN + IP_LEN + 7] ^= 1;
        assert_eq!(decode(&frame, ChecksumState::Complete), Err(Malformed::UdpChecksum));
        assert!(decode(&frame, ChecksumState::NotReady).is_ok());
        frame[ETHERNET_LEN + IP_LEN + 6..][..2].fill(0);
        assert!(decode(&frame, ChecksumState::Complete).is_ok());
    }

    #[test]
    fn too_large_a_payload_is_refused() {
        assert_eq!(encode(&TO, &vec![0; 70_000]), None);
    }
}
