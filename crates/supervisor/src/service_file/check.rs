//! What is wrong with services together, at the place where it is written.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use super::place::{Finding, Place, hint, quoted};
use super::{Context, Found};
use crate::graph::{self, Dangling, Graph, Omission, Problem, Reason};
use crate::spec::ServiceSpec;

/// For so many unknown names it is said what was probably meant.
const MAX_HINTS: usize = 1000;

/// Names, dependencies and what the settings of a service mean together.
pub(crate) fn together(found: &[Found], context: Context<'_>, findings: &mut Vec<Finding>) {
    let all = All::new(found, context);
    let Err(problems) = Graph::new(&all.specs) else { return };
    for problem in &problems.0 {
        let it = all.by_name(problem);
        findings.extend(it.and_then(|it| all.finding(problem, it)));
    }
}

/// The same, where the rest of them is to start: leaves out what cannot, and says so at its place.
pub(crate) fn leave_out(
    found: Vec<Found>,
    context: Context<'_>,
    findings: &mut Vec<Finding>,
) -> Vec<Found> {
    let all = All::new(&found, context);
    let first = context.others.len();
    let of = |index: usize| found.get(index.checked_sub(first)?);
    let judgement = graph::judge(&all.specs, |index| of(index).is_some_and(|it| it.refused));
    for omission in &judgement.omissions {
        match omission {
            Omission::Service { index, why, .. } => {
                let Some(it) = of(*index) else { continue };
                let at = |place| Finding::new(place, omission.to_string());
                match why {
                    Reason::Problems(problems) => {
                        let told = problems.iter().filter_map(|problem| all.finding(problem, it));
                        findings.extend(told.map(|told| told.before("left out: ")));
                    }
                    Reason::NotUnderstood(problems) => {
                        let told = problems.iter().filter_map(|problem| all.finding(problem, it));
                        findings.extend(told);
                        findings.push(at(it.place.clone()));
                    }
                    Reason::Requirement { chain, .. } => {
                        let next = chain.first().map(String::as_str).unwrap_or_default();
                        findings.push(at(it.element("requires", next)));
                    }
                    Reason::Cycle { relation, next, .. } => {
                        findings.push(at(it.element(relation, next)));
                    }
                }
            }
            Omission::Dependency { index, name, relation, to, why } => {
                let Some(it) = of(*index) else { continue };
                let (name, relation) = (name.clone(), *relation);
                let problem = match why {
                    Dangling::Unknown => {
                        Problem::UnknownDependency { name, relation, unknown: to.clone() }
                    }
                    Dangling::Itself => Problem::SelfDependency { name, relation },
                    Dangling::LeftOut => {
                        let place = it.element(relation, to);
                        findings.push(Finding::new(place, omission.to_string()));
                        continue;
                    }
                };
                let told = all.finding(&problem, it);
                findings.extend(told.map(|told| told.before("dropped: ")));
            }
        }
    }
    judgement.keep(found, first, |it| &mut it.spec).1
}

/// All services: those of a program first, then those of files.
struct All<'a> {
    found: &'a [Found],
    /// How many are no file's.
    others: usize,
    specs: Vec<&'a ServiceSpec>,
    /// Of several of one name the first in a file.
    places: BTreeMap<&'a str, &'a Found>,
    /// How many names have been looked for among all that there are.
    looked: Cell<usize>,
}

impl<'a> All<'a> {
    fn new(found: &'a [Found], context: Context<'a>) -> Self {
        let own = found.iter().map(|it| &it.spec);
        let specs: Vec<&ServiceSpec> = context.others.iter().chain(own).collect();
        let mut places = BTreeMap::new();
        for it in found {
            places.entry(it.spec.name.as_str()).or_insert(it);
        }
        let others = context.others.len();
        Self { found, others, specs, places, looked: Cell::new(0) }
    }

    fn by_index(&self, index: usize) -> Option<&'a Found> {
        self.found.get(index.checked_sub(self.others)?)
    }

    /// Whom a problem is about; the second of two of a name, and of a ring the first that is in a file.
    fn by_name(&self, problem: &Problem) -> Option<&'a Found> {
        match problem {
            Problem::BadName { index, .. } => self.by_index(*index),
            Problem::Duplicate { second, .. } => self.by_index(*second),
            Problem::TooMany { .. } => self.found.first(),
            Problem::Cycle { path } => {
                path.iter().find_map(|name| self.places.get(name.as_str()).copied())
            }
            Problem::NoCommand { name }
            | Problem::BadText { name, .. }
            | Problem::Senseless { name, .. }
            | Problem::SelfDependency { name, .. }
            | Problem::UnknownDependency { name, .. } => self.places.get(name.as_str()).copied(),
        }
    }

    /// A problem of a service at the place where it is written.
    fn finding(&self, problem: &Problem, it: &Found) -> Option<Finding> {
        Some(match problem {
            Problem::BadName { .. } => Finding::new(it.key("name"), without_service(problem)),
            Problem::Duplicate { name, first, .. } => {
                let first = match self.by_index(*first) {
                    Some(first) => first.key("name").to_string(),
                    None => "the program itself".to_owned(),
                };
                let what = format!("{name} is defined twice, first at {first}");
                Finding::new(it.key("name"), what)
            }
            Problem::UnknownDependency { name, relation, unknown } => {
                let what = format!("{name} {relation} {}", quoted(unknown));
                let what = format!("{what}, which does not exist{}", self.meant(name, unknown));
                Finding::new(it.element(relation, unknown), what)
            }
            Problem::SelfDependency { name, relation } => {
                Finding::new(it.element(relation, name), format!("{name} {relation} itself"))
            }
            Problem::Cycle { path } => Finding::new(self.step(path)?, problem.to_string()),
            // what else is wrong with a service that is not understood may follow from that
            Problem::NoCommand { .. } | Problem::BadText { .. } | Problem::Senseless { .. }
                if it.broken =>
            {
                return None;
            }
            Problem::NoCommand { .. } | Problem::BadText { .. } | Problem::Senseless { .. } => {
                Finding::new(it.key(key_of(problem)), problem.to_string())
            }
            Problem::TooMany { .. } => {
                Finding::new(Place::file(&it.place.file), problem.to_string())
            }
        })
    }

    /// What was probably meant. Each name is held against all others, so only some are.
    fn meant(&self, name: &str, unknown: &str) -> String {
        self.looked.set(self.looked.get().saturating_add(1));
        if self.looked.get() > MAX_HINTS {
            return String::new();
        }
        let known = self.specs.iter().map(|spec| spec.name.as_str());
        let known: BTreeSet<&str> = known.filter(|known| *known != name).collect();
        hint(unknown, known)
    }

    /// The first step of a ring that a file says.
    fn step(&self, path: &[String]) -> Option<Place> {
        path.windows(2).find_map(|step| {
            let [from, to] = step else { return None };
            let from = self.places.get(from.as_str())?;
            let mut relations = graph::relations(&from.spec).into_iter();
            let (relation, _) = relations.find(|(_, names)| names.contains(to))?;
            Some(from.element(relation, to))
        })
    }
}

/// The key that a problem is about, where it is about one.
fn key_of(problem: &Problem) -> &str {
    match problem {
        Problem::NoCommand { .. } => "command",
        Problem::BadText { what, .. } => what,
        _ => "",
    }
}

/// A bad name's problem says which service of the list it is; here the place says that.
fn without_service(problem: &Problem) -> String {
    let text = problem.to_string();
    text.split_once(": ").map_or_else(|| text.clone(), |(_, rest)| rest.to_owned())
}
