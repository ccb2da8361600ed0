//! One client: bytes in, requests out, answers in, bytes out, all within bounds.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::tail::{Piece, Tail};
use crate::control::frame::{self, Decoder, FrameError, FrameKind};
use crate::control::protocol::{
    self, ActionResult, Answer, Effect, Refusal, RefusalCode, Request, VERSION, encode,
};
use crate::control::{Peer, protocol::decode_request};
use crate::graph::ServiceId;
use crate::unix::reserve;
use crate::vocabulary::{Event, Pid, Time};

/// Answers are made while less than this waits to be sent: what all clients together can have made
/// in one turn of the loop is a few milliseconds' work.
const HIGH: usize = 16 << 10;
/// A subscriber to events for whom more than this waits is too slow.
const EVENTS_HIGH: usize = 256 << 10;
/// Who is idle for less than this may be about to ask: it has just come, or was just answered.
const BRIEFLY: Duration = Duration::from_secs(1);
/// Before the greeting nobody needs more.
const GREETING: usize = 256;
/// How long a client may take for its greeting, or to end a request that it has begun.
const HALF_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it may take nothing of an answer.
const SLOW_TIMEOUT: Duration = Duration::from_secs(30);
/// How long it may ask nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct Connection {
    fd: OwnedFd,
    pub(super) peer: Peer,
    pub(super) may_read: bool,
    pub(super) may_act: bool,
    decoder: Decoder,
    out: Vec<u8>,
    /// How much of `out` has been sent.
    sent: usize,
    greeted: bool,
    pub(super) job: Job,
    /// When it was last idle for a reason: it came, asked, or took something.
    pub(super) since: Time,
    /// What epoll was told.
    pub(super) interest: EventFlags,
    /// The client sends no more.
    half_closed: bool,
    /// The client has closed.
    hung_up: bool,
    /// No more requests are taken; it ends when the answers are sent.
    closing: bool,
    /// It ends now.
    pub(super) dead: bool,
}

/// What is being done for a client.
#[derive(Debug)]
pub(super) enum Job {
    Idle,
    List(List),
    Log(Box<Tail>),
    Events { orphans: bool },
    Wait(Wait),
}

/// An answer of many parts, made part by part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unix) struct List {
    pub(super) what: ListKind,
    /// Only this one.
    pub(super) only: Option<ServiceId>,
    /// The next service.
    pub(super) at: u32,
    /// Where in its lists.
    pub(super) offset: usize,
}

impl List {
    pub(in crate::unix) fn new(what: ListKind, only: Option<ServiceId>) -> Self {
        Self { what, only, at: 0, offset: 0 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unix) enum ListKind {
    Status,
    Tree,
    Times,
}

/// A client that waits for what it asked for.
#[derive(Debug, Clone)]
pub(in crate::unix) struct Wait {
    pub(in crate::unix) service: String,
    pub(in crate::unix) goal: Goal,
    pub(in crate::unix) until: Time,
    /// How a run ended meanwhile.
    pub(in crate::unix) last: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::unix) enum Goal {
    /// Up, after it was down if it is to be.
    Up {
        down_first: bool,
    },
    Down,
    /// A reload command has ended.
    Command(Pid),
    /// This process goes on as a new image.
    Reexec,
    /// The supervisor has read its services again.
    Reload,
}

impl Wait {
    /// What an event means for who waits; `None`: waiting goes on.
    fn hear(&mut self, event: &Event) -> Option<ActionResult> {
        let result = |effect| Some(ActionResult::new(effect, event.to_string()));
        let down_first = match self.goal {
            Goal::Command(_) | Goal::Reexec | Goal::Reload => return None,
            Goal::Down => {
                return match event {
                    Event::Stopped { service } if *service == self.service.as_str() => {
                        result(Effect::Done)
                    }
                    _ => None,
                };
            }
            Goal::Up { down_first } => down_first,
        };
        match event {
            Event::ShuttingDown { .. } => result(Effect::Failed),
            Event::Stopped { service } if *service == self.service.as_str() => {
                self.goal = Goal::Up { down_first: false };
                // somebody else stopped it
                if down_first { None } else { result(Effect::Failed) }
            }
            _ if down_first => None,
            Event::Ready { service, .. } | Event::Done { service }
                if *service == self.service.as_str() =>
            {
                result(Effect::Done)
            }
            Event::Failed { service, .. } if *service == self.service.as_str() => {
                result(Effect::Failed)
            }
            Event::Exited { service, .. } | Event::SpawnFailed { service, .. }
                if *service == self.service.as_str() =>
            {
                self.last = Some(event.to_string());
                None
            }
            Event::Restarting { service, .. } if *service == self.service.as_str() => {
                let last = self.last.take().map_or_else(String::new, |last| last + "; ");
                Some(ActionResult::new(Effect::Failed, format!("{last}{event}")))
            }
            _ => None,
        }
    }
}

impl Connection {
    pub(super) fn new(fd: OwnedFd, peer: Peer, rights: (bool, bool), now: Time) -> Self {
        let (may_read, may_act) = rights;
        Self {
            fd,
            peer,
            may_read,
            may_act,
            decoder: Decoder::new(GREETING),
            out: Vec::new(),
            sent: 0,
            greeted: false,
            job: Job::Idle,
            since: now,
            interest: EventFlags::empty(),
            half_closed: false,
            hung_up: false,
            closing: false,
            dead: false,
        }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn unsent(&self) -> usize {
        self.out.len().saturating_sub(self.sent)
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(self.job, Job::Idle)
    }

    /// Whether it has not greeted, or has begun a request and not ended it.
    pub(super) fn is_half(&self) -> bool {
        !self.greeted || self.decoder.pending() > 0
    }

    fn takes_requests(&self) -> bool {
        self.is_idle() && !self.closing && !self.dead && self.unsent() < HIGH
    }

    /// What epoll is to say of it.
    pub(super) fn wanted(&self) -> EventFlags {
        let mut flags = EventFlags::empty();
        if self.takes_requests() && !self.half_closed {
            flags |= EventFlags::IN;
        }
        if self.unsent() > 0 {
            flags |= EventFlags::OUT;
        }
        flags
    }

    /// Takes in what epoll says.
    pub(super) fn on_event(&mut self, flags: EventFlags, buffer: &mut [u8], now: Time) {
        if flags.intersects(EventFlags::HUP | EventFlags::ERR) {
            self.hung_up = true;
            // nobody is there for the answer; what was asked for before is still done
            self.dead |= !self.is_idle();
        }
        if self.takes_requests() && !self.half_closed {
            self.read(buffer, now);
        } else if self.hung_up {
            self.dead = true;
        }
    }

    fn read(&mut self, buffer: &mut [u8], now: Time) {
        let room = self.decoder.room().min(buffer.len());
        if room == 0 {
            return;
        }
        let target = buffer.get_mut(..room).unwrap_or_default();
        match rustix::net::recv(&self.fd, target, RecvFlags::DONTWAIT) {
            Ok((0, _)) => self.half_closed = true,
            Ok((length, _)) => {
                // time for a request counts from its first byte
                if self.decoder.pending() == 0 && self.greeted {
                    self.since = now;
                }
                let bytes = buffer.get(..length).unwrap_or_default();
                if !self.decoder.make_room(bytes.len()) {
                    let why = "there is no memory for this request";
                    return self.refuse_and_close(Refusal::new(RefusalCode::Unavailable, why));
                }
                self.decoder.push(bytes);
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.dead = true,
        }
    }

    /// The next request that is sound and allowed; the others are answered here.
    pub(super) fn next_request(&mut self, now: Time) -> Option<Request> {
        while self.takes_requests() {
            let frame = match self.decoder.frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.closing |= self.half_closed;
                    self.dead |= self.hung_up;
                    return None;
                }
                Err(error) => {
                    let code = match error {
                        FrameError::NoMemory => RefusalCode::Unavailable,
                        _ => RefusalCode::BadRequest,
                    };
                    self.refuse_and_close(Refusal::new(code, error.to_string()));
                    return None;
                }
            };
            let request = match decode_request(&frame) {
                Ok(request) => request,
                Err(refusal) => {
                    self.refuse_and_close(refusal);
                    return None;
                }
            };
            self.since = now;
            match request {
                Request::Hello { version: VERSION } => self.greet(),
                Request::Hello { version } => {
                    let why = format!("version {version} is not spoken here, but {VERSION}");
                    self.refuse_and_close(Refusal::new(RefusalCode::Version, why));
                }
                _ if !self.greeted => {
                    let why = "the first request must be hello";
                    self.refuse_and_close(Refusal::new(RefusalCode::BadRequest, why));
                }
                request if request.acts() && !self.may_act => self.forbid("change anything here"),
                request if !request.acts() && !self.may_read => self.forbid("read anything here"),
                request => return Some(request),
            }
        }
        None
    }

    /// It has greeted, and may send long requests.
    pub(super) fn greeted(&mut self) {
        self.greeted = true;
        self.decoder.set_limit(frame::MAX_PAYLOAD);
    }

    fn greet(&mut self) {
        self.greeted();
        self.say(&Answer::Hello {
            version: VERSION,
            pid: rustix::process::getpid().as_raw_nonzero().get(),
            may_read: self.may_read,
            may_act: self.may_act,
        });
    }

    fn forbid(&mut self, what: &str) {
        let why = format!("user {} may not {what}", self.peer.uid);
        self.say(&Answer::Refused(Refusal::new(RefusalCode::Forbidden, why)));
    }

    fn refuse_and_close(&mut self, refusal: Refusal) {
        self.say(&Answer::Refused(refusal));
        self.closing = true;
    }

    /// Adds a message to what is sent.
    pub(super) fn say(&mut self, answer: &Answer) {
        if !encode(answer, &mut self.out) {
            // bounded by how answers are made; a client must not wait for ever all the same
            self.dead = true;
        }
    }

    /// Tells an event: to a subscriber its frame, to who waits its meaning.
    pub(super) fn hear(&mut self, event: &Event, line: &mut dyn FnMut() -> Vec<u8>, now: Time) {
        match &mut self.job {
            Job::Events { orphans } => {
                if matches!(event, Event::Reaped { .. }) && !*orphans {
                    return;
                }
                if self.unsent() == 0 {
                    self.since = now;
                }
                let line = line();
                if !reserve::try_grow(&mut self.out, line.len()) {
                    self.dead = true;
                    return;
                }
                self.out.extend_from_slice(&line);
                self.dead |= self.unsent() > if reserve::is_short() { HIGH } else { EVENTS_HIGH };
            }
            Job::Wait(wait) => {
                if let Some(result) = wait.hear(event) {
                    self.finish(&Answer::Result(result), now);
                }
            }
            Job::Idle | Job::List(_) | Job::Log(_) => {}
        }
    }

    /// Ends the job with this answer.
    pub(super) fn finish(&mut self, answer: &Answer, now: Time) {
        self.job = Job::Idle;
        self.since = now;
        self.say(answer);
    }

    /// Makes more of a long answer, as far as it is being taken.
    pub(super) fn fill(
        &mut self,
        next: &mut dyn FnMut(&mut List) -> Option<Answer>,
        buffer: &mut [u8],
        now: Time,
    ) {
        while self.unsent() < HIGH && !self.dead {
            if self.unsent() == 0 {
                self.since = now;
            }
            match &mut self.job {
                Job::List(list) => match next(list) {
                    Some(answer) => self.say(&answer),
                    None => self.finish(&Answer::End {}, now),
                },
                Job::Log(tail) => {
                    if !tail.is_pending() {
                        return;
                    }
                    let longest = buffer.len().min(frame::MAX_PAYLOAD);
                    let target = buffer.get_mut(..longest).unwrap_or_default();
                    match tail.read(target) {
                        Ok(Piece::Data(length)) => {
                            let data = buffer.get(..length).unwrap_or_default();
                            let whole = data.len().saturating_add(frame::HEADER);
                            if !reserve::try_grow(&mut self.out, whole) {
                                self.dead = true;
                                return;
                            }
                            frame::encode(FrameKind::Data, data, &mut self.out);
                        }
                        Ok(Piece::Gap) => self.say(&Answer::Gap {}),
                        Ok(Piece::Later) => return,
                        Ok(Piece::End) => self.finish(&Answer::End {}, now),
                        Err(error) => {
                            let why = format!("cannot read the log: {error}");
                            let refusal = Refusal::new(RefusalCode::Unavailable, why);
                            self.finish(&Answer::Refused(refusal), now);
                        }
                    }
                }
                Job::Idle | Job::Events { .. } | Job::Wait(_) => return,
            }
        }
    }

    /// Sends what the client takes now.
    pub(super) fn flush(&mut self, now: Time) {
        while self.unsent() > 0 && !self.dead {
            let rest = self.out.get(self.sent..).unwrap_or_default();
            match rustix::net::send(&self.fd, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => {
                    self.sent = self.sent.saturating_add(length);
                    self.since = now;
                }
                Err(rustix::io::Errno::AGAIN) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => self.dead = true,
            }
        }
        if self.unsent() == 0 {
            self.out.clear();
            self.sent = 0;
            // an idle connection holds no memory
            if self.is_idle() {
                self.out.shrink_to(0);
            }
            self.dead |= self.closing;
        } else if self.sent >= HIGH {
            self.out.drain(..self.sent.min(self.out.len()));
            self.sent = 0;
        }
    }

    /// Whether it is one to let go of when memory is short.
    pub(super) fn can_be_shed(&self, now: Time) -> bool {
        let waits_for_it = now.saturating_sub(self.since) >= BRIEFLY;
        self.unsent() > HIGH || (waits_for_it && (self.is_idle() || self.unsent() > 0))
    }

    /// Whether there is something to do for it that no event will tell of.
    pub(super) fn wants_turn(&self) -> bool {
        let has_more = match &self.job {
            Job::Idle => self.decoder.is_ready() || self.half_closed,
            // what was made has been taken at once: nobody says that there is room
            Job::List(_) => true,
            Job::Log(tail) => tail.is_pending(),
            Job::Events { .. } | Job::Wait(_) => false,
        };
        has_more && !self.closing && !self.dead && self.unsent() < HIGH
    }

    /// When patience with it ends.
    pub(super) fn deadline(&self) -> Time {
        let patience = match &self.job {
            // somebody reads it with a pager, perhaps; it costs a place and no more
            Job::Log(_) if self.unsent() > 0 => IDLE_TIMEOUT,
            _ if self.unsent() > 0 => SLOW_TIMEOUT,
            Job::Wait(wait) => return wait.until,
            Job::Idle if self.is_half() => HALF_TIMEOUT,
            Job::Idle => IDLE_TIMEOUT,
            Job::List(_) | Job::Log(_) | Job::Events { .. } => return Time::MAX,
        };
        self.since.saturating_add(patience)
    }

    /// Its deadline has come.
    pub(super) fn expire(&mut self, now: Time) {
        match &self.job {
            Job::Wait(wait) if self.unsent() == 0 => {
                let text = format!("{}: not yet; it goes on", wait.service);
                let result = ActionResult::new(protocol::Effect::TimedOut, text);
                self.finish(&Answer::Result(result), now);
            }
            _ => self.dead = true,
        }
    }
}
