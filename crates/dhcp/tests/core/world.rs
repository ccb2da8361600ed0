//! A client, a server and a network in virtual time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use kiln_dhcp::wire::udp::{self, Endpoints};
use kiln_dhcp::wire::{Message, MessageType, code};
use kiln_dhcp::{
    ChecksumState, Client, Config, Event, HardwareAddr, Input, Lease, LostReason, Output, Sent,
    Transmit,
};

pub(crate) const MAC: HardwareAddr = HardwareAddr([0x02, 0, 0, 0, 0, 0x11]);

/// Something that answers messages of the client with whole frames.
pub(crate) trait Answer {
    fn answer(&mut self, request: &Message, now: Duration) -> Vec<Vec<u8>>;
}

impl<F: FnMut(&Message, Duration) -> Vec<Vec<u8>>> Answer for F {
    fn answer(&mut self, request: &Message, now: Duration) -> Vec<Vec<u8>> {
        self(request, now)
    }
}

/// What the client sent, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) at: Duration,
    pub(crate) message: Message,
    /// By an ordinary socket, to this address.
    pub(crate) unicast_to: Option<Ipv4Addr>,
}

pub(crate) struct World<S> {
    pub(crate) client: Client,
    pub(crate) server: S,
    pub(crate) now: Duration,
    pub(crate) sent: Vec<Record>,
    pub(crate) kinds: Vec<Sent>,
    pub(crate) events: Vec<(Duration, Event)>,
    /// Says for the n-th packet on the wire (both ways) whether it is lost.
    pub(crate) lost: Box<dyn FnMut(usize) -> bool>,
    /// One way.
    pub(crate) delay: Duration,
    packets: usize,
    flying: BTreeMap<(Duration, usize), Vec<u8>>,
    /// The lease that a driver would have on the interface now.
    pub(crate) configured: Option<Lease>,
    next: Option<Duration>,
    pub(crate) most_transmits_per_input: usize,
}

impl<S: Answer> World<S> {
    pub(crate) fn new(config: Config, seed: u64, server: S) -> Self {
        let client = Client::new(config, MAC, seed, Duration::ZERO).unwrap();
        Self {
            client,
            server,
            now: Duration::ZERO,
            sent: Vec::new(),
            kinds: Vec::new(),
            events: Vec::new(),
            lost: Box::new(|_| false),
            delay: Duration::from_millis(2),
            packets: 0,
            flying: BTreeMap::new(),
            configured: None,
            next: None,
            most_transmits_per_input: 0,
        }
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.client.handle(input, self.now);
        let mut transmits = 0;
        loop {
            match self.client.poll() {
                Output::Timeout(at) => {
                    self.next = at;
                    break;
                }
                Output::Event(event) => {
                    match &event {
                        Event::Sent { kind, .. } => self.kinds.push(*kind),
                        Event::Bound(lease) | Event::Renewed(lease) => {
                            self.configured = Some((**lease).clone());
                        }
                        Event::Lost { .. } => self.configured = None,
                        _ => {}
                    }
                    self.events.push((self.now, event));
                }
                Output::Transmit(transmit) => {
                    transmits += 1;
                    let (payload, unicast_to) = match &transmit {
                        Transmit::Frame(frame) => (&frame[42..], None),
                        Transmit::Datagram { payload, destination, .. } => {
                            (&payload[..], Some(*destination))
                        }
                    };
                    let message = Message::decode(payload).unwrap();
                    assert!(!message.reply && message.chaddr == MAC);
                    self.sent.push(Record { at: self.now, message: message.clone(), unicast_to });
                    self.packets += 1;
                    if !(self.lost)(self.packets) {
                        for frame in self.server.answer(&message, self.now) {
                            self.packets += 1;
                            if !(self.lost)(self.packets) {
                                let at = self.now + self.delay * 2;
                                self.flying.insert((at, self.packets), frame);
                            }
                        }
                    }
                }
            }
        }
        self.most_transmits_per_input = self.most_transmits_per_input.max(transmits);
        // The core's lease and the driver's never differ, and neither is past its end.
        assert_eq!(self.client.lease(), self.configured.as_ref());
        if let Some(end) = self.configured.as_ref().and_then(Lease::expires_at) {
            assert!(self.now < end, "an address held past its expiry");
        }
    }

    pub(crate) fn run_until(&mut self, until: Duration) {
        for _ in 0..100_000 {
            let arrival = self.flying.keys().next().map(|(at, _)| *at);
            let at = match (arrival, self.next) {
                (Some(a), Some(b)) => a.min(b),
                (Some(a), None) | (None, Some(a)) => a,
                (None, None) => until,
            };
            if at > until || (arrival.is_none() && self.next.is_none()) {
                self.now = until;
                return;
            }
            self.now = self.now.max(at);
            if arrival == Some(at) {
                let (_, frame) = self.flying.pop_first().unwrap();
                self.input(Input::Frame { bytes: &frame, checksum: ChecksumState::Complete });
            } else {
                self.input(Input::Timeout);
            }
        }
        panic!("no progress by {:?}", self.now);
    }

    pub(crate) fn seconds(&mut self, seconds: u64) {
        self.run_until(self.now + Duration::from_secs(seconds));
    }

    pub(crate) fn up(config: Config, seed: u64, server: S) -> Self {
        let mut world = Self::new(config, seed, server);
        world.input(Input::LinkUp);
        world
    }

    pub(crate) fn bound_count(&self) -> usize {
        self.events.iter().filter(|(_, event)| matches!(event, Event::Bound(_))).count()
    }

    pub(crate) fn lost_reasons(&self) -> Vec<LostReason> {
        self.events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Lost { reason } => Some(*reason),
                _ => None,
            })
            .collect()
    }
}

/// A server as RFC 2131 describes one, with one address to give.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) id: Ipv4Addr,
    pub(crate) address: Ipv4Addr,
    pub(crate) lease: u32,
    pub(crate) alive: bool,
    pub(crate) answers_unicast: bool,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            id: Ipv4Addr::new(10, 77, 0, 1),
            address: Ipv4Addr::new(10, 77, 9, 9),
            lease: 3600,
            alive: true,
            answers_unicast: true,
        }
    }
}

pub(crate) fn frame(id: Ipv4Addr, reply: &Message) -> Vec<u8> {
    let to = Endpoints {
        source_mac: HardwareAddr([2, 0, 0, 0, 0, 1]),
        destination_mac: reply.chaddr,
        source: id,
        destination: Ipv4Addr::BROADCAST,
        source_port: 67,
        destination_port: 68,
    };
    udp::encode(&to, &reply.encode()).unwrap()
}

impl Answer for Server {
    fn answer(&mut self, request: &Message, _: Duration) -> Vec<Vec<u8>> {
        let renewing = !request.ciaddr.is_unspecified();
        if !self.alive || (renewing && !self.answers_unicast) {
            return Vec::new();
        }
        let options = &request.options;
        if options.address(code::SERVER_ID).is_some_and(|id| id != self.id) {
            return Vec::new();
        }
        let kind = match request.kind {
            MessageType::Discover => MessageType::Offer,
            MessageType::Request => {
                let wanted = if renewing {
                    request.ciaddr
                } else {
                    options.address(code::REQUESTED_ADDRESS).unwrap()
                };
                if wanted == self.address { MessageType::Ack } else { MessageType::Nak }
            }
            _ => return Vec::new(),
        };
        let mut reply = Message::new(true, kind, request.xid, request.chaddr);
        reply.options.set(code::SERVER_ID, self.id.octets());
        if kind != MessageType::Nak {
            reply.yiaddr = self.address;
            reply
                .options
                .set(code::SUBNET_MASK, [255, 255, 0, 0])
                .set(code::ROUTER, [10, 77, 0, 1])
                .set(code::LEASE_TIME, self.lease.to_be_bytes());
        }
        vec![frame(self.id, &reply)]
    }
}
