//! One service: its states, and what each stimulus does in each of them.
//!
//! ```text
//!             Start      Stop       Kill     Spawned    SpawnFailed Ready  Exited     Deadline
//! Down        Starting   .          .        .          .           .      .          .
//! Waiting     Starting   Down       Down     .          .           .      .          .
//! Starting    .          .          .        Unready|Up Backoff|F   .      .          .
//! Unready     .          Stopping   Stopping .          .           Up     Done|B|F   Stopping
//! Up          .          Stopping   Stopping .          .           .      Done|B|F   .
//! Stopping    .          .          Stopping .          .           .      Down|W|B|F Stopping
//! Backoff     .          Down       Down     .          .           .      .          Waiting
//! Scheduled   .          Down       Down     .          .           .      .          Waiting
//! Listening   .          Down       Down     .          .           .      .          .
//! Done        Starting   Down       Down     .          .           .      .          .
//! Failed      Starting   Down       Down     .          .           .      .          .
//! ```
//! `.`: nothing happens. B, F, W: `Backoff`, `Failed`, `Waiting`. A `Stop` while `Starting` is
//! remembered by `wanted` and carried out once there is a process.
//!
//! A service with a timer is `Scheduled` where another one would be `Done` or `Failed`, and before
//! its first run. One that is started on demand is `Waiting` instead, goes from there by
//! `Starting` (its sockets are being opened) and `Opened` to `Listening`, and by `Demand` to
//! `Waiting` again, from where it is really started. A start that is `Skipped` is `Done`. When it ends
//! well and somebody waits at its sockets all the same, that run counts as one that failed: `Opened`
//! leads to `Backoff`, during which nobody watches them, or to `Failed`.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::spec::{Kill, Kind, Readiness, Restart, ServiceSpec, Signal};
use crate::vocabulary::{ExitStatus, Failure, Pid, SpawnError, Time, Token};

/// How long after `SIGKILL` a process that is still there is reported as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// Where a service is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Not wanted, not running.
    Down,
    /// Wanted; what it stands on is not up yet.
    Waiting,
    /// Its process has been asked for.
    Starting,
    /// Its process runs and is not ready yet (a one-shot: not done yet).
    Unready {
        /// The process.
        pid: Pid,
        /// When patience ends.
        deadline: Option<Time>,
    },
    /// Its process runs and is ready.
    Up {
        /// The process.
        pid: Pid,
    },
    /// It has been asked to stop, or killed.
    Stopping {
        /// The process.
        pid: Pid,
        /// When patience ends.
        deadline: Option<Time>,
        /// Whether `SIGKILL` has been sent.
        killed: bool,
        /// Why.
        why: StopReason,
    },
    /// It will be started again.
    Backoff {
        /// When.
        until: Time,
    },
    /// It runs again by its timer.
    Scheduled {
        /// When.
        until: Time,
    },
    /// Its sockets are open, and it is started when somebody turns to one of them.
    Listening,
    /// It has ended as it should.
    Done,
    /// It has failed and is not restarted.
    Failed(Failure),
}

/// Why a service is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    /// By request, or by a shutdown.
    Requested,
    /// It was not ready in time.
    NotReady,
    /// A one-shot ran for too long.
    RanTooLong,
}

impl State {
    /// Its process, if there is one.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        match *self {
            Self::Unready { pid, .. } | Self::Up { pid } | Self::Stopping { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether there is a process or one has been asked for.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.pid().is_some() || *self == Self::Starting
    }

    /// The state's name, one word.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Waiting => "waiting",
            Self::Starting => "starting",
            Self::Unready { .. } => "unready",
            Self::Up { .. } => "up",
            Self::Stopping { .. } => "stopping",
            Self::Backoff { .. } => "backoff",
            Self::Scheduled { .. } => "scheduled",
            Self::Listening => "listening",
            Self::Done => "done",
            Self::Failed(_) => "failed",
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        match *self {
            Self::Unready { deadline, .. } | Self::Stopping { deadline, .. } => deadline,
            Self::Backoff { until } | Self::Scheduled { until } => Some(until),
            _ => None,
        }
    }
}

/// What can happen to one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stimulus {
    Start(Token),
    /// The sockets are to be opened, not more.
    Listen(Token),
    /// They are open; whether somebody waits at them already.
    Opened {
        waited_for: bool,
    },
    Demand,
    Skipped,
    Stop,
    Kill,
    Spawned(Pid),
    SpawnFailed(SpawnError),
    Ready,
    Exited(ExitStatus),
    Deadline,
}

/// What a transition asks of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Spawn(Token),
    Listen(Token),
    Listening,
    Skipped,
    Scheduled(Time),
    /// To the process, or also to its group, as the spec says.
    Signal(Pid, Signal),
    /// To what is left of the groups of a process that has ended.
    Sweep(Pid),
    Started(Pid),
    SpawnFailed(SpawnError),
    Ready,
    Done,
    Exited(Pid, ExitStatus),
    Restarting(Time),
    Stopping,
    Killing,
    Stuck(Pid),
    Stopped,
    Failed(Failure),
}

/// One service at run time.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) state: State,
    /// Whether it is to run; what it is doing about it is `state`.
    pub(crate) wanted: bool,
    /// Whether it is to be wanted again once it is down.
    pub(crate) again: bool,
    /// The token of the last spawn.
    pub(crate) run: Option<Token>,
    pub(crate) started: Time,
    pub(crate) restarts: u32,
    pub(crate) backoff: Backoff,
    /// Whether it has had its chance since it was last wanted: it came up, or failed once.
    pub(crate) settled: bool,
    /// Whether it is to run, rather than to listen only.
    pub(crate) demanded: bool,
    /// Whether a run has ended well since it was last wanted: what a timer's service gives to those
    /// that require it.
    pub(crate) succeeded: bool,
    /// When the run began that was started on demand and has ended well, until it is known whether
    /// somebody is left waiting.
    pub(crate) served_from: Option<Time>,
    /// The next question whether it is ready.
    pub(crate) probe: Option<Probing>,
}

/// Where the questions stand whether a service is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Probing {
    /// Attempts before this one.
    pub(crate) attempt: u32,
    /// When this one begins, or began.
    pub(crate) at: Time,
    /// What it is known by once it has begun.
    pub(crate) under_way: Option<Token>,
}

impl Service {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Down,
            wanted: false,
            again: false,
            run: None,
            started: Time::ZERO,
            restarts: 0,
            backoff: Backoff::default(),
            settled: false,
            demanded: false,
            succeeded: false,
            served_from: None,
            probe: None,
        }
    }

    /// The table above. Returns whether the stimulus meant anything.
    pub(crate) fn step(
        &mut self,
        spec: &ServiceSpec,
        stimulus: Stimulus,
        now: Time,
        effects: &mut Vec<Effect>,
    ) -> bool {
        use State as S;
        match (self.state.clone(), stimulus) {
            (S::Down | S::Waiting | S::Done | S::Failed(_), Stimulus::Start(token)) => {
                self.run = Some(token);
                self.started = now;
                self.state = S::Starting;
                effects.push(Effect::Spawn(token));
            }
            (S::Down | S::Waiting | S::Done | S::Failed(_), Stimulus::Listen(token)) => {
                self.run = Some(token);
                self.started = now;
                self.state = S::Starting;
                effects.push(Effect::Listen(token));
            }
            (
                S::Waiting
                | S::Backoff { .. }
                | S::Scheduled { .. }
                | S::Listening
                | S::Done
                | S::Failed(_),
                Stimulus::Stop | Stimulus::Kill,
            ) => {
                self.backoff.reset();
                self.demanded = false;
                self.served_from = None;
                self.state = S::Down;
                effects.push(Effect::Stopped);
            }
            (S::Starting, Stimulus::Opened { waited_for }) => {
                self.opened(spec, waited_for, now, effects);
            }
            (S::Listening, Stimulus::Demand) => {
                self.demanded = true;
                self.state = S::Waiting;
            }
            (S::Starting, Stimulus::Skipped) => {
                effects.push(Effect::Skipped);
                self.settled = true;
                self.over(spec, None, now, effects);
            }
            (S::Starting, Stimulus::Spawned(pid)) => {
                effects.push(Effect::Started(pid));
                self.started = now;
                let patience = match (spec.kind, &spec.readiness) {
                    (Kind::OneShot, _) => spec.run_timeout,
                    (Kind::Daemon, Readiness::None) => {
                        self.settled = true;
                        self.state = S::Up { pid };
                        effects.push(Effect::Ready);
                        return true;
                    }
                    (Kind::Daemon, _) => Some(spec.ready_timeout),
                };
                let deadline = patience.map(|patience| now.saturating_add(patience));
                self.state = S::Unready { pid, deadline };
                if spec.kind == Kind::Daemon && spec.readiness.is_asked() {
                    self.probe = Some(Probing { attempt: 0, at: now, under_way: None });
                }
            }
            (S::Starting, Stimulus::SpawnFailed(error)) => {
                effects.push(Effect::SpawnFailed(error.clone()));
                self.ended(spec, Some(Failure::Spawn(error)), now, effects);
            }
            (S::Unready { pid, .. }, Stimulus::Ready) => {
                if spec.kind == Kind::OneShot {
                    return false;
                }
                self.settled = true;
                self.state = S::Up { pid };
                effects.push(Effect::Ready);
            }
            (S::Unready { pid, .. } | S::Up { pid }, Stimulus::Stop) => {
                self.stop(spec, pid, StopReason::Requested, now, effects);
            }
            (S::Unready { pid, .. }, Stimulus::Deadline) => {
                let why = match spec.kind {
                    Kind::Daemon => StopReason::NotReady,
                    Kind::OneShot => StopReason::RanTooLong,
                };
                self.stop(spec, pid, why, now, effects);
            }
            (S::Unready { pid, .. } | S::Up { pid }, Stimulus::Kill) => {
                self.kill(pid, StopReason::Requested, now, effects);
            }
            (S::Stopping { pid, killed: false, why, .. }, Stimulus::Kill | Stimulus::Deadline) => {
                self.kill(pid, why, now, effects);
            }
            (S::Stopping { pid, killed: true, why, .. }, Stimulus::Deadline) => {
                self.state = S::Stopping { pid, deadline: None, killed: true, why };
                effects.push(Effect::Stuck(pid));
            }
            (S::Unready { pid, .. } | S::Up { pid }, Stimulus::Exited(status)) => {
                self.gone(spec, pid, status, effects);
                let failure = (!status.success()).then_some(Failure::Exited(status));
                self.ended(spec, failure, now, effects);
            }
            (S::Stopping { pid, why, .. }, Stimulus::Exited(status)) => {
                self.gone(spec, pid, status, effects);
                let failure = match why {
                    StopReason::Requested => {
                        self.backoff.reset();
                        self.state = if self.wanted { S::Waiting } else { S::Down };
                        effects.push(Effect::Stopped);
                        return true;
                    }
                    StopReason::NotReady => Failure::NotReady,
                    StopReason::RanTooLong => Failure::RanTooLong,
                };
                self.ended(spec, Some(failure), now, effects);
            }
            (S::Backoff { .. }, Stimulus::Deadline) => {
                self.restarts = self.restarts.saturating_add(1);
                self.state = S::Waiting;
            }
            (S::Scheduled { .. }, Stimulus::Deadline) => self.state = S::Waiting,
            (_, Stimulus::Opened { .. } | Stimulus::Demand | Stimulus::Skipped)
            | (
                S::Down
                | S::Waiting
                | S::Starting
                | S::Up { .. }
                | S::Listening
                | S::Done
                | S::Failed(_),
                Stimulus::Deadline,
            )
            | (S::Down | S::Starting | S::Stopping { .. }, Stimulus::Stop | Stimulus::Kill)
            | (
                S::Starting
                | S::Unready { .. }
                | S::Up { .. }
                | S::Stopping { .. }
                | S::Backoff { .. }
                | S::Scheduled { .. }
                | S::Listening,
                Stimulus::Start(_) | Stimulus::Listen(_),
            )
            | (
                S::Down
                | S::Waiting
                | S::Unready { .. }
                | S::Up { .. }
                | S::Stopping { .. }
                | S::Backoff { .. }
                | S::Scheduled { .. }
                | S::Listening
                | S::Done
                | S::Failed(_),
                Stimulus::Spawned(_) | Stimulus::SpawnFailed(_),
            )
            | (
                S::Down
                | S::Waiting
                | S::Starting
                | S::Up { .. }
                | S::Stopping { .. }
                | S::Backoff { .. }
                | S::Scheduled { .. }
                | S::Listening
                | S::Done
                | S::Failed(_),
                Stimulus::Ready,
            )
            | (
                S::Down
                | S::Waiting
                | S::Starting
                | S::Backoff { .. }
                | S::Scheduled { .. }
                | S::Listening
                | S::Done
                | S::Failed(_),
                Stimulus::Exited(_),
            ) => return false,
        }
        true
    }

    /// Its sockets are open. Who waits at them after a run that ended well was not served by it: such
    /// runs are paced and counted as failed ones are, or they would follow each other without end.
    fn opened(
        &mut self,
        spec: &ServiceSpec,
        waited_for: bool,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.settled = true;
        match self.served_from.take() {
            Some(began) if waited_for => match self.backoff.next(&spec.backoff, began, now) {
                Some(until) => {
                    self.state = State::Backoff { until };
                    effects.push(Effect::Restarting(until));
                    return;
                }
                None => {
                    let last = Box::new(Failure::Exited(ExitStatus::Code(0)));
                    return self.over(spec, Some(Failure::TooManyRestarts(last)), now, effects);
                }
            },
            Some(_) => self.backoff.failures = 0,
            None => {}
        }
        self.state = State::Listening;
        effects.push(Effect::Listening);
    }

    fn stop(
        &mut self,
        spec: &ServiceSpec,
        pid: Pid,
        why: StopReason,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        let deadline = Some(now.saturating_add(spec.stop_timeout));
        self.state = State::Stopping { pid, deadline, killed: false, why };
        effects.push(Effect::Stopping);
        effects.push(Effect::Signal(pid, spec.stop_signal));
    }

    fn kill(&mut self, pid: Pid, why: StopReason, now: Time, effects: &mut Vec<Effect>) {
        let deadline = Some(now.saturating_add(STUCK_AFTER));
        self.state = State::Stopping { pid, deadline, killed: true, why };
        effects.push(Effect::Killing);
        effects.push(Effect::Signal(pid, Signal::KILL));
    }

    fn gone(&self, spec: &ServiceSpec, pid: Pid, status: ExitStatus, effects: &mut Vec<Effect>) {
        effects.push(Effect::Exited(pid, status));
        if spec.kill != Kill::Process {
            effects.push(Effect::Sweep(pid));
        }
    }

    /// A run has ended by itself, with `failure` or well.
    fn ended(
        &mut self,
        spec: &ServiceSpec,
        failure: Option<Failure>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.settled = true;
        if !self.wanted {
            self.state = State::Down;
            effects.push(Effect::Stopped);
            return;
        }
        let again = match spec.effective_restart() {
            Restart::Always | Restart::Auto => spec.kind == Kind::Daemon || failure.is_some(),
            Restart::OnFailure => failure.is_some(),
            Restart::Never => false,
        };
        if again && let Some(until) = self.backoff.next(&spec.backoff, self.started, now) {
            self.state = State::Backoff { until };
            effects.push(Effect::Restarting(until));
            return;
        }
        let failure = match failure {
            None if !again => None,
            failure => {
                let last = failure.unwrap_or(Failure::Exited(ExitStatus::Code(0)));
                Some(if again { Failure::TooManyRestarts(Box::new(last)) } else { last })
            }
        };
        self.over(spec, failure, now, effects);
    }

    /// No restart follows by itself: it has ended well or failed, until its timer or somebody's
    /// demand.
    fn over(
        &mut self,
        spec: &ServiceSpec,
        failure: Option<Failure>,
        now: Time,
        effects: &mut Vec<Effect>,
    ) {
        self.demanded = false;
        self.succeeded |= failure.is_none();
        self.served_from = (spec.on_demand && failure.is_none()).then_some(self.started);
        effects.push(match &failure {
            Some(failure) => Effect::Failed(failure.clone()),
            None => Effect::Done,
        });
        self.state = match (failure, &spec.timer) {
            (_, Some(timer)) => {
                let until = self.started.saturating_add(timer.every).max(now);
                effects.push(Effect::Scheduled(until));
                State::Scheduled { until }
            }
            (Some(failure), None) => State::Failed(failure),
            (None, None) if spec.on_demand => State::Waiting,
            (None, None) => State::Done,
        };
    }
}

#[cfg(test)]
mod tests;
