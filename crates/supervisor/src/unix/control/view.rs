//! What the machine looks like from outside: parts of long answers.

use super::connection::{List, ListKind};
use crate::control::protocol::{Answer, ServiceStatus, Times, TreeNode};
use crate::control::timeline::{Timeline, micros};
use crate::graph::{ServiceId, list};
use crate::machine::Supervisor;
use crate::spec::{Kind, ServiceSpec};
use crate::state::State;
use crate::vocabulary::{Event, Name, Time};

/// So many services are in one frame: each is below 2 KiB, escapes and all.
const PER_FRAME: usize = 24;
/// So many names of each relation are in one frame: each is at most 64 bytes.
const NAMES: usize = 256;
/// A detail longer than this is cut.
const LONGEST_DETAIL: usize = 300;

/// The next part of a list; `None` at its end.
pub(super) fn next(
    list: &mut List,
    machine: &Supervisor,
    timeline: &Timeline,
    now: Time,
) -> Option<Answer> {
    match list.what {
        ListKind::Status => {
            let mut services = Vec::new();
            while services.len() < PER_FRAME {
                let Some(id) = step(list, machine) else { break };
                let Some(status) = status(machine, timeline, id, now) else {
                    list.at = u32::MAX;
                    break;
                };
                services.push(status);
            }
            (!services.is_empty()).then_some(Answer::Services(services))
        }
        ListKind::Times => {
            let mut services = Vec::new();
            while services.len() < PER_FRAME {
                let Some(id) = step(list, machine) else { break };
                let Some(name) = machine.name(id) else {
                    list.at = u32::MAX;
                    break;
                };
                services.extend(timeline.of(name.as_str()));
            }
            let (began_us, now_us) = (timeline.began_us(), micros(now));
            (!services.is_empty()).then_some(Answer::Times(Times { began_us, now_us, services }))
        }
        ListKind::Tree => {
            while machine.is_gone(ServiceId(list.at)) {
                list.at = list.at.saturating_add(1);
            }
            let id = ServiceId(list.at);
            let (spec, state) = (machine.spec(id)?, machine.state(id)?);
            let part = |names: &[String]| -> Vec<String> {
                names.iter().skip(list.offset).take(NAMES).cloned().collect()
            };
            let node = TreeNode {
                name: spec.name.clone(),
                state: state.name().to_owned(),
                requires: part(&spec.requires),
                wants: part(&spec.wants),
                after: part(&spec.after),
            };
            list.offset = list.offset.saturating_add(NAMES);
            if list.offset >= longest(spec) {
                list.offset = 0;
                list.at = list.at.saturating_add(1);
            }
            Some(Answer::Tree(vec![node]))
        }
    }
}

/// The next service's place: of all, or of the only one.
fn step(list: &mut List, machine: &Supervisor) -> Option<ServiceId> {
    if list.at == u32::MAX {
        return None;
    }
    while list.only.is_none() && machine.is_gone(ServiceId(list.at)) {
        list.at = list.at.saturating_add(1);
    }
    if let Some(only) = list.only {
        list.at = u32::MAX;
        return Some(only);
    }
    let id = ServiceId(list.at);
    list.at = list.at.saturating_add(1);
    Some(id)
}

fn longest(spec: &ServiceSpec) -> usize {
    spec.requires.len().max(spec.wants.len()).max(spec.after.len())
}

/// How one service is.
pub(in crate::unix) fn status(
    machine: &Supervisor,
    timeline: &Timeline,
    id: ServiceId,
    now: Time,
) -> Option<ServiceStatus> {
    let (spec, service) = (machine.spec(id)?, machine.services.get(id.index())?);
    let state = &service.state;
    let millis = |time: Time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let last = timeline.last_end(&spec.name);
    let detail = match state {
        State::Failed(failure) => Some(failure.to_string()),
        State::Stopping { killed: true, .. } => Some("killed, still there".to_owned()),
        State::Up { .. } | State::Unready { .. } | State::Stopping { .. } => {
            last.map(|end| format!("before: {end}"))
        }
        State::Waiting => waits_for(machine, id).or_else(|| last.map(str::to_owned)),
        _ => last.map(str::to_owned),
    };
    Some(ServiceStatus {
        name: spec.name.clone(),
        state: state.name().to_owned(),
        one_shot: spec.kind == Kind::OneShot,
        wanted: service.wanted,
        pid: state.pid().map(|pid| pid.0),
        running_ms: state.pid().map(|_| millis(now.saturating_sub(service.started))),
        restarts: service.restarts,
        due_ms: state.deadline().map(|at| millis(at.saturating_sub(now))),
        detail: detail.map(|text| text.chars().take(LONGEST_DETAIL).collect()),
    })
}

/// What a waiting service waits for, as far as it is not up.
fn waits_for(machine: &Supervisor, id: ServiceId) -> Option<String> {
    let graph = &machine.graph;
    let missing: Vec<&str> = [&graph.requires, &graph.wants, &graph.after]
        .into_iter()
        .flat_map(|edges| list(edges, id))
        .filter(|other| !matches!(machine.state(**other), Some(State::Up { .. } | State::Done)))
        .filter_map(|other| machine.names.get(other.index()).map(Name::as_str))
        .take(5)
        .collect();
    (!missing.is_empty()).then(|| format!("waits for {}", missing.join(", ")))
}

/// Whom an event is about.
pub(super) fn subject(event: &Event) -> Option<&Name> {
    match event {
        Event::Started { service, .. }
        | Event::SpawnFailed { service, .. }
        | Event::Ready { service, .. }
        | Event::Done { service }
        | Event::Exited { service, .. }
        | Event::Restarting { service, .. }
        | Event::Stopping { service, .. }
        | Event::Killing { service }
        | Event::Stuck { service, .. }
        | Event::Stopped { service }
        | Event::Removed { service }
        | Event::Failed { service, .. }
        | Event::SignalFailed { service, .. }
        | Event::LogDropped { service, .. } => Some(service),
        _ => None,
    }
}
