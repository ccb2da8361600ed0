//! A supervisor's state as a few lines of text, so that another process image can go on with it.
//!
//! ```text
//! kiln-supervisor 2
//! token 17
//! shutdown reboot 61200 64200 0
//! service nomad 1 0 1 0 5012 0 0 up 212
//! ```
//! Times are milliseconds on the clock of `now`; a service has its name, wanted, again, settled,
//! succeeded, started, restarts, failures in a row, and its state.
//!
//! The number in the first line changes with the meaning of what is there; another one is refused.
//! Lines and words behind a state that are not known are of a newer version, and left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use crate::graph::Problems;
use crate::machine::{Shutdown, Supervisor};
use crate::spec::ServiceSpec;
use crate::state::{Probing, Service, State, StopReason};
use crate::vocabulary::{Failure, Name, Outcome, Pid, Time, Token};

/// What [`Supervisor::snapshot`] takes and [`Supervisor::resume`] goes on with.
/// `Display` and `FromStr` are its text form.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub(crate) next_token: u64,
    pub(crate) shutdown: Option<Shutdown>,
    pub(crate) services: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: Name,
    pub(crate) wanted: bool,
    pub(crate) again: bool,
    pub(crate) settled: bool,
    pub(crate) succeeded: bool,
    pub(crate) started: Time,
    pub(crate) restarts: u32,
    pub(crate) failures: u32,
    pub(crate) state: State,
}

impl Record {
    fn of(name: &Name, service: &Service, state: State) -> Self {
        Self {
            name: name.clone(),
            wanted: service.wanted,
            again: service.again,
            settled: service.settled,
            succeeded: service.succeeded,
            started: service.started,
            restarts: service.restarts,
            failures: service.backoff.failures(),
            state,
        }
    }

    /// Becomes that of this service; a state that has not changed, which may hold texts, is kept.
    fn update(&mut self, name: &Name, service: &Service) {
        let state = if self.state == service.state {
            std::mem::replace(&mut self.state, State::Down)
        } else {
            service.state.clone()
        };
        *self = Self::of(name, service, state);
    }
}

impl Snapshot {
    /// Corrects the record of a service by what the shell knows better: its process is `pid`, or
    /// it has none.
    pub fn set_process(&mut self, name: &str, pid: Option<Pid>) {
        let Some(record) = self.services.iter_mut().find(|record| record.name == name) else {
            return;
        };
        match (pid, record.state.pid()) {
            (Some(pid), known) if known != Some(pid) => {
                record.state = State::Unready { pid, deadline: None };
            }
            (None, None) if record.state == State::Starting => record.state = State::Waiting,
            _ => {}
        }
    }

    /// The processes that it says run, with their services' names.
    pub fn processes(&self) -> impl Iterator<Item = (&str, Pid)> {
        self.services.iter().filter_map(|r| r.state.pid().map(|pid| (r.name.as_str(), pid)))
    }
}

impl Supervisor {
    /// The state of now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::default();
        self.snapshot_into(&mut snapshot);
        snapshot
    }

    /// The same, of one that was taken before: what has not changed since stays as it is, so that this
    /// can be done all the time.
    pub(crate) fn snapshot_into(&self, snapshot: &mut Snapshot) {
        snapshot.next_token = self.next_token;
        snapshot.shutdown = self.shutdown;
        let mut count = 0_usize;
        let all = self.ids().zip(self.names.iter().zip(&self.services));
        for (_, (name, service)) in all.filter(|(id, _)| self.is_there(*id)) {
            match snapshot.services.get_mut(count) {
                Some(record) => record.update(name, service),
                None => {
                    let state = service.state.clone();
                    snapshot.services.push(Record::of(name, service, state));
                }
            }
            count = count.saturating_add(1);
        }
        snapshot.services.truncate(count);
    }

    /// Goes on where another supervisor was. Processes are believed to run; the shell tells
    /// [`Input::Exited`](crate::Input::Exited) for those that do not. Services that are new in
    /// `specs` are started if enabled; processes of those that are gone from it are stopped, by
    /// the default signal and timeout.
    ///
    /// A service that had no process but was to get one is started (again): the shell first makes
    /// sure with [`Snapshot::set_process`] that it really has none.
    ///
    /// # Errors
    /// What is wrong with `specs`.
    pub fn resume(
        mut specs: Vec<ServiceSpec>,
        snapshot: &Snapshot,
        now: Time,
    ) -> Result<Self, Problems> {
        let known: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        let runs = |record: &&Record| record.state.pid().is_some();
        let gone = snapshot.services.iter().filter(runs).map(|record| record.name.as_str());
        let gone: Vec<String> =
            gone.filter(|name| !known.contains(name)).map(str::to_owned).collect();
        // never started: it only says how it is stopped
        specs.extend(gone.iter().map(|name| ServiceSpec::daemon(name, ["/gone"])));
        let mut supervisor = Self::idle(specs)?;
        supervisor.next_token = snapshot.next_token.max(1);
        let mut records: BTreeMap<&str, &Record> = BTreeMap::new();
        for record in &snapshot.services {
            records.entry(record.name.as_str()).or_insert(record);
        }
        supervisor.shutdown = snapshot.shutdown;
        for id in supervisor.ids() {
            let Some(spec) = supervisor.specs.get(id.index()) else { continue };
            let record = records.get(spec.name.as_str());
            let enabled = spec.enabled;
            let one_shot = spec.kind == crate::Kind::OneShot;
            let unready = one_shot || spec.readiness != crate::Readiness::None;
            let asked = !one_shot && spec.readiness.is_asked();
            let token = Token(supervisor.next_token);
            let Some(service) = supervisor.services.get_mut(id.index()) else { continue };
            let Some(record) = record else {
                if enabled && snapshot.shutdown.is_none() {
                    service.wanted = true;
                    service.state = State::Waiting;
                }
                continue;
            };
            service.wanted = record.wanted;
            service.again = record.again;
            service.settled = record.settled;
            service.succeeded = record.succeeded;
            service.started = record.started;
            service.restarts = record.restarts;
            service.backoff.failures = record.failures;
            service.state = match &record.state {
                // Who listens is asked to once more, which finds the sockets open or opens them.
                State::Starting | State::Listening => State::Waiting,
                State::Unready { pid, .. } if !unready => State::Up { pid: *pid },
                state => state.clone(),
            };
            if matches!(service.state, State::Unready { .. }) && asked {
                service.probe = Some(Probing { attempt: 0, at: now, under_way: None });
            }
            if let Some(pid) = service.state.pid() {
                service.run = Some(token);
                supervisor.next_token = supervisor.next_token.wrapping_add(1);
                supervisor.pids.insert(pid, id);
            }
        }
        for id in gone.iter().filter_map(|name| supervisor.id(name)).collect::<Vec<_>>() {
            supervisor.remove(id);
        }
        supervisor.handle(crate::Input::Tick, now);
        Ok(supervisor)
    }

    /// The token of the spawn that a service's running process came from.
    #[must_use]
    pub fn run_token(&self, id: crate::ServiceId) -> Option<Token> {
        let service = self.services.get(id.index())?;
        service.state.pid().and(service.run)
    }
}

fn millis(time: Time) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

struct Deadline(Option<Time>);

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(time) => write!(f, "{}", millis(time)),
            None => f.write_str("-"),
        }
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "kiln-supervisor 2\ntoken {}", self.next_token)?;
        if let Some(Shutdown { outcome, kill_at, end_at, forced, finished: false }) = self.shutdown
        {
            let outcome = match outcome {
                Outcome::PowerOff => "poweroff",
                Outcome::Reboot => "reboot",
                Outcome::Halt => "halt",
                Outcome::Kexec => "kexec",
                Outcome::Exit => "exit",
            };
            let (kill_at, end_at) = (millis(kill_at), millis(end_at));
            writeln!(f, "shutdown {outcome} {kill_at} {end_at} {}", u8::from(forced))?;
        }
        for record in &self.services {
            let Record { name, restarts, failures, state, .. } = record;
            let flags = [record.wanted, record.again, record.settled, record.succeeded];
            let [wanted, again, settled, succeeded] = flags.map(u8::from);
            let (started, word) = (millis(record.started), state.name());
            write!(f, "service {name} {wanted} {again} {settled} {succeeded} ")?;
            write!(f, "{started} {restarts} {failures} {word}")?;
            match state {
                State::Up { pid } => writeln!(f, " {pid}")?,
                State::Unready { pid, deadline } => writeln!(f, " {pid} {}", Deadline(*deadline))?,
                State::Stopping { pid, deadline, killed, why } => {
                    let why = match why {
                        StopReason::Requested => "requested",
                        StopReason::NotReady => "not-ready",
                        StopReason::RanTooLong => "ran-too-long",
                    };
                    writeln!(f, " {pid} {} {} {why}", Deadline(*deadline), u8::from(*killed))?;
                }
                State::Backoff { until } | State::Scheduled { until } => {
                    writeln!(f, " {}", millis(*until))?
                }
                State::Failed(failure) => {
                    writeln!(f, " {}", failure.to_string().replace(char::is_control, " "))?;
                }
                State::Down | State::Waiting | State::Starting | State::Listening | State::Done => {
                    writeln!(f)?
                }
            }
        }
        Ok(())
    }
}

/// The text is not a snapshot; the number is that of the line, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("snapshot line {0}: not understood")]
pub struct SnapshotError(pub usize);

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let mut snapshot = Self::default();
        let mut lines = text.lines().enumerate();
        if lines.next().map(|(_, line)| line) != Some("kiln-supervisor 2") {
            return Err(SnapshotError(1));
        }
        for (number, line) in lines {
            snapshot.line(line).ok_or_else(|| SnapshotError(number.saturating_add(1)))?;
        }
        Ok(snapshot)
    }
}

impl Snapshot {
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.splitn(9, ' ');
        let mut word = || words.next();
        match word()? {
            "token" => self.next_token = word()?.parse().ok()?,
            "shutdown" => {
                let outcome = match word()? {
                    "poweroff" => Outcome::PowerOff,
                    "reboot" => Outcome::Reboot,
                    "halt" => Outcome::Halt,
                    "kexec" => Outcome::Kexec,
                    "exit" => Outcome::Exit,
                    _ => return None,
                };
                let (kill_at, end_at) = (time(word()?)?, time(word()?)?);
                let forced = flag(word()?)?;
                self.shutdown =
                    Some(Shutdown { outcome, kill_at, end_at, forced, finished: false });
            }
            "service" => {
                let name = Name(Arc::from(word()?));
                let (wanted, again) = (flag(word()?)?, flag(word()?)?);
                let (settled, succeeded) = (flag(word()?)?, flag(word()?)?);
                let (started, restarts) = (time(word()?)?, word()?.parse().ok()?);
                let rest = word()?;
                let (failures, state) = rest.split_once(' ')?;
                let failures = failures.parse().ok()?;
                let state = parse_state(state)?;
                self.services.push(Record {
                    name,
                    wanted,
                    again,
                    settled,
                    succeeded,
                    started,
                    restarts,
                    failures,
                    state,
                });
            }
            _ => {}
        }
        Some(())
    }
}

fn parse_state(text: &str) -> Option<State> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    let mut words = rest.split(' ');
    let mut word = || words.next();
    Some(match name {
        "down" => State::Down,
        "waiting" => State::Waiting,
        "starting" => State::Starting,
        "done" => State::Done,
        "failed" => State::Failed(Failure::Recorded(rest.to_owned())),
        "scheduled" => State::Scheduled { until: time(word()?)? },
        "listening" => State::Listening,
        "backoff" => State::Backoff { until: time(word()?)? },
        "up" => State::Up { pid: pid(word()?)? },
        "unready" => State::Unready { pid: pid(word()?)?, deadline: deadline(word()?)? },
        "stopping" => State::Stopping {
            pid: pid(word()?)?,
            deadline: deadline(word()?)?,
            killed: flag(word()?)?,
            why: match word()? {
                "requested" => StopReason::Requested,
                "not-ready" => StopReason::NotReady,
                "ran-too-long" => StopReason::RanTooLong,
                _ => return None,
            },
        },
        _ => return None,
    })
}

fn flag(word: &str) -> Option<bool> {
    match word {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    }
}

fn time(word: &str) -> Option<Time> {
    word.parse().ok().map(Duration::from_millis)
}

fn deadline(word: &str) -> Option<Option<Time>> {
    if word == "-" { Some(None) } else { time(word).map(Some) }
}

fn pid(word: &str) -> Option<Pid> {
    word.parse().ok().filter(|pid| *pid > 0).map(Pid)
}
