//! What layers do to what is below them (image specification, layer.md).

use kiln_oci::layer::{Devices, Options, Spool};
use kiln_oci::{Compression, Layer, Limits};
use kiln_tree::{Kind, Node, Tree};

use crate::trees::{Archive, listed, path};

fn applied(layers: &[Layer]) -> Result<Vec<String>, String> {
    Layer::apply(Tree::new(), layers, &Options::default(), None)
        .map(|tree| listed(&tree))
        .map_err(|error| error.to_string())
}

fn lower() -> Layer {
    Archive::default()
        .directory("etc/")
        .file("etc/passwd", "root")
        .file("etc/group", "root")
        .directory("etc/apt/")
        .file("etc/apt/list", "deb")
        .symlink("lib", "usr/lib")
        .directory("usr/lib/")
        .file("usr/lib/libc", "elf")
        .hardlink("usr/lib/libc.so.6", "usr/lib/libc")
        .layer()
}

#[test]
fn whiteouts_take_away_what_is_below_and_nothing_of_their_own_layer() {
    // layer.md, "Whiteouts": the order in a layer does not matter.
    let upper = [
        Archive::default()
            .file("etc/.wh.passwd", "")
            .file("etc/apt/new", "x")
            .file("etc/apt/.wh..wh..opq", ""),
        Archive::default()
            .file("etc/apt/.wh..wh..opq", "")
            .file("etc/apt/new", "x")
            .file("etc/.wh.passwd", ""),
        Archive::default()
            .file("etc/passwd", "new")
            .file("etc/.wh.passwd", "")
            .file("etc/.wh.apt", "")
            .file("etc/apt/new", "x"),
    ];
    let [first, second, third] = upper.map(|upper| applied(&[lower(), upper.layer()]).unwrap());
    let rest = [
        "lib -> usr/lib",
        "usr/",
        "usr/lib/",
        "usr/lib/libc = elf",
        "usr/lib/libc.so.6 == usr/lib/libc",
    ];
    let expected = ["etc/", "etc/apt/", "etc/apt/new = x", "etc/group = root"];
    assert_eq!(first, [&expected[..], &rest].concat());
    assert_eq!(second, first);
    let expected = ["etc/", "etc/apt/", "etc/apt/new = x", "etc/group = root", "etc/passwd = new"];
    assert_eq!(third, [&expected[..], &rest].concat());
}

#[test]
fn whiteouts_of_what_is_not_there_do_nothing() {
    let upper = Archive::default()
        .file(".wh.none", "")
        .file("no/such/.wh.x", "")
        .file("no/.wh..wh..opq", "")
        .file(".wh..wh.plnk/1.2", "bookkeeping of AUFS");
    assert_eq!(applied(&[lower(), upper.layer()]), applied(&[lower()]));
}

#[test]
fn a_kind_gives_way_to_another() {
    let upper = Archive::default()
        .directory("etc/passwd/")
        .file("etc/passwd/x", "1")
        .file("etc/apt", "now a file")
        .directory("lib/")
        .symlink("etc/group", "passwd");
    let found = applied(&[lower(), upper.layer()]).unwrap();
    let expected = [
        "etc/",
        "etc/apt = now a file",
        "etc/group -> passwd",
        "etc/passwd/",
        "etc/passwd/x = 1",
        "lib/",
    ];
    assert_eq!(found[..6], expected);
}

#[test]
fn links_on_the_way_are_followed_inside_the_root() {
    let upper = Archive::default()
        .file("lib/new", "by a link")
        .symlink("up", "../../..")
        .file("up/top", "in the root")
        .symlink("run", "/var/run")
        .file("run/pid", "1")
        .symlink("lib/own", "replaced")
        .file("lib/own", "not followed");
    let found = applied(&[lower(), upper.layer()]).unwrap();
    for line in [
        "usr/lib/new = by a link",
        "top = in the root",
        "var/run/pid = 1",
        "usr/lib/own = not followed",
    ] {
        assert!(found.iter().any(|found| found == line), "{line}: {found:?}");
    }
}

#[test]
fn a_file_with_several_names_lives_until_the_last_is_gone() {
    let without = |names: &[&str]| {
        let upper = names
            .iter()
            .fold(Archive::default(), |layer, name| layer.file(&format!("usr/lib/.wh.{name}"), ""));
        let found = applied(&[lower(), upper.layer()]).unwrap();
        found.into_iter().filter(|line| line.contains("libc")).collect::<Vec<_>>()
    };
    assert_eq!(without(&["libc"]), ["usr/lib/libc.so.6 = elf"]);
    assert_eq!(without(&["libc.so.6"]), ["usr/lib/libc = elf"]);
    assert!(without(&["libc", "libc.so.6"]).is_empty());
    // A link to what a layer below has, and a name that gets a content of its own.
    let upper = Archive::default().hardlink("a", "/lib/libc").file("usr/lib/libc", "other");
    let found = applied(&[lower(), upper.layer()]).unwrap();
    assert_eq!(found[0], "a = elf");
    assert!(
        found.contains(&"usr/lib/libc.so.6 == a".into())
            && found.contains(&"usr/lib/libc = other".into())
    );
}

#[test]
fn what_nobody_should_do_is_refused_with_layer_entry_and_offset() {
    let many = (0..300).map(|_| "d/").collect::<String>();
    let cases: Vec<(Archive, &str)> = vec![
        (Archive::default().file("../x", ""), "\"../x\" at byte 0: refused: a component is '..'"),
        (
            Archive::default().directory("a/").file("a/../../x", ""),
            "at byte 512: refused: a component is '..'",
        ),
        (Archive::default().file("/etc/passwd", ""), "absolute names are refused"),
        (
            Archive::default().file("a", "").file("a/b", ""),
            "a, which is on its way, is a regular file",
        ),
        (Archive::default().file(".wh.", ""), "a whiteout of nothing that has a name"),
        (Archive::default().file("a/.wh..", ""), "a whiteout of nothing that has a name"),
        (Archive::default().file("a/.wh...", ""), "a whiteout of nothing that has a name"),
        (Archive::default().file(".wh.a/b", ""), "a directory that has the name of a whiteout"),
        (
            Archive::default().hardlink("a", "../../etc/shadow"),
            "hard link to \"../../etc/shadow\": refused",
        ),
        (
            Archive::default().hardlink("a", "etc/shadow"),
            "a hard link to etc/shadow, which is not there",
        ),
        (Archive::default().file("a", "").hardlink("a", "a"), "a hard link to itself"),
        (
            Archive::default().file("a/b", "").hardlink("a", "a/b"),
            "in whose directory's place it is",
        ),
        (
            Archive::default().directory("a/").hardlink("b", "a"),
            "a hard link to a, which is a directory",
        ),
        (
            Archive::default().symlink("a", "b").symlink("b", "a").file("a/x", ""),
            "more than 40 links",
        ),
        (Archive::default().symlink("a", ""), "its target is empty"),
        (Archive::default().raw(tar::EntryType::Char, "null", "", b""), "device nodes are refused"),
        (Archive::default().raw(tar::EntryType::GNUSparse, "s", "", b""), "sparse files"),
        (
            Archive::default().raw(tar::EntryType::new(b'?'), "s", "", b""),
            "entries of type '?' are not known",
        ),
        (Archive::default().file(".", ""), "the root can only be a directory"),
        (
            Archive::default()
                .raw(tar::EntryType::GNULongName, "././@LongLink", "", many.as_bytes())
                .file("x", ""),
            "more than 256 directories deep",
        ),
    ];
    for (archive, expected) in cases {
        let layer = archive.layer();
        let error = applied(std::slice::from_ref(&layer)).unwrap_err();
        assert!(error.contains(expected), "{error}\ndoes not say {expected:?}");
        assert!(error.starts_with(layer.descriptor.digest().as_ref()), "{error}");
    }
}

#[test]
fn limits_hold() {
    let apply = |layers: &[Layer], change: &dyn Fn(&mut Limits)| {
        let mut options = Options::default();
        change(&mut options.limits);
        Layer::apply(Tree::new(), layers, &options, None).map_err(|error| error.to_string())
    };
    let entries = apply(&[lower(), lower()], &|limits| limits.entries = 15).unwrap_err();
    assert!(entries.contains("more than 15 entries"), "{entries}");
    let bytes = apply(&[lower()], &|limits| limits.bytes = 10).unwrap_err();
    assert!(
        bytes.contains("\"etc/apt/list\"") && bytes.contains("more than 10 bytes of files"),
        "{bytes}"
    );
    let names = apply(&[lower()], &|limits| limits.names = 30).unwrap_err();
    assert!(names.contains("longer than 30 bytes"), "{names}");
    let memory = apply(&[lower()], &|limits| limits.memory = 9).unwrap_err();
    assert!(memory.contains("no spool was given"), "{memory}");
    let long = vec![b'n'; 3000];
    let long = Archive::default().raw(tar::EntryType::GNULongName, "long", "", &long).file("x", "");
    let extension = apply(&[long.layer()], &|limits| limits.extension = 2000).unwrap_err();
    assert!(extension.contains("extension headers are longer than 2000 bytes"), "{extension}");
}

#[test]
fn bombs_are_refused_before_they_are_unpacked() {
    let mut tree = Tree::new();
    tree.insert("zeros", Node::file(vec![0; 80 << 20])).unwrap();
    for compression in [Compression::Gzip, Compression::Zstd] {
        let layer = Layer::pack(&tree, compression).unwrap();
        let mut options = Options::default();
        options.limits.ratio = 100;
        let error = Layer::apply(Tree::new(), std::slice::from_ref(&layer), &options, None)
            .unwrap_err()
            .to_string();
        assert!(error.contains("more than 100 times as many are refused"), "{error}");
        options.limits.ratio = u64::MAX;
        assert!(Layer::apply(Tree::new(), &[layer], &options, None).is_ok());
    }
}

#[test]
fn devices_are_kept_or_left_out_where_that_is_asked_for() {
    let layer =
        || Archive::default().raw(tar::EntryType::Block, "disk", "", b"").file("rest", "").layer();
    let mut options = Options::default();
    for (devices, count) in [(Devices::Skip, 1), (Devices::Keep, 2)] {
        options.devices = devices;
        let tree = Layer::apply(Tree::new(), &[layer()], &options, None).unwrap();
        assert_eq!(tree.len(), count);
    }
}

#[test]
fn a_layer_that_is_not_what_its_digests_say_is_named() {
    let good = lower();
    let mut other = good.clone();
    other.diff_id = Archive::default().layer().diff_id;
    let error = applied(&[other]).unwrap_err();
    assert!(error.starts_with(Archive::default().layer().diff_id.as_ref()), "{error}");
    assert!(error.contains(good.diff_id.as_ref()), "{error}");
    // A byte of a content, which nothing but the digest protects.
    let mut bytes = good.source.read().unwrap().to_vec();
    let at = bytes.windows(4).position(|part| part == b"root").unwrap();
    bytes[at] ^= 1;
    let mut changed = good.clone();
    changed.source = bytes.clone().into();
    let error = applied(&[changed]).unwrap_err();
    assert!(error.starts_with(good.descriptor.digest().as_ref()), "{error}");
    let mut short = good.clone();
    short.source = bytes[..bytes.len() - 512].into();
    let error = applied(&[short]).unwrap_err();
    assert!(error.contains("it ends after"), "{error}");
}

#[test]
fn contents_stay_out_of_memory() {
    let directory = tempfile::tempdir().unwrap();
    let mut tree = Tree::new();
    tree.insert("large", Node::file(vec![1; 100_000])).unwrap();
    tree.insert("small", Node::file("small")).unwrap();
    tree.insert("later", Node::file(vec![2; 50_000])).unwrap();
    let mut options = Options::default();
    options.limits.memory = 0;
    // Of a compressed layer they go to the spool, of another they stay where they are.
    let packed = Layer::pack(&tree, Compression::Zstd).unwrap();
    let mut spool = Spool::create(directory.path().join("spool")).unwrap();
    let spooled = Layer::apply(Tree::new(), &[packed], &options, Some(&mut spool)).unwrap();
    assert_eq!(std::fs::metadata(spool.path()).unwrap().len(), 150_000);
    let plain =
        Layer::pack_file(&tree, Compression::None, &directory.path().join("layer")).unwrap();
    let referred = Layer::apply(Tree::new(), &[plain], &options, None).unwrap();
    for found in [spooled, referred] {
        let Some(Kind::File(source)) = found.get(&path("large")).map(|node| &node.kind) else {
            panic!("no file");
        };
        assert!(matches!(source, kiln_tree::Source::Range { .. }), "{source:?}");
        assert_eq!(crate::trees::in_memory(&found), tree);
    }
}
