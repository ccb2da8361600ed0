//! What is wrong with services together, at the place where it is written.

use std::collections::BTreeSet;

use super::place::{Finding, Place, hint, quoted};
use super::{Context, Found};
use crate::graph::{Graph, Problem};
use crate::spec::ServiceSpec;

/// Names, dependencies and what the settings of a service mean together.
pub(crate) fn together(found: &[Found], context: Context<'_>, findings: &mut Vec<Finding>) {
    let own = found.iter().map(|it| &it.spec);
    let specs: Vec<&ServiceSpec> = context.others.iter().chain(own).collect();
    let Err(problems) = Graph::new(&specs) else { return };
    let by_name = |name: &str| found.iter().find(|it| it.spec.name == name);
    let by_index = |index: usize| found.get(index.checked_sub(context.others.len())?);
    for problem in problems.0 {
        let finding = match &problem {
            Problem::BadName { index, .. } => {
                by_index(*index).map(|it| Finding::new(it.key("name"), without_service(&problem)))
            }
            Problem::Duplicate { name, first, second } => by_index(*second).map(|it| {
                let first = match by_index(*first) {
                    Some(first) => first.key("name").to_string(),
                    None => "the program itself".to_owned(),
                };
                let what = format!("{name} is defined twice, first at {first}");
                Finding::new(it.key("name"), what)
            }),
            Problem::UnknownDependency { name, relation, unknown } => by_name(name).map(|it| {
                let known = specs.iter().map(|spec| spec.name.as_str());
                let known: BTreeSet<&str> = known.filter(|known| known != name).collect();
                let hint = hint(unknown, known);
                let what = format!("{name} {relation} {}", quoted(unknown));
                let what = format!("{what}, which does not exist{hint}");
                Finding::new(it.element(relation, unknown), what)
            }),
            Problem::SelfDependency { name, relation } => by_name(name).map(|it| {
                Finding::new(it.element(relation, name), format!("{name} {relation} itself"))
            }),
            Problem::Cycle { path } => {
                cycle(path, by_name).map(|place| Finding::new(place, problem.to_string()))
            }
            // what else is wrong with a service that is not understood may follow from that
            Problem::NoCommand { name }
            | Problem::BadText { name, .. }
            | Problem::Senseless { name, .. } => match by_name(name) {
                Some(it) if it.broken => None,
                it => it.map(|it| Finding::new(it.key(key_of(&problem)), problem.to_string())),
            },
            Problem::TooMany { .. } => found
                .first()
                .map(|it| Finding::new(Place::file(&it.place.file), problem.to_string())),
        };
        findings.extend(finding);
    }
}

/// The first step of a ring that a file says.
fn cycle<'a>(path: &[String], by_name: impl Fn(&str) -> Option<&'a Found>) -> Option<Place> {
    path.windows(2).find_map(|step| {
        let [from, to] = step else { return None };
        let from = by_name(from)?;
        let relations = [
            ("requires", &from.spec.requires),
            ("wants", &from.spec.wants),
            ("after", &from.spec.after),
        ];
        let (relation, _) = relations.into_iter().find(|(_, names)| names.contains(to))?;
        Some(from.element(relation, to))
    })
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
