//! What a layer above a tree must hold to make another tree of it.

use std::collections::BTreeSet;
use std::io::Read;

use kiln_tree::{Kind, Node, Source, Tree, TreePath};

use super::WHITEOUT;
use super::pack::Groups;
use crate::{Error, Result};

/// The difference between two trees, as the content of a layer: what is new or other, and whiteouts
/// for what is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    pub(super) tree: Tree,
    /// Whether the root's metadata differ.
    pub(super) root: bool,
}

impl Difference {
    /// What makes `upper` of `lower`. Files are compared by their content, which is read where
    /// lengths are equal and sources are not.
    ///
    /// # Errors
    /// [`Error::Unpackable`] for a tree that has names of whiteouts; a file that cannot be read.
    pub fn between(lower: &Tree, upper: &Tree) -> Result<Self> {
        let reserved: Vec<String> = upper
            .iter()
            .filter(|(path, _)| path.file_name().is_some_and(|name| name.starts_with(WHITEOUT)))
            .map(|(path, _)| format!("{path}: in a layer this name takes something away"))
            .collect();
        if !reserved.is_empty() {
            return Err(Error::Unpackable(reserved));
        }
        let (below, above) = (Groups::of(lower), Groups::of(upper));
        let mut changed = BTreeSet::new();
        // A file with several names is there with all of them or not at all, so that no name of a
        // layer is a link to something below it.
        let mut whole = BTreeSet::new();
        for (path, node) in upper {
            let group = above.leader(path, node);
            let same = match (lower.get(path), group) {
                (None, _) => false,
                (Some(old), None) => below.leader(path, old).is_none() && same(old, node)?,
                (Some(old), Some((leader, file))) => match below.leader(path, old) {
                    Some((there, old)) => there == leader && same_file(old, file)?,
                    None => false,
                },
            };
            if !same {
                changed.insert(path);
                if let Some((leader, _)) = group {
                    whole.insert(leader);
                }
            }
        }
        for (path, node) in upper {
            if above.leader(path, node).is_some_and(|(leader, _)| whole.contains(leader)) {
                changed.insert(path);
            }
        }
        let mut tree = Tree::new();
        tree.set_root(upper.root().clone());
        for path in changed {
            parents(&mut tree, upper, path)?;
            if let Some(node) = upper.get(path) {
                tree.insert(path.as_bytes(), node.clone())?;
            }
        }
        for (path, node) in lower {
            if upper.get(path).is_some() {
                continue;
            }
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { continue };
            // What was below something that is gone or no directory any more went with it.
            if !parent.is_root() && !upper.get(&parent).is_some_and(Node::is_directory)
                || !parent.is_root() && !lower.get(&parent).is_some_and(Node::is_directory)
            {
                continue;
            }
            let _ = node;
            let whiteout = parent.join([WHITEOUT, name].concat())?;
            parents(&mut tree, upper, &whiteout)?;
            tree.insert(whiteout.as_bytes(), Node::file(Vec::new()))?;
        }
        Ok(Self { tree, root: lower.root() != upper.root() })
    }

    /// The entries, whiteouts among them as empty files.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Whether both trees are the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty() && !self.root
    }
}

/// The directories above a path as they are in the upper tree, so that none is made anew.
fn parents(tree: &mut Tree, upper: &Tree, path: &TreePath) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.is_root()) else { return Ok(()) };
    if tree.get(&parent).is_some() {
        return Ok(());
    }
    parents(tree, upper, &parent)?;
    if let Some(node) = upper.get(&parent) {
        tree.insert(parent.as_bytes(), node.clone())?;
    }
    Ok(())
}

fn same(old: &Node, new: &Node) -> Result<bool> {
    match (&old.kind, &new.kind) {
        (Kind::File(_), Kind::File(_)) => same_file(old, new),
        _ => Ok(old.same_as(new)),
    }
}

fn same_file(old: &Node, new: &Node) -> Result<bool> {
    let (Kind::File(before), Kind::File(after)) = (&old.kind, &new.kind) else { return Ok(false) };
    Ok(old.meta == new.meta && same_content(before, after)?)
}

fn same_content(one: &Source, other: &Source) -> Result<bool> {
    if one.len() != other.len() {
        return Ok(false);
    }
    if one == other {
        return Ok(true);
    }
    let open = |source: &Source| source.open().map_err(Error::stream("a file of the tree"));
    let (mut one, mut other) = (open(one)?, open(other)?);
    let (mut left, mut right) = (vec![0; 64 << 10], Vec::new());
    loop {
        let count = one.read(&mut left).map_err(Error::stream("a file of the tree"))?;
        if count == 0 {
            return Ok(true);
        }
        right.clear();
        (&mut other)
            .take(count as u64)
            .read_to_end(&mut right)
            .map_err(Error::stream("a file of the tree"))?;
        if left.get(..count) != Some(right.as_slice()) {
            return Ok(false);
        }
    }
}
