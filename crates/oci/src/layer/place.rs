//! Where an entry of a layer goes, symbolic links of the layers below followed inside the tree.

use kiln_tree::{Kind, Tree, TreePath};

use crate::error::shown;

/// How many symbolic links are followed, as Linux does (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// The path of an entry: relative and without `..`.
pub(crate) fn inside(raw: &[u8], depth: usize) -> Result<TreePath, String> {
    if raw.first() == Some(&b'/') {
        return Err("absolute names are refused".into());
    }
    below(raw, depth)
}

/// The same, a leading slash allowed: for targets of hard links, which old writers begin with one.
pub(crate) fn below(raw: &[u8], depth: usize) -> Result<TreePath, String> {
    let path = TreePath::new(raw).map_err(|error| match error {
        kiln_tree::Error::InvalidPath { reason, .. } => format!("refused: {reason}"),
        other => other.to_string(),
    })?;
    if path.components().count() > depth {
        return Err(format!("it is more than {depth} directories deep"));
    }
    Ok(path)
}

/// The directory that `path` means, links followed from inside the root, never out of it. What is
/// missing is what it would be called. Directories on the way need not exist.
pub(super) fn directory(tree: &Tree, path: &TreePath) -> Result<TreePath, String> {
    // A directory of the tree has directories only above it, so there is nothing to follow.
    if path.is_root() || tree.get(path).is_some_and(kiln_tree::Node::is_directory) {
        return Ok(path.clone());
    }
    let mut pending: Vec<Vec<u8>> = path.components().rev().map(<[u8]>::to_vec).collect();
    let mut reached = TreePath::root();
    let mut links = 0;
    while let Some(component) = pending.pop() {
        match component.as_slice() {
            b"" | b"." => continue,
            b".." => {
                reached = reached.parent().unwrap_or_default();
                continue;
            }
            _ => {}
        }
        let next = reached.join(&component).map_err(|error| error.to_string())?;
        match tree.get(&next).map(|node| &node.kind) {
            Some(Kind::Symlink(target)) => {
                links += 1;
                if links > MAX_SYMLINKS {
                    return Err(format!("more than {MAX_SYMLINKS} links lead to its directory"));
                }
                if target.starts_with(b"/") {
                    reached = TreePath::root();
                }
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            }
            None | Some(Kind::Directory) => reached = next,
            Some(other) => {
                let name = shown(next.as_bytes());
                return Err(format!("{name}, which is on its way, is a {}", other.name()));
            }
        }
    }
    Ok(reached)
}
