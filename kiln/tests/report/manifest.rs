//! What is written can be read, and what cannot be right is refused with its place.

use kiln::manifest::{Artifact, FileEntry, InputRecord, Manifest, PackageRecord};
use kiln_tree::{Metadata, Node, Tree, TreePath};

fn manifest() -> Manifest {
    let mut tree = Tree::new();
    tree.insert("etc/über +~ name", Node::file("abc").because("a test")).unwrap();
    tree.insert("etc/link", Node::hardlink(TreePath::new("etc/über +~ name").unwrap())).unwrap();
    let meta = Metadata::new(0o640).owned_by(1, 2);
    tree.insert("usr/lib/libc.so.6", Node::file("libc").with(meta)).unwrap();
    tree.insert("dev/console", Node::char_device(5, 1)).unwrap();
    let records = kiln_initramfs::manifest::files(&tree).unwrap();
    let mut manifest = Manifest::new("sample", records);
    manifest.kernel = Some("6.1.0".into());
    manifest.command_line = "quiet".into();
    manifest.packages = vec![
        package("libc6", &["libgcc-s1"]),
        package("libgcc-s1", &[]),
        PackageRecord { licence: Some("MIT".into()), ..package("busybox", &[]) },
    ];
    manifest.inputs = vec![InputRecord {
        name: "image.toml".into(),
        kind: "definition".into(),
        sha256: kiln::digest::of_bytes(b"toml"),
        ..InputRecord::default()
    }];
    for file in &mut manifest.files {
        if file.path.starts_with("usr/lib") {
            file.package = Some("libc6".into());
        } else {
            file.input = Some("image.toml".into());
        }
    }
    manifest
}

fn package(name: &str, depends: &[&str]) -> PackageRecord {
    PackageRecord {
        name: name.into(),
        version: "1:2.36-9+deb12u10~x".into(),
        architecture: "amd64".into(),
        source: name.into(),
        source_version: "2.36-9".into(),
        sha256: kiln::digest::of_bytes(name.as_bytes()),
        licence: None,
        depends: depends.iter().map(|&name| name.into()).collect(),
        why: "asked for".into(),
    }
}

#[test]
fn what_is_written_is_read_from_the_file_and_from_its_directory() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("sample.raw"), "disk").unwrap();
    let mut written = manifest();
    written.artifacts = vec![Artifact::of(directory.path(), "sample.raw", "raw").unwrap()];
    written.version = Some("7".into());
    written.write(directory.path()).unwrap();
    let file = directory.path().join("manifest.json");
    let read = Manifest::read(directory.path()).unwrap();
    assert_eq!(read, Manifest::read(&file).unwrap());
    let names: Vec<&str> = read.packages.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, ["busybox", "libc6", "libgcc-s1"]);
    assert_eq!(read.to_json().unwrap(), std::fs::read_to_string(&file).unwrap());

    // The order in which things were found does not show.
    written.packages.reverse();
    written.files.reverse();
    assert_eq!(written.to_json().unwrap(), read.to_json().unwrap());
}

#[test]
fn nothing_of_the_host_is_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("host-file");
    std::fs::write(&path, "content").unwrap();
    let mut tree = Tree::new();
    let source = kiln_tree::Source::File { path, len: 7 };
    tree.insert("etc/file", Node::file(source)).unwrap();
    let records = kiln_initramfs::manifest::files(&tree).unwrap();
    assert!(records[0].source.is_some());
    let text = Manifest::new("sample", records).to_json().unwrap();
    assert!(!text.contains("host-file") && !text.contains("source"), "{text}");
}

#[test]
fn hard_links_take_no_room() {
    assert_eq!(manifest().content_size(), 7);
}

/// The sample's text with one piece replaced, and what is said about it.
fn refused(old: &str, new: &str) -> String {
    let text = manifest().to_json().unwrap();
    assert!(text.contains(old), "{old} is not in the sample");
    let changed = text.replacen(old, new, 1);
    Manifest::from_json(changed.as_bytes(), "there/manifest.json").unwrap_err().to_string()
}

#[test]
fn what_cannot_be_right_is_refused() {
    let cases = [
        refused("\"format\": 1", "\"format\": 2"),
        refused("  \"format\": 1,\n", ""),
        refused("\"kernel\": \"6.1.0\"", "\"kernel\": 6"),
        refused("\"command_line\"", "\"comand_line\""),
        refused("\"mode\": \"0640\"", "\"mode\": \"rw-r-----\""),
        refused("\"package\": \"libc6\"", "\"package\": \"libc7\""),
        refused("\"name\": \"busybox\"", "\"name\": \"libc6\""),
        refused("\"libgcc-s1\"\n", "\"libgcc-s2\"\n"),
        refused("\"path\": \"etc/link\"", "\"path\": \"dev/console\""),
        refused("\"sha1\": \"a", "\"sha1\": \"A"),
        refused("\"size\": 4", "\"size\": -4"),
        refused("\"format\": 1,", "\"format\": 1"),
    ];
    insta::assert_snapshot!(cases.join("\n"));
}

#[test]
fn what_is_no_manifest_is_told_from_one() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("disk.raw"), [0xeb, 0x63, 0, 0]).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("other.json"), "[1, 2]").unwrap();
    let errors: Vec<String> = ["", "disk.raw", "empty", "other.json", "absent"]
        .iter()
        .map(|name| Manifest::read(&path(name)).unwrap_err().to_string())
        .map(|text| text.replace(&directory.path().display().to_string(), "OUT"))
        .collect();
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn many_problems_are_counted() {
    let mut many = manifest();
    for number in 0..100 {
        many.files.push(FileEntry {
            path: format!("f/{number}"),
            kind: "regular file".into(),
            mode: "0644".into(),
            ..FileEntry::default()
        });
    }
    let text = many.to_json().unwrap_err().to_string();
    assert!(text.contains("f/0: a regular file needs") && text.contains("and 90 more"), "{text}");
}

/// What `kiln_initramfs` records is what stands here: a field added there is not forgotten here.
#[test]
fn an_entry_has_every_field_of_a_record() {
    let mut tree = Tree::new();
    let mut meta = Metadata::new(0o4755).owned_by(3, 4);
    meta.xattrs.insert(b"security.capability".to_vec(), vec![1, 2]);
    tree.insert("bin/ping", Node::file("x").with(meta).because("a reason")).unwrap();
    tree.insert("bin/link", Node::symlink("ping")).unwrap();
    tree.insert("dev/null", Node::char_device(1, 3)).unwrap();
    for record in kiln_initramfs::manifest::files(&tree).unwrap() {
        let before = serde_json::to_value(&record).unwrap();
        let after = serde_json::to_value(FileEntry::from(record)).unwrap();
        assert_eq!(before, after);
    }
}
