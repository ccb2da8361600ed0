//! The initramfs of an image whose root is on a disk: what finds that root, and nothing else.

use kiln_tree::{Node, Tree};

use crate::Result;
use crate::definition::{Filesystem, Root};

/// What of the image's files is needed before the root is there: process 1, the kernel's modules,
/// the places to mount on, and what process 1 reads about the clock.
const FILES: &[&str] = &[
    "dev",
    "dev/console",
    "etc/kiln/epoch",
    "etc/kiln/network.toml",
    "init",
    "proc",
    "run",
    "sys",
    "tmp",
];
/// Directories with all that is in them.
const TREES: &[&str] = &["usr/lib/modules/"];
/// What the kernel calls for a module that a module asks for.
const MODPROBE: &str = "sbin/modprobe";

/// The files.
pub(super) fn first(tree: &Tree) -> Result<Tree> {
    let mut first = Tree::new();
    for (path, node) in tree {
        let text = path.to_string();
        let is_in = TREES.iter().any(|start| text.starts_with(start));
        if is_in || FILES.contains(&text.as_str()) {
            first.insert(path.as_bytes(), node.clone())?;
        }
    }
    // As a link, whatever it is in the image: where modules are is the same in all of them.
    first.insert("lib", Node::symlink("usr/lib"))?;
    first.insert(MODPROBE, Node::symlink("/init").because("the kernel calls it for modules"))?;
    Ok(first)
}

/// The modules without which the root cannot be mounted, with the reason.
pub(super) fn modules(root: Option<(Filesystem, Root)>) -> Vec<(String, String)> {
    let Some((filesystem, how)) = root else { return Vec::new() };
    let mut names = vec![(filesystem.module(), "the root's file system")];
    if !filesystem.is_writable() || how == Root::Verified {
        names.push(("overlay", "writes over a root that is only read"));
    }
    if how == Root::Verified {
        let why = "verifies the root";
        names.extend([("dm_mod", why), ("dm_verity", why), ("sha256_generic", why)]);
    }
    names.into_iter().map(|(name, why)| (name.to_owned(), why.to_owned())).collect()
}
