//! What is left out of a list of services, held against a plain judgement of the same list.
#![expect(clippy::unwrap_used, reason = "a failed test says so by panicking")]

use std::collections::BTreeSet;

use kiln_supervisor::{Dangling, Graph, Omission, Problem, Reason, ServiceSpec, Sound};
use proptest::prelude::*;

/// Names that lists are made of; the last is none, and one before it is hardly ever defined.
const NAMES: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "lost", "no name"];

fn spec() -> impl Strategy<Value = ServiceSpec> {
    let name = prop_oneof![60 => 0..8_usize, 1 => 8..10_usize];
    let edges = || proptest::collection::vec(0..9_usize, 0..3);
    let few = proptest::collection::vec(0..9_usize, 0..2);
    (name, few, edges(), edges(), proptest::bool::weighted(0.1)).prop_map(
        |(name, requires, wants, after, is_empty)| {
            let names = |list: Vec<usize>| list.into_iter().map(|n| NAMES[n].to_owned()).collect();
            let mut spec = ServiceSpec::daemon(NAMES[name], ["/bin/true"]);
            if is_empty {
                spec.command.clear();
            }
            (spec.requires, spec.wants) = (names(requires), names(wants));
            spec.after = names(after);
            spec
        },
    )
}

fn edges(spec: &ServiceSpec) -> impl Iterator<Item = (&'static str, &String)> {
    let requires = spec.requires.iter().map(|name| ("requires", name));
    let wants = spec.wants.iter().map(|name| ("wants", name));
    requires.chain(wants).chain(spec.after.iter().map(|name| ("after", name)))
}

/// Takes away, until nothing changes, what requires something that is not there.
fn settle(specs: &[ServiceSpec], there: &mut BTreeSet<usize>) {
    loop {
        let names: BTreeSet<&str> = there.iter().map(|n| specs[*n].name.as_str()).collect();
        let lacks =
            |n: &usize| specs[*n].requires.iter().any(|name| !names.contains(name.as_str()));
        let Some(gone) = there.iter().copied().find(lacks) else { return };
        there.remove(&gone);
    }
}

/// Who stays, by the words of the documentation and without regard to time.
fn expected(specs: &[ServiceSpec]) -> BTreeSet<usize> {
    let alone = |n: &usize| {
        let spec = &specs[*n];
        let first = specs.iter().position(|other| other.name == spec.name) == Some(*n);
        let mut alone = spec.clone();
        for names in [&mut alone.requires, &mut alone.wants, &mut alone.after] {
            names.clear();
        }
        first && !spec.requires.contains(&spec.name) && Graph::new(&[alone]).is_ok()
    };
    let mut there: BTreeSet<usize> = (0..specs.len()).filter(alone).collect();
    settle(specs, &mut there);
    let by_name = |name: &String| there.iter().copied().find(|n| specs[*n].name == *name);
    let steps = |n: usize| {
        let others = edges(&specs[n]).filter(|(_, name)| **name != specs[n].name);
        others.filter_map(|(_, name)| by_name(name)).collect::<BTreeSet<usize>>()
    };
    let reached = |from: usize| {
        let mut found = steps(from);
        loop {
            let more: BTreeSet<usize> = found.iter().flat_map(|n| steps(*n)).collect();
            if more.is_subset(&found) {
                return found;
            }
            found.extend(more);
        }
    };
    let mut left: BTreeSet<usize> =
        there.iter().copied().filter(|n| !reached(*n).contains(n)).collect();
    settle(specs, &mut left);
    left
}

/// What a reason says is so.
fn is_true(reason: &Reason, spec: &ServiceSpec, specs: &[ServiceSpec], sound: &Sound) -> bool {
    let names = |spec: &ServiceSpec, relation: &str, other: &String| {
        edges(spec).any(|(known, name)| known == relation && name == other)
    };
    let stays = |name: &String| sound.specs.iter().any(|spec| spec.name == *name);
    let first = |name: &String| specs.iter().find(|spec| spec.name == *name).unwrap();
    match reason {
        Reason::Problems(problems) => {
            let own = Graph::new(specs).unwrap_err().0;
            let is_one = |problem: &&Problem| match problem {
                Problem::UnknownDependency { relation, .. }
                | Problem::SelfDependency { relation, .. } => *relation == "requires",
                _ => true,
            };
            problems.iter().all(|it| own.contains(it)) && problems.iter().any(|it| is_one(&it))
        }
        Reason::Requirement { chain, length } => {
            let mut from = spec;
            *length == chain.len()
                && chain.iter().all(|name| {
                    let good = names(from, "requires", name) && !stays(name);
                    from = first(name);
                    good
                })
        }
        Reason::Cycle { relation, next, path } => {
            let steps = path.windows(2).all(|step| {
                edges(first(&step[0])).any(|(_, name)| *name == step[1]) && !stays(&step[0])
            });
            let all: BTreeSet<&String> = path.iter().collect();
            names(spec, relation, next)
                && steps
                && path.first() == path.last()
                && all.len() + 1 == path.len()
                && all.len() > 1
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn what_can_start_is_found_and_nothing_is_left_out_without_a_reason(
        specs in proptest::collection::vec(spec(), 0..12),
    ) {
        let sound = Sound::of(specs.clone());
        let graph = Graph::new(&sound.specs);
        prop_assert!(graph.is_ok(), "{:?}", graph);
        prop_assert_eq!(Graph::new(&specs).is_ok(), sound.omissions.is_empty());
        // who stays, in their order, and all that could
        let places: BTreeSet<usize> = sound.places.iter().copied().collect();
        prop_assert!(sound.places.is_sorted() && places.len() == sound.specs.len());
        prop_assert_eq!(&places, &expected(&specs));
        // each is as it was, but for what it does not name any more, which is told
        let mut told = sound.omissions.iter().peekable();
        for (n, spec) in specs.iter().enumerate() {
            let mut left = spec.clone();
            while let Some(omission) = told.next_if(|it| match it {
                Omission::Service { index, .. } | Omission::Dependency { index, .. } => *index == n,
                _ => false,
            }) {
                match omission {
                    Omission::Service { name, why, .. } => {
                        prop_assert!(!places.contains(&n) && *name == spec.name);
                        prop_assert!(is_true(why, spec, &specs, &sound), "{} {:?}", omission, specs);
                        left.name.clear();
                    }
                    Omission::Dependency { relation, to, why, .. } => {
                        let list = match *relation {
                            "wants" => &mut left.wants,
                            _ => &mut left.after,
                        };
                        let place = list.iter().position(|name| name == to);
                        prop_assert!(place.is_some(), "{} {:?}", omission, specs);
                        list.remove(place.unwrap());
                        let is_there = specs.iter().any(|spec| spec.name == *to);
                        let stays = sound.specs.iter().any(|spec| spec.name == *to);
                        let expected = match why {
                            Dangling::Itself => *to == spec.name,
                            Dangling::Unknown => !is_there,
                            Dangling::LeftOut => is_there && !stays,
                            _ => false,
                        };
                        prop_assert!(expected, "{} {:?}", omission, specs);
                    }
                    _ => {}
                }
            }
            match sound.places.iter().position(|place| *place == n) {
                Some(place) => prop_assert_eq!(&sound.specs[place], &left),
                // told, once
                None => prop_assert!(left.name.is_empty()),
            }
        }
        prop_assert!(told.next().is_none(), "in the order of the list");
        // once more, and there is nothing to say
        let again = Sound::of(sound.specs.clone());
        prop_assert_eq!(again.specs, sound.specs);
        prop_assert!(again.omissions.is_empty());
    }
}
