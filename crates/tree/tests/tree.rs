//! What a tree promises, by example and by property.

use kiln_tree::{Error, Kind, Metadata, Node, Tree, TreePath};
use proptest::prelude::*;

fn path(text: &str) -> TreePath {
    TreePath::new(text).expect("a path of the test")
}

#[test]
fn a_file_is_not_silently_replaced() {
    let mut tree = Tree::new();
    tree.insert("etc/passwd", Node::file("root")).unwrap();
    tree.insert("etc/passwd", Node::file("root").because("again")).unwrap();
    let error = tree.insert("etc/passwd", Node::file("other")).unwrap_err();
    assert!(matches!(error, Error::Conflict { .. }), "{error}");
    let error = tree.insert("etc/passwd/x", Node::directory()).unwrap_err();
    assert!(matches!(error, Error::ParentNotDirectory { .. }), "{error}");
    tree.replace("etc/passwd", Node::file("other")).unwrap();
    assert_eq!(tree.content_len(), 5);
}

#[test]
fn replacing_a_directory_takes_its_content_out() {
    let mut tree = Tree::new();
    tree.insert("a/b/c", Node::file("")).unwrap();
    tree.insert("a/bc", Node::file("")).unwrap();
    tree.replace("a/b", Node::symlink("elsewhere")).unwrap();
    assert!(!tree.contains("a/b/c") && tree.contains("a/bc"));
    assert!(tree.check().is_empty());
}

#[test]
fn what_is_below_a_directory_is_not_what_begins_with_its_name() {
    let mut tree = Tree::new();
    for name in ["a/x", "a/y/z", "a-b/c", "a.c", "a0", "b"] {
        tree.insert(name, Node::file("")).unwrap();
    }
    let below = |of: &str| -> Vec<String> {
        tree.below(&path(of)).map(|(path, _)| path.to_string()).collect()
    };
    assert_eq!(below("a"), ["a/x", "a/y", "a/y/z"]);
    assert_eq!(below("").len(), tree.len());
    assert!(below("b").is_empty() && below("none").is_empty());
    assert!(tree.remove(&path("a")) && !tree.remove(&path("a")));
    let left: Vec<String> = tree.iter().map(|(path, _)| path.to_string()).collect();
    assert_eq!(left, ["a-b", "a-b/c", "a.c", "a0", "b"]);
}

#[test]
fn resolve_stays_inside_and_ends() {
    let mut tree = Tree::new();
    tree.insert("usr/lib/libc.so.6", Node::file("elf")).unwrap();
    tree.insert("lib", Node::symlink("usr/lib")).unwrap();
    tree.insert("lib64", Node::symlink("/../../lib")).unwrap();
    tree.insert("loop", Node::symlink("loop")).unwrap();
    tree.insert("dangling", Node::symlink("/none")).unwrap();
    for name in ["lib/libc.so.6", "/lib64/libc.so.6", "usr/../lib/./libc.so.6"] {
        assert_eq!(tree.resolve(name).unwrap().0, &path("usr/lib/libc.so.6"), "{name}");
    }
    for name in ["loop", "dangling", "usr/lib/libc.so.6/x", "none"] {
        assert!(tree.resolve(name).is_none(), "{name}");
    }
}

#[test]
fn children_are_those_directly_below() {
    let mut tree = Tree::new();
    for name in ["a/x", "a/y/z", "a-b", "a.c"] {
        tree.insert(name, Node::file("")).unwrap();
    }
    let names = |of: &str| -> Vec<Vec<u8>> {
        tree.children(&path(of)).map(|(name, _)| name.to_vec()).collect()
    };
    assert_eq!(names("a"), [b"x", b"y"]);
    assert_eq!(names(""), [&b"a"[..], b"a-b", b"a.c"]);
    assert!(names("a-b").is_empty());
}

#[test]
fn check_names_every_dangling_hard_link() {
    let mut tree = Tree::new();
    tree.insert("one", Node::hardlink(path("none"))).unwrap();
    tree.insert("two", Node::hardlink(path("dir"))).unwrap();
    tree.insert("dir", Node::directory()).unwrap();
    assert_eq!(tree.check().len(), 2);
}

fn any_path() -> impl Strategy<Value = String> {
    proptest::collection::vec("[ab.]{1,2}", 1..4).prop_map(|parts| parts.join("/"))
}

proptest! {
    #[test]
    fn paths_are_a_fixpoint_of_their_own_form(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(path) = TreePath::new(&bytes) {
            prop_assert_eq!(&TreePath::new(path.as_bytes()).unwrap(), &path);
            prop_assert!(!path.as_bytes().starts_with(b"/") && !path.as_bytes().contains(&0));
            prop_assert!(path.components().all(|part| part != b".." && part != b"."));
        }
    }

    #[test]
    fn parents_come_first_whatever_the_order_of_insertion(paths in proptest::collection::vec(any_path(), 1..20)) {
        let fill = |paths: &mut dyn Iterator<Item = &String>| {
            let mut tree = Tree::new();
            for path in paths {
                let _ = tree.insert(path, Node::directory().with(Metadata::new(0o700)));
            }
            tree
        };
        let tree = fill(&mut paths.iter());
        prop_assert!(tree.check().is_empty());
        let mut seen = std::collections::BTreeSet::new();
        for (path, node) in &tree {
            prop_assert!(matches!(node.kind, Kind::Directory));
            let parent = path.parent().unwrap();
            prop_assert!(parent.is_root() || seen.contains(&parent));
            seen.insert(path.clone());
        }
        let again: std::collections::BTreeSet<_> =
            fill(&mut paths.iter().rev()).iter().map(|(path, _)| path.clone()).collect();
        prop_assert_eq!(seen, again);
    }
}
