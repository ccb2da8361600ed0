//! Asking services whether they are ready: when, and what follows from the answers.

use super::Supervisor;
use crate::graph::ServiceId;
use crate::state::{Probing, Service, Stimulus};
use crate::vocabulary::{Action, Ignored, Time, Token};

impl Service {
    /// When the next question is due.
    pub(crate) fn probe_due(&self) -> Option<Time> {
        self.probe.filter(|probe| probe.under_way.is_none()).map(|probe| probe.at)
    }
}

impl Supervisor {
    /// Asks a service, if it is time to.
    pub(super) fn probe(&mut self, id: ServiceId, now: Time) {
        let due = self.services.get(id.index()).and_then(Service::probe_due);
        if due.is_none_or(|due| due > now) {
            return;
        }
        let token = self.token();
        let (Some(service), Some(spec)) =
            (self.services.get_mut(id.index()), self.specs.get(id.index()))
        else {
            return;
        };
        let Some(probe) = &mut service.probe else { return };
        probe.at = now;
        probe.under_way = Some(token);
        let (_, timeout) = spec.readiness.pace(probe.attempt);
        self.act(Action::Probe { token, service: id, timeout });
    }

    /// An answer: the service is ready, or will be asked again.
    pub(super) fn probed(&mut self, token: Token, ready: bool, now: Time) {
        let is_about =
            |service: &Service| service.probe.is_some_and(|probe| probe.under_way == Some(token));
        let found = self.services.iter().position(is_about);
        let Some(id) = found.and_then(|place| self.ids().nth(place)) else {
            return self.ignore(Ignored::StaleToken);
        };
        let (Some(service), Some(spec)) =
            (self.services.get_mut(id.index()), self.specs.get(id.index()))
        else {
            return;
        };
        if let Some(Probing { attempt, at, .. }) = service.probe.take()
            && !ready
        {
            let (every, _) = spec.readiness.pace(attempt);
            let at = at.saturating_add(every).max(now);
            let attempt = attempt.saturating_add(1);
            service.probe = Some(Probing { attempt, at, under_way: None });
        }
        if ready {
            self.step(id, Stimulus::Ready, now);
        }
    }
}
