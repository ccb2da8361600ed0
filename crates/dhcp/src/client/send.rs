//! What the client sends, and when.

use core::net::Ipv4Addr;
use core::time::Duration;

use super::state::{Extension, State};
use super::timers::{backoff, halfway};
use super::{ClasslessRoutes, Client, Event, Output, Sent, Transmit};
use crate::wire::udp::{self, CLIENT_PORT, Endpoints, SERVER_PORT};
use crate::wire::{HardwareAddr, Message, MessageType, code};

/// REQUESTs for one offer before the client looks for another.
const MOST_REQUESTS: u32 = 4;
/// REQUESTs after the link came back before the lease is trusted as it was.
const MOST_REBOOTS: u32 = 3;
/// What this client takes, as option 57: an Ethernet MTU less IPv4 and UDP headers.
const MAX_SIZE: u16 = 1472;

impl Client {
    /// What every message of this client carries.
    pub(super) fn message(&self, kind: MessageType) -> Message {
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

    pub(super) fn client_id(&self) -> Vec<u8> {
        self.config.client_id.clone().unwrap_or_else(|| {
            let [a, b, c, d, e, f] = self.mac.0;
            vec![1, a, b, c, d, e, f]
        })
    }

    pub(super) fn parameter_list(&self) -> Vec<u8> {
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

    pub(super) fn secs(&self, since: Duration) -> u16 {
        u16::try_from(self.now.saturating_sub(since).as_secs()).unwrap_or(u16::MAX)
    }

    pub(super) fn broadcast(&mut self, message: &Message, kind: Sent, attempt: u32) {
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
    pub(super) fn send_what_is_due(&mut self) {
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

    pub(super) fn discover(&mut self) {
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

    pub(super) fn request(&mut self) {
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
    pub(super) fn ask_to_extend(&mut self) {
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
}
