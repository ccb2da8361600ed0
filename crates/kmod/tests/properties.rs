//! Rules that hold for every index, sane or not.

use std::collections::BTreeSet;

use kiln_kmod::{Index, IndexFiles};
use proptest::prelude::*;

/// Lines that mostly make sense, about modules `m0` to `m9`.
fn dep() -> impl Strategy<Value = String> {
    let line = (0..10_u8, proptest::collection::vec(0..12_u8, 0..4));
    proptest::collection::vec(line, 0..12).prop_map(|lines| {
        let line = |(module, needs): (u8, Vec<u8>)| {
            let needs: String = needs.iter().map(|need| format!(" m{need}.ko")).collect();
            format!("m{module}.ko:{needs}\n")
        };
        lines.into_iter().map(line).collect()
    })
}

fn softdep() -> impl Strategy<Value = String> {
    let line = (0..10_u8, any::<bool>(), 0..12_u8);
    proptest::collection::vec(line, 0..8).prop_map(|lines| {
        let line = |(module, pre, other): (u8, bool, u8)| {
            format!("softdep m{module} {}: m{other}\n", if pre { "pre" } else { "post" })
        };
        lines.into_iter().map(line).collect()
    })
}

/// The obvious matcher, exponential in the number of stars.
fn reference(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
        (Some((b'?', rest)), Some((_, text))) => reference(rest, text),
        (Some((p, rest)), Some((t, text))) => p == t && reference(rest, text),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn load_orders_are_sound(dep in dep(), softdep in softdep(), wanted in 0..10_u8) {
        let mut files = IndexFiles::new(&dep);
        files.softdep = &softdep;
        let index = Index::parse(files).unwrap();
        let ring = index.problems().iter().any(|p| matches!(p, kiln_kmod::Problem::Cycle { .. }));
        let found = index.resolve(&[format!("m{wanted}")]);
        let mut loaded = BTreeSet::new();
        for module in &found.load {
            let info = index.get(&module.name).unwrap();
            if !ring {
                prop_assert!(info.dependencies().all(|need| loaded.contains(need)));
            }
            prop_assert!(loaded.insert(module.name.clone()));
        }
        // A smaller index gives the same answer, and its files read back to it.
        let subset = index.subset(&[format!("m{wanted}")]);
        prop_assert_eq!(&subset.resolve(&[format!("m{wanted}")]).load, &found.load);
        prop_assert_eq!(subset.loadable(), found.load.len());
    }

    #[test]
    fn any_text_makes_an_index(dep in "\\PC{0,200}", alias in "\\PC{0,200}", raw: Vec<u8>) {
        let mut files = IndexFiles::new(&dep);
        files.alias = &alias;
        files.softdep = &alias;
        files.builtin = &dep;
        files.builtin_modinfo = &raw;
        let index = Index::parse(files).unwrap();
        let _ = index.resolve(&[dep.as_str(), alias.as_str()]);
        let _ = index.files();
    }

    #[test]
    fn aliases_match_as_the_obvious_matcher_says(
        patterns in proptest::collection::vec("[ab*?]{1,7}", 1..8),
        query in "[ab]{0,8}",
    ) {
        let dep: String = (0..patterns.len()).map(|n| format!("m{n}.ko:\n")).collect();
        let aliases = patterns.iter().enumerate();
        let alias: String = aliases.map(|(n, pattern)| format!("alias {pattern} m{n}\n")).collect();
        let mut files = IndexFiles::new(&dep);
        files.alias = &alias;
        let found = Index::parse(files).unwrap().resolve(&[&query]);
        let matching = patterns.iter().enumerate();
        let expected: Vec<String> = matching
            .filter(|(_, pattern)| reference(pattern.as_bytes(), query.as_bytes()))
            .map(|(n, _)| format!("m{n}"))
            .collect();
        let ours: Vec<String> = found.load.into_iter().map(|module| module.name).collect();
        prop_assert_eq!(ours, expected);
    }
}
