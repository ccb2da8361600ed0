//! Archives of people who mean harm: nothing panics, and nothing leaves the directory.

use std::path::Path;

use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::{Devices, Options};
use kiln_oci::{Compression, Layer, Layout, Limits, docker};
use kiln_tree::{Kind, Tree};
use proptest::prelude::*;

use crate::trees::{Archive, canonical, in_memory, layer_of, tree};

/// A directory beside which there is something to reach for.
fn jail() -> tempfile::TempDir {
    let work = tempfile::tempdir().unwrap();
    std::fs::create_dir(work.path().join("outside")).unwrap();
    std::fs::write(work.path().join("outside/secret"), "secret").unwrap();
    work
}

/// Nothing beside the directory is other than it was, and nothing is half done.
fn intact(work: &Path, unpacked: bool) {
    let mut names: Vec<String> = std::fs::read_dir(work)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let expected: &[&str] = if unpacked { &["outside", "root"] } else { &["outside"] };
    assert_eq!(names, expected);
    assert_eq!(std::fs::read(work.join("outside/secret")).unwrap(), b"secret");
    assert_eq!(std::fs::read_dir(work.join("outside")).unwrap().count(), 1);
}

fn part() -> impl Strategy<Value = String> {
    const PARTS: &[&str] = &[
        "a",
        "b",
        "c",
        "..",
        ".",
        "",
        "outside",
        "secret",
        ".wh.a",
        ".wh.b",
        ".wh..wh..opq",
        ".wh..",
        ".wh...",
        "root",
    ];
    prop::sample::select(PARTS).prop_map(str::to_owned)
}

fn name() -> impl Strategy<Value = String> {
    proptest::collection::vec(part(), 1..5).prop_map(|parts| parts.join("/"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_entry_leads_out_of_the_directory(
        layers in proptest::collection::vec(
            proptest::collection::vec((0..7_u8, name(), name(), any::<bool>()), 1..12), 1..3),
        keep in any::<bool>(),
    ) {
        let work = jail();
        let outside = work.path().join("outside");
        // Entries that are refused end a layer, so those that are go one by one into what is applied.
        let mut options = Unpack::default();
        options.owners = rustix::process::geteuid().is_root();
        options.layers.devices = if keep { Devices::Keep } else { Devices::Skip };
        let mut sound: Vec<Layer> = Vec::new();
        for entries in layers {
            let mut accepted: Vec<(u8, String, String)> = Vec::new();
            let pack = |entries: &[(u8, String, String)]| {
                entries.iter().fold(Archive::default(), |archive, (kind, name, link)| match kind {
                    0 => archive.directory(name),
                    1 | 2 => archive.file(name, "x"),
                    3 | 4 => archive.symlink(name, link),
                    5 => archive.hardlink(name, link),
                    _ => archive.raw(tar::EntryType::Char, name, "", b""),
                }).layer()
            };
            for (kind, name, link, absolute) in entries {
                let link = if absolute && kind != 5 { format!("{}/{link}", outside.display()) } else { link };
                accepted.push((kind, name, link.chars().take(99).collect()));
                let mut trial = sound.clone();
                trial.push(pack(&accepted));
                if Layer::apply(Tree::new(), &trial, &options.layers, None).is_err() {
                    accepted.pop();
                }
            }
            sound.push(pack(&accepted));
        }
        let tree = Layer::apply(Tree::new(), &sound, &options.layers, None).unwrap();
        let unpacked = host::unpack_layers(&sound, &work.path().join("root"), &options).unwrap();
        intact(work.path(), true);
        prop_assert_eq!(in_memory(&unpacked), tree.clone());
        let mut policy = kiln_tree::host::Policy::default();
        policy.hardlinks = true;
        let mut found = Tree::new();
        kiln_tree::host::import(&mut found, &work.path().join("root"), "", &policy).unwrap();
        let kinds = |tree: &Tree| -> Vec<(String, Kind)> {
            in_memory(&canonical(tree)).iter().filter(|(_, node)| {
                options.owners || !matches!(node.kind, Kind::CharDevice { .. })
            }).map(|(path, node)| (path.to_string(), node.kind.clone())).collect()
        };
        prop_assert_eq!(kinds(&found), kinds(&tree));
    }

    #[test]
    fn mutated_layers_are_errors_or_trees(
        tree in tree(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(), compression in 0..3_usize, resealed in any::<bool>(),
    ) {
        let compression = [Compression::None, Compression::Gzip, Compression::Zstd][compression];
        let layer = Layer::pack(&tree, compression).unwrap();
        let mut bytes = layer.source.read().unwrap().to_vec();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
            let block = at / 512 * 512;
            // Headers whose checksum holds get further.
            if resealed && compression == Compression::None && block + 512 <= bytes.len() {
                let header = &mut bytes[block..block + 512];
                if header[257..262] == *b"ustar" {
                    header[148..156].fill(b' ');
                    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
                    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
                }
            }
        }
        if cut.index(4) == 0 {
            bytes.truncate(cut.index(bytes.len()));
        }
        let mut options = Options::default();
        options.limits.bytes = 1 << 20;
        options.limits.memory = 1 << 20;
        let changed = layer_of(bytes);
        if let Ok(tree) = Layer::apply(Tree::new(), &[changed], &options, None) {
            prop_assert!(tree.check().is_empty(), "{:?}", tree.check());
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_an_archive(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("archive");
        std::fs::write(&path, &bytes).unwrap();
        prop_assert!(Layout::open(&path, Limits::default()).is_err());
        prop_assert!(docker::Archive::open(&path, Limits::default()).is_err());
        let _ = Layer::apply(Tree::new(), &[layer_of(bytes)], &Options::default(), None);
    }
}

#[test]
fn nothing_is_left_of_what_could_not_be_unpacked() {
    let work = jail();
    let good = Archive::default().file("a/b", "x").layer();
    let bad = Archive::default()
        .symlink("a/link", "../../outside")
        .file("a/link/secret", "")
        .file("../x", "")
        .layer();
    let at = work.path().join("root");
    let error = host::unpack_layers(&[good.clone(), bad], &at, &Unpack::default()).unwrap_err();
    assert!(error.to_string().contains("\"../x\" at byte 1024"), "{error}");
    intact(work.path(), false);
    host::unpack_layers(std::slice::from_ref(&good), &at, &Unpack::default()).unwrap();
    let error = host::unpack_layers(&[good], &at, &Unpack::default()).unwrap_err().to_string();
    assert!(error.starts_with("unpack into ") && error.contains("not empty"), "{error}");
    intact(work.path(), true);
}

#[test]
fn a_long_name_does_not_take_memory() {
    // An archive that announces a name of 8 GiB, and would go on with zeros.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(8 << 30);
    header.set_cksum();
    let layer = layer_of(header.as_bytes().to_vec());
    let error = Layer::apply(Tree::new(), &[layer], &Options::default(), None).unwrap_err();
    assert!(error.to_string().contains("extension headers are longer than"), "{error}");
}

#[test]
fn so_it_is_for_somebody_who_is_not_root() {
    if !rustix::process::geteuid().is_root() {
        // Then the tests themselves are run by somebody else.
        return;
    }
    let work = tempfile::tempdir().unwrap();
    let own = work.path().join("own");
    std::fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).unwrap();
    std::fs::set_permissions(work.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .unwrap();
    // Where this program is, others may not come.
    let program = work.path().join("tests");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&program)
        .args(["--exact", "properties::a_directory_is_the_tree_that_it_comes_with"])
        .args(["hostile::no_entry_leads_out_of_the_directory"])
        .env("TMPDIR", &own)
        .current_dir(&own)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && said.contains("2 passed"), "{said}");
}
