//! The machine in virtual time, against a scripted world that starts processes, lets them fail,
//! hang and die, and keeps count of what must never happen.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed test says so by panicking")]

use std::collections::BTreeMap;
use std::time::Duration;

use kiln_supervisor::{
    Action, Condition, Errno, Event, ExitStatus, Input, Kill, Kind, Outcome, Output, Pid, Probe,
    Problem, Readiness, Restart, ServiceId, ServiceSpec, Signal, Snapshot, Socket, SpawnError,
    SpawnStep, State, Supervisor, Timer, Token,
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
    /// When a service began to run, for the answers to questions.
    began: BTreeMap<ServiceId, Duration>,
    /// How often somebody has turned to one that listened.
    demands: u128,
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
        assert!(!self.alive.values().any(|other| *other == id), "two instances of {id:?}");
        let pid = Pid(self.next_pid);
        self.next_pid += 1;
        self.alive.insert(pid, id);
        self.began.insert(id, self.now);
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
                            let ran = self.now - self.began[&id];
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
        requests in proptest::collection::vec((0..8_u32, 0..6_u8, 0..5000_u64), 0..10),
        at in 0..20_000_u64,
        seconds in 1..40_u64,
    ) {
        let (specs, scripts): (Vec<_>, Vec<_>) = services.into_iter().unzip();
        let count = specs.len();
        let mut world = World::new(specs.clone(), scripts.clone());
        let mut asked = 0;
        for (id, what, after) in requests {
            world.run(world.now + ms(after));
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
                    world.machine =
                        Supervisor::resume(specs.clone(), &snapshot, world.now).unwrap();
                    // questions are the shell's, and end with it
                    world.asked.clear();
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
        if !scripts.iter().any(|s| s.immortal || s.spawn_takes.is_none()) {
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
