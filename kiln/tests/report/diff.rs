//! What differs is found, all of it, and told so that it can be read.

use kiln::diff::{Aspect, Change, Difference, manifests};
use kiln::manifest::{FileEntry, Manifest};
use proptest::prelude::*;

use crate::sample::{any_manifest, artifact, file, link, manifest, package, realistic};

fn old_and_new() -> (Manifest, Manifest) {
    let mut old = manifest(vec![
        file("etc/changed", "a", 100),
        file("etc/gone", "b", 10),
        file("etc/mode", "c", 10),
        file("etc/replaced", "d", 10),
        link("etc/link", "there"),
        file("usr/lib/libc.so.6", "e", 1_900_000),
    ]);
    old.packages = vec![package("libc6", "2.36-9+deb12u9"), package("libgone", "1")];
    old.files[5].package = Some("libc6".into());
    old.artifacts = vec![artifact("sample.raw", "raw", 150_000_000), artifact("a.vmdk", "vmdk", 7)];
    let mut new = manifest(vec![
        file("etc/changed", "A", 100),
        file("etc/mode", "c", 10),
        link("etc/replaced", "changed"),
        link("etc/link", "elsewhere\u{1b}[31m"),
        file("usr/lib/libc.so.6", "E", 1_950_000),
        file("usr/sbin/nginx", "f", 1_200_000),
    ]);
    new.version = Some("2".into());
    new.command_line = "console=ttyS0 quiet panic=5".into();
    new.packages = vec![package("libc6", "2.36-9+deb12u10"), package("nginx", "1.22.1-9")];
    new.files[1].mode = "0600".into();
    new.files[1].uid = 7;
    new.files[4].package = Some("libc6".into());
    new.files[5].package = Some("nginx".into());
    new.files[5].why = Some("the service nginx".into());
    new.artifacts = vec![artifact("sample.raw", "raw", 151_250_000)];
    (old, new)
}

#[test]
fn a_small_difference() {
    let (old, new) = old_and_new();
    let difference = manifests(&old, &new);
    insta::assert_snapshot!(difference);
    let text = serde_json::to_string(&difference).unwrap();
    let back: Difference = serde_json::from_str(&text).unwrap();
    assert_eq!(back, difference);
}

#[test]
fn builds_that_are_the_same() {
    let made = realistic();
    let difference = manifests(&made, &made);
    assert!(difference.is_empty());
    insta::assert_snapshot!(difference, @"no difference: 2 artifacts, 60 packages, 2,038 files");
}

/// A kernel and a C library of other versions, a hundred files of nobody: a thousand paths.
fn large() -> Difference {
    let old = realistic();
    let mut new = old.clone();
    new.kernel = Some("6.1.0-31-amd64".into());
    for (number, file) in new.files.iter_mut().enumerate() {
        if file.path.starts_with("usr/lib/modules") {
            file.path = file.path.replace("6.1.0", "6.1.1");
        } else if number % 3 == 0 && file.size.is_some() {
            file.sha256 = Some("0".repeat(64));
            file.size = file.size.map(|size| size + 100);
        } else if number % 7 == 0 {
            file.why = Some("another reason".into());
        }
    }
    for number in 0..600 {
        new.files.push(file(&format!("srv/www/page {number}.html"), "page", 1000 + number));
    }
    for package in &mut new.packages {
        package.version.push_str("+deb12u11");
    }
    manifests(&old, &new)
}

#[test]
fn a_large_difference_stays_readable() {
    let difference = large();
    assert!(difference.files.len() > 1200);
    let text = difference.to_string();
    assert!(text.lines().count() < 140, "{} lines", text.lines().count());
    insta::assert_snapshot!(text);
    // Asked for in full, every path is there.
    let full = difference.in_full().to_string();
    for change in &difference.files {
        assert!(full.contains(&change.latest().path), "{}", change.latest().path);
    }
    assert!(!full.contains("--all"));
}

#[test]
fn every_respect_in_which_a_file_can_change_has_its_name() {
    type Edit = fn(&mut FileEntry);
    let old = FileEntry { target: Some("a".into()), ..file("a", "a", 1) };
    let respects: [(Aspect, Edit); 9] = [
        (Aspect::Kind, |it| it.kind = "socket".into()),
        (Aspect::Content, |it| it.sha256 = Some("0".repeat(64))),
        (Aspect::Mode, |it| it.mode = "4755".into()),
        (Aspect::Owner, |it| it.gid = 1),
        (Aspect::Target, |it| it.target = None),
        (Aspect::Device, |it| it.device = Some("1:3".into())),
        (Aspect::Attributes, |it| {
            it.xattrs.insert("user.a".into(), "00".into());
        }),
        (Aspect::Origin, |it| it.input = Some("nomad".into())),
        (Aspect::Reason, |it| it.why = None),
    ];
    for (aspect, change) in respects {
        let mut new = old.clone();
        change(&mut new);
        let change = Change::Changed { old: old.clone(), new };
        assert_eq!(change.aspects(), [aspect]);
    }
}

/// The new manifest's lists, made of the old one's and the changes.
fn apply<T: Clone>(old: &[T], changes: &[Change<T>], name: fn(&T) -> &String) -> Vec<T> {
    let gone = |item: &T| {
        changes.iter().any(|change| change.before().is_some_and(|it| name(it) == name(item)))
    };
    let kept = old.iter().filter(|item| !gone(item)).cloned();
    kept.chain(changes.iter().filter_map(|change| change.after().cloned())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_difference_is_all_that_leads_from_one_to_the_other(
        old in any_manifest(), mut new in any_manifest(), keep: bool,
    ) {
        if keep {
            // Two that have something in common.
            new.files.truncate(2);
            new.files.extend(old.files.iter().filter(|it| it.package.is_none()).cloned());
            new.files.sort_by(|a, b| a.path.cmp(&b.path));
            new.files.dedup_by(|a, b| a.path == b.path);
        }
        let difference = manifests(&old, &new);
        let mut made = new.clone();
        made.files = apply(&old.files, &difference.files, |it| &it.path);
        made.packages = apply(&old.packages, &difference.packages, |it| &it.name);
        made.inputs = apply(&old.inputs, &difference.inputs, |it| &it.name);
        made.artifacts = apply(&old.artifacts, &difference.artifacts, |it| &it.path);
        prop_assert!(manifests(&made, &new).is_empty());
        prop_assert!(manifests(&old, &old).is_empty());
        prop_assert_eq!(difference.is_empty(), old == new);
        for text in [difference.to_string(), difference.in_full().to_string(), difference.summary()] {
            prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
    }
}
