//! Who of a list of services can start beside the others.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::sound::{Dangling, Omission, Reason, SHOWN};
use super::{MAX_SERVICES, Problem, check_names, relations, ring};
use crate::spec::ServiceSpec;

/// Who of a list stays.
#[derive(Debug)]
pub(crate) struct Judgement {
    stays: Vec<bool>,
    pub(crate) omissions: Vec<Omission>,
}

impl Judgement {
    /// What stays of the list's part that begins at a place, without the dependencies that are
    /// dropped; with its places in that part.
    pub(crate) fn keep<T>(
        &self,
        list: Vec<T>,
        first: usize,
        spec: impl Fn(&mut T) -> &mut ServiceSpec,
    ) -> (Vec<usize>, Vec<T>) {
        let mut dropped: BTreeMap<usize, BTreeSet<(&str, &str)>> = BTreeMap::new();
        for omission in &self.omissions {
            if let Omission::Dependency { index, relation, to, .. } = omission {
                dropped.entry(*index).or_default().insert((relation, to));
            }
        }
        let kept =
            list.into_iter().zip(first..).filter(|(_, at)| self.stays.get(*at) == Some(&true));
        kept.map(|(mut it, at)| {
            if let Some(dropped) = dropped.get(&at) {
                let spec = spec(&mut it);
                for (relation, names) in [("wants", &mut spec.wants), ("after", &mut spec.after)] {
                    names.retain(|name| !dropped.contains(&(relation, name.as_str())));
                }
            }
            (at.saturating_sub(first), it)
        })
        .unzip()
    }
}

/// What becomes of a service, and where the reason is.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Stays,
    Wrong,
    /// It requires `next`, which is left out because `root` is.
    Requires {
        next: usize,
        root: usize,
        length: usize,
    },
    /// It is on this ring, and this is its step.
    Ring {
        ring: usize,
        relation: &'static str,
        next: usize,
    },
}

struct Judge<'a> {
    specs: &'a [&'a ServiceSpec],
    /// Of several of one name the first is meant.
    places: BTreeMap<&'a str, usize>,
    fates: Vec<Fate>,
    required_by: Vec<Vec<usize>>,
}

/// Says of each service whether it can start beside the others; those of which not everything is
/// understood cannot.
pub(crate) fn judge(specs: &[&ServiceSpec], is_broken: impl Fn(usize) -> bool) -> Judgement {
    let mut places = BTreeMap::new();
    for (index, spec) in specs.iter().enumerate() {
        places.entry(spec.name.as_str()).or_insert(index);
    }
    let (fates, required_by) = (vec![Fate::Stays; specs.len()], vec![Vec::new(); specs.len()]);
    let mut judge = Judge { specs, places, fates, required_by };
    let problems = judge.problems();
    for (index, problems) in problems.iter().enumerate() {
        // what is wanted in vain, or to come later than, keeps nobody from starting
        let alone = |problem: &Problem| match problem {
            Problem::UnknownDependency { relation, .. }
            | Problem::SelfDependency { relation, .. } => *relation == "requires",
            _ => true,
        };
        if is_broken(index) || problems.iter().any(alone) {
            judge.set(index, Fate::Wrong);
        }
    }
    judge.spread(|fate| matches!(fate, Fate::Wrong));
    let rings = judge.rings();
    judge.spread(|fate| matches!(fate, Fate::Ring { .. }));
    let mut omissions = Vec::new();
    for (index, (spec, problems)) in specs.iter().zip(problems).enumerate() {
        let why = match judge.fate(index) {
            Fate::Stays => {
                judge.dangling(index, spec, &mut omissions);
                continue;
            }
            Fate::Wrong if is_broken(index) => Reason::NotUnderstood(problems),
            Fate::Wrong => Reason::Problems(problems),
            Fate::Requires { .. } => judge.requirement(index),
            Fate::Ring { ring, relation, next } => Reason::Cycle {
                relation,
                next: judge.name(next),
                path: rings.get(ring).cloned().unwrap_or_default(),
            },
        };
        omissions.push(Omission::Service { index, name: spec.name.clone(), why });
    }
    let stays = judge.fates.iter().map(|fate| matches!(fate, Fate::Stays)).collect();
    Judgement { stays, omissions }
}

impl Judge<'_> {
    fn fate(&self, index: usize) -> Fate {
        self.fates.get(index).copied().unwrap_or(Fate::Wrong)
    }

    fn set(&mut self, index: usize, fate: Fate) {
        if let Some(known) = self.fates.get_mut(index) {
            *known = fate;
        }
    }

    fn name(&self, index: usize) -> String {
        self.specs.get(index).map(|spec| spec.name.clone()).unwrap_or_default()
    }

    /// What is wrong with each, rings aside; and who is required by whom.
    fn problems(&mut self) -> Vec<Vec<Problem>> {
        let mut problems = vec![Vec::new(); self.specs.len()];
        let mut tell = |index: usize, problem| {
            if let Some(list) = problems.get_mut(index) {
                list.push(problem);
            }
        };
        check_names(self.specs, &mut tell);
        #[cfg(feature = "oci")]
        super::container::check_names(self.specs, &mut tell);
        let count = self.specs.len();
        for (index, spec) in self.specs.iter().enumerate() {
            if index >= MAX_SERVICES {
                tell(index, Problem::TooMany { count, limit: MAX_SERVICES });
            }
            let name = || spec.name.clone();
            for (relation, names) in relations(spec) {
                for other in names {
                    match self.places.get(other.as_str()) {
                        _ if *other == spec.name => {
                            tell(index, Problem::SelfDependency { name: name(), relation });
                        }
                        None => {
                            let (name, unknown) = (name(), other.clone());
                            tell(index, Problem::UnknownDependency { name, relation, unknown });
                        }
                        Some(place) if relation == "requires" => {
                            if let Some(list) = self.required_by.get_mut(*place) {
                                list.push(index);
                            }
                        }
                        Some(_) => {}
                    }
                }
            }
        }
        problems
    }

    /// Leaves out what requires those of a fate: nearest ones first, so that chains are short.
    fn spread(&mut self, from: impl Fn(Fate) -> bool) {
        let all = self.fates.iter().enumerate();
        let mut todo: VecDeque<usize> =
            all.filter(|(_, fate)| from(**fate)).map(|(index, _)| index).collect();
        while let Some(next) = todo.pop_front() {
            let (root, length) = match self.fate(next) {
                Fate::Requires { root, length, .. } => (root, length.saturating_add(1)),
                _ => (next, 1),
            };
            let by = self.required_by.get_mut(next).map(std::mem::take).unwrap_or_default();
            for index in by {
                if matches!(self.fate(index), Fate::Stays) {
                    self.set(index, Fate::Requires { next, root, length });
                    todo.push_back(index);
                }
            }
        }
    }

    /// Leaves out what is on a ring. Gives one ring of each set of services that are on some.
    fn rings(&mut self) -> Vec<Arc<[String]>> {
        let edges: Vec<Vec<usize>> = self
            .specs
            .iter()
            .enumerate()
            .map(|(index, spec)| match self.fate(index) {
                Fate::Stays => self.steps(spec).map(|(_, to)| to).collect(),
                _ => Vec::new(),
            })
            .collect();
        let mut paths = Vec::new();
        for (number, members) in ring::rings(&edges).into_iter().enumerate() {
            // where each goes on, by which one is always led back to a ring
            let next: BTreeMap<usize, (&'static str, usize)> = members
                .iter()
                .filter_map(|index| {
                    let inside = |(_, to): &(_, usize)| members.binary_search(to).is_ok();
                    let step = self.steps(self.specs.get(*index)?).find(inside)?;
                    Some((*index, step))
                })
                .collect();
            paths.push(self.path(&members, &next));
            for (index, (relation, next)) in next {
                self.set(index, Fate::Ring { ring: number, relation, next });
            }
        }
        paths
    }

    /// The dependencies of a service on others that have not been left out.
    fn steps<'s>(
        &'s self,
        spec: &'s ServiceSpec,
    ) -> impl Iterator<Item = (&'static str, usize)> + 's {
        let all = relations(spec).into_iter();
        let all = all.flat_map(|(relation, names)| names.iter().map(move |name| (relation, name)));
        all.filter(|(_, name)| **name != spec.name).filter_map(|(relation, name)| {
            let place = *self.places.get(name.as_str())?;
            matches!(self.fate(place), Fate::Stays).then_some((relation, place))
        })
    }

    /// The ring that the first of some services is led to.
    fn path(
        &self,
        members: &[usize],
        next: &BTreeMap<usize, (&'static str, usize)>,
    ) -> Arc<[String]> {
        let mut seen: BTreeSet<usize> = BTreeSet::new();
        let mut walk = Vec::new();
        let mut at = members.first().copied();
        while let Some(here) = at.filter(|here| seen.insert(*here)) {
            walk.push(here);
            at = next.get(&here).map(|(_, to)| *to);
        }
        let ring = walk.into_iter().skip_while(|here| Some(*here) != at).chain(at);
        ring.map(|here| self.name(here)).collect()
    }

    fn requirement(&self, index: usize) -> Reason {
        let mut chain = Vec::new();
        let mut at = index;
        let mut whole = 0;
        while let Fate::Requires { next, root, length } = self.fate(at) {
            whole = whole.max(length);
            at = if chain.len().saturating_add(1) < SHOWN { next } else { root };
            chain.push(self.name(at));
        }
        Reason::Requirement { chain, length: whole }
    }

    /// The dependencies of a service that stays on what does not.
    fn dangling(&self, index: usize, spec: &ServiceSpec, omissions: &mut Vec<Omission>) {
        for (relation, names) in relations(spec) {
            for to in names {
                let why = match self.places.get(to.as_str()) {
                    _ if *to == spec.name => Dangling::Itself,
                    None => Dangling::Unknown,
                    Some(place) if !matches!(self.fate(*place), Fate::Stays) => Dangling::LeftOut,
                    Some(_) => continue,
                };
                let (name, to) = (spec.name.clone(), to.clone());
                omissions.push(Omission::Dependency { index, name, relation, to, why });
            }
        }
    }
}
