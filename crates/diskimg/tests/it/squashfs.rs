//! SquashFS images: unsquashfs reads them.

use std::io::Cursor;
use std::num::NonZeroUsize;

use kiln_diskimg::container::Format;
use kiln_diskimg::squashfs::{Image, Options};
use kiln_tree::{Kind, Metadata, Node, Tree, TreePath, host};

use crate::tools::{bytes, expect, file};

fn tree() -> Tree {
    let mut tree = crate::erofs::tree();
    // Links have the target's time here and none of their own there.
    let target = TreePath::new("usr/share/long").unwrap();
    tree.insert("usr/again", Node::hardlink(target)).unwrap();
    tree
}

#[test]
fn unsquashfs_extracts_everything() {
    let tree = tree();
    let dir = tempfile::tempdir().unwrap();
    let spool = tempfile::tempfile().unwrap();
    let image = Image::plan(&tree, &Options::default(), spool).unwrap();
    let path = file(dir.path(), "image", Format::Raw, &image);
    let image = path.to_str().unwrap();
    let Some(text) = expect("unsquashfs", &["-s", image]) else { return };
    assert!(text.contains("Compression lz4") && text.contains("Block size 131072"), "{text}");
    let out = dir.path().join("out");
    let quiet = ["-no-progress", "-d", out.to_str().unwrap(), image];
    let said = expect("unsquashfs", &quiet).unwrap();
    let mut extracted = Tree::new();
    let mut policy = host::Policy::default();
    policy.modes = host::Modes::Keep;
    policy.mtime = None;
    policy.hardlinks = true;
    policy.owner = None;
    host::import(&mut extracted, &out, "", &policy).unwrap();
    let paths = |tree: &Tree| tree.iter().map(|(path, _)| path.clone()).collect::<Vec<_>>();
    assert_eq!(paths(&extracted), paths(&tree), "{said}");
    for (path, node) in &tree {
        let found = extracted.get(path).unwrap();
        match (&found.kind, &node.kind) {
            (Kind::File(found), Kind::File(wanted)) => {
                assert!(found.read().unwrap() == wanted.read().unwrap(), "{path}");
            }
            // Which of the two names is the link is the host's to say.
            (Kind::Hardlink(_), _) | (_, Kind::Hardlink(_)) => {}
            (found, wanted) => assert_eq!(found, wanted, "{path}"),
        }
        if !matches!(node.kind, Kind::Hardlink(_)) {
            assert_eq!(found.meta.mode, node.meta.mode, "{path}");
            assert_eq!(found.meta.mtime, node.meta.mtime, "{path}");
        }
    }
}

#[test]
fn the_same_whatever_the_threads() {
    let mut images = Vec::new();
    for threads in [1, 4] {
        let mut options = Options::default();
        options.threads = NonZeroUsize::new(threads);
        let image = Image::plan(&tree(), &options, Cursor::new(Vec::new())).unwrap();
        images.push(bytes(&image));
        images.push(image.into_image().unwrap().into_inner());
    }
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn attributes_are_a_problem() {
    let mut tree = Tree::new();
    let mut meta = Metadata::new(0o644);
    meta.xattrs.insert(b"user.a".to_vec(), Vec::new());
    tree.insert("file", Node::file("").with(meta)).unwrap();
    let error = Image::plan(&tree, &Options::default(), Cursor::new(Vec::new())).unwrap_err();
    let expected = "squashfs image: file: 1 extended attributes, which are not written";
    assert_eq!(error.to_string(), expected);
}
