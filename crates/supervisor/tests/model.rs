//! The machine in virtual time, against a scripted world that starts processes, lets them fail,
//! hang and die, and keeps count of what must never happen.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_supervisor::{
    Action, Condition, Difference, Errno, Event, ExitStatus, Input, Kill, Kind, Outcome, Output,
    Pid, Probe, Problem, Readiness, Restart, ServiceId, ServiceSpec, Signal, Snapshot, Socket,
    SpawnError, SpawnStep, State, Supervisor, Timer, Token,
};
use proptest::prelude::*;

/// How the processes of one service behave.
#[derive(Debug, Clone, Copy)]
struct Script {
    /// Fail to start, this many times.
    spawn_failures: u32,
    /// Say ready after so many ms.
    ready: Option<u64>,
    /// End by itself after so many ms, with this code.
    ends: Option<(u64, i32)>,
    /// Take so many ms to stop; `None` ignores everything but SIGKILL.
    stops: Option<u64>,
    /// Not even SIGKILL ends it (blocked in the kernel).
    immortal: bool,
    /// Starting takes so many ms; `None` never answers.
    spawn_takes: Option<u64>,
    /// Every start is left out.
    skipped: bool,
    /// When it listens, somebody turns to it after so many ms.
    demand: Option<u64>,
    /// It leaves whoever turned to it waiting.
    leaves: bool,
}

const GOOD: Script = Script {
    spawn_failures: 0,
    ready: Some(10),
    ends: None,
    stops: Some(5),
    immortal: false,
    spawn_takes: Some(1),
    skipped: false,
    demand: None,
    leaves: false,
};

enum Pending {
    Input(Input),
    Spawn(Token, ServiceId),
    Die(Pid, ExitStatus),
    Answer(Token, ServiceId),
}

struct World {
    machine: Supervisor,
    scripts: Vec<Script>,
    now: Duration,
    agenda: BTreeMap<(Duration, u64), Pending>,
    sequence: u64,
    alive: BTreeMap<Pid, ServiceId>,
    next_pid: i32,
    spawns: Vec<Vec<Duration>>,
    failed_spawns: Vec<u32>,
    log: Vec<(Duration, Event)>,
    /// When a service began to run, by name, for the answers to questions.
    began: BTreeMap<String, Duration>,
    /// How often somebody has turned to one that listened.
    demands: u128,
    /// Whose process each is, by name: ids are used again.
    owners: BTreeMap<Pid, String>,
    /// Questions under way; a second one about the same service would be wrong.
    asked: BTreeMap<Token, ServiceId>,
}

fn ms(value: u64) -> Duration {
    Duration::from_millis(value)
}

impl World {
    fn new(specs: Vec<ServiceSpec>, scripts: Vec<Script>) -> Self {
        let count = specs.len();
        let mut world = Self {
            machine: Supervisor::new(specs, Duration::ZERO).unwrap(),
            scripts,
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            sequence: 0,
            alive: BTreeMap::new(),
            next_pid: 100,
            spawns: vec![Vec::new(); count],
            failed_spawns: vec![0; count],
            log: Vec::new(),
            began: BTreeMap::new(),
            demands: 0,
            owners: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        world.drain();
        world
    }

    fn at(&mut self, delay: Duration, pending: Pending) {
        self.sequence += 1;
        self.agenda.insert((self.now + delay, self.sequence), pending);
    }

    fn input(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.drain();
    }

    fn drain(&mut self) -> Duration {
        loop {
            match self.machine.poll() {
                Output::Timeout(at) => return at,
                Output::Event(event) => self.log.push((self.now, event)),
                Output::Action(Action::Spawn { token, service }) => {
                    self.spawns[service.index()].push(self.now);
                    if let Some(takes) = self.scripts[service.index()].spawn_takes {
                        self.at(ms(takes), Pending::Spawn(token, service));
                    }
                }
                Output::Action(Action::Signal { token, service, pid, signal, .. }) => {
                    let script = self.scripts[service.index()];
                    if self.alive.contains_key(&pid) {
                        let status = ExitStatus::Signal(signal.as_raw());
                        if signal == Signal::KILL && !script.immortal {
                            self.at(Duration::ZERO, Pending::Die(pid, status));
                        } else if let (Some(takes), false) = (script.stops, script.immortal) {
                            self.at(ms(takes), Pending::Die(pid, status));
                        }
                    }
                    let error = (!self.alive.contains_key(&pid)).then_some(Errno(3));
                    self.at(Duration::ZERO, Pending::Input(Input::Signalled { token, error }));
                }
                Output::Action(Action::Listen { token, service }) => {
                    let script = self.scripts[service.index()];
                    let waited_for = script.leaves && !self.spawns[service.index()].is_empty();
                    self.at(ms(1), Pending::Input(Input::Listening { token, waited_for }));
                    if let Some(after) = script.demand {
                        self.at(ms(1 + after), Pending::Input(Input::Demand(service)));
                    }
                }
                Output::Action(Action::Probe { token, service, .. }) => {
                    assert!(!self.asked.values().any(|other| *other == service), "asked twice");
                    self.asked.insert(token, service);
                    self.at(ms(3), Pending::Answer(token, service));
                }
                Output::Action(Action::EndProbe { token }) => {
                    assert!(self.asked.remove(&token).is_some(), "an end of no question");
                }
                Output::Action(Action::Forget { token, service }) => {
                    assert!(!self.alive.values().any(|other| *other == service), "forgotten alive");
                    self.at(ms(2), Pending::Input(Input::Forgotten { token }));
                }
                Output::Action(other) => panic!("unknown action {other:?}"),
            }
        }
    }

    fn spawn(&mut self, token: Token, id: ServiceId) {
        let script = self.scripts[id.index()];
        if script.skipped {
            return self.input(Input::Skipped { token });
        }
        if self.failed_spawns[id.index()] < script.spawn_failures {
            self.failed_spawns[id.index()] += 1;
            let error =
                SpawnError { step: SpawnStep::Exec, errno: Errno(2), subject: "/missing".into() };
            return self.input(Input::SpawnFailed { token, error });
        }
        let name = self.machine.name(id).unwrap().to_string();
        let twice = self.alive.keys().any(|pid| self.owners.get(pid) == Some(&name));
        assert!(
            !twice && !self.alive.values().any(|other| *other == id),
            "two instances of {name}"
        );
        let pid = Pid(self.next_pid);
        self.next_pid += 1;
        self.began.insert(name.clone(), self.now);
        self.owners.insert(pid, name);
        self.alive.insert(pid, id);
        let asked = self.machine.spec(id).is_some_and(|spec| spec.readiness.is_asked());
        if let (Some(after), false) = (script.ready, asked) {
            self.at(ms(after), Pending::Input(Input::Ready { token }));
        }
        if let Some((after, code)) = script.ends {
            self.at(ms(after), Pending::Die(pid, ExitStatus::Code(code)));
        }
        self.input(Input::Spawned { token, pid });
    }

    /// Lets time pass until `until`.
    fn run(&mut self, until: Duration) {
        for _ in 0..200_000 {
            let due = self.drain();
            let next = self.agenda.keys().next().map_or(Duration::MAX, |(at, _)| *at).min(due);
            if next > until {
                self.now = until;
                return;
            }
            assert!(next >= self.now || due <= self.now, "time goes back");
            self.now = self.now.max(next);
            match self.agenda.first_key_value().map(|(key, _)| *key) {
                Some(key) if key.0 <= self.now => match self.agenda.remove(&key).unwrap() {
                    Pending::Input(input) => {
                        self.demands += u128::from(matches!(input, Input::Demand(_)));
                        self.input(input);
                    }
                    Pending::Spawn(token, id) => self.spawn(token, id),
                    Pending::Answer(token, id) => {
                        if self.asked.remove(&token).is_some() {
                            let name = self.machine.name(id).unwrap();
                            let ran = self.now - self.began[name.as_str()];
                            let after = self.scripts[id.index()].ready;
                            let ready = after.is_some_and(|after| ran >= ms(after));
                            self.input(Input::Probed { token, ready });
                        }
                    }
                    Pending::Die(pid, status) => {
                        if self.alive.remove(&pid).is_some() {
                            self.input(Input::Exited { pid, status });
                        }
                    }
                },
                _ => self.input(Input::Tick),
            }
        }
        panic!("the machine does not come to rest before {until:?}");
    }

    /// Goes over to other services; new places have scripts of their own.
    fn reload(&mut self, specs: Vec<ServiceSpec>, script: Script) -> Difference {
        let before: BTreeMap<Pid, ServiceId> = self.alive.clone();
        let difference = self.machine.reload(specs.clone(), self.now).unwrap();
        let places = self.scripts.len() + specs.len();
        self.scripts.resize(places, script);
        self.spawns.resize(places, Vec::new());
        self.failed_spawns.resize(places, 0);
        self.drain();
        // nothing has been done to who is unchanged or only updated
        for (pid, id) in before {
            let name = &self.owners[&pid];
            let spared = difference.unchanged.contains(name) || difference.updated.contains(name);
            if spared && self.alive.contains_key(&pid) {
                assert_eq!(self.machine.name(id).unwrap(), name.as_str());
            }
        }
        difference
    }

    fn pid(&self, name: &str) -> Option<Pid> {
        self.machine.state(self.machine.id(name)?)?.pid()
    }

    fn state(&self, name: &str) -> State {
        self.machine.state(self.machine.id(name).unwrap()).unwrap().clone()
    }

    /// The lines of the log that contain a word.
    fn lines(&self, word: &str) -> Vec<String> {
        let lines = self.log.iter().map(|(at, event)| format!("{at:?} {event}"));
        lines.filter(|line| line.contains(word)).collect()
    }

    fn first(&self, find: impl Fn(&Event) -> bool) -> usize {
        self.log.iter().position(|(_, event)| find(event)).unwrap()
    }
}

fn daemon(name: &str, requires: &[&str]) -> ServiceSpec {
    let mut spec = ServiceSpec::daemon(name, ["/bin/x"]);
    spec.requires = requires.iter().map(ToString::to_string).collect();
    spec.readiness = Readiness::NotifyFd(3);
    spec
}

fn shutdown(world: &mut World, seconds: u64) {
    let timeout = Duration::from_secs(seconds);
    world.input(Input::Shutdown { outcome: Outcome::PowerOff, timeout });
}

fn stopped(name: &'static str) -> impl Fn(&Event) -> bool {
    move |event| matches!(event, Event::Stopped { service } if *service == name)
}

#[test]
fn what_requires_waits_for_readiness_and_stops_first() {
    let specs = vec![daemon("nomad", &["network"]), daemon("network", &[])];
    let mut world = World::new(specs, vec![GOOD, Script { ready: Some(3000), ..GOOD }]);
    world.run(ms(2999));
    assert_eq!(world.state("nomad"), State::Waiting);
    world.run(ms(3100));
    assert!(matches!(world.state("nomad"), State::Up { .. }));
    shutdown(&mut world, 60);
    world.run(Duration::from_secs(10));
    assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
    assert!(world.first(stopped("nomad")) < world.first(stopped("network")));
    assert!(world.alive.is_empty());
}

#[test]
fn a_missing_binary_is_named_and_retried_without_a_storm() {
    let script = Script { spawn_failures: u32::MAX, ..GOOD };
    let mut world = World::new(vec![daemon("a", &[])], vec![script]);
    world.run(Duration::from_secs(60));
    assert!(world.lines("cannot execute /missing: ENOENT").len() >= 5);
    // 200 ms doubled up to 30 s: 0, .2, .6, 1.4, 3, 6.2, 12.6, 25.4, 51 s
    assert_eq!(world.spawns[0].len(), 9);
    assert!(matches!(world.state("a"), State::Backoff { .. }));
}

#[test]
fn a_healthy_run_restarts_at_once() {
    let script = Script { ends: Some((20_000, 1)), ..GOOD };
    let mut world = World::new(vec![daemon("a", &[])], vec![script]);
    world.run(Duration::from_secs(100));
    for pair in world.spawns[0].windows(2) {
        assert_eq!(pair[1] - pair[0], ms(20_001));
    }
}

#[test]
fn a_burst_ends_in_failure_and_a_start_by_request_tries_again() {
    let mut spec = daemon("a", &[]);
    spec.backoff.burst = 3;
    let script = Script { ends: Some((1, 1)), ..GOOD };
    let mut world = World::new(vec![spec, daemon("b", &["a"])], vec![script, GOOD]);
    world.run(Duration::from_secs(300));
    assert_eq!(world.spawns[0].len(), 4);
    assert_eq!(world.lines("a: failed: restarted too often, last: exit code 1").len(), 1);
    assert_eq!(world.lines("b: failed: required service a has failed").len(), 1);
    assert_eq!(world.spawns[1].len(), 0);
    assert!(world.machine.all_ended());
    world.scripts[0].ends = None;
    world.input(Input::Start(world.machine.id("a").unwrap()));
    world.run(Duration::from_secs(400));
    assert!(matches!(world.state("a"), State::Up { .. }));
    // what had failed only for its sake comes back with it
    assert!(matches!(world.state("b"), State::Up { .. }));
}

#[test]
fn never_ready_is_stopped_and_counts_as_failure() {
    let mut spec = daemon("a", &[]);
    spec.ready_timeout = Duration::from_secs(2);
    spec.restart = Restart::Never;
    let script = Script { ready: None, stops: None, ..GOOD };
    let mut world = World::new(vec![spec, daemon("b", &["a"])], vec![script, GOOD]);
    world.run(Duration::from_secs(60));
    assert_eq!(world.state("a"), State::Failed(kiln_supervisor::Failure::NotReady));
    assert_eq!(world.lines("a: killed").len(), 1);
    assert_eq!(world.spawns[1].len(), 0);
}

#[test]
fn a_wanted_service_that_fails_holds_nobody_up() {
    let mut b = daemon("b", &[]);
    b.wants = vec!["a".into()];
    let script = Script { spawn_failures: u32::MAX, ..GOOD };
    let mut world = World::new(vec![daemon("a", &[]), b], vec![script, GOOD]);
    world.run(Duration::from_secs(1));
    assert!(matches!(world.state("b"), State::Up { .. }));
    assert_eq!(world.spawns[1].len(), 1);
}

#[test]
fn a_shutdown_while_starting_and_with_hung_services_ends_in_time() {
    // dinit#225, Talos#14404: one never answers its spawn, one ignores TERM, one is immortal
    let specs = vec![daemon("starting", &[]), daemon("deaf", &[]), daemon("stuck", &["deaf"])];
    let scripts = vec![
        Script { spawn_takes: None, ..GOOD },
        Script { stops: None, ..GOOD },
        Script { immortal: true, ..GOOD },
    ];
    let mut world = World::new(specs, scripts);
    world.run(Duration::from_secs(5));
    shutdown(&mut world, 30);
    world.run(Duration::from_secs(34));
    assert_eq!(world.machine.finished(), None);
    world.run(Duration::from_secs(35));
    assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
    assert_eq!(world.lines("shutdown ends with starting, stuck still there").len(), 1);
    // killed although what requires it is still there: time was nearly up
    assert_eq!(world.lines("deaf: killed").len(), 1);
}

#[test]
fn a_second_request_forces() {
    let mut world = World::new(vec![daemon("deaf", &[])], vec![Script { stops: None, ..GOOD }]);
    world.run(Duration::from_secs(1));
    shutdown(&mut world, 60);
    world.run(Duration::from_secs(2));
    assert_eq!(world.machine.finished(), None);
    shutdown(&mut world, 60);
    world.run(ms(2010));
    assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
    assert_eq!(world.lines("shutdown forced by request").len(), 1);
}

#[test]
fn a_restart_takes_dependents_along_in_order() {
    let specs = vec![daemon("top", &["base"]), daemon("base", &[]), daemon("other", &[])];
    let mut world = World::new(specs, vec![GOOD; 3]);
    world.run(Duration::from_secs(1));
    world.input(Input::Restart(world.machine.id("base").unwrap()));
    world.run(Duration::from_secs(5));
    assert!(matches!(world.state("top"), State::Up { .. }));
    assert!(matches!(world.state("base"), State::Up { .. }));
    assert_eq!(world.spawns.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
    assert!(world.first(stopped("top")) < world.first(stopped("base")));
    assert!(world.spawns[0][1] > world.spawns[1][1]);
    world.input(Input::Stop(world.machine.id("base").unwrap()));
    world.run(Duration::from_secs(10));
    assert_eq!((world.state("top"), world.state("base")), (State::Down, State::Down));
    assert!(matches!(world.state("other"), State::Up { .. }));
}

#[test]
fn a_required_service_that_restarts_does_not_disturb() {
    let specs = vec![daemon("nomad", &["network"]), daemon("network", &[])];
    let mut world = World::new(specs, vec![GOOD, Script { ends: Some((15_000, 1)), ..GOOD }]);
    world.run(Duration::from_secs(100));
    assert!(world.spawns[1].len() > 5);
    assert_eq!(world.spawns[0].len(), 1);
}

#[test]
fn stale_and_foreign_inputs_are_counted_not_believed() {
    let mut world = World::new(vec![daemon("a", &[])], vec![GOOD]);
    world.run(Duration::from_secs(1));
    let before = world.state("a");
    world.input(Input::Exited { pid: Pid(9999), status: ExitStatus::Signal(9) });
    assert_eq!(world.lines("orphan 9999 reaped").len(), 1);
    let snapshot: Snapshot = world.machine.snapshot().to_string().parse().unwrap();
    assert_eq!(world.state("a"), before);
    assert_eq!(snapshot, world.machine.snapshot());
}

#[test]
fn cycles_are_refused_by_name() {
    let specs = vec![daemon("a", &["b"]), daemon("b", &["a"]), daemon("c", &["nope"])];
    let problems = Supervisor::new(specs, Duration::ZERO).unwrap_err();
    assert_eq!(problems.0.len(), 2);
    assert!(problems.0.iter().any(|p| matches!(p, Problem::Cycle { .. })));
}

#[test]
fn a_resumed_machine_starts_nothing_twice() {
    let specs = vec![daemon("a", &[]), daemon("b", &["a"]), daemon("c", &["b"])];
    let mut world = World::new(specs.clone(), vec![GOOD, GOOD, Script { ready: None, ..GOOD }]);
    world.run(Duration::from_secs(1));
    let text = world.machine.snapshot().to_string();
    let resumed = Supervisor::resume(specs, &text.parse().unwrap(), world.now).unwrap();
    world.machine = resumed;
    world.run(Duration::from_secs(20));
    assert_eq!(world.spawns.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
    assert!(matches!(world.state("b"), State::Up { .. }));
    shutdown(&mut world, 30);
    world.run(Duration::from_secs(60));
    assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
    assert!(world.alive.is_empty());
}

#[test]
fn a_reload_does_what_is_different_and_nothing_else() {
    let mut specs = vec![
        daemon("base", &[]),
        daemon("gone", &["base"]),
        daemon("gone-too", &["gone"]),
        daemon("same", &["base"]),
        daemon("changed", &["same"]),
        daemon("updated", &["gone"]),
    ];
    let mut world = World::new(specs.clone(), vec![GOOD; 6]);
    world.run(Duration::from_secs(1));
    let before = ["base", "same", "changed", "updated"].map(|name| world.pid(name).unwrap());
    specs.retain(|spec| !spec.name.starts_with("gone"));
    specs[2].command.push("--more".into());
    specs[3].requires = vec!["new".into()];
    specs[3].stop_timeout = Duration::from_secs(77);
    specs.push(daemon("new", &["changed"]));
    let mut lazy = daemon("lazy", &[]);
    lazy.enabled = false;
    specs.push(lazy);
    let difference = world.reload(specs.clone(), GOOD);
    let text = "2 added (new, lazy), 2 removed (gone, gone-too), 1 restarted (changed), 1 updated (updated), 2 unchanged";
    assert_eq!(difference.to_string(), text);
    // until it is down it is what it was
    let changed = world.machine.id("changed").unwrap();
    assert_eq!(world.machine.spec(changed).unwrap().command.len(), 1);
    world.run(Duration::from_secs(2));
    let after = ["base", "same", "changed", "updated"].map(|name| world.pid(name).unwrap());
    assert_eq!([after[0], after[1], after[3]], [before[0], before[1], before[3]]);
    assert_ne!(after[2], before[2]);
    assert_eq!(world.machine.spec(changed).unwrap().command.len(), 2);
    assert!(matches!(world.state("new"), State::Up { .. }));
    assert_eq!(world.state("lazy"), State::Down);
    // fault 23: in order, what stands on it first
    assert!(world.first(stopped("gone-too")) < world.first(stopped("gone")));
    assert_eq!((world.machine.id("gone"), world.machine.id("gone-too")), (None, None));
    assert_eq!(world.machine.status().count(), 6);
    assert_eq!(world.lines("removed").len(), 3, "two, and the count");
    // places are used again
    specs.push(daemon("later", &[]));
    let places = world.scripts.len();
    world.reload(specs.clone(), GOOD);
    assert!(world.machine.id("later").unwrap().index() < places);
    world.run(Duration::from_secs(3));
    assert!(world.reload(specs, GOOD).is_empty());
    shutdown(&mut world, 30);
    world.run(Duration::from_secs(60));
    assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
    assert!(world.alive.is_empty());
}

#[test]
fn unsound_services_change_nothing() {
    let specs = vec![daemon("a", &[]), daemon("b", &["a"])];
    let mut world = World::new(specs, vec![GOOD; 2]);
    world.run(Duration::from_secs(1));
    let before = world.machine.snapshot();
    let problems =
        world.machine.reload(vec![daemon("a", &["nobody"]), daemon("c", &["c"])], world.now);
    assert_eq!(problems.unwrap_err().0.len(), 2);
    assert_eq!((world.machine.snapshot(), world.machine.target_specs().len()), (before, 2));
}

#[test]
fn a_second_reload_while_the_first_is_under_way() {
    // they take 1 s to stop
    let slow = Script { stops: Some(1000), ..GOOD };
    let specs = vec![daemon("db", &[]), daemon("web", &["db"]), daemon("side", &[])];
    let mut world = World::new(specs.clone(), vec![slow; 3]);
    world.run(Duration::from_secs(1));
    let (db, side) = (world.pid("db"), world.pid("side"));
    // all but one are removed, and then all are there again before they have stopped
    let mut other = specs[2].clone();
    other.command.push("x".into());
    world.reload(vec![other], slow);
    world.run(ms(1500));
    assert!(matches!(world.state("web"), State::Stopping { .. }));
    assert!(matches!(world.state("side"), State::Stopping { .. }));
    // it was held up by the other, and had not been asked to stop yet
    assert_eq!(world.pid("db"), db);
    let difference = world.reload(specs, slow);
    assert_eq!((difference.added.len(), difference.restarted.len()), (2, 1));
    world.run(Duration::from_secs(10));
    assert_eq!(world.pid("db"), db, "it was not stopped at all");
    assert!(world.pid("web").is_some() && world.pid("side").is_some_and(|pid| Some(pid) != side));
    assert_eq!(world.machine.spec(world.machine.id("side").unwrap()).unwrap().command.len(), 1);
    assert_eq!(world.lines("removed").len(), 2, "only the counts: nobody has left");
}

#[test]
fn a_reload_goes_on_in_another_process_image() {
    let slow = Script { stops: Some(1000), ..GOOD };
    let specs = vec![daemon("gone", &[]), daemon("changed", &[]), daemon("same", &[])];
    let mut world = World::new(specs.clone(), vec![slow; 3]);
    world.run(Duration::from_secs(1));
    let same = world.pid("same");
    let mut new = specs[1..].to_vec();
    new[0].command.push("x".into());
    world.reload(new, slow);
    world.run(ms(1200));
    let (running, target) = (world.machine.running_specs(), world.machine.target_specs());
    assert_eq!((running.len(), target.len()), (3, 2));
    let text = world.machine.snapshot().to_string();
    let resumed = Supervisor::resume(running, &text.parse().unwrap(), world.now).unwrap();
    world.machine = resumed;
    world.reload(target, slow);
    world.run(Duration::from_secs(10));
    assert_eq!(world.machine.id("gone"), None);
    assert!(matches!(world.state("changed"), State::Up { .. }));
    assert_eq!(world.pid("same"), same);
    assert_eq!(world.alive.len(), 2);
}

#[test]
fn what_leaves_after_what_it_named_is_handed_on_all_the_same() {
    // found by the property below: "stuck" never ends, and what it requires has left before
    let specs = vec![daemon("named", &[]), daemon("stuck", &["named"])];
    let mut world = World::new(specs, vec![GOOD, Script { immortal: true, ..GOOD }]);
    world.run(Duration::from_secs(1));
    world.reload(vec![daemon("other", &[])], GOOD);
    let named = world.machine.id("named").unwrap();
    let pid = world.pid("named").unwrap();
    world.alive.remove(&pid);
    world.input(Input::Exited { pid, status: ExitStatus::Signal(9) });
    world.run(Duration::from_secs(2));
    assert_eq!(world.machine.id("named"), None, "{named:?}");
    let text = world.machine.snapshot().to_string();
    let running = world.machine.running_specs();
    assert_eq!(running.len(), 2);
    Supervisor::resume(running, &text.parse().unwrap(), world.now).unwrap();
}

#[test]
fn a_process_whose_service_is_gone_at_a_change_of_image_is_stopped() {
    let specs = vec![daemon("gone", &[]), daemon("same", &[])];
    let mut world = World::new(specs.clone(), vec![GOOD; 2]);
    world.run(Duration::from_secs(1));
    let snapshot = world.machine.snapshot();
    world.machine = Supervisor::resume(specs[1..].to_vec(), &snapshot, world.now).unwrap();
    // ids are others now
    let ids: Vec<_> = world.alive.keys().copied().collect();
    for pid in ids {
        let id = world.machine.id(&world.owners[&pid]).unwrap();
        world.alive.insert(pid, id);
    }
    world.run(Duration::from_secs(5));
    assert_eq!((world.machine.id("gone"), world.alive.len()), (None, 1));
    assert!(matches!(world.state("same"), State::Up { .. }));
}

#[test]
fn a_one_shot_that_has_changed_runs_again_and_a_failed_service_has_another_try() {
    let mut broken = daemon("broken", &[]);
    broken.restart = Restart::Never;
    let specs = vec![ServiceSpec::one_shot("once", ["/bin/x"]), broken];
    let scripts = vec![Script { ends: Some((5, 0)), ..GOOD }, Script { spawn_failures: 1, ..GOOD }];
    let mut world = World::new(specs.clone(), scripts);
    world.run(Duration::from_secs(1));
    assert_eq!((world.state("once"), world.spawns[0].len()), (State::Done, 1));
    assert!(matches!(world.state("broken"), State::Failed(_)));
    let mut new = specs;
    new.iter_mut().for_each(|spec| spec.command.push("x".into()));
    world.reload(new, GOOD);
    world.run(Duration::from_secs(2));
    assert_eq!((world.state("once"), world.spawns[0].len()), (State::Done, 2));
    assert!(matches!(world.state("broken"), State::Up { .. }));
}

fn script() -> impl Strategy<Value = Script> {
    (
        0..4_u32,
        proptest::option::weighted(0.8, 0..500_u64),
        proptest::option::of((0..3000_u64, 0..2_i32)),
        proptest::option::weighted(0.8, 0..2000_u64),
        proptest::bool::weighted(0.05),
        proptest::option::weighted(0.95, 0..100_u64),
        proptest::bool::weighted(0.05),
        proptest::option::weighted(0.8, 0..3000_u64),
        proptest::bool::weighted(0.2),
    )
        .prop_map(|script| {
            let (
                spawn_failures,
                ready,
                ends,
                stops,
                immortal,
                spawn_takes,
                skipped,
                demand,
                leaves,
            ) = script;
            Script {
                spawn_failures,
                ready,
                ends,
                stops,
                immortal,
                spawn_takes,
                skipped,
                demand,
                leaves,
            }
        })
}

fn service(index: usize) -> impl Strategy<Value = (ServiceSpec, Script)> {
    let edges = proptest::collection::vec((0..index.max(1), 0..3_u8), 0..3);
    let policy = prop_oneof![
        Just(Restart::Auto),
        Just(Restart::Always),
        Just(Restart::OnFailure),
        Just(Restart::Never)
    ];
    let kinds = (any::<bool>(), any::<bool>(), 0..3_u8, 0..4_u8);
    (edges, policy, kinds, 0..4_u32, script(), proptest::bool::weighted(0.8)).prop_map(
        move |(edges, restart, (one_shot, group, readiness, special), burst, script, enabled)| {
            let mut spec = ServiceSpec::daemon(format!("s{index}"), ["/bin/x"]);
            for (other, relation) in edges {
                if other < index {
                    let list = match relation {
                        0 => &mut spec.requires,
                        1 => &mut spec.wants,
                        _ => &mut spec.after,
                    };
                    list.push(format!("s{other}"));
                }
            }
            spec.restart = restart;
            spec.enabled = enabled;
            spec.kind = if one_shot { Kind::OneShot } else { Kind::Daemon };
            spec.readiness = match readiness {
                _ if one_shot => Readiness::None,
                0 => Readiness::NotifyFd(9),
                1 => Readiness::Connect("unix:/s".parse().unwrap()),
                _ => Readiness::Probe(Probe::new(["/probe"])),
            };
            match special {
                0 if one_shot => spec.timer = Some(Timer::every(ms(700))),
                0 => {
                    spec.sockets = vec![Socket::new("unix:/s".parse().unwrap())];
                    spec.on_demand = true;
                }
                1 => spec.waits_for = vec![Condition::Network],
                _ => {}
            }
            spec.kill = if group { Kill::ProcessGroup } else { Kill::Process };
            spec.backoff.burst = burst;
            spec.ready_timeout = Duration::from_secs(1);
            spec.stop_timeout = Duration::from_secs(1);
            (spec, script)
        },
    )
}

fn services() -> impl Strategy<Value = Vec<(ServiceSpec, Script)>> {
    (1..8_usize).prop_flat_map(|count| (0..count).map(service).collect::<Vec<_>>())
}

/// Schedules of the model: those of every test run, or as many as a campaign asks for.
fn cases() -> u32 {
    let wanted = std::env::var("KILN_MODEL_CASES").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(10_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    /// Never two live instances of a service (`World::spawn` asserts it), restarts are bounded by
    /// the backoff, every shutdown ends by its deadline, and with no immortal process nothing is
    /// left; all this across requests and a change of process image in the middle.
    #[test]
    fn invariants(
        services in services(),
        others in proptest::collection::vec(services(), 1..3),
        requests in proptest::collection::vec((0..8_u32, 0..8_u8, 0..5000_u64), 0..10),
        at in 0..20_000_u64,
        seconds in 1..40_u64,
    ) {
        let mut scripts_of_all: Vec<Script> = services.iter().map(|(_, script)| *script).collect();
        scripts_of_all.extend(others.iter().flatten().map(|(_, script)| *script));
        let (specs, scripts): (Vec<_>, Vec<_>) = services.into_iter().unzip();
        let count = specs.len();
        let mut world = World::new(specs.clone(), scripts.clone());
        let mut asked = 0;
        for (id, what, after) in requests {
            world.run(world.now + ms(after));
            if what >= 6 {
                // other services, of which some are the same
                let reloaded = match (others.get(id as usize), id % 2) {
                    (Some(other), _) => other.iter().map(|(spec, _)| spec.clone()).collect(),
                    (None, 0) => specs.clone(),
                    (None, _) => {
                        let mut changed = specs.clone();
                        for spec in changed.iter_mut().step_by((id as usize / 3).max(1)) {
                            spec.command.push("x".into());
                            spec.stop_timeout += ms(1);
                        }
                        changed
                    }
                };
                asked += 1;
                let kept = world.alive.clone();
                let difference = world.reload(reloaded, scripts_of_all[id as usize % scripts_of_all.len()]);
                for pid in kept.keys().filter(|pid| world.alive.contains_key(pid)) {
                    let name = &world.owners[pid];
                    if difference.unchanged.contains(name) {
                        prop_assert_eq!(world.machine.id(name).map(|id| kept[pid] == id), Some(true));
                    }
                }
                continue;
            }
            let Some(id) = world.machine.id(&format!("s{}", id as usize % count)) else { continue };
            asked += 1;
            match what {
                0 => world.input(Input::Start(id)),
                1 => world.input(Input::Stop(id)),
                2 => world.input(Input::Restart(id)),
                3 | 4 => {
                    asked -= 1;
                    let condition = Condition::Network;
                    world.input(Input::Condition { condition, holds: what == 3 });
                }
                // resuming answers no spawn under way: only where there is none
                _ if !world.machine.status().any(|s| s.state == State::Starting) => {
                    let snapshot = world.machine.snapshot().to_string().parse().unwrap();
                    let running = world.machine.running_specs();
                    let target = world.machine.target_specs();
                    world.machine = Supervisor::resume(running, &snapshot, world.now).unwrap();
                    let pids: Vec<_> = world.alive.keys().copied().collect();
                    for pid in pids {
                        let id = world.machine.id(&world.owners[&pid]);
                        prop_assert!(id.is_some(), "{} is lost", world.owners[&pid]);
                        world.alive.insert(pid, id.unwrap());
                    }
                    // questions are the shell's, and end with it
                    world.asked.clear();
                    // what was due was due to other places
                    world.agenda.retain(|_, it| matches!(it, Pending::Die(..)));
                    if target != world.machine.target_specs() {
                        world.reload(target, GOOD);
                    }
                }
                _ => {}
            }
        }
        world.run(world.now + ms(at));
        // backoff: never two starts within 200 ms unless the service had run that long or a
        // request or a demand came between; so their number is bounded by time and these
        let bound = world.now.as_millis() / 200 + 2 + asked * 2 + world.demands;
        for starts in &world.spawns {
            prop_assert!((starts.len() as u128) <= bound, "{} starts", starts.len());
        }
        let began = world.now;
        shutdown(&mut world, seconds);
        world.run(began + Duration::from_secs(seconds));
        prop_assert_eq!(world.machine.finished(), Some(Outcome::PowerOff));
        if !scripts_of_all.iter().any(|s| s.immortal || s.spawn_takes.is_none()) {
            prop_assert!(world.alive.is_empty());
        }
        let finished = world.log.iter().filter(|(_, e)| matches!(e, Event::Finished { .. })).count();
        prop_assert_eq!(finished, 1);
    }

    /// Nothing that is not a snapshot is taken for one, and nothing panics.
    #[test]
    fn snapshots_refuse_noise(text in "(kiln-supervisor 2\n)?[a-z0-9 \n-]{0,200}") {
        if let Ok(snapshot) = text.parse::<Snapshot>() {
            let again: Snapshot = snapshot.to_string().parse().unwrap();
            prop_assert_eq!(again, snapshot);
        }
    }
}

/// A service that is started on demand, and how often it may be started again.
fn called(burst: u32) -> ServiceSpec {
    let mut spec = ServiceSpec::daemon("a", ["/bin/x"]);
    spec.sockets = vec![Socket::new("unix:/s".parse().unwrap())];
    spec.on_demand = true;
    spec.backoff.burst = burst;
    spec
}

#[test]
fn one_that_leaves_its_callers_waiting_is_paced_as_if_it_failed() {
    let script = Script { ends: Some((1, 0)), demand: Some(0), leaves: true, ..GOOD };
    for script in [script, Script { skipped: true, ..script }] {
        let mut world = World::new(vec![called(0)], vec![script]);
        world.run(Duration::from_secs(60));
        // 200 ms doubled up to 30 s, each from a start: 0, .2, .6, 1.4, 3, 6.2, 12.6, 25.4, 51 s
        assert_eq!(world.spawns[0].len(), 9, "{:?}", world.log);
        assert!(matches!(world.state("a"), State::Backoff { .. }));
        // whoever waits is served as soon as it does so
        world.scripts[0] = Script { ends: None, leaves: false, skipped: false, ..script };
        world.run(Duration::from_secs(120));
        assert!(matches!(world.state("a"), State::Up { .. }));
    }
    let mut world = World::new(vec![called(3)], vec![script]);
    world.run(Duration::from_secs(60));
    assert_eq!(world.spawns[0].len(), 4);
    assert_eq!(world.lines("a: failed: restarted too often, last: exit code 0").len(), 1);
}

#[test]
fn one_that_serves_its_callers_is_not_paced() {
    let script = Script { ends: Some((1, 0)), demand: Some(5), ..GOOD };
    let mut world = World::new(vec![called(3)], vec![script]);
    world.run(Duration::from_secs(1));
    assert!(world.spawns[0].len() > 50, "{:?}", world.spawns);
    assert_eq!(world.lines("starts in").len(), 0);
}
