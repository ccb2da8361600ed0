//! Manifests to test with: one of realistic size, and any at all.

use std::collections::{BTreeMap, BTreeSet};

use kiln::digest;
use kiln::manifest::{Artifact, FileEntry, InputRecord, Manifest, PackageRecord};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

/// A digest of as many digits as SHA-256 or SHA-1 has.
pub(crate) fn hex(text: &str, digits: usize) -> String {
    digest::of_bytes(text.as_bytes())[..digits].into()
}

pub(crate) fn package(name: &str, version: &str) -> PackageRecord {
    PackageRecord {
        name: name.into(),
        version: version.into(),
        architecture: "amd64".into(),
        source: name.trim_end_matches(|c: char| c.is_ascii_digit()).into(),
        source_version: version.into(),
        sha256: hex(&format!("{name} {version}"), 64),
        why: "needed by nomad".into(),
        ..PackageRecord::default()
    }
}

pub(crate) fn file(path: &str, content: &str, size: u64) -> FileEntry {
    FileEntry {
        path: path.into(),
        kind: "regular file".into(),
        mode: "0644".into(),
        size: Some(size),
        sha256: Some(hex(content, 64)),
        sha1: Some(hex(content, 40)),
        why: Some("a file of the package".into()),
        ..FileEntry::default()
    }
}

pub(crate) fn link(path: &str, target: &str) -> FileEntry {
    FileEntry {
        path: path.into(),
        kind: "symbolic link".into(),
        mode: "0777".into(),
        target: Some(target.into()),
        ..FileEntry::default()
    }
}

pub(crate) fn artifact(path: &str, kind: &str, size: u64) -> Artifact {
    let value = serde_json::json!({
        "path": path, "kind": kind, "size": size, "sha256": hex(&format!("{path} {size}"), 64),
    });
    serde_json::from_value(value).expect("an artifact")
}

pub(crate) fn manifest(files: Vec<FileEntry>) -> Manifest {
    let mut manifest = Manifest::new("sample", files);
    manifest.kernel = Some("6.1.0-30-amd64".into());
    manifest.command_line = "console=ttyS0 quiet".into();
    manifest
}

/// Numbers that look arbitrary and are the same every time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// A system of 60 packages, three inputs and some 1,500 paths, with names that formats could
/// stumble over. Sizes span what real images have: from empty files to one of 90 MB.
pub(crate) fn realistic() -> Manifest {
    let mut numbers = Numbers(4);
    let mut packages = vec![
        package("libstdc++6", "12.2.0-14+deb12u1"),
        package("libc6", "2.36-9+deb12u10"),
        package("busybox-static", "1:1.35.0-4+b3"),
        package("g++-12", "12.2.0~rc1-14"),
        package("ca-certificates", "20230311+deb12u1"),
    ];
    let licences =
        ["GPL-2.0-or-later WITH Classpath-exception-2.0", "MIT OR Apache-2.0", "GPL-2+ and others"];
    for number in 0..55_usize {
        let mut package = package(&format!("lib-part{number:02}"), &format!("1.{number}-1"));
        package.licence = licences.get(number % 5).map(|&licence| licence.to_owned());
        package.depends = vec!["libc6".into(), "libstdc++6".into()];
        packages.push(package);
    }
    let mut files = Vec::new();
    for package in &packages {
        let owned = 2 + numbers.below(45);
        for number in 0..owned {
            let path = format!("usr/lib/{}/part {number} ä+~ü.so", package.name);
            let size = 1_u64 << numbers.below(21);
            let mut file = file(&path, &path, size + numbers.below(size));
            file.package = Some(package.name.clone());
            if number % 7 == 0 {
                file = FileEntry { size: Some(0), ..file };
            }
            files.push(file);
            if number % 5 == 0 {
                let mut link = link(&format!("usr/lib/{}/l{number}", package.name), &path);
                link.package = Some(package.name.clone());
                files.push(link);
            }
        }
    }
    for (name, size) in [("usr/local/bin/nomad", 91_234_567), ("init", 1_600_000)] {
        let mut program = file(name, name, size);
        program.mode = "0755".into();
        program.input = Some("nomad".into());
        files.push(program);
    }
    for number in 0..120 {
        let path = format!("usr/lib/modules/6.1.0/kernel/net/m{number}.ko");
        let mut module = file(&path, &path, 20_000 + numbers.below(400_000));
        module.input = Some("linux".into());
        files.push(module);
    }
    let config = file("etc/nomad/<init> & \"others\".json", "config", 420);
    files.push(FileEntry { uid: 7, gid: 8, why: None, ..config });
    files.push(FileEntry {
        path: "dev/console".into(),
        kind: "character device".into(),
        mode: "0600".into(),
        device: Some("5:1".into()),
        xattrs: BTreeMap::from([("security.x".into(), "00ff".into())]),
        ..FileEntry::default()
    });
    let mut made = manifest(files);
    made.version = Some("1.0~beta+2".into());
    made.packages = packages;
    made.inputs = [("nomad", Some("1.6.3"), "program"), ("linux", Some("6.1.0"), "kernel")]
        .into_iter()
        .chain([("image.toml", None, "definition")])
        .map(|(name, version, kind)| InputRecord {
            name: name.into(),
            version: version.map(str::to_owned),
            kind: kind.into(),
            sha256: hex(name, 64),
        })
        .collect();
    made.artifacts = vec![
        artifact("sample.raw", "raw", 151_000_000),
        artifact("sample.qcow2", "qcow2", 84_000_000),
    ];
    assert!(made.files.len() > 1000 && made.packages.len() == 60);
    made
}

prop_compose! {
    fn any_file(path: String, origins: Vec<String>, inputs: Vec<String>)(
        regular in any::<bool>(),
        mode in 0_u16..0o10000,
        (uid, gid) in (0_u32..3, any::<u32>()),
        size in prop_oneof![0_u64..100, any::<u64>()],
        content in 0_u8..20,
        why in any::<Option<String>>(),
        target in any::<Option<String>>(),
        device in proptest::option::of("[0-9]:[0-9]"),
        xattrs in proptest::collection::btree_map(any::<String>(), "[0-9a-f]{2}", 0..2),
        package in proptest::option::of(proptest::sample::select(origins)),
        input in proptest::option::of(proptest::sample::select(inputs)),
    ) -> FileEntry {
        let content = content.to_string();
        FileEntry {
            path: path.clone(),
            kind: if regular { "regular file".into() } else { target.clone().unwrap_or_default() },
            mode: format!("{mode:04o}"),
            uid,
            gid,
            size: regular.then_some(size),
            sha256: regular.then(|| hex(&content, 64)),
            sha1: regular.then(|| hex(&content, 40)),
            target,
            device,
            xattrs,
            why,
            package: package.filter(|name| !name.is_empty()),
            input: input.filter(|name| !name.is_empty()),
        }
    }
}

/// Any manifest that [`Manifest::check`] has nothing against.
pub(crate) fn any_manifest() -> impl Strategy<Value = Manifest> {
    let names = || btree_set("\\PC{1,8}|[a-c+~-]{1,3}|\\s.{1,2}", 1..6);
    let lists = (names(), names(), names(), btree_set(any::<String>(), 0..12));
    let texts =
        (any::<String>(), any::<Option<String>>(), any::<String>(), vec(any::<String>(), 6));
    (lists, texts)
        .prop_flat_map(|((packages, inputs, artifacts, paths), texts)| {
            let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<String>>();
            let (package_names, input_names) = (list(&packages), list(&inputs));
            let files: Vec<_> = paths
                .into_iter()
                .map(|path| any_file(path, package_names.clone(), input_names.clone()))
                .collect();
            (files, Just((package_names, input_names, list(&artifacts), texts)))
        })
        .prop_map(|(files, (packages, inputs, artifacts, (name, version, line, words)))| {
            let word = |at: usize| words[at % words.len()].clone();
            let mut made = Manifest::new(&name, files);
            made.kernel = version.clone();
            made.command_line = line;
            made.version = version;
            made.packages = (0..)
                .zip(&packages)
                .map(|(at, name)| PackageRecord {
                    name: name.clone(),
                    version: word(at),
                    architecture: word(at + 1),
                    source: word(at + 2),
                    source_version: word(at + 3),
                    sha256: hex(name, 64),
                    licence: (at % 2 == 0).then(|| word(at + 4)),
                    depends: packages.iter().take(at).cloned().collect(),
                    why: word(at + 5),
                })
                .collect();
            made.inputs = (0..)
                .zip(inputs)
                .map(|(at, name)| InputRecord {
                    version: (at % 2 == 0).then(|| word(at)),
                    kind: word(at + 1),
                    sha256: hex(&name, 64),
                    name,
                })
                .collect();
            made.artifacts = artifacts.iter().map(|name| artifact(name, "raw", 7)).collect();
            made
        })
}
