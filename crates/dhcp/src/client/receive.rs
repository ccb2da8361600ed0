//! What comes in: which of it is an answer to what was asked, and what follows from it.

use super::state::{Bound, Extension, Requesting, State};
use super::timers::backoff;
use super::{Client, Event, Ignored, LostReason};
use crate::lease::{Lease, server_id};
use crate::wire::udp::{self, ChecksumState, SERVER_PORT};
use crate::wire::{Message, MessageType, code};

impl Client {
    pub(super) fn frame(&mut self, bytes: &[u8], checksum: ChecksumState) -> Result<(), Ignored> {
        let datagram = udp::decode(bytes, checksum)?;
        let to = datagram.endpoints.destination_mac;
        if to != self.mac && to.0[0] & 1 == 0 {
            return Err(Ignored::OtherStation);
        }
        self.datagram(datagram.endpoints.source_port, datagram.payload)
    }

    pub(super) fn datagram(&mut self, source_port: u16, payload: &[u8]) -> Result<(), Ignored> {
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
    pub(super) fn offer(&mut self, reply: &Message) -> Result<(), Ignored> {
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

    pub(super) fn ack(&mut self, reply: &Message) -> Result<(), Ignored> {
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
    pub(super) fn bind(&mut self, lease: Lease) {
        let early = self.random.up_to(lease.renew_after.unwrap_or_default() / 16);
        let renew_at = lease.renew_at().map(|at| at.saturating_sub(early).max(self.now));
        self.state = State::Bound(Bound { lease, renew_at });
    }

    /// The first NAK to a lease that was held restarts at once; NAKs without a lease in between
    /// restart after a pause that doubles.
    pub(super) fn nak(&mut self, reply: &Message) -> Result<(), Ignored> {
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
