//! The set of paths.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ops::Bound;

use crate::{Error, Kind, Metadata, Node, Result, TreePath};

/// How many symbolic links [`Tree::resolve`] follows, as Linux does (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// A set of paths and their nodes, sorted by the bytes of the path.
///
/// The root itself is always there and can be given metadata with [`Tree::set_root`]; it is not
/// among the nodes that [`Tree::iter`] gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: Metadata,
    nodes: BTreeMap<TreePath, Node>,
}

impl Default for Tree {
    fn default() -> Self {
        Self::new()
    }
}

impl Tree {
    /// An empty tree whose root is owned by root, `0755`, modified at 0.
    #[must_use]
    pub fn new() -> Self {
        Self { root: Metadata::new(0o755), nodes: BTreeMap::new() }
    }

    /// The metadata of the root directory.
    #[must_use]
    pub fn root(&self) -> &Metadata {
        &self.root
    }

    /// Changes the metadata of the root directory.
    pub fn set_root(&mut self, meta: Metadata) {
        self.root = meta;
    }

    /// Puts a node at a path. Missing parents are made (`0755`, root, time 0). A directory over a
    /// directory replaces its metadata; the same node twice is fine.
    ///
    /// # Errors
    /// [`Error::InvalidPath`]; [`Error::Conflict`] when a different node is there;
    /// [`Error::ParentNotDirectory`].
    pub fn insert(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<()> {
        let path = TreePath::new(path)?;
        if path.is_root() {
            if !node.is_directory() {
                return Err(Error::Conflict {
                    path,
                    existing: Kind::Directory.name(),
                    new: node.kind.name(),
                });
            }
            self.root = node.meta;
            return Ok(());
        }
        self.make_parents(&path)?;
        match self.nodes.entry(path) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(mut place) => {
                let existing = place.get();
                if existing.is_directory() && node.is_directory() {
                    let why = node.why.clone().or_else(|| existing.why.clone());
                    *place.get_mut() = Node { why, ..node };
                } else if !existing.same_as(&node) {
                    return Err(Error::Conflict {
                        path: place.key().clone(),
                        existing: existing.kind.name(),
                        new: node.kind.name(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Puts a node at a path, in place of whatever is there. What was below a directory goes with
    /// it, unless the new node is a directory too.
    ///
    /// # Errors
    /// [`Error::InvalidPath`], [`Error::ParentNotDirectory`].
    pub fn replace(&mut self, path: impl AsRef<[u8]>, node: Node) -> Result<()> {
        let path = TreePath::new(path)?;
        if !node.is_directory() {
            self.remove(&path);
        }
        self.insert(path.as_bytes(), node)
    }

    /// Takes a node out, with what is below it. Says whether anything was there.
    pub fn remove(&mut self, path: &TreePath) -> bool {
        let before = self.nodes.len();
        if path.is_root() {
            self.nodes.clear();
        } else if let Some(node) = self.nodes.remove(path)
            // Nothing is below anything else, unless somebody made it so by `iter_mut`.
            && (node.is_directory() || self.below(path).next().is_some())
        {
            let below: Vec<TreePath> = self.below(path).map(|(path, _)| path.clone()).collect();
            for path in below {
                self.nodes.remove(&path);
            }
        }
        self.nodes.len() != before
    }

    /// The nodes below a directory, however deep, by path.
    pub fn below<'tree>(
        &'tree self,
        directory: &TreePath,
    ) -> impl DoubleEndedIterator<Item = (&'tree TreePath, &'tree Node)> + use<'tree> {
        let mut first = directory.as_bytes().to_vec();
        let mut end = first.clone();
        let bounds: (Bound<&[u8]>, Bound<&[u8]>) = if directory.is_root() {
            (Bound::Unbounded, Bound::Unbounded)
        } else {
            // All that begins with `directory/`, and `0` is the byte after the slash.
            first.push(b'/');
            end.push(b'0');
            (Bound::Included(&first), Bound::Excluded(&end))
        };
        self.nodes.range::<[u8], _>(bounds)
    }

    fn make_parents(&mut self, path: &TreePath) -> Result<()> {
        let mut missing = Vec::new();
        let mut parent = path.parent();
        while let Some(directory) = parent {
            if directory.is_root() {
                break;
            }
            match self.nodes.get(&directory) {
                None => {
                    parent = directory.parent();
                    missing.push(directory);
                }
                Some(node) if node.is_directory() => break,
                Some(node) => {
                    return Err(Error::ParentNotDirectory {
                        path: path.clone(),
                        parent: directory,
                        kind: node.kind.name(),
                    });
                }
            }
        }
        for directory in missing {
            self.nodes.insert(directory, Node::directory());
        }
        Ok(())
    }

    /// Adds every node of another tree.
    ///
    /// # Errors
    /// As [`Tree::insert`], at the first conflict; nodes before it are in.
    pub fn merge(&mut self, other: Self) -> Result<()> {
        for (path, node) in other.nodes {
            self.insert(path.as_bytes(), node)?;
        }
        Ok(())
    }

    /// The node at a path, links not followed.
    #[must_use]
    pub fn get(&self, path: &TreePath) -> Option<&Node> {
        self.nodes.get(path)
    }

    /// Whether anything is at a path (which must be in normal form), links not followed.
    #[must_use]
    pub fn contains(&self, path: impl AsRef<[u8]>) -> bool {
        self.nodes.contains_key(path.as_ref())
    }

    /// Follows symbolic links, absolute ones from the tree's root, and gives the path and node that
    /// an open of `path` would reach in the image. `None` when nothing is there, when a link leads
    /// nowhere or when there are more than 40 links on the way. `..` stops at the root.
    #[must_use]
    pub fn resolve(&self, path: impl AsRef<[u8]>) -> Option<(&TreePath, &Node)> {
        let mut pending: Vec<Vec<u8>> =
            path.as_ref().split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect();
        let mut reached: Vec<u8> = Vec::new();
        let mut links = 0;
        while let Some(component) = pending.pop() {
            match component.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    let end = reached.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                    reached.truncate(end);
                    continue;
                }
                _ => {}
            }
            let parent_end = reached.len();
            if !reached.is_empty() {
                reached.push(b'/');
            }
            reached.extend_from_slice(&component);
            let node = self.nodes.get(reached.as_slice())?;
            if let Kind::Symlink(target) = &node.kind {
                links += 1;
                if links > MAX_SYMLINKS {
                    return None;
                }
                reached.truncate(if target.starts_with(b"/") { 0 } else { parent_end });
                pending.extend(target.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec));
            } else if !node.is_directory() && !pending.is_empty() {
                return None;
            }
        }
        self.nodes.get_key_value(reached.as_slice())
    }

    /// The nodes by path, each directory before what is in it.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&TreePath, &Node)> {
        self.nodes.iter()
    }

    /// The nodes by path, to be changed in place. Turning a directory that is not empty into
    /// something else is not noticed here but by [`Tree::check`].
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&TreePath, &mut Node)> {
        self.nodes.iter_mut()
    }

    /// The names directly in a directory, with their nodes, sorted.
    pub fn children<'tree>(
        &'tree self,
        directory: &TreePath,
    ) -> impl Iterator<Item = (&'tree [u8], &'tree Node)> + use<'tree> {
        let mut prefix = directory.as_bytes().to_vec();
        if !prefix.is_empty() {
            prefix.push(b'/');
        }
        let skip = prefix.len();
        self.nodes
            .range::<[u8], _>((
                std::ops::Bound::Included(prefix.as_slice()),
                std::ops::Bound::Unbounded,
            ))
            .skip_while({
                let prefix = prefix.clone();
                move |(path, _)| path.as_bytes() == prefix.as_slice()
            })
            .take_while(move |(path, _)| path.as_bytes().starts_with(&prefix))
            .filter_map(move |(path, node)| {
                let name = path.as_bytes().get(skip..)?;
                (!name.is_empty() && !name.contains(&b'/')).then_some((name, node))
            })
    }

    /// How many nodes there are, the root not counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there is no node but the root.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The bytes of all regular files together; a file with several names counts once.
    #[must_use]
    pub fn content_len(&self) -> u64 {
        self.nodes
            .values()
            .filter_map(|node| match &node.kind {
                Kind::File(source) => Some(source.len()),
                _ => None,
            })
            .sum()
    }

    /// Gives every node, and the root, the same modification time.
    pub fn set_mtime(&mut self, mtime: u32) {
        self.root.mtime = mtime;
        for node in self.nodes.values_mut() {
            node.meta.mtime = mtime;
        }
    }

    /// Everything that an image writer would stumble over, all at once: hard links to nothing,
    /// nodes below something that is no directory. A tree filled by [`Tree::insert`] alone can only
    /// have the former.
    #[must_use]
    pub fn check(&self) -> Vec<Error> {
        let mut problems = Vec::new();
        for (path, node) in &self.nodes {
            if let Kind::Hardlink(target) = &node.kind
                && !matches!(self.nodes.get(target).map(|node| &node.kind), Some(Kind::File(_)))
            {
                problems
                    .push(Error::DanglingHardlink { path: path.clone(), target: target.clone() });
            }
            if let Some(parent) = path.parent().filter(|parent| !parent.is_root()) {
                match self.nodes.get(&parent) {
                    Some(node) if node.is_directory() => {}
                    other => problems.push(Error::ParentNotDirectory {
                        path: path.clone(),
                        parent,
                        kind: other.map_or("missing entry", |node| node.kind.name()),
                    }),
                }
            }
        }
        problems
    }
}

impl<'tree> IntoIterator for &'tree Tree {
    type Item = (&'tree TreePath, &'tree Node);
    type IntoIter = std::collections::btree_map::Iter<'tree, TreePath, Node>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}
