//! What the client is told, and what it answers.

use core::fmt;
use core::net::Ipv4Addr;
use core::time::Duration;

use crate::lease::Lease;
use crate::wire::Malformed;
use crate::wire::udp::ChecksumState;

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
