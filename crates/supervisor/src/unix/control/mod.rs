//! The control socket's shell side: connections in one epoll set of their own, which the loop
//! watches as one descriptor. Nobody connected, nothing to wake up for.
//!
//! It knows the machine only by what the loop lends it: [`Server::next_request`] gives what is
//! asked for, the loop does it, and [`Server::settle`] makes and sends what is to be said.

mod connection;
mod listener;
mod tail;
mod view;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{Timespec, epoll};

use self::connection::{Connection, Job};
pub(super) use self::connection::{Goal, List, ListKind, Wait};
use self::listener::{Accepted, Listener};
use self::tail::{Amount, Tail};
use crate::control::admission::{Seat, displaced};
use crate::control::protocol::{
    self, ActionResult, Answer, Effect, EventLine, Refusal, RefusalCode, Request,
};
use crate::control::timeline::{Timeline, micros};
use crate::control::{ControlOptions, Peer};
use crate::machine::Supervisor;
use crate::spec::LogFile;
use crate::vocabulary::{Event, ExitStatus, Name, Pid, Time};

/// So many are accepted before those that are there are looked after.
const ACCEPT_BATCH: usize = 16;
/// So many requests of one client are done before others have their turn.
const REQUEST_BATCH: usize = 4;
/// How long nobody is accepted when there are no descriptors.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a reload command may run if nobody says otherwise.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(90);
/// So many reload commands may run at once.
const COMMANDS: usize = 16;

/// What a client is called here; [`u32`] in the set's keys.
pub(super) type Client = u32;

const LISTENER: u64 = 0;
const CONNECTION: u64 = 1;
const WATCHER: u64 = 2;
const COMMAND: u64 = 3;

fn key(kind: u64, value: u32) -> epoll::EventData {
    epoll::EventData::new_u64(kind << 32 | u64::from(value))
}

#[derive(Debug)]
pub(super) struct Server {
    options: ControlOptions,
    listener: Listener,
    /// Until when nobody is accepted.
    paused: Option<Time>,
    epoll: OwnedFd,
    connections: BTreeMap<Client, Connection>,
    next: Client,
    commands: Vec<Command>,
    pub(super) timeline: Timeline,
    /// Whether some client has more requests that were already read.
    more: bool,
    buffer: Vec<u8>,
}

/// A reload command that runs.
#[derive(Debug)]
struct Command {
    pid: Pid,
    service: String,
    pidfd: OwnedFd,
    until: Time,
}

impl Server {
    /// Listens; `inherited` is the socket of the process image before, if it left one.
    pub(super) fn open(
        options: ControlOptions,
        inherited: Option<OwnedFd>,
        timeline: Timeline,
    ) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let listener = match inherited {
            Some(fd) => Listener::adopt(fd, &options),
            None => Listener::bind(&options)?,
        };
        epoll::add(&epoll, listener.fd(), key(LISTENER, 0), epoll::EventFlags::IN)?;
        Ok(Self {
            options,
            listener,
            paused: None,
            epoll,
            connections: BTreeMap::new(),
            next: 0,
            commands: Vec::new(),
            timeline,
            more: false,
            buffer: vec![0; 32 << 10],
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// What another process image goes on with.
    pub(super) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.fd()
    }

    /// Makes the socket anew if its file is gone.
    pub(super) fn reopen(&mut self) -> std::io::Result<()> {
        if self.listener.is_in_place() {
            return Ok(());
        }
        let listener = Listener::bind(&self.options)?;
        epoll::add(&self.epoll, listener.fd(), key(LISTENER, 0), epoll::EventFlags::IN)?;
        self.listener = listener;
        self.paused = None;
        Ok(())
    }

    /// Takes in what has come. Gives the reload commands that have ended, still zombies.
    pub(super) fn take(&mut self, now: Time) -> Vec<Pid> {
        let mut ended = Vec::new();
        let mut events: Vec<epoll::Event> = Vec::with_capacity(64);
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        let space = rustix::buffer::spare_capacity(&mut events);
        if epoll::wait(&self.epoll, space, Some(&at_once)).is_err() {
            return ended;
        }
        for event in events {
            let bits = event.data.u64();
            let Ok(value) = u32::try_from(bits & 0xffff_ffff) else { continue };
            match bits >> 32 {
                LISTENER => self.accept(now),
                CONNECTION => {
                    if let Some(connection) = self.connections.get_mut(&value) {
                        connection.on_event(event.flags, &mut self.buffer, now);
                    }
                }
                WATCHER => {
                    if let Some(Connection { job: Job::Log(tail), .. }) =
                        self.connections.get_mut(&value)
                    {
                        tail.notice();
                    }
                }
                COMMAND => ended.extend(i32::try_from(value).map(Pid)),
                _ => {}
            }
        }
        ended
    }

    fn accept(&mut self, now: Time) {
        for _ in 0..ACCEPT_BATCH {
            if self.paused.is_some() {
                return;
            }
            match self.listener.accept() {
                Accepted::Connection(fd) => self.admit(fd, now),
                Accepted::Nobody => return,
                Accepted::NoPlace => {
                    // somebody idle goes, or the last reserve; otherwise the newcomer waits
                    match displaced(&self.seats(), true) {
                        Some(client) => self.close(client),
                        None if self.listener.spend() => {}
                        None => self.pause(now),
                    }
                }
            }
        }
    }

    fn pause(&mut self, now: Time) {
        let nothing = epoll::EventFlags::empty();
        if epoll::modify(&self.epoll, self.listener.fd(), key(LISTENER, 0), nothing).is_ok() {
            self.paused = Some(now.saturating_add(PAUSE));
        }
    }

    fn resume(&mut self) {
        let flags = epoll::EventFlags::IN;
        if self.paused.is_some()
            && epoll::modify(&self.epoll, self.listener.fd(), key(LISTENER, 0), flags).is_ok()
        {
            self.paused = None;
        }
    }

    fn seats(&self) -> Vec<Seat> {
        let seat = |(client, connection): (&Client, &Connection)| Seat {
            key: *client,
            pid: connection.peer.pid,
            may_act: connection.may_act,
            idle: connection.is_idle(),
            half: connection.is_half(),
            since: connection.since.as_nanos(),
        };
        self.connections.iter().map(seat).collect()
    }

    fn admit(&mut self, fd: OwnedFd, now: Time) {
        // without a name for the other end there is nothing to judge it by
        let Ok(peer) = peer(fd.as_fd()) else { return };
        let may_act = self.options.act.allows(&peer);
        let rights = (may_act || self.options.read.allows(&peer), may_act);
        if self.connections.len() >= self.options.max_connections.max(1) {
            match displaced(&self.seats(), may_act) {
                Some(client) => self.close(client),
                None => return,
            }
        }
        while self.connections.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let client = self.next;
        self.next = self.next.wrapping_add(1);
        let mut connection = Connection::new(fd, peer, rights, now);
        connection.interest = connection.wanted();
        let data = key(CONNECTION, client);
        if epoll::add(&self.epoll, connection.fd(), data, connection.interest).is_ok() {
            // who speaks at once is served at once
            connection.on_event(epoll::EventFlags::IN, &mut self.buffer, now);
            self.connections.insert(client, connection);
        }
    }

    fn close(&mut self, client: Client) {
        self.connections.remove(&client);
        self.listener.save();
        self.resume();
    }

    /// Who may have something to ask.
    pub(super) fn clients(&mut self) -> Vec<Client> {
        self.more = false;
        self.connections.keys().copied().collect()
    }

    /// What a client asks for next, if it is its turn; `done` counts what it has had this turn.
    pub(super) fn next_request(
        &mut self,
        client: Client,
        done: usize,
        now: Time,
    ) -> Option<Request> {
        let connection = self.connections.get_mut(&client)?;
        // what is left over has its turn after `settle`
        if done < REQUEST_BATCH { connection.next_request(now) } else { None }
    }

    pub(super) fn answer(&mut self, client: Client, answer: &Answer, now: Time) {
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.finish(answer, now);
        }
    }

    pub(super) fn refuse(&mut self, client: Client, code: RefusalCode, why: String, now: Time) {
        self.answer(client, &Answer::Refused(Refusal::new(code, why)), now);
    }

    pub(super) fn result(&mut self, client: Client, effect: Effect, text: String, now: Time) {
        self.answer(client, &Answer::Result(ActionResult::new(effect, text)), now);
    }

    pub(super) fn list(&mut self, client: Client, list: List) {
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.job = Job::List(list);
        }
    }

    pub(super) fn subscribe(&mut self, client: Client, orphans: bool) {
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.say(&Answer::Listening {});
            connection.job = Job::Events { orphans };
        }
    }

    pub(super) fn wait(&mut self, client: Client, wait: Wait) {
        if let Some(connection) = self.connections.get_mut(&client) {
            connection.job = Job::Wait(wait);
        }
    }

    /// Whether the client still waits for its answer.
    pub(super) fn waits(&self, client: Client) -> bool {
        matches!(self.connections.get(&client), Some(Connection { job: Job::Wait(_), .. }))
    }

    /// Whether the client still waits for the supervisor's own reload.
    pub(super) fn waits_for_reload(&self, client: Client) -> bool {
        let job = self.connections.get(&client).map(|connection| &connection.job);
        matches!(job, Some(Job::Wait(Wait { goal: Goal::Reload, .. })))
    }

    /// Begins to send a log.
    pub(super) fn tail(
        &mut self,
        client: Client,
        log: LogFile,
        (lines, bytes): (Option<u64>, Option<u64>),
        follow: bool,
        now: Time,
    ) {
        let amount = match (lines, bytes) {
            (_, Some(bytes)) => Amount::Bytes(bytes),
            (lines, None) => Amount::Lines(lines.unwrap_or(10)),
        };
        let path = log.path.display().to_string();
        let tail = Tail::open(log, amount, follow).and_then(|tail| {
            if let Some(watcher) = tail.watcher() {
                let data = key(WATCHER, client);
                epoll::add(&self.epoll, watcher, data, epoll::EventFlags::IN)?;
            }
            Ok(tail)
        });
        match tail {
            Ok(tail) => {
                if let Some(connection) = self.connections.get_mut(&client) {
                    connection.job = Job::Log(Box::new(tail));
                }
            }
            Err(error) => {
                let why = format!("{path}: {error}");
                self.refuse(client, RefusalCode::Unavailable, why, now);
            }
        }
    }

    /// Goes on with a connection of the image before, whose client waits for its answer.
    pub(super) fn take_back(&mut self, fd: OwnedFd, now: Time) -> Option<Client> {
        let client = self.next;
        self.admit(fd, now);
        let connection = self.connections.get_mut(&client)?;
        connection.greeted();
        Some(client)
    }

    /// Whether a client has sent more than was taken from it.
    pub(super) fn has_more(&self, client: Client) -> bool {
        self.connections.get(&client).is_some_and(Connection::is_half)
    }

    /// Clients that wait for a new process image.
    pub(super) fn askers(&self) -> impl Iterator<Item = (Client, BorrowedFd<'_>)> {
        let asks = |connection: &Connection| matches!(&connection.job, Job::Wait(wait) if wait.goal == Goal::Reexec);
        self.connections
            .iter()
            .filter(move |(_, connection)| asks(connection))
            .map(|(client, connection)| (*client, connection.fd()))
    }

    /// Tells who waits for a service that it goes on without us, and sends what is to be sent and
    /// taken at once. All connections but those of [`askers`](Self::askers) end with this image.
    pub(super) fn say_farewell(&mut self, now: Time) {
        for connection in self.connections.values_mut() {
            let waits = matches!(&connection.job, Job::Wait(wait) if wait.goal != Goal::Reexec);
            if waits {
                connection.expire(now);
            }
            connection.flush(now);
        }
    }

    /// Reload commands that run.
    pub(super) fn command_pids(&self) -> Vec<Pid> {
        self.commands.iter().map(|command| command.pid).collect()
    }

    /// Whether another reload command may be started.
    pub(super) fn takes_commands(&self) -> bool {
        self.commands.len() < COMMANDS
    }

    /// Looks after a reload command that was started.
    pub(super) fn command(&mut self, pid: Pid, service: &Name, until: Time) -> std::io::Result<()> {
        let raw = rustix::process::Pid::from_raw(pid.0).ok_or(rustix::io::Errno::SRCH)?;
        let pidfd = rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty())?;
        let data = key(COMMAND, u32::try_from(pid.0).unwrap_or(0));
        epoll::add(&self.epoll, &pidfd, data, epoll::EventFlags::IN)?;
        self.commands.push(Command { pid, service: service.to_string(), pidfd, until });
        Ok(())
    }

    /// A process that may be a reload command has ended.
    pub(super) fn command_ended(&mut self, pid: Pid, status: ExitStatus, now: Time) {
        let Some(place) = self.commands.iter().position(|command| command.pid == pid) else {
            return;
        };
        let command = self.commands.swap_remove(place);
        let _ = epoll::delete(&self.epoll, &command.pidfd);
        let effect = if status.success() { Effect::Done } else { Effect::Failed };
        let text = format!("{}: reload command: {status}", command.service);
        let answer = Answer::Result(ActionResult::new(effect, text));
        for connection in self.connections.values_mut() {
            if matches!(&connection.job, Job::Wait(wait) if wait.goal == Goal::Command(pid)) {
                connection.finish(&answer, now);
            }
        }
    }

    /// Takes in an event, for whoever wants to know.
    pub(super) fn hear(&mut self, event: &Event, now: Time) {
        self.timeline.note(event, now);
        if let Event::Reaped { pid, status } = event {
            self.command_ended(*pid, *status, now);
        }
        let mut encoded: Option<Vec<u8>> = None;
        let mut line = || {
            let frame = encoded.get_or_insert_with(|| {
                let mut bytes = Vec::new();
                protocol::encode(&Answer::Event(describe(event, now)), &mut bytes);
                bytes
            });
            frame.clone()
        };
        for connection in self.connections.values_mut() {
            connection.hear(event, &mut line, now);
        }
    }

    /// Makes what is to be said, sends it, and lets go of who is gone or too slow.
    pub(super) fn settle(&mut self, machine: &Supervisor, now: Time) {
        if self.paused.is_some_and(|until| until <= now) {
            self.resume();
        }
        for command in self.commands.iter_mut().filter(|command| command.until <= now) {
            command.until = Time::MAX;
            let _ =
                rustix::process::pidfd_send_signal(&command.pidfd, rustix::process::Signal::KILL);
        }
        let timeline = &self.timeline;
        let mut gone = Vec::new();
        for (client, connection) in &mut self.connections {
            if connection.deadline() <= now {
                connection.expire(now);
            }
            let mut next = |list: &mut List| view::next(list, machine, timeline, now);
            connection.fill(&mut next, &mut self.buffer, now);
            connection.flush(now);
            let wanted = connection.wanted();
            if !connection.dead && connection.interest != wanted {
                let data = key(CONNECTION, *client);
                connection.dead =
                    epoll::modify(&self.epoll, connection.fd(), data, wanted).is_err();
                connection.interest = wanted;
            }
            self.more |= connection.wants_turn();
            if connection.dead {
                gone.push(*client);
            }
        }
        for client in gone {
            self.close(client);
        }
    }

    /// Lets go of who is idle, half-way through a request, or slow to take what waits for it: memory is
    /// short.
    pub(super) fn shed(&mut self, now: Time) {
        let shed = |(client, connection): (&Client, &Connection)| {
            connection.can_be_shed(now).then_some(*client)
        };
        let gone: Vec<Client> = self.connections.iter().filter_map(shed).collect();
        for client in gone {
            self.close(client);
        }
    }

    /// When [`settle`](Self::settle) is to be called even if nothing comes.
    pub(super) fn due(&self) -> Time {
        if self.more {
            return Time::ZERO;
        }
        let connections = self.connections.values().map(Connection::deadline);
        let commands = self.commands.iter().map(|command| command.until);
        connections.chain(commands).chain(self.paused).min().unwrap_or(Time::MAX)
    }
}

/// An event as a line.
fn describe(event: &Event, now: Time) -> EventLine {
    let text: String = event.to_string().chars().take(2000).collect();
    let service = view::subject(event).map(ToString::to_string);
    EventLine { at_us: micros(now), service, problem: event.is_problem(), text }
}

fn peer(fd: BorrowedFd<'_>) -> std::io::Result<Peer> {
    let (pid, uid, gid) = super::sys::peer_credentials(fd)?;
    let mut gids = super::sys::peer_groups(fd).unwrap_or_default();
    gids.push(gid);
    Ok(Peer { pid, uid, gids })
}
