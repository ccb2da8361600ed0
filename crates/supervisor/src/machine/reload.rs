//! Other services while the old ones run: what is different is done, the rest notices nothing.
//!
//! A service keeps its place in the lists for as long as anything may still be about it. One that is
//! removed is first stopped, then forgotten by the shell, and only then is its place free for another. One
//! whose process has to be replaced runs by its old spec until it is down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Supervisor;
use crate::difference::{Difference, needs_restart};
use crate::graph::{Graph, Problems, ServiceId, list};
use crate::spec::ServiceSpec;
use crate::state::{Service, State};
use crate::vocabulary::{Action, Event, Ignored, Name, Time, Token};

/// What a place in the lists is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// A service.
    Kept,
    /// A service that is removed, and not down yet.
    Leaving,
    /// One that is down; the shell is clearing away what it had.
    Forgotten,
    /// Nothing; the next service may have it.
    Free,
}

impl Supervisor {
    /// Goes over to other services: those that are new are started if they are enabled, those that
    /// are gone are stopped in order, those that have changed are started again unless they notice
    /// nothing of it, and nothing happens to the others. Unsound specs change nothing.
    ///
    /// A changed service is restarted alone: what requires it goes on, as when it restarts by
    /// itself. A change of `requires`, `wants`, `after`, `waits-for`, `only-if`, `restart`, `backoff`,
    /// `stop-signal`, `stop-timeout`, `kill`, `reload`, timeouts and the pace of a timer needs no
    /// restart. What is newly enabled, or newly required or wanted by what is to run, is started;
    /// what is no longer enabled goes on until it ends.
    ///
    /// May be called again before all that is done; during a shutdown nothing is changed.
    ///
    /// # Errors
    /// Everything that is wrong with `specs`.
    pub fn reload(&mut self, specs: Vec<ServiceSpec>, now: Time) -> Result<Difference, Problems> {
        Graph::new(&specs)?;
        if self.shutdown.is_some() {
            self.ignore(Ignored::ShuttingDown);
            return Ok(Difference::default());
        }
        let kept: Vec<ServiceId> = self.ids().filter(|id| self.slot(*id) == Slot::Kept).collect();
        let old: Vec<Arc<ServiceSpec>> = kept.iter().filter_map(|id| self.target(*id)).collect();
        let difference = Difference::between(old.iter().map(|spec| &**spec), &specs);
        self.generation = self.generation.wrapping_add(1);
        let removed: BTreeSet<&String> = difference.removed.iter().collect();
        for (id, spec) in kept.into_iter().zip(&old) {
            if removed.contains(&spec.name) {
                self.remove(id);
            }
        }
        let places = self.places();
        let mut to_start = Vec::new();
        for spec in specs {
            let spec = Arc::new(spec);
            match places.get(spec.name.as_str()).copied() {
                Some(id) if self.slot(id) == Slot::Leaving => {
                    to_start.extend(self.take_back(id, spec));
                }
                Some(id) => to_start.extend(self.replace(id, spec, now)),
                None => {
                    let enabled = spec.enabled;
                    let id = self.add(spec);
                    to_start.extend(id.filter(|_| enabled));
                }
            }
        }
        let before = std::mem::take(&mut self.graph);
        self.link();
        // what is newly stood on by what is to run is to run too
        for id in self.ids() {
            if !self.services.get(id.index()).is_some_and(|service| service.wanted) {
                continue;
            }
            for (edges, had) in
                [(&self.graph.requires, &before.requires), (&self.graph.wants, &before.wants)]
            {
                let new = list(edges, id).iter().filter(|other| !list(had, id).contains(other));
                to_start.extend(new.copied());
            }
        }
        for id in to_start {
            self.want(id, now);
        }
        let [added, removed, restarted, updated] =
            [&difference.added, &difference.removed, &difference.restarted, &difference.updated]
                .map(Vec::len);
        self.tell(Event::Reloaded { added, removed, restarted, updated });
        self.advance(None, now);
        Ok(difference)
    }

    /// The specs that processes run by, joined as they are now, so that they are sound together: what
    /// [`resume`](Self::resume) goes on with, before [`target_specs`](Self::target_specs) are gone
    /// over to by [`reload`](Self::reload).
    #[must_use]
    pub fn running_specs(&self) -> Vec<ServiceSpec> {
        self.running().collect()
    }

    /// The same, one after another.
    pub(crate) fn running(&self) -> impl Iterator<Item = ServiceSpec> {
        let places = self.places();
        let there = self.ids().filter(|id| self.is_there(*id));
        there.filter_map(move |id| {
            let target = self.target(id)?;
            // what has left before may still be named by what leaves
            let names = |list: &[String]| {
                list.iter().filter(|name| places.contains_key(name.as_str())).cloned().collect()
            };
            Some(ServiceSpec {
                requires: names(&target.requires),
                wants: names(&target.wants),
                after: names(&target.after),
                ..self.spec(id)?.clone()
            })
        })
    }

    /// The specs that were given last.
    #[must_use]
    pub fn target_specs(&self) -> Vec<ServiceSpec> {
        self.targets().map(|spec| (*spec).clone()).collect()
    }

    /// The same, one after another.
    pub(crate) fn targets(&self) -> impl Iterator<Item = Arc<ServiceSpec>> {
        let kept = self.ids().filter(|id| self.slot(*id) == Slot::Kept);
        kept.filter_map(|id| self.target(id))
    }

    /// Whether a service has been removed, and is not down yet.
    #[must_use]
    pub fn is_leaving(&self, id: ServiceId) -> bool {
        self.slot(id) == Slot::Leaving
    }

    pub(crate) fn slot(&self, id: ServiceId) -> Slot {
        self.slots.get(id.index()).copied().unwrap_or(Slot::Free)
    }

    /// Whether there is a service at this place.
    pub(crate) fn is_there(&self, id: ServiceId) -> bool {
        matches!(self.slot(id), Slot::Kept | Slot::Leaving)
    }

    /// Whether a place is one where there was a service.
    #[cfg(feature = "control")]
    pub(crate) fn is_gone(&self, id: ServiceId) -> bool {
        id.index() < self.specs.len() && !self.is_there(id)
    }

    /// Each service by its name.
    fn places(&self) -> BTreeMap<Name, ServiceId> {
        let there = self.ids().filter(|id| self.is_there(*id));
        there.filter_map(|id| Some((self.name(id)?, id))).collect()
    }

    /// What a service is to run by.
    fn target(&self, id: ServiceId) -> Option<Arc<ServiceSpec>> {
        self.pending.get(&id).or_else(|| self.specs.get(id.index())).map(Arc::clone)
    }

    /// A service that is gone from the list is stopped; with its last process it leaves.
    pub(crate) fn remove(&mut self, id: ServiceId) {
        self.pending.remove(&id);
        if let (Some(slot), Some(service)) =
            (self.slots.get_mut(id.index()), self.services.get_mut(id.index()))
        {
            *slot = Slot::Leaving;
            service.wanted = false;
            service.again = false;
        }
    }

    fn add(&mut self, spec: Arc<ServiceSpec>) -> Option<ServiceId> {
        let name = Name(Arc::from(spec.name.as_str()));
        if let Some(id) = self.ids().find(|id| self.slot(*id) == Slot::Free) {
            self.put(id, spec, name, Slot::Kept);
            return Some(id);
        }
        let id = ServiceId(u32::try_from(self.specs.len()).ok()?);
        self.specs.push(spec);
        self.names.push(name);
        self.services.push(Service::new());
        self.slots.push(Slot::Kept);
        Some(id)
    }

    fn put(&mut self, id: ServiceId, spec: Arc<ServiceSpec>, name: Name, what: Slot) {
        let at = id.index();
        if let (Some(a), Some(b), Some(c), Some(d)) = (
            self.specs.get_mut(at),
            self.names.get_mut(at),
            self.services.get_mut(at),
            self.slots.get_mut(at),
        ) {
            (*a, *b, *c, *d) = (spec, name, Service::new(), what);
        }
    }

    /// A service that was leaving stays after all. Gives it if it is to be wanted.
    fn take_back(&mut self, id: ServiceId, spec: Arc<ServiceSpec>) -> Option<ServiceId> {
        let enabled = spec.enabled;
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = Slot::Kept;
        }
        let anew = self.spec(id).is_none_or(|old| needs_restart(old, &spec));
        let service = self.services.get_mut(id.index())?;
        if !service.state.is_live() {
            service.state = State::Down;
            self.set(id, spec);
            return Some(id).filter(|_| enabled);
        }
        let stops = matches!(service.state, State::Stopping { .. });
        if enabled && (anew || stops) {
            service.again = true;
        } else if enabled {
            // nobody has asked it to stop yet
            service.wanted = true;
        }
        self.later(id, spec, anew || stops);
        None
    }

    /// A service goes over to another spec, now or when it is down. Gives it if it is to be wanted.
    fn replace(&mut self, id: ServiceId, spec: Arc<ServiceSpec>, now: Time) -> Option<ServiceId> {
        let target = self.target(id)?;
        if *target == *spec {
            return None;
        }
        let newly_enabled = spec.enabled && !target.enabled;
        let anew = needs_restart(&target, &spec);
        let service = self.services.get_mut(id.index())?;
        let to_run = service.wanted || service.again;
        let live = service.state.is_live();
        if anew && to_run {
            service.backoff.reset();
            service.wanted = false;
            // what has no process begins anew at once
            service.again = live;
            if !live {
                service.state = State::Down;
            }
        }
        if let (State::Scheduled { until }, Some(timer)) = (&mut service.state, &spec.timer)
            && service.settled
        {
            *until = service.started.saturating_add(timer.every).max(now);
        }
        self.later(id, spec, anew);
        Some(id).filter(|_| newly_enabled && !to_run || anew && to_run && !live)
    }

    /// Puts a spec in force: at once, or where a process runs by the old one, when it is down.
    fn later(&mut self, id: ServiceId, spec: Arc<ServiceSpec>, anew: bool) {
        let live = self.state(id).is_some_and(State::is_live);
        if live && (anew || self.pending.contains_key(&id)) {
            self.pending.insert(id, spec);
        } else {
            self.set(id, spec);
        }
    }

    fn set(&mut self, id: ServiceId, spec: Arc<ServiceSpec>) {
        self.pending.remove(&id);
        if let Some(current) = self.specs.get_mut(id.index()) {
            *current = spec;
        }
    }

    /// After something has happened to a service: without a process, a spec that waits is its own.
    pub(super) fn renew(&mut self, id: ServiceId) {
        if !self.pending.contains_key(&id) || self.state(id).is_some_and(State::is_live) {
            return;
        }
        if let Some(spec) = self.pending.remove(&id) {
            self.generation = self.generation.wrapping_add(1);
            self.set(id, spec);
        }
    }

    /// Has the shell forget those that have left.
    pub(super) fn part(&mut self) {
        for id in self.ids().filter(|id| self.slot(*id) == Slot::Leaving).collect::<Vec<_>>() {
            if self.state(id).is_some_and(State::is_live) {
                continue;
            }
            if let (Some(slot), Some(service)) =
                (self.slots.get_mut(id.index()), self.services.get_mut(id.index()))
            {
                *slot = Slot::Forgotten;
                *service = Service::new();
            }
            self.generation = self.generation.wrapping_add(1);
            let token = self.token();
            self.forgetting.insert(token, id);
            if let Some(service) = self.name(id) {
                self.tell(Event::Removed { service });
            }
            self.act(Action::Forget { token, service: id });
        }
    }

    pub(super) fn forgotten(&mut self, token: Token) {
        match self.forgetting.remove(&token) {
            Some(id) => {
                self.put(id, Arc::default(), Name(Arc::from("")), Slot::Free);
            }
            None => self.ignore(Ignored::StaleToken),
        }
    }

    /// Joins the services anew. Those that stay go by what they are to run by. Those that leave, by
    /// what they had: they stop in its order. Nobody who stays can name one of these, so no ring
    /// can come about.
    fn link(&mut self) {
        self.graph = self
            .linked(true)
            // who is restarted stops before what it stood on and leaves, unless that is a ring now
            .or_else(|| self.linked(false))
            .unwrap_or_default();
    }

    fn linked(&self, with_former: bool) -> Option<Graph> {
        let places = self.places();
        let nodes = self.ids().map(|id| {
            let Some(spec) = self.target(id).filter(|_| self.is_there(id)) else {
                return ServiceSpec::default();
            };
            let names = |list: &[String]| {
                list.iter().filter(|name| places.contains_key(name.as_str())).cloned().collect()
            };
            let mut after: Vec<String> = names(&spec.after);
            if let Some(former) = self.spec(id).filter(|_| with_former) {
                let stood = [&former.requires, &former.wants, &former.after].into_iter().flatten();
                let leaves = |name: &&String| {
                    let other = places.get(name.as_str());
                    other.is_some_and(|other| *other != id && self.is_leaving(*other))
                };
                after.extend(stood.filter(leaves).cloned());
            }
            ServiceSpec {
                name: spec.name.clone(),
                requires: names(&spec.requires),
                wants: names(&spec.wants),
                after,
                ..ServiceSpec::default()
            }
        });
        let nodes: Vec<ServiceSpec> = nodes.collect();
        Graph::link(&nodes.iter().collect::<Vec<_>>()).ok()
    }
}
