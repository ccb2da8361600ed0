//! A DHCP server for a lab: a range of addresses, and where machines boot from (RFC 2131 section 4.3).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipnet::Ipv4Net;
use kiln_dhcp_wire::{HardwareAddr, Message, MessageType, code};

use crate::proxy::{CLIENT_PORT, Reply, SERVER_PORT};
use crate::{Boot, Client, Leases};

/// What machines of a network get.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Network {
    /// The server's own address, and how long the network's prefix is.
    pub address: Ipv4Net,
    /// The first address that is given.
    pub first: Ipv4Addr,
    /// The last address that is given.
    pub last: Ipv4Addr,
    /// Where everything else is. Default: none.
    pub router: Option<Ipv4Addr>,
    /// Name servers. Default: none.
    pub dns: Vec<Ipv4Addr>,
    /// The domain. Default: none.
    pub domain: Option<String>,
    /// How long an address is given for. Default: 1 hour.
    pub lease: Duration,
    /// Machines that have an address of their own. Default: none.
    pub fixed: BTreeMap<HardwareAddr, Ipv4Addr>,
    /// Names of machines. Default: none.
    pub names: BTreeMap<HardwareAddr, String>,
}

/// Addresses that are kept at most: whoever asks in many names fills the book with them.
const MOST: u32 = 1 << 16;

/// What of a network cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// An address that is not of the network.
    #[error("{what} {address} is not in the network {network}")]
    Outside {
        /// What it is.
        what: &'static str,
        /// Which.
        address: Ipv4Addr,
        /// Of which it is not.
        network: Ipv4Net,
    },
    /// An address that no machine may have: the network's, its broadcast address, the server's.
    #[error("{what} {address} is no machine's")]
    Reserved {
        /// What it is.
        what: &'static str,
        /// Which.
        address: Ipv4Addr,
    },
    /// A range that ends before it begins.
    #[error("the range from {first} to {last} has no address")]
    Empty {
        /// Its first address.
        first: Ipv4Addr,
        /// Its last one.
        last: Ipv4Addr,
    },
    /// A range with more addresses than are kept.
    #[error("the range from {first} to {last} has more than {MOST} addresses")]
    Large {
        /// Its first address.
        first: Ipv4Addr,
        /// Its last one.
        last: Ipv4Addr,
    },
    /// Two machines with one address.
    #[error("{address} is the address of {0} and of {1}", .macs[0], .macs[1])]
    Twice {
        /// Which.
        address: Ipv4Addr,
        /// Whose.
        macs: [HardwareAddr; 2],
    },
}

impl Network {
    /// A network with a range of addresses to give.
    #[must_use]
    pub const fn new(address: Ipv4Net, first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self {
            address,
            first,
            last,
            router: None,
            dns: Vec::new(),
            domain: None,
            lease: Duration::from_secs(3600),
            fixed: BTreeMap::new(),
            names: BTreeMap::new(),
        }
    }

    /// Everything about it that cannot be.
    #[must_use]
    pub fn check(&self) -> Vec<NetworkError> {
        let mut errors = Vec::new();
        let network = self.address.trunc();
        let machines = self.fixed.values().map(|address| ("the fixed address", *address));
        let ends = [("the first address", self.first), ("the last address", self.last)];
        let router = self.router.map(|address| ("the router", address));
        for (what, address) in ends.into_iter().chain(machines).chain(router) {
            if !network.contains(&address) {
                errors.push(NetworkError::Outside { what, address, network });
            } else if self.is_reserved(address) && Some(address) != self.router {
                errors.push(NetworkError::Reserved { what, address });
            }
        }
        if self.first > self.last {
            errors.push(NetworkError::Empty { first: self.first, last: self.last });
        } else if u32::from(self.last) - u32::from(self.first) >= MOST {
            errors.push(NetworkError::Large { first: self.first, last: self.last });
        }
        let mut seen: BTreeMap<Ipv4Addr, HardwareAddr> = BTreeMap::new();
        for (mac, address) in &self.fixed {
            if let Some(other) = seen.insert(*address, *mac) {
                errors.push(NetworkError::Twice { address: *address, macs: [other, *mac] });
            }
        }
        errors
    }

    /// Whether no machine may have an address of the network.
    fn is_reserved(&self, address: Ipv4Addr) -> bool {
        address == self.address.network()
            || address == self.address.broadcast()
            || address == self.address.addr()
    }
}

/// A server's state. Messages and times go in, answers come out.
#[derive(Debug, Clone)]
pub struct Server {
    network: Network,
    leases: Leases,
    boot: Option<Boot>,
}

impl Server {
    /// A server of a network, which tells machines where they boot from.
    ///
    /// # Errors
    /// Those of [`Network::check`].
    pub fn new(network: Network, boot: Option<Boot>) -> Result<Self, Vec<NetworkError>> {
        let errors = network.check();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut fixed = network.fixed.clone();
        // What is in the range and no machine's is as if it were somebody's whom nobody is.
        let own = [network.address.addr()].into_iter().chain(network.router);
        for (number, address) in (0..).zip(own) {
            fixed.insert(HardwareAddr([1, 0, 0, 0, 0, number]), address);
        }
        let leases = Leases::new(network.first, network.last, fixed);
        Ok(Self { network, leases, boot })
    }

    /// Who has what.
    #[must_use]
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// What is answered to a message that came to port 67; `None` to what is not for this server, or makes
    /// no sense.
    pub fn handle(&mut self, asked: &Message, now: Duration) -> Option<Reply> {
        if asked.reply || !asked.chaddr.is_unicast() {
            return None;
        }
        let kind = match asked.kind {
            MessageType::Discover => self.discovered(asked, now)?,
            MessageType::Request => self.requested(asked, now)?,
            MessageType::Inform => Said::Ack(None),
            MessageType::Decline | MessageType::Release => {
                if asked.options.address(code::SERVER_ID) == Some(self.network.address.addr()) {
                    self.given_back(asked, now);
                }
                return None;
            }
            MessageType::Offer | MessageType::Ack | MessageType::Nak => return None,
        };
        Some(self.reply(asked, &kind))
    }

    fn given_back(&mut self, asked: &Message, now: Duration) {
        if asked.kind == MessageType::Release {
            self.leases.release(asked.chaddr, asked.ciaddr, now);
        } else if let Some(address) = asked.options.address(code::REQUESTED_ADDRESS) {
            self.leases.decline(asked.chaddr, address, now);
        }
    }

    fn discovered(&mut self, asked: &Message, now: Duration) -> Option<Said> {
        let wish = asked.options.address(code::REQUESTED_ADDRESS);
        self.leases.offer(asked.chaddr, wish, now).map(Said::Offer)
    }

    /// RFC 2131 section 4.3.2.
    fn requested(&mut self, asked: &Message, now: Duration) -> Option<Said> {
        let (mac, wish) = (asked.chaddr, asked.options.address(code::REQUESTED_ADDRESS));
        let address = match (asked.options.address(code::SERVER_ID), wish) {
            // it takes what was offered: by us, or by another
            (Some(server), wish) => {
                if server != self.network.address.addr() {
                    if let Some(offered) = self.leases.of(mac) {
                        self.leases.release(mac, offered, now);
                    }
                    return None;
                }
                wish.unwrap_or(asked.ciaddr)
            }
            // it has started again, and asks whether it still has what it had
            (None, Some(wish)) if asked.ciaddr.is_unspecified() => {
                let elsewhere = !self.network.address.contains(&wish);
                if self.leases.of(mac).is_none() && !elsewhere {
                    // of whom nothing is known another server may know something
                    return None;
                }
                wish
            }
            // it wants to keep what it has
            (None, _) if !asked.ciaddr.is_unspecified() => asked.ciaddr,
            (None, _) => return None,
        };
        let until = now.saturating_add(self.network.lease);
        match self.leases.give(mac, address, until, now) {
            true => Some(Said::Ack(Some(address))),
            false => Some(Said::Nak),
        }
    }

    fn reply(&self, asked: &Message, said: &Said) -> Reply {
        let kind = match said {
            Said::Offer(_) => MessageType::Offer,
            Said::Ack(_) => MessageType::Ack,
            Said::Nak => MessageType::Nak,
        };
        let mut message = Message::new(true, kind, asked.xid, asked.chaddr);
        message.broadcast = asked.broadcast;
        message.giaddr = asked.giaddr;
        let server = self.network.address.addr();
        message.options.set(code::SERVER_ID, server.octets());
        // RFC 6842: as it came
        if let Some(id) = asked.options.get(code::CLIENT_ID) {
            message.options.set(code::CLIENT_ID, id);
        }
        if *said != Said::Nak {
            message.ciaddr = asked.ciaddr;
            self.parameters(asked.chaddr, &mut message);
            if let (Some(boot), Some(client)) = (&self.boot, Client::of(asked)) {
                boot.tell(&client, &mut message);
            }
        }
        if let Said::Offer(address) | Said::Ack(Some(address)) = said {
            message.yiaddr = *address;
            let seconds = u32::try_from(self.network.lease.as_secs()).unwrap_or(u32::MAX);
            message.options.set(code::LEASE_TIME, seconds.to_be_bytes());
        }
        Reply { to: where_to(asked, said), message }
    }

    fn parameters(&self, mac: HardwareAddr, message: &mut Message) {
        let network = &self.network;
        message.options.set(code::SUBNET_MASK, network.address.netmask().octets());
        message.options.set(code::BROADCAST, network.address.broadcast().octets());
        if let Some(router) = network.router {
            message.options.set(code::ROUTER, router.octets());
        }
        if !network.dns.is_empty() {
            let all: Vec<u8> = network.dns.iter().flat_map(Ipv4Addr::octets).collect();
            message.options.set(code::DNS, all);
        }
        if let Some(domain) = &network.domain {
            message.options.set(code::DOMAIN_NAME, domain.as_bytes());
        }
        if let Some(name) = network.names.get(&mac) {
            message.options.set(code::HOST_NAME, name.as_bytes());
        }
    }
}

/// What is answered, with the address that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Offer(Ipv4Addr),
    Ack(Option<Ipv4Addr>),
    Nak,
}

/// RFC 2131 section 4.1. Who has no address yet is told by broadcast, which it allows where a packet cannot be
/// sent to somebody whom the kernel does not know.
fn where_to(asked: &Message, said: &Said) -> SocketAddrV4 {
    if !asked.giaddr.is_unspecified() {
        return SocketAddrV4::new(asked.giaddr, SERVER_PORT);
    }
    if *said != Said::Nak && !asked.ciaddr.is_unspecified() {
        return SocketAddrV4::new(asked.ciaddr, CLIENT_PORT);
    }
    SocketAddrV4::new(Ipv4Addr::BROADCAST, CLIENT_PORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1000);

    fn mac(last: u8) -> HardwareAddr {
        HardwareAddr([2, 0, 0, 0, 0, last])
    }

    fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, last)
    }

    fn server() -> Server {
        let mut network = Network::new("192.0.2.1/24".parse().unwrap(), address(1), address(20));
        network.router = Some(address(2));
        network.first = address(2);
        network.fixed.insert(mac(9), address(5));
        network.names.insert(mac(9), "nine".into());
        Server::new(network, Some(Boot::new(address(1), 80))).unwrap()
    }

    fn asked(kind: MessageType, options: &[(u8, [u8; 4])]) -> Message {
        let mut asked = Message::new(false, kind, 7, mac(1));
        for (code, data) in options {
            asked.options.set(*code, *data);
        }
        asked
    }

    const US: (u8, [u8; 4]) = (code::SERVER_ID, [192, 0, 2, 1]);

    fn wish(last: u8) -> (u8, [u8; 4]) {
        (code::REQUESTED_ADDRESS, [192, 0, 2, last])
    }

    #[test]
    fn an_address_is_offered_and_given() {
        let mut server = server();
        let offer = server.handle(&asked(MessageType::Discover, &[]), NOW).unwrap();
        // neither the server's nor the router's
        assert_eq!((offer.message.kind, offer.message.yiaddr), (MessageType::Offer, address(3)));
        assert_eq!(offer.to, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68));
        let options = &offer.message.options;
        assert_eq!(options.number(code::LEASE_TIME), Some(3600));
        assert_eq!(options.address(code::ROUTER), Some(address(2)));
        assert_eq!(options.get(code::VENDOR_CLASS), None, "it does not boot");
        let ack = server.handle(&asked(MessageType::Request, &[US, wish(3)]), NOW).unwrap();
        assert_eq!((ack.message.kind, ack.message.yiaddr), (MessageType::Ack, address(3)));
        assert!(server.leases().has(mac(1), address(3), NOW + Duration::from_secs(3599)));
        // renewed, to its own address
        let mut renew = asked(MessageType::Request, &[]);
        renew.ciaddr = address(3);
        let ack = server.handle(&renew, NOW).unwrap();
        assert_eq!(
            (ack.message.kind, ack.to),
            (MessageType::Ack, SocketAddrV4::new(address(3), 68))
        );
        // somebody else's
        renew.chaddr = mac(2);
        let nak = server.handle(&renew, NOW).unwrap();
        assert_eq!(
            (nak.message.kind, nak.to),
            (MessageType::Nak, SocketAddrV4::new(Ipv4Addr::BROADCAST, 68))
        );
        let mut release = asked(MessageType::Release, &[US]);
        release.ciaddr = address(3);
        assert_eq!(server.handle(&release, NOW), None);
        assert!(!server.leases().has(mac(1), address(3), NOW));
    }

    #[test]
    fn who_takes_anothers_offer_leaves_ours() {
        let mut server = server();
        server.handle(&asked(MessageType::Discover, &[]), NOW).unwrap();
        let other = (code::SERVER_ID, [192, 0, 2, 7]);
        assert_eq!(server.handle(&asked(MessageType::Request, &[other, wish(3)]), NOW), None);
        assert!(!server.leases().has(mac(1), address(3), NOW));
    }

    #[test]
    fn who_starts_again_is_told_when_its_address_is_wrong_here() {
        let mut server = server();
        let unknown = asked(MessageType::Request, &[wish(3)]);
        assert_eq!(server.handle(&unknown, NOW), None);
        let elsewhere = asked(MessageType::Request, &[(code::REQUESTED_ADDRESS, [10, 0, 0, 1])]);
        assert_eq!(server.handle(&elsewhere, NOW).unwrap().message.kind, MessageType::Nak);
        server.handle(&asked(MessageType::Discover, &[]), NOW).unwrap();
        server.handle(&asked(MessageType::Request, &[US, wish(3)]), NOW).unwrap();
        assert_eq!(server.handle(&unknown, NOW).unwrap().message.kind, MessageType::Ack);
        let nothing = asked(MessageType::Request, &[]);
        assert_eq!(server.handle(&nothing, NOW), None);
    }

    #[test]
    fn machines_of_their_own() {
        let mut server = server();
        let mut nine = asked(MessageType::Discover, &[wish(12)]);
        nine.chaddr = mac(9);
        let offer = server.handle(&nine, NOW).unwrap().message;
        assert_eq!(offer.yiaddr, address(5));
        assert_eq!(offer.options.get(code::HOST_NAME), Some(&b"nine"[..]));
        nine.options.set(code::VENDOR_CLASS, *b"PXEClient:Arch:00000:UNDI:002001");
        let offer = server.handle(&nine, NOW).unwrap().message;
        assert_eq!((offer.file.as_slice(), offer.siaddr), (&b"undionly.kpxe"[..], address(1)));
        nine.chaddr = HardwareAddr::BROADCAST;
        assert_eq!(server.handle(&nine, NOW), None);
        nine.kind = MessageType::Inform;
        nine.chaddr = mac(3);
        nine.ciaddr = address(77);
        let told = server.handle(&nine, NOW).unwrap();
        assert_eq!((told.message.yiaddr, told.to.ip()), (Ipv4Addr::UNSPECIFIED, &address(77)));
        assert_eq!(told.message.options.get(code::LEASE_TIME), None);
    }

    #[test]
    fn what_cannot_be_is_told_at_once() {
        let mut network = Network::new("192.0.2.1/24".parse().unwrap(), address(9), address(1));
        network.fixed =
            [(mac(1), [10, 0, 0, 1].into()), (mac(2), address(3)), (mac(3), address(3))].into();
        network.router = Some([10, 0, 0, 2].into());
        let errors: Vec<String> = network.check().iter().map(ToString::to_string).collect();
        assert_eq!(
            errors,
            [
                "the last address 192.0.2.1 is no machine's",
                "the fixed address 10.0.0.1 is not in the network 192.0.2.0/24",
                "the router 10.0.0.2 is not in the network 192.0.2.0/24",
                "the range from 192.0.2.9 to 192.0.2.1 has no address",
                "192.0.2.3 is the address of 02:00:00:00:00:02 and of 02:00:00:00:00:03",
            ]
        );
    }
}
