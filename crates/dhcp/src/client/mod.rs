//! The client as a machine without I/O: `handle` an input, then drain `poll` until it says how long
//! to wait.
//!
//! | state | left by | to |
//! |---|---|---|
//! | Down | link up | SELECTING, or REBOOTING with a lease from before |
//! | SELECTING | good OFFER | REQUESTING |
//! | REQUESTING | good ACK / NAK / 4 unanswered | BOUND / SELECTING after a back-off / SELECTING |
//! | BOUND | T1 | RENEWING (unicast) |
//! | RENEWING | ACK / NAK / T2 | BOUND / SELECTING / REBINDING (broadcast) |
//! | REBINDING | ACK / NAK / expiry | BOUND / SELECTING / SELECTING |
//! | REBOOTING | ACK / NAK / 3 unanswered | BOUND / SELECTING / BOUND as before |
//!
//! Whatever the state, expiry is looked at before anything else, so no input that comes late keeps
//! an address alive.

mod config;
mod state;
mod timers;

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

pub use config::{ClasslessRoutes, Config, ConfigError, OffLinkGateway, Problem};
use state::{Bound, Extending, Extension, Requesting, Selecting, State};
use timers::{Random, backoff, halfway};

use crate::lease::{Lease, server_id};
use crate::wire::udp::{self, CLIENT_PORT, ChecksumState, Endpoints, SERVER_PORT};
use crate::wire::{HardwareAddr, Malformed, Message, MessageType, code};

/// REQUESTs for one offer before the client looks for another.
const MOST_REQUESTS: u32 = 4;
/// REQUESTs after the link came back before the lease is trusted as it was.
const MOST_REBOOTS: u32 = 3;
/// What this client takes, as option 57: an Ethernet MTU less IPv4 and UDP headers.
const MAX_SIZE: u16 = 1472;

/// Something that happened outside.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// The link has carrier: frames sent now go out, or soon do ([`Input::LinkReady`]).
    LinkUp,
    /// The link, up already, is only now known to let frames through: a first question that is
    /// unanswered may have been dropped, and is asked again at once.
    LinkReady,
    /// The link lost its carrier or was taken down.
    LinkDown,
    /// An Ethernet frame came in on a packet socket.
    Frame {
        /// The frame from its destination address on.
        bytes: &'a [u8],
        /// Whether its UDP checksum is filled in.
        checksum: ChecksumState,
    },
    /// A UDP datagram came in on a socket bound to port 68 (its checksum is the kernel's business).
    Datagram {
        /// The sender's port.
        source_port: u16,
        /// UDP payload.
        payload: &'a [u8],
    },
    /// The time that [`Output::Timeout`] named has come (early or late is harmless).
    Timeout,
    /// Give the address back, and end.
    Release,
    /// End without a word to the server: the lease stays valid until it expires.
    Stop,
}

/// What is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transmit {
    /// A whole Ethernet frame, for a packet socket.
    Frame(Vec<u8>),
    /// A UDP payload from the leased address, port 68, to port 67, for an ordinary socket.
    Datagram {
        /// The leased address.
        source: Ipv4Addr,
        /// A server, or 255.255.255.255.
        destination: Ipv4Addr,
        /// UDP payload.
        payload: Vec<u8>,
    },
}

/// A message that the client sends, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sent {
    /// DHCPDISCOVER.
    Discover,
    /// DHCPREQUEST that takes an offer.
    Request,
    /// DHCPREQUEST to the server of the lease.
    Renew,
    /// DHCPREQUEST to any server.
    Rebind,
    /// DHCPREQUEST that checks a lease after the link came back.
    Reboot,
    /// DHCPRELEASE.
    Release,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Discover => "discover",
            Self::Request => "request",
            Self::Renew => "renew",
            Self::Rebind => "rebind",
            Self::Reboot => "reboot",
            Self::Release => "release",
        })
    }
}

/// Why an address may no longer be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// A server said that the address is wrong on this network.
    Refused,
    /// Nobody extended the lease in time.
    Expired,
    /// It was given back.
    Released,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Refused => "refused by the server",
            Self::Expired => "expired",
            Self::Released => "released",
        })
    }
}

/// Something that the caller acts upon or tells people.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message goes out (the [`Output::Transmit`] before this).
    Sent {
        /// Which.
        kind: Sent,
        /// 1 for the first of its kind in a row.
        attempt: u32,
    },
    /// There is an address now: configure it.
    Bound(Box<Lease>),
    /// The lease was extended; parameters may have changed.
    Renewed(Box<Lease>),
    /// The address must go, now.
    Lost {
        /// Why.
        reason: LostReason,
    },
    /// A server refused what it had offered; the client starts over after a pause.
    Refused,
    /// No lease yet, and another DISCOVER goes out.
    StillTrying {
        /// Since the link came up or the last lease was lost.
        elapsed: Duration,
    },
}

/// What `poll` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Transmit(Transmit),
    /// Act on this.
    Event(Event),
    /// Nothing more: wait for input, at most until this time on the clock of `handle`; `None` when
    /// only input can bring news.
    Timeout(Option<Duration>),
}

/// Why a reply was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ignored {
    /// Not a DHCP message at all.
    Malformed(Malformed),
    /// The frame was sent to another station.
    OtherStation,
    /// Not from port 67, which the settings ask for.
    SourcePort,
    /// `op` is not BOOTREPLY.
    NotAReply,
    /// Another transaction identifier, or none is open.
    OtherTransaction,
    /// Another client's hardware address.
    OtherHardwareAddr,
    /// Another client identifier echoed (RFC 6842).
    OtherClientId,
    /// A message that makes no sense in this state.
    Unexpected,
    /// Server identifier missing or not a host's address.
    ServerId,
    /// Not from the server that was asked.
    OtherServer,
    /// An address that no host may have, or no usable subnet mask.
    Address,
    /// Not the address that was offered or is held.
    OtherAddress,
    /// Lease time missing, malformed or zero.
    LeaseTime,
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(malformed) => return malformed.fmt(f),
            Self::OtherStation => "sent to another station",
            Self::SourcePort => "not from port 67",
            Self::NotAReply => "not a reply",
            Self::OtherTransaction => "another transaction",
            Self::OtherHardwareAddr => "another hardware address",
            Self::OtherClientId => "another client identifier",
            Self::Unexpected => "not expected in this state",
            Self::ServerId => "no usable server identifier",
            Self::OtherServer => "another server",
            Self::Address => "an address that no host may have",
            Self::OtherAddress => "another address than the one offered or held",
            Self::LeaseTime => "no usable lease time",
        })
    }
}

impl From<Malformed> for Ignored {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// A DHCPv4 client for one Ethernet interface.
///
/// Time is a [`Duration`] since an epoch of the caller's choice; it should go on while the machine
/// sleeps (`CLOCK_BOOTTIME`). A clock that steps back is taken as one that stands still.
#[derive(Debug)]
pub struct Client {
    config: Config,
    mac: HardwareAddr,
    random: Random,
    now: Duration,
    /// Since when an address is sought; `secs` counts from here.
    began: Duration,
    /// DISCOVERs since `began`.
    discovers: u32,
    /// NAKs in a row without a lease in between.
    naks: u32,
    state: State,
    outputs: VecDeque<Output>,
    ignored: BTreeMap<Ignored, u64>,
}

impl Client {
    /// A client that waits for [`Input::LinkUp`]. `seed` decides transaction identifiers and
    /// jitter: take it from the system's random source.
    ///
    /// # Errors
    /// [`ConfigError`], with every problem of `config` and of `mac`.
    pub fn new(
        config: Config,
        mac: HardwareAddr,
        seed: u64,
        now: Duration,
    ) -> Result<Self, ConfigError> {
        let mut problems = config.check().err().map(|error| error.problems).unwrap_or_default();
        if !mac.is_unicast() {
            problems.push(Problem::HardwareAddr);
        }
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        Ok(Self {
            config,
            mac,
            random: Random::new(seed),
            now,
            began: now,
            discovers: 0,
            naks: 0,
            state: State::Down(None),
            outputs: VecDeque::new(),
            ignored: BTreeMap::new(),
        })
    }

    /// Takes in what happened at `now`. Drain [`Client::poll`] after each call.
    pub fn handle(&mut self, input: Input<'_>, now: Duration) {
        self.now = self.now.max(now);
        self.expire();
        match input {
            Input::LinkUp => self.link_up(),
            Input::LinkReady => self.ask_again(),
            Input::LinkDown => {
                if !matches!(self.state, State::Stopped) {
                    self.state = State::Down(self.take_lease());
                }
            }
            Input::Frame { bytes, checksum } => {
                let result = self.frame(bytes, checksum);
                self.count(result);
            }
            Input::Datagram { source_port, payload } => {
                let result = self.datagram(source_port, payload);
                self.count(result);
            }
            Input::Timeout => {}
            Input::Release => self.release(),
            Input::Stop => self.state = State::Stopped,
        }
        self.send_what_is_due();
    }

    /// The next thing to do; [`Output::Timeout`] when there is nothing.
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| Output::Timeout(self.next_timeout()))
    }

    /// The lease held, if any.
    #[must_use]
    pub const fn lease(&self) -> Option<&Lease> {
        self.state.lease()
    }

    /// How many replies were ignored, by reason.
    pub fn ignored(&self) -> impl Iterator<Item = (Ignored, u64)> {
        self.ignored.iter().map(|(reason, count)| (*reason, *count))
    }

    fn count(&mut self, result: Result<(), Ignored>) {
        if let Err(reason) = result {
            let count = self.ignored.entry(reason).or_insert(0);
            *count = count.saturating_add(1);
        }
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn take_lease(&mut self) -> Option<Lease> {
        core::mem::replace(&mut self.state, State::Stopped).into_lease()
    }

    fn next_timeout(&self) -> Option<Duration> {
        let due = match &self.state {
            State::Down(_) | State::Stopped => None,
            State::Selecting(selecting) => Some(selecting.next),
            State::Requesting(requesting) => Some(requesting.next),
            State::Bound(bound) => bound.renew_at,
            State::Extending(extending) => Some(extending.next),
        };
        let expiry = self.lease().and_then(Lease::expires_at);
        match (due, expiry) {
            (Some(due), Some(expiry)) => Some(due.min(expiry)),
            (due, expiry) => due.or(expiry),
        }
    }

    fn expire(&mut self) {
        let expired =
            self.lease().and_then(Lease::expires_at).is_some_and(|expiry| expiry <= self.now);
        if expired {
            self.event(Event::Lost { reason: LostReason::Expired });
            if matches!(self.state, State::Down(_)) {
                self.state = State::Down(None);
            } else {
                self.begin();
                self.select(self.now);
            }
        }
    }

    const fn begin(&mut self) {
        self.began = self.now;
        self.discovers = 0;
    }

    fn select(&mut self, at: Duration) {
        let xid = self.random.next_u32();
        self.state = State::Selecting(Selecting { xid, attempt: 0, next: at });
    }

    fn link_up(&mut self) {
        if !matches!(self.state, State::Down(_)) {
            return;
        }
        match self.take_lease() {
            Some(lease) => self.extend(lease, Extension::Reboot),
            None => {
                self.begin();
                self.select(self.now);
            }
        }
    }

    /// As if the first question had not been asked. A later one has its turn anyway.
    fn ask_again(&mut self) {
        let now = self.now;
        let (State::Selecting(Selecting { attempt, next, .. })
        | State::Requesting(Requesting { attempt, next, .. })
        | State::Extending(Extending { how: Extension::Reboot, attempt, next, .. })) =
            &mut self.state
        else {
            return;
        };
        if *attempt == 1 {
            (*attempt, *next) = (0, now);
            if matches!(self.state, State::Selecting(_)) {
                self.discovers = self.discovers.saturating_sub(1);
            }
        }
    }

    fn extend(&mut self, lease: Lease, how: Extension) {
        self.state = State::Extending(Extending {
            how,
            lease,
            xid: 0,
            attempt: 0,
            sent: self.now,
            next: self.now,
            began: self.now,
        });
    }

    fn release(&mut self) {
        let up = !matches!(self.state, State::Down(_));
        if let Some(lease) = self.take_lease() {
            if up {
                let mut message = self.message(MessageType::Release);
                message.xid = self.random.next_u32();
                message.ciaddr = lease.address;
                message.options.set(code::SERVER_ID, lease.server.octets());
                message.options.remove(code::PARAMETER_LIST);
                message.options.remove(code::MAX_SIZE);
                self.outputs.push_back(Output::Transmit(Transmit::Datagram {
                    source: lease.address,
                    destination: lease.server,
                    payload: message.encode(),
                }));
                self.event(Event::Sent { kind: Sent::Release, attempt: 1 });
            }
            self.event(Event::Lost { reason: LostReason::Released });
        }
        self.state = State::Stopped;
    }

    /// What every message of this client carries.
    fn message(&self, kind: MessageType) -> Message {
        let mut message = Message::new(false, kind, 0, self.mac);
        let options = &mut message.options;
        options.set(code::CLIENT_ID, self.client_id());
        if let Some(name) = &self.config.host_name {
            options.set(code::HOST_NAME, name.as_bytes());
        }
        if let Some(class) = &self.config.vendor_class {
            options.set(code::VENDOR_CLASS, class.as_slice());
        }
        options.set(code::MAX_SIZE, MAX_SIZE.to_be_bytes());
        options.set(code::PARAMETER_LIST, self.parameter_list());
        message
    }

    fn client_id(&self) -> Vec<u8> {
        self.config.client_id.clone().unwrap_or_else(|| {
            let [a, b, c, d, e, f] = self.mac.0;
            vec![1, a, b, c, d, e, f]
        })
    }

    fn parameter_list(&self) -> Vec<u8> {
        let mut list = Vec::new();
        // Before option 3 (RFC 3442, "DHCP Client Behavior").
        if self.config.classless_routes != ClasslessRoutes::Ignore {
            list.push(code::CLASSLESS_ROUTES);
        }
        list.extend([
            code::SUBNET_MASK,
            code::ROUTER,
            code::DNS,
            code::HOST_NAME,
            code::DOMAIN_NAME,
            code::MTU,
            code::BROADCAST,
            code::NTP,
            code::LEASE_TIME,
            code::RENEWAL_TIME,
            code::REBINDING_TIME,
            code::DOMAIN_SEARCH,
        ]);
        for extra in &self.config.request {
            if !list.contains(extra) {
                list.push(*extra);
            }
        }
        list
    }

    fn secs(&self, since: Duration) -> u16 {
        u16::try_from(self.now.saturating_sub(since).as_secs()).unwrap_or(u16::MAX)
    }

    fn broadcast(&mut self, message: &Message, kind: Sent, attempt: u32) {
        let to = Endpoints {
            source_mac: self.mac,
            destination_mac: HardwareAddr::BROADCAST,
            source: Ipv4Addr::UNSPECIFIED,
            destination: Ipv4Addr::BROADCAST,
            source_port: CLIENT_PORT,
            destination_port: SERVER_PORT,
        };
        // Settings are bounded, so that a message always fits a frame.
        if let Some(frame) = udp::encode(&to, &message.encode()) {
            self.outputs.push_back(Output::Transmit(Transmit::Frame(frame)));
        }
        self.event(Event::Sent { kind, attempt });
    }

    /// Sends what is due at `self.now`, and moves on from states whose time is over.
    fn send_what_is_due(&mut self) {
        // Each turn either sends (and so moves `next` on) or changes to a state that sends: three
        // turns are the longest way (BOUND → RENEWING → REBINDING).
        for _ in 0..4 {
            let now = self.now;
            match &self.state {
                State::Selecting(selecting) if selecting.next <= now => self.discover(),
                State::Requesting(requesting) if requesting.next <= now => {
                    if requesting.attempt >= MOST_REQUESTS {
                        self.select(now);
                    } else {
                        self.request();
                    }
                }
                State::Bound(bound) if bound.renew_at.is_some_and(|at| at <= now) => {
                    let lease = bound.lease.clone();
                    self.extend(lease, Extension::Renew);
                }
                State::Extending(extending) if extending.next <= now => {
                    match (extending.how, extending.lease.rebind_at()) {
                        (Extension::Renew, Some(rebind_at)) if rebind_at <= now => {
                            let lease = extending.lease.clone();
                            self.extend(lease, Extension::Rebind);
                        }
                        (Extension::Reboot, _) if extending.attempt >= MOST_REBOOTS => {
                            let lease = extending.lease.clone();
                            self.bind(lease);
                        }
                        _ => self.ask_to_extend(),
                    }
                }
                _ => return,
            }
        }
    }

    fn discover(&mut self) {
        let secs = self.secs(self.began);
        let mut message = self.message(MessageType::Discover);
        let State::Selecting(selecting) = &mut self.state else { return };
        selecting.attempt = selecting.attempt.saturating_add(1);
        let attempt = selecting.attempt;
        selecting.next = self.now
            + backoff(
                &mut self.random,
                self.config.first_retry,
                self.config.longest_retry,
                attempt,
            );
        message.xid = selecting.xid;
        message.secs = secs;
        message.broadcast = self.config.broadcast;
        self.broadcast(&message, Sent::Discover, attempt);
        self.discovers = self.discovers.saturating_add(1);
        if self.discovers > 1 {
            self.event(Event::StillTrying { elapsed: self.now.saturating_sub(self.began) });
        }
    }

    fn request(&mut self) {
        let secs = self.secs(self.began);
        let mut message = self.message(MessageType::Request);
        let State::Requesting(requesting) = &mut self.state else { return };
        requesting.attempt = requesting.attempt.saturating_add(1);
        let attempt = requesting.attempt;
        requesting.next = self.now
            + backoff(
                &mut self.random,
                self.config.first_retry,
                self.config.longest_retry,
                attempt,
            );
        message.xid = requesting.xid;
        message.secs = secs;
        message.broadcast = self.config.broadcast;
        message.options.set(code::REQUESTED_ADDRESS, requesting.address.octets());
        message.options.set(code::SERVER_ID, requesting.server.octets());
        self.broadcast(&message, Sent::Request, attempt);
    }

    /// RENEWING and REBINDING set ciaddr and never options 50 and 54; REBOOTING sets option 50 and
    /// neither ciaddr nor option 54 (RFC 2131 section 4.3.2). Each transmission has its own
    /// transaction identifier, so that an ACK tells from when its lease counts.
    fn ask_to_extend(&mut self) {
        let mut message = self.message(MessageType::Request);
        let xid = self.random.next_u32();
        let now = self.now;
        let State::Extending(extending) = &mut self.state else { return };
        extending.attempt = extending.attempt.saturating_add(1);
        extending.xid = xid;
        extending.sent = now;
        let lease = &extending.lease;
        let far = Duration::MAX;
        let t1 = lease.renew_at().unwrap_or(far);
        let t2 = lease.rebind_at().unwrap_or(far);
        let expiry = lease.expires_at().unwrap_or(far);
        let kind = match extending.how {
            Extension::Renew => {
                extending.next = halfway(now, t2, t2.saturating_sub(t1));
                Sent::Renew
            }
            Extension::Rebind => {
                extending.next = halfway(now, expiry, expiry.saturating_sub(t2));
                Sent::Rebind
            }
            Extension::Reboot => {
                extending.next = now
                    + backoff(
                        &mut self.random,
                        self.config.first_retry,
                        self.config.longest_retry,
                        extending.attempt,
                    );
                Sent::Reboot
            }
        };
        let attempt = extending.attempt;
        let (how, began, address, server) =
            (extending.how, extending.began, lease.address, lease.server);
        message.xid = xid;
        message.secs = self.secs(began);
        if how == Extension::Reboot {
            message.broadcast = self.config.broadcast;
            message.options.set(code::REQUESTED_ADDRESS, address.octets());
            self.broadcast(&message, kind, attempt);
        } else {
            message.ciaddr = address;
            let destination = if how == Extension::Renew { server } else { Ipv4Addr::BROADCAST };
            self.outputs.push_back(Output::Transmit(Transmit::Datagram {
                source: address,
                destination,
                payload: message.encode(),
            }));
            self.event(Event::Sent { kind, attempt });
        }
    }

    fn frame(&mut self, bytes: &[u8], checksum: ChecksumState) -> Result<(), Ignored> {
        let datagram = udp::decode(bytes, checksum)?;
        let to = datagram.endpoints.destination_mac;
        if to != self.mac && to.0[0] & 1 == 0 {
            return Err(Ignored::OtherStation);
        }
        self.datagram(datagram.endpoints.source_port, datagram.payload)
    }

    fn datagram(&mut self, source_port: u16, payload: &[u8]) -> Result<(), Ignored> {
        if self.config.strict_source_port && source_port != SERVER_PORT {
            return Err(Ignored::SourcePort);
        }
        let reply = Message::decode(payload)?;
        if !reply.reply {
            return Err(Ignored::NotAReply);
        }
        let xid = match &self.state {
            State::Selecting(selecting) if selecting.attempt > 0 => selecting.xid,
            State::Requesting(requesting) => requesting.xid,
            State::Extending(extending) => extending.xid,
            _ => return Err(Ignored::OtherTransaction),
        };
        if reply.xid != xid {
            return Err(Ignored::OtherTransaction);
        }
        if reply.chaddr != self.mac {
            return Err(Ignored::OtherHardwareAddr);
        }
        if reply.options.get(code::CLIENT_ID).is_some_and(|echo| echo != self.client_id()) {
            return Err(Ignored::OtherClientId);
        }
        match reply.kind {
            MessageType::Offer => self.offer(&reply),
            MessageType::Ack => self.ack(&reply),
            MessageType::Nak => self.nak(&reply),
            _ => Err(Ignored::Unexpected),
        }
    }

    /// The first offer that would make a good lease is taken.
    fn offer(&mut self, reply: &Message) -> Result<(), Ignored> {
        let State::Selecting(selecting) = &self.state else { return Err(Ignored::Unexpected) };
        let lease = Lease::from_reply(reply, &self.config, self.now)?;
        self.state = State::Requesting(Requesting {
            xid: selecting.xid,
            attempt: 0,
            next: self.now,
            first_sent: self.now,
            server: lease.server,
            address: lease.address,
        });
        Ok(())
    }

    fn ack(&mut self, reply: &Message) -> Result<(), Ignored> {
        let (server, address, asked_at) = match &self.state {
            State::Requesting(asked) => (Some(asked.server), asked.address, asked.first_sent),
            State::Extending(asked) => (
                (asked.how == Extension::Renew).then_some(asked.lease.server),
                asked.lease.address,
                asked.sent,
            ),
            _ => return Err(Ignored::Unexpected),
        };
        let lease = Lease::from_reply(reply, &self.config, asked_at)?;
        if server.is_some_and(|server| server != lease.server) {
            return Err(Ignored::OtherServer);
        }
        if lease.address != address {
            return Err(Ignored::OtherAddress);
        }
        let event = match self.state {
            State::Extending(_) => Event::Renewed(Box::new(lease.clone())),
            _ => Event::Bound(Box::new(lease.clone())),
        };
        self.naks = 0;
        self.bind(lease);
        self.event(event);
        Ok(())
    }

    /// T1 is taken up to a sixteenth early, so that machines that booted together do not renew
    /// together (RFC 2131 section 4.4.5).
    fn bind(&mut self, lease: Lease) {
        let early = self.random.up_to(lease.renew_after.unwrap_or_default() / 16);
        let renew_at = lease.renew_at().map(|at| at.saturating_sub(early).max(self.now));
        self.state = State::Bound(Bound { lease, renew_at });
    }

    /// The first NAK to a lease that was held restarts at once; NAKs without a lease in between
    /// restart after a pause that doubles.
    fn nak(&mut self, reply: &Message) -> Result<(), Ignored> {
        let from = server_id(reply)?;
        let (asked, held) = match &self.state {
            State::Requesting(asked) => (Some(asked.server), false),
            State::Extending(asked) => {
                ((asked.how == Extension::Renew).then_some(asked.lease.server), true)
            }
            _ => return Err(Ignored::Unexpected),
        };
        if asked.is_some_and(|server| server != from) {
            return Err(Ignored::OtherServer);
        }
        if held {
            self.begin();
            self.event(Event::Lost { reason: LostReason::Refused });
            self.select(self.now);
        } else {
            self.naks = self.naks.saturating_add(1);
            let pause = backoff(
                &mut self.random,
                self.config.first_retry,
                self.config.longest_retry,
                self.naks,
            );
            self.event(Event::Refused);
            self.select(self.now + pause);
        }
        Ok(())
    }
}
