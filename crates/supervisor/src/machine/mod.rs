//! The machine: many services, their order, and the shutdown that always ends.

mod probe;
mod reload;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(crate) use reload::Slot;

use crate::graph::{Graph, Problems, ServiceId, list};
use crate::spec::{Condition, Kill, ServiceSpec, Signal};
use crate::state::{Effect, Service, State, Stimulus};
use crate::vocabulary::{
    Action, Errno, Event, Failure, Ignored, Input, Name, Outcome, Output, Pid, Time, Token,
};

/// The reserve at the end of a shutdown, after everything was killed.
const KILL_RESERVE: Time = Time::from_secs(3);

/// Room for so many outputs is kept.
const MOST_KEPT: usize = 64;

/// Supervises a list of services without doing any I/O: tell it what happened with
/// [`handle`](Self::handle), then drain [`poll`](Self::poll) until [`Output::Timeout`].
///
/// Same inputs at the same times, same outputs.
#[derive(Debug)]
pub struct Supervisor {
    /// Shared with who starts processes elsewhere.
    pub(crate) specs: Vec<Arc<ServiceSpec>>,
    pub(crate) names: Vec<Name>,
    pub(crate) graph: Graph,
    pub(crate) services: Vec<Service>,
    pub(crate) pids: BTreeMap<Pid, ServiceId>,
    /// Spawns without an answer yet.
    pub(crate) spawning: BTreeMap<Token, ServiceId>,
    /// What each place of the lists is for.
    pub(crate) slots: Vec<Slot>,
    /// Specs that are in force when the service is down.
    pub(crate) pending: BTreeMap<ServiceId, Arc<ServiceSpec>>,
    /// Services that are being forgotten.
    forgetting: BTreeMap<Token, ServiceId>,
    /// Changes with the specs.
    pub(crate) generation: u64,
    /// Signals without an answer yet.
    signalling: BTreeMap<Token, ServiceId>,
    /// What of outside is known to hold.
    pub(crate) conditions: BTreeSet<Condition>,
    pub(crate) next_token: u64,
    pub(crate) shutdown: Option<Shutdown>,
    outputs: VecDeque<Output>,
    all_ended: bool,
    effects: Vec<Effect>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shutdown {
    pub(crate) outcome: Outcome,
    pub(crate) kill_at: Time,
    pub(crate) end_at: Time,
    pub(crate) forced: bool,
    pub(crate) finished: bool,
}

/// What [`Supervisor::status`] says about one service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// Where it is in its life.
    pub state: State,
    /// Whether it is to run.
    pub wanted: bool,
    /// When its last run began.
    pub started: Time,
    /// How often it was started again.
    pub restarts: u32,
}

impl Supervisor {
    /// Checks `specs` and wants every enabled service to run; the first [`Action`]s are ready to
    /// be polled.
    ///
    /// # Errors
    /// Everything that is wrong with `specs`, at once.
    pub fn new(specs: Vec<ServiceSpec>, now: Time) -> Result<Self, Problems> {
        let mut supervisor = Self::idle(specs)?;
        let enabled: Vec<_> =
            supervisor.ids().filter(|id| supervisor.spec(*id).is_some_and(|s| s.enabled)).collect();
        for id in enabled {
            supervisor.want(id, now);
        }
        supervisor.advance(None, now);
        Ok(supervisor)
    }

    /// A supervisor with everything down.
    pub(crate) fn idle(specs: Vec<ServiceSpec>) -> Result<Self, Problems> {
        let graph = Graph::new(&specs)?;
        // not by `collect`, which would keep the memory of all specs for as many pointers
        let mut shared = Vec::with_capacity(specs.len());
        shared.extend(specs.into_iter().map(Arc::new));
        let specs: Vec<Arc<ServiceSpec>> = shared;
        Ok(Self {
            names: specs.iter().map(|spec| Name(Arc::from(spec.name.as_str()))).collect(),
            services: specs.iter().map(|_| Service::new()).collect(),
            slots: vec![Slot::Kept; specs.len()],
            pending: BTreeMap::new(),
            forgetting: BTreeMap::new(),
            generation: 0,
            graph,
            specs,
            pids: BTreeMap::new(),
            spawning: BTreeMap::new(),
            signalling: BTreeMap::new(),
            conditions: BTreeSet::new(),
            next_token: 1,
            shutdown: None,
            outputs: VecDeque::new(),
            all_ended: false,
            effects: Vec::new(),
        })
    }

    /// Takes in what has happened, at `now`. An input that makes no sense has no effect but
    /// [`Event::Ignored`].
    pub fn handle(&mut self, input: Input, now: Time) {
        let alone = self.about(&input).filter(|id| self.graph.is_alone(*id));
        match input {
            Input::Spawned { token, pid } => self.spawned(token, pid, now),
            Input::SpawnFailed { token, error } => match self.spawning.remove(&token) {
                Some(id) => self.step(id, Stimulus::SpawnFailed(error), now),
                None => self.ignore(Ignored::StaleToken),
            },
            Input::Skipped { token } => match self.spawning.remove(&token) {
                Some(id) => self.step(id, Stimulus::Skipped, now),
                None => self.ignore(Ignored::StaleToken),
            },
            Input::Listening { token, waited_for } => match self.spawning.remove(&token) {
                Some(id) => self.step(id, Stimulus::Opened { waited_for }, now),
                None => self.ignore(Ignored::StaleToken),
            },
            Input::Demand(id) => match self.known(id) {
                Some(id) => self.step(id, Stimulus::Demand, now),
                None => return,
            },
            Input::Condition { condition, holds } => {
                let changed = if holds {
                    self.conditions.insert(condition)
                } else {
                    self.conditions.remove(&condition)
                };
                if !changed {
                    return;
                }
            }
            Input::Probed { token, ready } => self.probed(token, ready, now),
            Input::Signalled { token, error } => {
                let Some(id) = self.signalling.remove(&token) else {
                    return self.ignore(Ignored::StaleToken);
                };
                // ESRCH: it has just gone, and its exit comes by another way
                if let (Some(errno), Some(service)) =
                    (error.filter(|e| *e != Errno(3)), self.name(id))
                {
                    self.tell(Event::SignalFailed { service, errno });
                }
                return;
            }
            Input::Ready { token } => {
                let owner = self
                    .ids()
                    .find(|id| self.services.get(id.index()).is_some_and(|s| s.run == Some(token)));
                match owner {
                    Some(id) => self.step(id, Stimulus::Ready, now),
                    None => self.ignore(Ignored::StaleToken),
                }
            }
            Input::Exited { pid, status } => match self.pids.remove(&pid) {
                Some(id) => self.step(id, Stimulus::Exited(status), now),
                None => return self.tell(Event::Reaped { pid, status }),
            },
            Input::Forgotten { token } => return self.forgotten(token),
            Input::Start(id) => match self.known(id) {
                Some(id) => {
                    self.want(id, now);
                    if let Some(service) = self.services.get_mut(id.index()) {
                        service.backoff.reset();
                        service.demanded = true;
                        if matches!(
                            service.state,
                            State::Backoff { .. }
                                | State::Scheduled { .. }
                                | State::Listening
                                | State::Done
                                | State::Failed(_)
                        ) {
                            service.state = State::Waiting;
                        }
                    }
                }
                None => return,
            },
            Input::Stop(id) => match self.known(id) {
                Some(id) => self.unwant(id, false),
                None => return,
            },
            Input::Restart(id) => match self.known(id) {
                Some(id) if self.services.get(id.index()).is_some_and(|s| s.wanted) => {
                    self.unwant(id, true);
                }
                Some(id) => self.want(id, now),
                None => return,
            },
            Input::Shutdown { outcome, timeout } => self.shut_down(outcome, timeout, now),
            Input::Tick => {}
        }
        self.advance(alone, now);
    }

    /// The service whose process an input is about.
    fn about(&self, input: &Input) -> Option<ServiceId> {
        match input {
            Input::Spawned { token, .. }
            | Input::SpawnFailed { token, .. }
            | Input::Skipped { token }
            | Input::Listening { token, .. } => self.spawning.get(token).copied(),
            Input::Exited { pid, .. } => self.pids.get(pid).copied(),
            _ => None,
        }
    }

    /// The next thing to do, to tell, or to wait for.
    pub fn poll(&mut self) -> Output {
        self.outputs.pop_front().unwrap_or_else(|| {
            // what a start of thousands has needed is not needed again soon
            self.outputs.shrink_to(MOST_KEPT);
            Output::Timeout(self.timeout())
        })
    }

    /// The outcome of a shutdown that has ended.
    #[must_use]
    pub fn finished(&self) -> Option<Outcome> {
        self.shutdown.filter(|s| s.finished).map(|s| s.outcome)
    }

    /// Whether a shutdown has been asked for.
    #[must_use]
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_some()
    }

    /// Whether nothing runs and nothing will by itself.
    #[must_use]
    pub fn all_ended(&self) -> bool {
        self.all_ended
    }

    /// Whether some service has failed for good.
    #[must_use]
    pub fn any_failed(&self) -> bool {
        self.services.iter().any(|service| matches!(service.state, State::Failed(_)))
    }

    /// Whether a service that is down is so only on its way to be started again.
    #[cfg(feature = "unix")]
    pub(crate) fn comes_again(&self, id: ServiceId) -> bool {
        self.services.get(id.index()).is_some_and(|service| service.again || service.wanted)
    }

    /// Each service, in list order.
    pub fn status(&self) -> impl Iterator<Item = Status> + '_ {
        let all = self.ids().zip(self.names.iter().zip(&self.services));
        all.filter(|(id, _)| self.is_there(*id)).map(|(_, (name, service))| Status {
            name: name.clone(),
            state: service.state.clone(),
            wanted: service.wanted,
            started: service.started,
            restarts: service.restarts,
        })
    }

    /// What services wait for: the shell tells whether it holds, at first and on every change.
    #[must_use]
    pub fn awaited(&self) -> BTreeSet<&Condition> {
        let specs = self.specs.iter().chain(self.pending.values());
        specs.flat_map(|spec| &spec.waits_for).collect()
    }

    /// The service of this name.
    #[must_use]
    pub fn id(&self, name: &str) -> Option<ServiceId> {
        let found = |id: &ServiceId| {
            self.is_there(*id) && self.spec(*id).is_some_and(|spec| spec.name == name)
        };
        self.ids().find(found)
    }

    /// The spec of a service.
    #[must_use]
    pub fn spec(&self, id: ServiceId) -> Option<&ServiceSpec> {
        self.specs.get(id.index()).map(|spec| &**spec)
    }

    /// The name of a service, to be shared.
    #[must_use]
    pub fn name(&self, id: ServiceId) -> Option<Name> {
        self.names.get(id.index()).cloned()
    }

    /// The state of a service.
    #[must_use]
    pub fn state(&self, id: ServiceId) -> Option<&State> {
        self.services.get(id.index()).map(|service| &service.state)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        (0..).map(ServiceId).take(self.specs.len())
    }

    fn known(&mut self, id: ServiceId) -> Option<ServiceId> {
        if self.slot(id) != Slot::Kept {
            self.ignore(Ignored::UnknownService);
            None
        } else if self.shutdown.is_some() {
            self.ignore(Ignored::ShuttingDown);
            None
        } else {
            Some(id)
        }
    }

    fn spawned(&mut self, token: Token, pid: Pid, now: Time) {
        let Some(id) = self.spawning.remove(&token) else {
            return self.ignore(Ignored::StaleToken);
        };
        self.pids.insert(pid, id);
        self.step(id, Stimulus::Spawned(pid), now);
        if self.shutdown.is_some_and(|s| s.forced || s.finished) {
            self.step(id, Stimulus::Kill, now);
        }
    }

    /// Wants a service and all that it requires and wants.
    fn want(&mut self, id: ServiceId, now: Time) {
        let mut todo = vec![id];
        while let Some(id) = todo.pop() {
            let kept = self.slot(id) == Slot::Kept;
            let Some(service) = self.services.get_mut(id.index()) else { continue };
            // what is stopped for its new spec's sake is wanted again when it is down
            let renewed = service.again && self.pending.contains_key(&id);
            if service.wanted || renewed || !kept {
                continue;
            }
            service.wanted = true;
            service.again = false;
            service.settled = false;
            service.succeeded = false;
            service.demanded = false;
            if matches!(service.state, State::Down | State::Failed(_)) {
                let timer = self.specs.get(id.index()).and_then(|spec| spec.timer);
                let first = timer.map(|timer| timer.first).filter(|first| !first.is_zero());
                service.state = match first {
                    Some(first) => State::Scheduled { until: now.saturating_add(first) },
                    None => State::Waiting,
                };
            }
            todo.extend(list(&self.graph.requires, id));
            todo.extend(list(&self.graph.wants, id));
        }
    }

    /// Stops wanting a service and all that require it, `again` once they are down or not.
    fn unwant(&mut self, id: ServiceId, again: bool) {
        for id in self.graph.reached(id, |graph, id| list(&graph.required_by, id).to_vec()) {
            let Some(service) = self.services.get_mut(id.index()) else { continue };
            service.again = again && (service.wanted || service.again);
            service.wanted = false;
        }
    }

    fn shut_down(&mut self, outcome: Outcome, timeout: Time, now: Time) {
        if let Some(shutdown) = &mut self.shutdown {
            if shutdown.finished {
                return self.ignore(Ignored::ShuttingDown);
            }
            // again: by the will of whoever asks, now
            shutdown.outcome = outcome;
            shutdown.kill_at = now;
            shutdown.end_at = shutdown.end_at.min(now.saturating_add(timeout));
            if !shutdown.forced {
                shutdown.forced = true;
                self.tell(Event::ShutdownForced { by_request: true });
                self.kill_all(now);
            }
            return;
        }
        let reserve = timeout.checked_div(4).unwrap_or_default().min(KILL_RESERVE);
        let end_at = now.saturating_add(timeout);
        self.shutdown = Some(Shutdown {
            outcome,
            kill_at: end_at.saturating_sub(reserve),
            end_at,
            forced: false,
            finished: false,
        });
        self.tell(Event::ShuttingDown { outcome, timeout });
        for service in &mut self.services {
            service.wanted = false;
            service.again = false;
        }
    }

    fn kill_all(&mut self, now: Time) {
        for id in self.ids() {
            if self.state(id).is_some_and(State::is_live) {
                self.step(id, Stimulus::Kill, now);
            }
        }
    }

    /// Lets time and dependencies take effect until nothing changes any more.
    fn advance(&mut self, alone: Option<ServiceId>, now: Time) {
        let mut alone = alone;
        for id in self.ids() {
            let due = self.state(id).and_then(State::deadline).is_some_and(|at| at <= now);
            if due {
                alone = None;
                self.step(id, Stimulus::Deadline, now);
            }
            self.probe(id, now);
        }
        if self.shutdown.is_some_and(|s| !s.forced && !s.finished && s.kill_at <= now) {
            if let Some(shutdown) = &mut self.shutdown {
                shutdown.forced = true;
            }
            alone = None;
            if self.services.iter().any(|s| s.state.is_live()) {
                self.tell(Event::ShutdownForced { by_request: false });
                self.kill_all(now);
            }
        }
        if let Some(id) = alone {
            // nobody stands on it and it stands on nobody: nothing else can follow from it
            self.stop_if_due(id, now);
            self.start_if_due(id, now);
        } else {
            self.settle(now);
        }
        self.part();
        self.conclude(now);
    }

    /// Starts and stops what is due, until nothing changes any more.
    fn settle(&mut self, now: Time) {
        // Starts follow the order of the graph and stops its reverse, so one pass of each settles
        // all chains at once; more turns are for what was stopped in order to be started again. The
        // bound is never met, it only says that this ends.
        for _ in 0..self.services.len().saturating_add(3) {
            let mut changed = false;
            for place in (0..self.graph.order().len()).rev() {
                if let Some(id) = self.graph.order().get(place).copied() {
                    changed |= self.stop_if_due(id, now);
                }
            }
            for place in 0..self.graph.order().len() {
                if let Some(id) = self.graph.order().get(place).copied() {
                    changed |= self.start_if_due(id, now);
                }
            }
            if !changed {
                break;
            }
        }
    }

    fn stop_if_due(&mut self, id: ServiceId, now: Time) -> bool {
        let Some(service) = self.services.get(id.index()) else { return false };
        if service.wanted || matches!(service.state, State::Stopping { .. } | State::Starting) {
            return false;
        }
        if service.state == State::Down {
            return self.want_again(id, now);
        }
        // what stands on it and is also going goes first
        let held = list(&self.graph.before, id).iter().any(|other| {
            self.services.get(other.index()).is_some_and(|o| !o.wanted && o.state.is_live())
        });
        let ended = !service.state.is_live();
        if held && !ended {
            return false;
        }
        // ended for good stays as it ended, for people to see, unless it is to run again
        if matches!(service.state, State::Done | State::Failed(_)) && !service.again {
            return false;
        }
        self.step(id, Stimulus::Stop, now);
        self.want_again(id, now);
        true
    }

    /// Wants a service again that was stopped in order to be restarted, once all that it stands on
    /// and that is being restarted with it has stopped too (wanting it earlier would keep that up).
    fn want_again(&mut self, id: ServiceId, now: Time) -> bool {
        let restarting = |service: &Service| service.again && !service.wanted;
        let down = self.services.get(id.index());
        if !down.is_some_and(|s| s.state == State::Down && restarting(s)) {
            return false;
        }
        let below = self
            .graph
            .reached(id, |graph, id| [list(&graph.requires, id), list(&graph.wants, id)].concat());
        let stops = |id: &ServiceId| {
            self.services.get(id.index()).is_some_and(|s| restarting(s) && s.state.is_live())
        };
        if below.iter().any(stops) {
            return false;
        }
        self.want(id, now);
        true
    }

    fn start_if_due(&mut self, id: ServiceId, now: Time) -> bool {
        let (Some(service), Some(spec)) =
            (self.services.get(id.index()), self.specs.get(id.index()))
        else {
            return false;
        };
        if !service.wanted || self.shutdown.is_some() {
            return false;
        }
        let revivable = matches!(service.state, State::Failed(Failure::Requirement(_)));
        if service.state != State::Waiting && !revivable {
            return false;
        }
        let failed = list(&self.graph.requires, id)
            .iter()
            .find(|other| matches!(self.state(**other), Some(State::Failed(_))));
        if let Some(other) = failed {
            if revivable {
                return false;
            }
            let Some(name) = self.name(*other) else { return false };
            let failure = Failure::Requirement(name);
            if let Some(service) = self.services.get_mut(id.index()) {
                service.state = State::Failed(failure.clone());
                service.settled = true;
            }
            if let Some(service) = self.name(id) {
                self.tell(Event::Failed { service, failure });
            }
            return true;
        }
        let satisfied = |other: &ServiceId| {
            self.services.get(other.index()).is_some_and(|other| match other.state {
                State::Up { .. } | State::Done | State::Listening => true,
                State::Scheduled { .. } => other.succeeded,
                _ => false,
            })
        };
        let settled = |other: &ServiceId| {
            self.services.get(other.index()).is_none_or(|o| {
                o.settled || (!o.wanted && !o.again) || matches!(o.state, State::Up { .. })
            })
        };
        let ready = list(&self.graph.requires, id).iter().all(satisfied)
            && list(&self.graph.wants, id).iter().all(settled)
            && list(&self.graph.after, id).iter().all(settled)
            && spec.waits_for.iter().all(|condition| self.conditions.contains(condition));
        if !ready {
            if revivable && let Some(service) = self.services.get_mut(id.index()) {
                service.state = State::Waiting;
            }
            return revivable;
        }
        let listens = spec.on_demand && !service.demanded;
        let token = self.token();
        self.spawning.insert(token, id);
        let stimulus = if listens { Stimulus::Listen(token) } else { Stimulus::Start(token) };
        self.step(id, stimulus, now);
        true
    }

    /// Ends a shutdown that is over, and notices when nothing is left to do.
    fn conclude(&mut self, now: Time) {
        let live = self.services.iter().any(|service| service.state.is_live());
        if let Some(shutdown) = self.shutdown.filter(|s| !s.finished) {
            if !live || shutdown.end_at <= now {
                self.shutdown = Some(Shutdown { finished: true, ..shutdown });
                let left = self.names.iter().zip(&self.services);
                let left =
                    left.filter(|(_, s)| s.state.is_live()).map(|(n, _)| n.clone()).collect();
                self.tell(Event::Finished { outcome: shutdown.outcome, left });
            }
            return;
        }
        let ended = !live
            && !self.services.iter().any(|service| {
                let state = &service.state;
                service.again
                    || matches!(state, State::Waiting | State::Backoff { .. })
                    || matches!(state, State::Scheduled { .. } | State::Listening)
            });
        if ended && !self.all_ended && self.shutdown.is_none() {
            self.tell(Event::AllEnded);
        }
        self.all_ended = ended;
    }

    fn timeout(&self) -> Time {
        let services = self
            .services
            .iter()
            .flat_map(|service| [service.state.deadline(), service.probe_due()])
            .flatten();
        let shutdown = self
            .shutdown
            .filter(|s| !s.finished)
            .map(|s| if s.forced { s.end_at } else { s.kill_at });
        services.chain(shutdown).min().unwrap_or(Time::MAX)
    }

    fn step(&mut self, id: ServiceId, stimulus: Stimulus, now: Time) {
        let (Some(spec), Some(service)) =
            (self.specs.get(id.index()), self.services.get_mut(id.index()))
        else {
            return;
        };
        let started = service.started;
        let mut effects = std::mem::take(&mut self.effects);
        let meant = service.step(spec, stimulus, now, &mut effects);
        let attempt = service.backoff.failures();
        let unasked = !matches!(service.state, State::Unready { .. });
        let given_up = if unasked { service.probe.take() } else { None };
        if let Some(token) = given_up.and_then(|probe| probe.under_way) {
            self.act(Action::EndProbe { token });
        }
        if !meant {
            self.ignore(Ignored::NotNow);
        }
        for effect in effects.drain(..) {
            self.perform(id, effect, started, attempt, now);
        }
        self.effects = effects;
        self.renew(id);
    }

    fn perform(&mut self, id: ServiceId, effect: Effect, started: Time, attempt: u32, now: Time) {
        let Some(service) = self.name(id) else { return };
        let ran = now.saturating_sub(started);
        let event = match effect {
            Effect::Spawn(token) => return self.act(Action::Spawn { token, service: id }),
            Effect::Listen(token) => return self.act(Action::Listen { token, service: id }),
            Effect::Listening => Event::Listening { service },
            Effect::Skipped => Event::Skipped { service },
            Effect::Scheduled(until) => {
                Event::Scheduled { service, after: until.saturating_sub(now) }
            }
            Effect::Signal(pid, signal) => {
                let scope = self.spec(id).map_or(Kill::Process, |spec| spec.kill);
                return self.signal(id, pid, signal, scope);
            }
            Effect::Sweep(pid) => {
                let scope = self.spec(id).map_or(Kill::ProcessGroup, |spec| spec.kill);
                return self.signal(id, pid, Signal::KILL, scope);
            }
            Effect::Started(pid) => Event::Started { service, pid },
            Effect::SpawnFailed(error) => Event::SpawnFailed { service, error },
            Effect::Ready => Event::Ready { service, after: ran },
            Effect::Done => Event::Done { service },
            Effect::Exited(pid, status) => {
                self.pids.remove(&pid);
                Event::Exited { service, pid, status, ran }
            }
            Effect::Restarting(until) => {
                Event::Restarting { service, delay: until.saturating_sub(now), attempt }
            }
            Effect::Stopping => {
                let signal = self.spec(id).map_or(Signal::TERM, |spec| spec.stop_signal);
                Event::Stopping { service, signal }
            }
            Effect::Killing => Event::Killing { service },
            Effect::Stuck(pid) => Event::Stuck { service, pid },
            Effect::Stopped => Event::Stopped { service },
            Effect::Failed(failure) => Event::Failed { service, failure },
        };
        self.tell(event);
    }

    fn signal(&mut self, service: ServiceId, pid: Pid, signal: Signal, scope: Kill) {
        let token = self.token();
        self.signalling.insert(token, service);
        self.act(Action::Signal { token, service, pid, signal, scope });
    }

    fn token(&mut self) -> Token {
        let token = Token(self.next_token);
        self.next_token = self.next_token.wrapping_add(1);
        token
    }

    fn act(&mut self, action: Action) {
        self.outputs.push_back(Output::Action(action));
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    fn ignore(&mut self, reason: Ignored) {
        self.tell(Event::Ignored { reason });
    }
}
