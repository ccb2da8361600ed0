//! Images put one upon the other.

use std::cell::RefCell;
use std::collections::BTreeMap;

use kiln_oci::appc::{self, Aci, Dependency, ImageManifest, Rendering};
use kiln_oci::host::Unpack;
use kiln_oci::layer::Options;
use kiln_oci::{Compression, Limits};
use kiln_tree::{Metadata, Node, Tree, TreePath};

use super::archives::{alone, opened};
use super::manifests::{ID, identifier};
use crate::trees::{Archive, in_memory, listed};

/// Images by name.
#[derive(Default)]
struct Shelf(BTreeMap<String, Aci>);

fn image(name: &str, depends: &[&str], whitelist: &[&str], files: &[(&str, Node)]) -> Aci {
    let mut manifest = ImageManifest::new(identifier(name));
    manifest.dependencies = depends.iter().map(|name| Dependency::new(identifier(name))).collect();
    manifest.path_whitelist = whitelist.iter().map(ToString::to_string).collect();
    let mut root = Tree::new();
    for (path, node) in files {
        root.insert(path, node.clone()).unwrap();
    }
    appc::pack(&manifest, &root, Compression::Gzip).unwrap()
}

impl Shelf {
    fn with(
        mut self,
        name: &str,
        depends: &[&str],
        whitelist: &[&str],
        files: &[(&str, Node)],
    ) -> Self {
        self.0.insert(name.into(), image(name, depends, whitelist, files));
        self
    }

    fn rendering(&self, name: &str, limits: &Limits) -> Result<Rendering, String> {
        let find = &mut |wanted: &Dependency| Ok(self.0.get(wanted.image_name.as_str()).cloned());
        Rendering::new(self.0[name].clone(), limits, find).map_err(|error| error.to_string())
    }

    fn tree(&self, name: &str) -> Vec<String> {
        let rendering = self.rendering(name, &Limits::default()).unwrap();
        let tree = in_memory(&rendering.tree(&Options::default(), None).unwrap());
        let work = tempfile::tempdir().unwrap();
        let mut options = Unpack::default();
        options.owners = rustix::process::geteuid().is_root();
        let unpacked = rendering.unpack(&work.path().join("root"), &options).unwrap();
        assert_eq!(in_memory(&unpacked), tree);
        listed(&tree)
    }
}

/// ace.md, "Filesystem Setup": A -> [B, C], C -> [D] is put together as B, D, C, A.
#[test]
fn dependencies_are_below_in_the_order_of_the_specification() {
    let file = |text: &str| Node::file(text);
    let shelf = Shelf::default()
        .with("a", &["b", "c"], &[], &[("a", file("a")), ("d/x", file("a"))])
        .with(
            "b",
            &[],
            &[],
            &[("a", file("b")), ("b", file("b")), ("c", file("b")), ("e", file("b"))],
        )
        .with("c", &["d"], &[], &[("a", file("c")), ("c", file("c"))])
        .with("d", &[], &[], &[("c", file("d")), ("b", file("d")), ("d/y", file("d"))]);
    let names = |name: &str| -> Vec<String> {
        let rendering = shelf.rendering(name, &Limits::default()).unwrap();
        assert_eq!(rendering.image().manifest.name.as_str(), name);
        rendering.images().map(|image| image.manifest.name.to_string()).collect()
    };
    assert_eq!(names("a"), ["b", "d", "c", "a"]);
    assert_eq!(shelf.tree("a"), ["a = a", "b = d", "c = c", "d/", "d/x = a", "d/y = d", "e = b"]);
    // A -> [B, C], B -> [D], C -> [D]: D, B, D, C, A.
    let twice = Shelf::default()
        .with("a", &["b", "c"], &[], &[])
        .with("b", &["d"], &[], &[("x", file("b"))])
        .with("c", &["d"], &[], &[])
        .with("d", &[], &[], &[("x", file("d")), ("y", file("d"))]);
    assert_eq!(twice.tree("a"), ["x = d", "y = d"]);
    let rendering = twice.rendering("a", &Limits::default()).unwrap();
    assert_eq!(rendering.images().len(), 5);
}

#[test]
fn what_is_there_gives_way_and_no_link_is_followed() {
    let shelf = Shelf::default()
        .with(
            "a",
            &["b"],
            &[],
            &[
                ("link/x", Node::file("a")),
                ("file/x", Node::file("a")),
                ("full", Node::file("a")),
                ("same", Node::directory().with(Metadata::new(0o700))),
                ("name", Node::file("a")),
            ],
        )
        .with(
            "b",
            &[],
            &[],
            &[
                ("link", Node::symlink("target")),
                ("target/y", Node::file("b")),
                ("file", Node::file("b")),
                ("full/of/it", Node::file("b")),
                ("same/z", Node::file("b")),
                ("name", Node::file("b")),
                ("other", Node::hardlink(TreePath::new("name").unwrap())),
            ],
        );
    assert_eq!(
        shelf.tree("a"),
        [
            "file/",
            "file/x = a",
            "full = a",
            "link/",
            "link/x = a",
            "name = a",
            "other = b",
            "same/",
            "same/z = b",
            "target/",
            "target/y = b",
        ]
    );
    // Where nobody mentions the directory, it is no other.
    let upper = Archive::default().file("rootfs/link/x", "a").file("manifest",
        r#"{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "u", "dependencies": [{"imageName": "b"}]}"#);
    let upper = opened(upper.bytes()).unwrap();
    let find = &mut |_: &Dependency| Ok(Some(shelf.0["b"].clone()));
    let rendering = Rendering::new(upper, &Limits::default(), find).unwrap();
    let found = listed(&rendering.tree(&Options::default(), None).unwrap());
    assert!(found.contains(&"link/x = a".into()) && found.contains(&"target/y = b".into()));
    assert!(!found.iter().any(|line| line.contains("->") || line == "target/x = a"), "{found:?}");
}

/// aci.md, `pathWhitelist`: a complete set of paths; of the directories only those that are in it or lead
/// to what is.
#[test]
fn lists_leave_out_what_they_do_not_have() {
    let files = [
        ("etc/a", Node::file("1")),
        ("etc/b", Node::file("2")),
        ("etc-more", Node::file("3")),
        ("srv/www/x", Node::file("4")),
        ("var/empty", Node::directory()),
        ("var/log/x", Node::file("5")),
    ];
    let one = image("one", &[], &["/etc/b", "/var/log/", "/none/at/all"], &files);
    let found = alone(one).tree(&Options::default(), None).unwrap();
    assert_eq!(listed(&found), ["etc/", "etc/b = 2", "var/", "var/log/"]);
    // A list is for its image and for all below it; what it leaves out hides nothing.
    let shelf = Shelf::default()
        .with(
            "a",
            &["b"],
            &["/x", "/y", "/own"],
            &[("own", Node::file("a")), ("p", Node::file("a"))],
        )
        .with("b", &["c"], &["/x", "/z"], &[("x", Node::file("b")), ("y", Node::file("b"))])
        .with(
            "c",
            &[],
            &[],
            &[("x", Node::file("c")), ("y", Node::file("c")), ("z", Node::file("c"))],
        )
        .with("d", &["c", "b"], &[], &[]);
    assert_eq!(shelf.tree("a"), ["own = a", "x = b"]);
    assert_eq!(shelf.tree("d"), ["x = b", "y = c", "z = c"]);
}

#[test]
fn a_file_is_there_by_the_names_that_a_list_has() {
    let tree = |whitelist: &str| {
        let manifest = format!(
            r#"{{"acKind": "ImageManifest", "acVersion": "0.8.11", "name": "x", "pathWhitelist": [{whitelist}]}}"#
        );
        let archive = Archive::default()
            .directory("rootfs/")
            .file("rootfs/bin/a", "content")
            .hardlink("rootfs/bin/b", "rootfs/bin/a")
            .hardlink("rootfs/lib/c", "rootfs/bin/b")
            .symlink("rootfs/l", "bin")
            .hardlink("rootfs/m", "rootfs/l")
            .file("manifest", &manifest);
        listed(&alone(opened(archive.bytes()).unwrap()).tree(&Options::default(), None).unwrap())
    };
    let all = [
        "bin/",
        "bin/a = content",
        "bin/b == bin/a",
        "l -> bin",
        "lib/",
        "lib/c == bin/a",
        "m -> bin",
    ];
    assert_eq!(tree(""), all);
    assert_eq!(tree(r#""/bin/a""#), ["bin/", "bin/a = content"]);
    assert_eq!(tree(r#""/lib/c""#), ["lib/", "lib/c = content"]);
    assert_eq!(
        tree(r#""/bin/b", "/lib/c""#),
        ["bin/", "bin/b = content", "lib/", "lib/c == bin/b"]
    );
    assert_eq!(
        tree(r#""/bin/a", "/lib/c", "/m""#),
        ["bin/", "bin/a = content", "lib/", "lib/c == bin/a", "m -> bin"]
    );
}

#[test]
fn dependencies_that_are_not_as_asked_for_are_refused_by_name() {
    let shelf = Shelf::default()
        .with("a", &["b"], &[], &[])
        .with("b", &["c"], &[], &[])
        .with("c", &["b"], &[], &[])
        .with("self", &["self"], &[], &[])
        .with("lost", &["none"], &[], &[]);
    let limits = Limits::default();
    assert_eq!(shelf.rendering("a", &limits).unwrap_err(), "b: it depends on itself: b → c → b");
    assert_eq!(
        shelf.rendering("self", &limits).unwrap_err(),
        "self: it depends on itself: self → self"
    );
    assert_eq!(
        shelf.rendering("lost", &limits).unwrap_err(),
        "dependencies of lost: there is no image none"
    );

    let mut dependency = Dependency::new(identifier("base"));
    dependency.image_id = Some(ID.parse().unwrap());
    dependency.labels.insert(identifier("version"), "1".into());
    dependency.labels.insert(identifier("arch"), "amd64".into());
    dependency.size = Some(7);
    let mut manifest = ImageManifest::new(identifier("top"));
    manifest.dependencies = vec![dependency];
    let top = appc::pack(&manifest, &Tree::new(), Compression::None).unwrap();
    let other = image("other", &[], &[], &[]);
    let asked = RefCell::new(Vec::new());
    let error = Rendering::new(top, &limits, &mut |wanted| {
        asked.borrow_mut().push(wanted.clone());
        Ok(Some(other.clone()))
    });
    let error = error.unwrap_err().to_string();
    assert_eq!(asked.into_inner(), manifest.dependencies);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines[0], "top: dependency base: its name is other, not base");
    assert_eq!(lines[1], "top: dependency base: its label arch is not there, not amd64");
    assert!(lines[3].starts_with("top: dependency base: its ID is sha512-"), "{error}");
    assert!(lines[4].ends_with(", not 7") && lines.len() == 5, "{error}");
}

#[test]
fn dependencies_are_bounded_in_depth_and_number() {
    let mut chain = Shelf::default().with("i0", &[], &[], &[]);
    let mut wide = Shelf::default().with("i0", &[], &[], &[]);
    for number in 1..40 {
        let below = format!("i{}", number - 1);
        chain = chain.with(&format!("i{number}"), &[&below], &[], &[]);
        // Each twice: 2^20 in the end.
        wide = wide.with(&format!("i{number}"), &[&below, &below], &[], &[]);
    }
    let limits = Limits::default();
    assert_eq!(chain.rendering("i32", &limits).unwrap().images().len(), 33);
    let error = chain.rendering("i33", &limits).unwrap_err();
    assert_eq!(error, "i0: there are more than 32 dependencies one below the other");
    let error = wide.rendering("i20", &limits).unwrap_err();
    assert!(error.ends_with("more than 1000 images would be put one upon the other"), "{error}");
}
