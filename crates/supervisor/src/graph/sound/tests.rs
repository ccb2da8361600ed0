use super::*;
use crate::graph::{Graph, MAX_SERVICES};

fn spec(name: &str, requires: &[&str], wants: &[&str], after: &[&str]) -> ServiceSpec {
    let names = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    let (requires, wants, after) = (names(requires), names(wants), names(after));
    ServiceSpec { requires, wants, after, ..ServiceSpec::daemon(name, ["/bin/true"]) }
}

/// The names of those that stay, and what is told.
fn sound(specs: Vec<ServiceSpec>) -> (Vec<String>, Vec<String>) {
    let sound = Sound::of(specs);
    assert!(Graph::new(&sound.specs).is_ok());
    let names = sound.specs.into_iter().map(|spec| spec.name).collect();
    (names, sound.omissions.iter().map(ToString::to_string).collect())
}

#[test]
fn what_is_wrong_is_left_out_with_what_requires_it() {
    let mut empty = spec("empty", &["lost"], &["nobody"], &[]);
    empty.command.clear();
    let specs = vec![
        spec("self", &["self"], &[], &[]),
        spec("lost", &["nowhere"], &[], &[]),
        empty,
        spec("first", &["second"], &[], &[]),
        spec("second", &["third", "self"], &[], &[]),
        spec("third", &["lost"], &[], &[]),
        spec("log", &[], &["third", "nowhere"], &["self", "log", "good"]),
        spec("good", &[], &[], &[]),
        spec("good", &[], &[], &[]),
        spec("of \u{1b}good", &["good"], &[], &[]),
    ];
    let (names, told) = sound(specs);
    assert_eq!(names, ["log", "good"]);
    assert_eq!(
        told,
        [
            "left out: service self: requires itself",
            "left out: service lost: requires \"nowhere\", which does not exist",
            "left out: service empty: no command; service empty: wants \"nobody\", which does not exist",
            "left out: service first: requires second, which requires self, which is left out",
            "left out: service second: requires self, which is left out",
            "left out: service third: requires lost, which is left out",
            "dropped: service log: wants third, which is left out",
            "dropped: service log: wants \"nowhere\", which does not exist",
            "dropped: service log: after self, which is left out",
            "dropped: service log: after itself",
            "left out: service good: defined twice (services 7 and 8 of the list)",
            "left out: service 9: bad name \"of \\u{1b}good\", expected 1 to 64 letters, digits and \
             \"._-@\", not starting with a dot",
        ]
    );
}

#[test]
fn all_of_a_ring_are_left_out_and_it_is_named() {
    let specs = vec![
        spec("a", &["b"], &[], &[]),
        spec("b", &[], &["c"], &[]),
        spec("c", &[], &[], &["a"]),
        // reaches the ring, and is reached from it
        spec("d", &[], &[], &["b"]),
        spec("e", &["c"], &[], &[]),
        spec("f", &[], &[], &["e"]),
    ];
    let mut with_more = specs.clone();
    with_more[2].after.push("d".into());
    let (names, told) = sound(specs);
    assert_eq!(names, ["d", "f"]);
    assert_eq!(
        told,
        [
            "left out: service a: requires b, which depends on a: dependency cycle: a -> b -> c -> a",
            "left out: service b: wants c, which depends on b: dependency cycle: a -> b -> c -> a",
            "left out: service c: after a, which depends on c: dependency cycle: a -> b -> c -> a",
            "dropped: service d: after b, which is left out",
            "left out: service e: requires c, which is left out",
            "dropped: service f: after e, which is left out",
        ]
    );
    let (names, told) = sound(with_more);
    assert_eq!(names, ["f"]);
    let beside =
        "left out: service d: after b, which depends on d: dependency cycle: a -> b -> c -> a";
    assert_eq!(told[3], beside);
}

/// A ring is one of services that could start if it were none.
#[test]
fn a_ring_through_what_is_left_out_is_none() {
    let mut broken = spec("b", &[], &[], &["a"]);
    broken.command.clear();
    let (names, told) = sound(vec![spec("a", &[], &["b"], &[]), broken]);
    assert_eq!(names, ["a"]);
    assert_eq!(
        told,
        ["dropped: service a: wants b, which is left out", "left out: service b: no command",]
    );
}

#[test]
fn a_sound_list_is_what_it_was() {
    let specs =
        vec![spec("b", &["a"], &[], &["c"]), spec("a", &[], &["c"], &[]), spec("c", &[], &[], &[])];
    let found = Sound::of(specs.clone());
    assert_eq!(found, Sound { specs, places: vec![0, 1, 2], omissions: Vec::new() });
}

/// Each spec by its place, and by how many there are.
fn many(spec: impl Fn(usize, usize) -> ServiceSpec) -> Vec<ServiceSpec> {
    (0..MAX_SERVICES).map(|n| spec(n, MAX_SERVICES)).collect()
}

/// On a stack that a recursion for each service would not fit into, and with so little to say that no
/// chain can have been told by each of its services.
#[test]
fn chains_and_rings_of_thousands_are_no_recursion_and_no_flood() {
    let name = |n: usize| format!("s{n}");
    let chain = many(|n, _| {
        spec(&name(n), &[&n.checked_sub(1).map_or_else(|| "nowhere".into(), name)], &[], &[])
    });
    let mut backwards = chain.clone();
    backwards.reverse();
    let ring = many(|n, count| spec(&name(n), &[], &[], &[&name((n + 1) % count)]));
    // each on a ring of its own length
    let dense = many(|n, count| match n {
        0 => spec("s0", &[], &[], &[&name(count - 1)]),
        _ => spec(&name(n), &["s0"], &[], &[&name(n - 1)]),
    });
    let star = many(|n, _| match n {
        0 => spec("s0", &["nowhere"], &[], &[]),
        _ => spec(&name(n), &["s0"], &["s0"], &[]),
    });
    let hub = {
        let all: Vec<String> = (1..MAX_SERVICES).map(name).collect();
        let mut hub = many(|n, _| spec(&name(n), &[], &["s0"], &[]));
        hub[0].wants.clone_from(&all);
        hub[0].after = all;
        hub
    };
    let lists = [chain, backwards, ring, dense, star, hub];
    let work = move || {
        for specs in lists {
            let found = Sound::of(specs);
            assert_eq!((found.specs.len(), found.omissions.len()), (0, MAX_SERVICES));
            let told: usize = found.omissions.iter().map(|it| it.to_string().len()).sum();
            assert!(told < MAX_SERVICES * 300, "{told} bytes");
        }
    };
    let small = std::thread::Builder::new().stack_size(128 << 10);
    small.spawn(work).unwrap().join().unwrap();
}

#[test]
fn of_too_many_those_behind_are_left_out() {
    let mut specs = many(|n, _| spec(&format!("s{n}"), &[], &[], &[]));
    specs.extend([spec("more", &[], &[], &[]), spec("most", &[], &[], &[])]);
    specs[0].requires = vec!["most".into()];
    let (names, told) = sound(specs);
    assert_eq!(names.len(), MAX_SERVICES - 1);
    assert_eq!(
        told,
        [
            "left out: service s0: requires most, which is left out",
            "left out: service more: 16386 services, at most 16384 are taken",
            "left out: service most: 16386 services, at most 16384 are taken",
        ]
    );
}
