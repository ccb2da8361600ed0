//! What the server knows of a pod, and what follows from it.

use kurma_client::{App, AppState, Pod, PodState};
use serde::{Deserialize, Serialize};

use super::stager::Seen;

/// What the server has done with a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// It was asked for.
    New,
    /// It is being made.
    Starting,
    /// Its stager has said that its apps have been started.
    Started,
    /// It has been told to end.
    Stopping,
    /// It was told to end, and has.
    Stopped,
    /// It has ended by itself, or could not be made.
    Ended,
}

/// A pod, as its file has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) phase: Phase,
    pub(crate) pod: Pod,
    /// The networks that it is attached to, as long as anything of it is there.
    pub(crate) attached: Vec<String>,
}

impl Record {
    pub(crate) fn new(pod: Pod) -> Self {
        Self { phase: Phase::New, pod, attached: Vec::new() }
    }

    /// The pod as it is spoken of, by what its stager has seen and whether it lives.
    pub(crate) fn told(&self, seen: &[Seen], alive: bool) -> Pod {
        let mut pod = self.pod.clone();
        for app in &mut pod.apps {
            if let Some(seen) = seen.iter().find(|seen| seen.name == app.name) {
                (app.state, app.exit_code, app.signal) = (seen.state, seen.exit_code, seen.signal);
                app.error.clone_from(&seen.error);
            }
            if !alive && app.state == AppState::Running {
                // it was killed with its stager, and nobody saw how it ended
                app.state = AppState::Ended;
            }
        }
        pod.state = state(self.phase, &pod.apps, alive);
        if !pod.state.is_live() {
            pod.networks.clear();
        }
        pod
    }
}

/// Where a pod is in its life.
pub(crate) fn state(phase: Phase, apps: &[App], alive: bool) -> PodState {
    let runs = |app: &App| matches!(app.state, AppState::Waiting | AppState::Running);
    match phase {
        Phase::New => PodState::New,
        Phase::Starting => PodState::Starting,
        Phase::Started if alive && apps.iter().any(runs) => PodState::Running,
        Phase::Started | Phase::Ended => PodState::Exited,
        Phase::Stopping => PodState::Stopping,
        Phase::Stopped => PodState::Stopped,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(phase: Phase) -> Record {
        let mut pod = Pod::new("u".into(), "web".into(), json!({}), 7);
        pod.apps = vec![App::new("a", "i"), App::new("b", "i")];
        Record { phase, ..Record::new(pod) }
    }

    fn seen(name: &str, state: AppState) -> Seen {
        Seen { name: name.into(), state, ..Seen::default() }
    }

    #[test]
    fn a_pod_runs_while_an_app_does() {
        let record = record(Phase::Started);
        let told = |a, b, alive| record.told(&[seen("a", a), seen("b", b)], alive).state;
        assert_eq!(told(AppState::Running, AppState::Ended, true), PodState::Running);
        assert_eq!(told(AppState::Failed, AppState::Running, true), PodState::Running);
        assert_eq!(told(AppState::Failed, AppState::Ended, true), PodState::Exited);
        assert_eq!(told(AppState::Running, AppState::Running, false), PodState::Exited);
    }

    #[test]
    fn who_was_killed_with_the_stager_runs_no_more() {
        let told = record(Phase::Started).told(&[seen("a", AppState::Running)], false);
        assert_eq!(told.apps[0].state, AppState::Ended);
        assert_eq!(told.apps[0].exit_code, None);
        assert_eq!(told.apps[1].state, AppState::Waiting);
    }

    #[test]
    fn being_told_to_end_shows_until_it_has() {
        let apps = [App::new("a", "i")];
        assert_eq!(state(Phase::Stopping, &apps, true), PodState::Stopping);
        assert_eq!(state(Phase::Stopping, &apps, false), PodState::Stopping);
        assert_eq!(state(Phase::Stopped, &apps, false), PodState::Stopped);
    }
}
