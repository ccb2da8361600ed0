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
mod io;
mod receive;
mod send;
mod state;
mod timers;

use core::time::Duration;
use std::collections::{BTreeMap, VecDeque};

pub use config::{ClasslessRoutes, Config, ConfigError, OffLinkGateway, Problem};
pub use io::{Event, Ignored, Input, LostReason, Output, Sent, Transmit};
use state::{Extending, Extension, Requesting, Selecting, State};
use timers::Random;

use crate::lease::Lease;
use crate::wire::{HardwareAddr, MessageType, code};

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
}
