//! Input that nobody meant: nothing panics, and nothing lands where it should not.

#[cfg(feature = "unpack")]
mod packages;

use kiln_debroot::release::Release;
use kiln_debroot::{Index, control, dependency};
use proptest::prelude::*;

/// Text that looks like fields often enough to get further than the first line.
fn fields() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        "(Package|Version|Architecture|Filename|Size|SHA256|Provides|Suite|Date|Valid-Until): ?.{0,20}",
        " [ -~]{0,20}",
        "[a-f0-9]{64} [0-9]{1,4} [a-z/.]{1,10}",
        "",
        ".{0,10}",
    ];
    proptest::collection::vec(line, 0..20).prop_map(|lines| lines.join("\n"))
}

proptest! {
    #[test]
    fn control_files(text in fields()) {
        for paragraph in control::paragraphs(&text, "control").flatten() {
            for field in paragraph.fields() {
                prop_assert!(text.contains(field.value) && field.line >= 1);
            }
        }
    }

    #[test]
    fn indexes(text in fields()) {
        let _ = Index::new("amd64").add("http://x", &text, "Packages");
    }

    #[test]
    fn releases(text in fields()) {
        let _ = Release::parse(&text, "Release");
    }

    #[test]
    fn relations(text in "[a-z0-9 (),|<>=:.~+-]{0,60}") {
        if let Ok(groups) = dependency::parse(&text) {
            // What is shown is read as the same.
            let shown: Vec<String> = groups
                .iter()
                .map(|group| {
                    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
                })
                .collect();
            let shown = shown.join(", ");
            prop_assert_eq!(dependency::parse(&shown).unwrap(), groups);
        }
    }
}

#[cfg(feature = "unpack")]
mod unpack {
    use crate::packages::{self, Entry, Package, directory, file, hardlink, symlink};
    use kiln_debroot::Root;
    use kiln_debroot::deb::{Deb, Limits};
    use kiln_debroot::root::Options;
    use proptest::prelude::*;

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let name = "(\\./)?(a|b|bin|lib|usr|\\.\\.|/)(/(a|b|bin|\\.\\.|))?(/(a|b))?";
        let entry = (0..4, name, name).prop_map(|(kind, path, target)| match kind {
            0 => directory(&path),
            1 => file(&path, &target),
            2 => symlink(&path, &target),
            _ => hardlink(&path, &target),
        });
        proptest::collection::vec(entry, 0..8)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn whatever_the_entries_are_nothing_lands_outside(entries in entries()) {
            let work = tempfile::tempdir().unwrap();
            let inner = work.path().join("inner");
            std::fs::create_dir(&inner).unwrap();
            let package = Package { entries, ..Package::new("any", "1") };
            let files = [package.write(&inner)];
            let root = Root::unpack(&files, &inner.join("root"), &Options::default());
            if let Ok(root) = root {
                prop_assert!(root.tree.check().is_empty());
                for (path, node) in &root.tree {
                    let found = std::fs::symlink_metadata(root.host_path(path)).unwrap();
                    prop_assert_eq!(found.is_dir(), node.is_directory());
                }
                let index = inner.join("index");
                root.save(&index).unwrap();
                prop_assert_eq!(Root::open(&index, &root.directory).unwrap().tree, root.tree);
            } else {
                prop_assert_eq!(std::fs::read_dir(&inner).unwrap().count(), 1);
            }
            prop_assert_eq!(std::fs::read_dir(work.path()).unwrap().count(), 1);
        }

        #[test]
        fn damaged_packages(at in any::<prop::sample::Index>(), new in any::<u8>(), cut in any::<bool>()) {
            let work = tempfile::tempdir().unwrap();
            let package = Package::new("any", "1")
                .with(directory("./usr/"))
                .with(file("./usr/a", "content"))
                .with(hardlink("./usr/b", "./usr/a"));
            let mut bytes = package.bytes_with("data.tar.zst", |data| {
                zstd::encode_all(&*data, 3).unwrap()
            });
            let at = at.index(bytes.len());
            if cut { bytes.truncate(at) } else { bytes[at] = new }
            let files = [packages::write(work.path(), "any", "1", &bytes)];
            let _ = Deb::open(&files[0].1, Limits::default());
            let _ = Root::unpack(&files, &work.path().join("root"), &Options::default());
        }

        #[test]
        fn noise(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let work = tempfile::tempdir().unwrap();
            let mut all = b"!<arch>\n".to_vec();
            all.extend_from_slice(&bytes);
            let (_, path) = packages::write(work.path(), "noise", "1", &all);
            let _ = Deb::open(&path, Limits::default());
        }
    }
}
