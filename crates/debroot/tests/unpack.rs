//! Packages into a root: what is taken, what is refused and by which name.
#![cfg(feature = "unpack")]

mod packages;

use kiln_debroot::root::{Filter, Options};
use kiln_debroot::{Error, Root};
use kiln_tree::{Kind, TreePath};
use packages::{Entry, Package, directory, entry, file, hardlink, symlink};

fn unpack(packages: &[Package], options: &Options) -> (tempfile::TempDir, Result<Root, Error>) {
    let work = tempfile::tempdir().expect("a directory");
    let files: Vec<_> = packages.iter().map(|package| package.write(work.path())).collect();
    let root = Root::unpack(&files, &work.path().join("root"), options);
    (work, root)
}

fn ok(packages: &[Package], options: &Options) -> (tempfile::TempDir, Root) {
    let (work, root) = unpack(packages, options);
    (work, root.expect("packages that unpack"))
}

/// The tree as text for people.
fn listing(root: &Root) -> String {
    let mut out = String::new();
    for (path, node) in &root.tree {
        let meta = &node.meta;
        let what = match &node.kind {
            Kind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
            Kind::Hardlink(target) => format!(" = {target}"),
            Kind::File(source) => format!(" {} bytes", source.len()),
            _ => "/".into(),
        };
        let owner = root.owner_of(format!("/{path}")).map_or("-", |package| &package.name);
        out.push_str(&format!(
            "{:04o} {}:{} {path}{what} [{owner}]\n",
            meta.mode, meta.uid, meta.gid
        ));
    }
    out
}

fn shell() -> Package {
    Package::new("shell", "1.0-1")
        .with(directory("./"))
        .with(directory("./bin/"))
        .with(Entry { mode: 0o4755, owner: (0, 42), ..file("./bin/sh", "#!") })
        .with(directory("./usr/"))
        .with(directory("./usr/bin/"))
        .with(hardlink("./usr/bin/ash", "./bin/sh"))
        .with(symlink("./usr/bin/link", "sh"))
        .with(directory("./etc/"))
        .with(file("./etc/shell.conf", "x=1\n"))
        .with_script("conffiles", "/etc/shell.conf\nremove-on-upgrade /etc/old.conf\n")
}

#[test]
fn merged_usr_links_and_owners() {
    let (_work, root) = ok(&[shell()], &Options::default());
    insta::assert_snapshot!(listing(&root), @r"
    0777 0:0 bin -> usr/bin [shell]
    0755 0:0 etc/ [shell]
    0644 0:0 etc/shell.conf 4 bytes [shell]
    0777 0:0 lib -> usr/lib [-]
    0777 0:0 lib64 -> usr/lib64 [-]
    0777 0:0 sbin -> usr/sbin [-]
    0755 0:0 usr/ [shell]
    0755 0:0 usr/bin/ [shell]
    4755 0:42 usr/bin/ash = usr/bin/sh [shell]
    0777 0:0 usr/bin/link -> sh [shell]
    4755 0:42 usr/bin/sh 2 bytes [shell]
    0755 0:0 usr/lib/ [-]
    0755 0:0 usr/lib64/ [-]
    0755 0:0 usr/sbin/ [-]
    ");
    assert_eq!(root.conffiles, [TreePath::new("etc/shell.conf").unwrap()]);
    for path in ["/bin/sh", "usr/bin/sh", "/usr/bin/link", "/bin/ash", "/bin/link"] {
        assert_eq!(root.owner_of(path).map(|package| package.name.as_str()), Some("shell"));
    }
    assert!(root.owner_of("/bin/none").is_none());
    // A real directory on disk, that can be walked as one.
    let through_alias = std::fs::read(root.directory.join("bin/link")).unwrap();
    assert_eq!(through_alias, b"#!");
    assert!(root.tree.check().is_empty());
}

#[test]
fn saved_and_opened_it_is_the_same() {
    let (work, root) = ok(&[shell()], &Options::default());
    let index = work.path().join("root.index");
    root.save(&index).unwrap();
    let opened = Root::open(&index, &root.directory).unwrap();
    assert_eq!(opened.tree, root.tree);
    assert_eq!(opened.packages, root.packages);
    assert_eq!(opened.conffiles, root.conffiles);
    assert_eq!(listing(&opened), listing(&root));
    let text = std::fs::read(&index).unwrap();
    for cut in [0, 10, text.len() / 2, text.len() - 1] {
        std::fs::write(&index, &text[..cut]).unwrap();
        let error = Root::open(&index, &root.directory).unwrap_err();
        assert!(matches!(error, Error::Syntax { .. }), "{error}");
    }
}

#[test]
fn what_is_hostile_is_refused_by_name_and_leaves_nothing() {
    use tar::EntryType::{Block, Char, Fifo};
    let outside = symlink("./usr/lib/out", "../../../../../../etc");
    let long = "a".repeat(300);
    let cases: Vec<(&str, Vec<Entry>)> = vec![
        ("/etc/passwd: absolute", vec![file("/etc/passwd", "x")]),
        ("'..'", vec![file("./../evil", "x")]),
        ("'..'", vec![file("./usr/../../evil", "x")]),
        ("through", vec![outside.clone(), file("./usr/lib/out/passwd", "x")]),
        ("through", vec![symlink("./usr/inner", "lib"), file("./usr/inner/file", "x")]),
        ("through", vec![file("./usr/file", ""), file("./usr/file/below", "x")]),
        ("absolute", vec![hardlink("./usr/shadow", "/etc/shadow")]),
        ("'..'", vec![hardlink("./usr/shadow", "../../etc/shadow")]),
        ("not unpacked before", vec![hardlink("./usr/shadow", "etc/shadow")]),
        ("no regular file", vec![outside, hardlink("./usr/hard", "usr/lib/out")]),
        ("devices", vec![entry("./dev/sda", Block)]),
        ("devices", vec![entry("./dev/null", Char)]),
        ("devices", vec![entry("./run/pipe", Fifo)]),
        ("255 bytes", vec![file(&format!("./{long}"), "x")]),
        ("only a link to usr/bin", vec![symlink("./bin", "/tmp")]),
        ("link to nothing", vec![symlink("./usr/empty", "")]),
        ("twice", vec![file("./usr/a", "1"), file("./usr/a", "2")]),
        ("root is no directory", vec![file("./", "x")]),
    ];
    for (expected, entries) in cases {
        let package = Package { entries, ..Package::new("evil", "1") };
        let (work, root) = unpack(&[package], &Options::default());
        let message = root.err().map_or_else(String::new, |error| error.to_string());
        assert!(message.contains(expected), "{expected:?} is not in {message:?}");
        let mut left: Vec<_> = std::fs::read_dir(work.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        left.sort();
        assert_eq!(left, ["evil.deb"]);
    }
}

#[test]
fn names_with_a_nul_are_refused() {
    let mut path = b"./usr/".to_vec();
    path.extend_from_slice(&[b'a'; 120]);
    path.extend_from_slice(b"\0b");
    let package = Package::new("nul", "1").with(Entry { path, ..file("", "x") });
    let (_work, root) = unpack(&[package], &Options::default());
    let message = root.unwrap_err().to_string();
    assert!(message.contains("NUL"), "{message}");
}

#[test]
fn sizes_that_lie_and_bombs_are_refused() {
    let lie =
        Package::new("lie", "1").with(Entry { size: Some(1 << 40), ..file("./usr/big", "small") });
    let (_work, root) = unpack(&[lie], &Options::default());
    assert!(matches!(root.unwrap_err(), Error::Deb { .. }));

    let bomb = Package::new("bomb", "1").with(file("./usr/zeros", &"\0".repeat(1 << 20)));
    let work = tempfile::tempdir().unwrap();
    let bytes = bomb.bytes_with("data.tar.zst", |data| zstd::encode_all(&*data, 3).unwrap());
    assert!(bytes.len() < 20_000);
    let files = [packages::write(work.path(), "bomb", "1", &bytes)];
    let mut options = Options::default();
    options.limits.data = 1 << 19;
    let error = Root::unpack(&files, &work.path().join("root"), &options).unwrap_err();
    assert!(error.to_string().contains("more bytes than"), "{error}");
    options.limits.data = 1 << 22;
    Root::unpack(&files, &work.path().join("root"), &options).unwrap();
}

#[test]
fn a_changed_byte_is_named() {
    let work = tempfile::tempdir().unwrap();
    let files = [shell().write(work.path())];
    let mut bytes = std::fs::read(&files[0].1).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&files[0].1, bytes).unwrap();
    let error = Root::unpack(&files, &work.path().join("root"), &Options::default()).unwrap_err();
    assert!(matches!(&error, Error::Digest { package, .. } if package == "shell 1.0-1"), "{error}");
    assert!(error.to_string().contains("shell.deb"));
    assert!(!work.path().join("root").exists());
}

#[test]
fn two_packages_with_one_path() {
    let one = || Package::new("one", "1").with(file("./usr/share/x", "1"));
    let other = || Package::new("other", "2").with(file("./usr/share/x", "2"));
    let (_work, root) = unpack(&[one(), other()], &Options::default());
    insta::assert_snapshot!(root.unwrap_err().to_string(), @"usr/share/x: one 1 and other 2 both have it, with different content, and neither replaces the other");
    // The same file may be in both, and belongs to the first.
    let same = Package::new("other", "2").with(file("./usr/share/x", "1"));
    let (_work, root) = ok(&[one(), same], &Options::default());
    assert_eq!(root.owner_of("/usr/share/x").unwrap().name, "one");
    // Whoever replaces the other wins, in either order.
    for packages in [
        [one(), other().with_control("Replaces: one (<< 2)")],
        [other().with_control("Replaces: one"), one()],
    ] {
        let (_work, root) = ok(&packages, &Options::default());
        assert_eq!(root.owner_of("/usr/share/x").unwrap().name, "other");
        assert_eq!(std::fs::read(root.directory.join("usr/share/x")).unwrap(), b"2");
    }
    let old = other().with_control("Replaces: one (<< 1)");
    assert!(unpack(&[one(), old], &Options::default()).1.is_err());
}

#[test]
fn the_filter_leaves_out() {
    let package = Package::new("doc", "1")
        .with(directory("./usr/share/doc/doc/"))
        .with(file("./usr/share/doc/doc/copyright", "c"))
        .with(file("./usr/share/doc/doc/README", "r"))
        .with(directory("./usr/share/man/man1/"))
        .with(file("./usr/share/man/man1/doc.1.gz", "m"));
    let mut options = Options::default();
    options.filter = Filter::without_documentation();
    let (_work, root) = ok(&[package], &options);
    let paths: Vec<String> = root
        .tree
        .iter()
        .map(|(path, _)| path.to_string())
        .filter(|path| path.starts_with("usr/share"))
        .collect();
    let expected = ["usr/share", "usr/share/doc", "usr/share/doc/doc"];
    assert_eq!(paths[..3], expected);
    assert_eq!(paths[3..], ["usr/share/doc/doc/copyright"]);
    assert_eq!(root.owner_of("/usr/share/doc/doc").unwrap().name, "doc");
}

#[test]
fn an_existing_directory_is_not_touched() {
    let work = tempfile::tempdir().unwrap();
    let files = [shell().write(work.path())];
    let directory = work.path().join("root");
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("mine"), "").unwrap();
    assert!(Root::unpack(&files, &directory, &Options::default()).is_err());
    assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 1);
}

#[test]
fn alternatives_are_read_from_scripts() {
    let script = |name: &str, priority: i32| {
        format!(
            "#!/bin/sh\nset -e\nif [ \"$1\" = configure ]; then\n  update-alternatives --install \
             /usr/bin/editor editor \\\n    /usr/bin/{name} {priority} --slave \
             /usr/share/man/man1/editor.1.gz editor.1.gz /usr/share/man/man1/{name}.1.gz\nfi\n"
        )
    };
    let package = |name: &str, priority| {
        Package::new(name, "1")
            .with(file(&format!("./usr/bin/{name}"), name))
            .with(file(&format!("./usr/share/man/man1/{name}.1.gz"), name))
            .with_script("postinst", &script(name, priority))
    };
    let dynamic = Package::new("odd", "1").with(file("./usr/bin/odd", "")).with_script(
        "postinst",
        "for x in a b; do\nupdate-alternatives --install /usr/bin/$x $x /usr/bin/odd 1\ndone\n\
         adduser --system --group odd\n",
    );
    let all = [package("ed", 10), package("nano", 40), package("vi", -5), dynamic];
    let (_work, root) = ok(&all, &Options::default());
    let content = |path: &str| {
        let (path, _) = root.tree.resolve(path).unwrap();
        String::from_utf8(std::fs::read(root.host_path(path)).unwrap()).unwrap()
    };
    assert_eq!(content("/usr/bin/editor"), "nano");
    assert_eq!(content("/usr/share/man/man1/editor.1.gz"), "nano");
    assert_eq!(root.owner_of("/usr/bin/editor").unwrap().name, "nano");
    let notes: Vec<String> = root.notes.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(notes.join("\n"), @r"
    odd: postinst:2: alternative not understood: --install … … /usr/bin/odd 1
    odd: postinst:4: not run: adduser --system --group odd
    ");

    let mut options = Options::default();
    options.choices.insert("editor".into(), "/usr/bin/vi".into());
    let (_work, root) = ok(&all, &options);
    assert_eq!(root.alternatives[0].path, "/usr/bin/vi");
    options.choices.insert("editor".into(), "/usr/bin/none".into());
    let (_work, root) = unpack(&all, &options);
    insta::assert_snapshot!(root.unwrap_err().to_string(), @"alternative editor: /usr/bin/none was chosen, and there is only /usr/bin/nano and /usr/bin/ed and /usr/bin/vi");
}
