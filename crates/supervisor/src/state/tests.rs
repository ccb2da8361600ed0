//! Every cell of the table of states and stimuli.

use super::*;
use crate::vocabulary::{Errno, SpawnStep};

const NOW: Time = Duration::from_secs(100);

fn stimuli() -> Vec<(&'static str, Stimulus)> {
    let error = SpawnError { step: SpawnStep::Exec, errno: Errno(2), subject: "/x".into() };
    vec![
        ("Start", Stimulus::Start(Token(9))),
        ("Stop", Stimulus::Stop),
        ("Kill", Stimulus::Kill),
        ("Spawned", Stimulus::Spawned(Pid(7))),
        ("SpawnFailed", Stimulus::SpawnFailed(error)),
        ("Ready", Stimulus::Ready),
        ("Exit0", Stimulus::Exited(ExitStatus::Code(0))),
        ("Exit1", Stimulus::Exited(ExitStatus::Code(1))),
        ("Deadline", Stimulus::Deadline),
    ]
}

fn states() -> Vec<State> {
    let pid = Pid(5);
    let deadline = Some(NOW);
    let stopping = |killed, why| State::Stopping { pid, deadline, killed, why };
    vec![
        State::Down,
        State::Waiting,
        State::Starting,
        State::Unready { pid, deadline },
        State::Up { pid },
        stopping(false, StopReason::Requested),
        stopping(true, StopReason::Requested),
        stopping(false, StopReason::NotReady),
        State::Backoff { until: NOW },
        State::Scheduled { until: NOW },
        State::Listening,
        State::Done,
        State::Failed(Failure::NotReady),
    ]
}

/// One line per state, one word per stimulus: the state after it, with `!` for a signal, `+` for
/// a spawn, `~` for the sweep of the group; `.` where the stimulus meant nothing.
fn table(spec: &ServiceSpec, wanted: bool) -> Vec<String> {
    states()
        .into_iter()
        .map(|state| {
            let cells = stimuli().into_iter().map(|(_, stimulus)| {
                let mut service =
                    Service { state: state.clone(), wanted, started: NOW, ..Service::new() };
                let mut effects = Vec::new();
                if !service.step(spec, stimulus, NOW, &mut effects) {
                    assert_eq!(service.state, state);
                    assert!(effects.is_empty());
                    return ".".to_owned();
                }
                let marks = effects.iter().map(|effect| match effect {
                    Effect::Signal(Pid(5), _) => "!",
                    Effect::Spawn(_) => "+",
                    Effect::Sweep(Pid(5)) => "~",
                    Effect::Signal(..) | Effect::Sweep(_) => "WRONG PID",
                    _ => "",
                });
                format!("{}{}", service.state.name(), marks.collect::<String>())
            });
            let cells: Vec<_> = cells.collect();
            format!("{}: {}", state.name(), cells.join(" "))
        })
        .collect()
}

#[test]
fn a_wanted_daemon_with_readiness() {
    let spec =
        ServiceSpec { readiness: Readiness::NotifyFd(3), ..ServiceSpec::daemon("d", ["/d"]) };
    // Start Stop Kill Spawned SpawnFailed Ready Exit0 Exit1 Deadline
    assert_eq!(
        table(&spec, true),
        [
            "down: starting+ . . . . . . . .",
            "waiting: starting+ down down . . . . . .",
            "starting: . . . unready backoff . . . .",
            "unready: . stopping! stopping! . . up backoff~ backoff~ stopping!",
            "up: . stopping! stopping! . . . backoff~ backoff~ .",
            "stopping: . . stopping! . . . waiting~ waiting~ stopping!",
            "stopping: . . . . . . waiting~ waiting~ stopping",
            "stopping: . . stopping! . . . backoff~ backoff~ stopping!",
            "backoff: . down down . . . . . waiting",
            "scheduled: . down down . . . . . waiting",
            "listening: . down down . . . . . .",
            "done: starting+ down down . . . . . .",
            "failed: starting+ down down . . . . . .",
        ]
    );
}

#[test]
fn an_unwanted_daemon_is_not_restarted() {
    let spec = ServiceSpec { kill: Kill::Process, ..ServiceSpec::daemon("d", ["/d"]) };
    assert_eq!(
        table(&spec, false),
        [
            "down: starting+ . . . . . . . .",
            "waiting: starting+ down down . . . . . .",
            "starting: . . . up down . . . .",
            "unready: . stopping! stopping! . . up down down stopping!",
            "up: . stopping! stopping! . . . down down .",
            "stopping: . . stopping! . . . down down stopping!",
            "stopping: . . . . . . down down stopping",
            "stopping: . . stopping! . . . down down stopping!",
            "backoff: . down down . . . . . waiting",
            "scheduled: . down down . . . . . waiting",
            "listening: . down down . . . . . .",
            "done: starting+ down down . . . . . .",
            "failed: starting+ down down . . . . . .",
        ]
    );
}

#[test]
fn a_wanted_one_shot() {
    let spec = ServiceSpec::one_shot("o", ["/o"]);
    assert_eq!(
        table(&spec, true),
        [
            "down: starting+ . . . . . . . .",
            "waiting: starting+ down down . . . . . .",
            "starting: . . . unready failed . . . .",
            "unready: . stopping! stopping! . . . done~ failed~ stopping!",
            "up: . stopping! stopping! . . . done~ failed~ .",
            "stopping: . . stopping! . . . waiting~ waiting~ stopping!",
            "stopping: . . . . . . waiting~ waiting~ stopping",
            "stopping: . . stopping! . . . failed~ failed~ stopping!",
            "backoff: . down down . . . . . waiting",
            "scheduled: . down down . . . . . waiting",
            "listening: . down down . . . . . .",
            "done: starting+ down down . . . . . .",
            "failed: starting+ down down . . . . . .",
        ]
    );
}

#[test]
fn restart_policies_by_exit_code() {
    let after = |restart, code| {
        let spec = ServiceSpec { restart, ..ServiceSpec::daemon("d", ["/d"]) };
        let mut service = Service { wanted: true, ..Service::new() };
        service.state = State::Up { pid: Pid(5) };
        service.step(&spec, Stimulus::Exited(ExitStatus::Code(code)), NOW, &mut Vec::new());
        service.state.name()
    };
    assert_eq!([after(Restart::Always, 0), after(Restart::Always, 1)], ["backoff", "backoff"]);
    assert_eq!([after(Restart::OnFailure, 0), after(Restart::OnFailure, 1)], ["done", "backoff"]);
    assert_eq!([after(Restart::Never, 0), after(Restart::Never, 1)], ["done", "failed"]);
}

/// A service that began to run at `NOW`, after some stimuli; with what came of them.
fn after(spec: &ServiceSpec, state: State, stimuli: Vec<Stimulus>) -> (Service, Vec<Effect>) {
    let mut service = Service { wanted: true, started: NOW, state, ..Service::new() };
    let mut effects = Vec::new();
    for stimulus in stimuli {
        assert!(service.step(spec, stimulus, NOW, &mut effects));
    }
    (service, effects)
}

#[test]
fn a_timer_comes_again_however_the_run_went() {
    let spec = ServiceSpec {
        timer: Some(crate::Timer::every(Duration::from_secs(60))),
        ..ServiceSpec::one_shot("t", ["/t"])
    };
    let until = NOW + Duration::from_secs(60);
    let up = State::Unready { pid: Pid(5), deadline: None };
    for (code, succeeded) in [(0, true), (1, false)] {
        let exited = Stimulus::Exited(ExitStatus::Code(code));
        let (service, effects) = after(&spec, up.clone(), vec![exited]);
        assert_eq!(service.state, State::Scheduled { until });
        assert_eq!(
            (service.succeeded, effects.last()),
            (succeeded, Some(&Effect::Scheduled(until)))
        );
    }
    let (service, effects) = after(&spec, State::Starting, vec![Stimulus::Skipped]);
    assert_eq!(service.state, State::Scheduled { until });
    assert_eq!(effects[0], Effect::Skipped);
}

#[test]
fn demand_leads_from_listening_to_a_run_and_its_end_back() {
    let spec = ServiceSpec { on_demand: true, ..ServiceSpec::daemon("d", ["/d"]) };
    let opened = vec![Stimulus::Listen(Token(1)), Stimulus::Opened { waited_for: true }];
    let (service, effects) = after(&spec, State::Waiting, opened);
    assert_eq!((service.state, service.demanded), (State::Listening, false));
    assert_eq!(effects, [Effect::Listen(Token(1)), Effect::Listening]);
    let (service, _) = after(&spec, State::Listening, vec![Stimulus::Demand]);
    assert_eq!((service.state, service.demanded), (State::Waiting, true));
    let end = |code| vec![Stimulus::Exited(ExitStatus::Code(code))];
    let (service, _) = after(&spec, State::Up { pid: Pid(5) }, end(0));
    assert_eq!((service.state, service.demanded), (State::Waiting, false));
    let (service, _) = after(&spec, State::Up { pid: Pid(5) }, end(1));
    assert_eq!(service.state.name(), "backoff");
}

#[test]
fn who_is_left_waiting_counts_against_a_run_that_ended_well() {
    let spec = ServiceSpec { on_demand: true, ..ServiceSpec::daemon("d", ["/d"]) };
    let again = |waited_for| {
        let exited = Stimulus::Exited(ExitStatus::Code(0));
        vec![exited, Stimulus::Listen(Token(2)), Stimulus::Opened { waited_for }]
    };
    let up = State::Up { pid: Pid(5) };
    let (service, effects) = after(&spec, up.clone(), again(true));
    let until = NOW + spec.backoff.initial;
    assert_eq!((service.state, service.demanded), (State::Backoff { until }, false));
    assert_eq!((effects.last(), service.backoff.failures()), (Some(&Effect::Restarting(until)), 1));
    let (service, _) = after(&spec, up, again(false));
    assert_eq!((service.state, service.backoff.failures()), (State::Listening, 0));
}
