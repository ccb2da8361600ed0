//! WireGuard tunnels by generic netlink (linux/wireguard.h).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::read::{AF_INET, AF_INET6};
use super::socket::{Socket, request};
use super::wire::{Message, attributes, u16_at, u32_at};
use crate::state::{Tunnel, TunnelPeer};
use crate::{Key, Secret};

/// The family that knows the numbers of the others (linux/genetlink.h).
const CONTROLLER: u16 = 16;

/// `struct genlmsghdr`: command, version, reserved (2).
const GET: [u8; 4] = [0, 1, 0, 0];
const SET: [u8; 4] = [1, 1, 0, 0];

/// A message holds at most this many peers: an attribute is at most 64 KiB.
const PEERS_AT_ONCE: usize = 16;

/// What talks to WireGuard.
#[derive(Debug)]
pub(super) struct Wireguard {
    socket: Socket,
    family: u16,
}

impl Wireguard {
    pub(super) fn open() -> io::Result<Self> {
        let mut socket = Socket::open(Some(rustix::net::netlink::GENERIC))?;
        // CTRL_CMD_GETFAMILY with CTRL_ATTR_FAMILY_NAME.
        let message = request(CONTROLLER, 0, &[3, 1, 0, 0]).text(2, "wireguard");
        let mut family = None;
        socket.ask(message, |received| {
            let body = received.body.get(4..).unwrap_or_default();
            let id = attributes(body).find(|(kind, _)| *kind == 1);
            family = family.or_else(|| id.and_then(|(_, data)| u16_at(data, 0)));
            Ok(())
        })?;
        let family = family.ok_or(io::ErrorKind::NotFound)?;
        Ok(Self { socket, family })
    }

    pub(super) fn tunnel(&mut self, index: u32) -> io::Result<Tunnel> {
        let mut tunnel = self.socket.dump(
            self.family,
            &GET,
            |message| message.u32(1, index),
            |tunnel: &mut Tunnel, received| {
                read(tunnel, received.body.get(4..).unwrap_or_default());
                Ok(())
            },
        )?;
        for peer in &mut tunnel.peers {
            peer.allowed_ips.sort_unstable();
        }
        tunnel.peers.sort_by_key(|peer| peer.public_key);
        Ok(tunnel)
    }

    pub(super) fn set(&mut self, index: u32, set: &Set<'_>) -> io::Result<()> {
        set.messages(self.family, index).into_iter().try_for_each(|one| self.socket.change(one))
    }
}

/// What is to be set; what is `None` stays.
#[derive(Debug)]
pub(super) struct Set<'a> {
    pub(super) private_key: Option<&'a Secret>,
    pub(super) listen_port: Option<u16>,
    pub(super) mark: Option<u32>,
    pub(super) peers: &'a [TunnelPeer],
    pub(super) forget: &'a [Key],
}

impl Set<'_> {
    fn messages(&self, family: u16, index: u32) -> Vec<Message> {
        let mut first = request(family, 0, &SET).u32(1, index);
        if let Some(key) = self.private_key {
            first = first.bytes(3, key.bytes());
        }
        if let Some(port) = self.listen_port {
            first = first.u16(6, port);
        }
        if let Some(mark) = self.mark {
            first = first.u32(7, mark);
        }
        let mut messages = vec![first];
        for keys in self.forget.chunks(PEERS_AT_ONCE) {
            messages.push(request(family, 0, &SET).u32(1, index).nest(8, |all| {
                // WGPEER_F_REMOVE_ME.
                let forget =
                    |all: Message, key: &Key| all.nest(0, |peer| peer.bytes(1, &key.0).u32(3, 1));
                keys.iter().fold(all, forget)
            }));
        }
        for peers in self.peers.chunks(PEERS_AT_ONCE) {
            messages.push(request(family, 0, &SET).u32(1, index).nest(8, |all| {
                peers.iter().fold(all, |all, one| all.nest(0, |message| peer(message, one)))
            }));
        }
        messages
    }
}

fn peer(message: Message, peer: &TunnelPeer) -> Message {
    // Of no key the kernel makes 32 zeroes, and the other way round.
    let shared = peer.preshared_key.as_ref().map_or([0; 32], |key| *key.bytes());
    // WGPEER_F_REPLACE_ALLOWEDIPS.
    let mut message = message.bytes(1, &peer.public_key.0).bytes(2, &shared).u32(3, 2);
    if let Some(endpoint) = peer.endpoint {
        message = message.bytes(4, &sockaddr(endpoint));
    }
    message.u16(5, peer.keepalive).nest(9, |all| {
        peer.allowed_ips.iter().fold(all, |all, net| {
            all.nest(0, |one| {
                let (family, bytes) = match net.addr() {
                    IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
                    IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
                };
                one.u16(1, family.into()).bytes(2, &bytes).u8(3, net.prefix_len())
            })
        })
    })
}

/// `struct sockaddr_in` or `sockaddr_in6`.
fn sockaddr(address: SocketAddr) -> Vec<u8> {
    let port = address.port().to_be_bytes();
    match address {
        SocketAddr::V4(v4) => {
            [&u16::from(AF_INET).to_ne_bytes()[..], &port, &v4.ip().octets(), &[0; 8]].concat()
        }
        SocketAddr::V6(v6) => [
            &u16::from(AF_INET6).to_ne_bytes()[..],
            &port,
            &v6.flowinfo().to_be_bytes(),
            &v6.ip().octets(),
            &v6.scope_id().to_ne_bytes(),
        ]
        .concat(),
    }
}

fn endpoint(data: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be(u16_at(data, 2)?);
    match u8::try_from(u16_at(data, 0)?).ok()? {
        AF_INET => {
            let bytes: [u8; 4] = data.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(bytes), port).into())
        }
        AF_INET6 => {
            let bytes: [u8; 16] = data.get(8..24)?.try_into().ok()?;
            let scope = u32_at(data, 24).unwrap_or(0);
            let ip = Ipv6Addr::from(bytes);
            Some(std::net::SocketAddrV6::new(ip, port, 0, scope).into())
        }
        _ => None,
    }
}

/// One part of the answer; a peer with many addresses may be in several.
fn read(tunnel: &mut Tunnel, body: &[u8]) {
    for (kind, data) in attributes(body) {
        match kind {
            3 => tunnel.private_key = secret(data),
            6 => tunnel.listen_port = u16_at(data, 0).unwrap_or(0),
            7 => tunnel.mark = u32_at(data, 0).unwrap_or(0),
            8 => {
                for peer in attributes(data).filter_map(|(_, data)| read_peer(data)) {
                    match tunnel.peers.last_mut() {
                        Some(last) if last.public_key == peer.public_key => {
                            last.allowed_ips.extend(peer.allowed_ips);
                        }
                        _ => tunnel.peers.push(peer),
                    }
                }
            }
            _ => {}
        }
    }
}

fn secret(data: &[u8]) -> Option<Secret> {
    data.try_into().ok().map(Secret::new).filter(|key| !key.is_none())
}

fn read_peer(data: &[u8]) -> Option<TunnelPeer> {
    let (_, key) = attributes(data).find(|(kind, _)| *kind == 1)?;
    let mut peer = TunnelPeer::new(Key(key.try_into().ok()?));
    for (kind, data) in attributes(data) {
        match kind {
            2 => peer.preshared_key = secret(data),
            4 => peer.endpoint = endpoint(data),
            5 => peer.keepalive = u16_at(data, 0).unwrap_or(0),
            9 => peer.allowed_ips.extend(attributes(data).filter_map(|(_, data)| allowed(data))),
            _ => {}
        }
    }
    Some(peer)
}

fn allowed(data: &[u8]) -> Option<IpNet> {
    let field = |wanted| attributes(data).find(|(kind, _)| *kind == wanted).map(|(_, data)| data);
    let ip = field(2)?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        _ => <[u8; 16]>::try_from(ip).ok()?.into(),
    };
    IpNet::new(ip, *field(3)?.first()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linux::wire::messages;

    #[test]
    fn a_tunnel_comes_back_and_a_peer_in_parts_is_one() {
        let mut wanted = TunnelPeer::new(Key([7; 32]));
        wanted.endpoint = Some("[2001:db8::1]:51820".parse().unwrap());
        wanted.keepalive = 25;
        wanted.preshared_key = Some(Secret::new([9; 32]));
        wanted.allowed_ips = vec!["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let mut other = TunnelPeer::new(Key([8; 32]));
        other.endpoint = Some("192.0.2.1:1".parse().unwrap());
        let secret = Secret::new([1; 32]);
        let set = Set {
            private_key: Some(&secret),
            listen_port: Some(5),
            mark: Some(6),
            peers: &[wanted.clone(), other.clone()],
            forget: &[],
        };
        let mut tunnel = Tunnel::default();
        let parts: Vec<Vec<u8>> =
            set.messages(40, 3).into_iter().map(|message| message.finish(1)).collect();
        for bytes in &parts {
            read(&mut tunnel, &messages(bytes).next().unwrap().body[4..]);
        }
        let expected = Tunnel {
            private_key: Some(secret),
            listen_port: 5,
            mark: 6,
            peers: vec![wanted, other],
        };
        assert_eq!(tunnel, expected);
        assert_eq!(parts.len(), 2);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            read(&mut Tunnel::default(), &bytes);
        }
    }
}
