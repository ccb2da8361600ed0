//! What an entry of an image's archive is, and which entries are wanted.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use kiln_tree::TreePath;

use super::aci::Aci;
use crate::Limits;
use crate::error::shown;
use crate::layer::{Refused, below, inside};
use crate::tar::{Entry, Type};

const MANIFEST: &[u8] = b"manifest";
const ROOTFS: &[u8] = b"rootfs";

/// An entry, by where it is.
pub(super) enum Member {
    /// The directory in which manifest and root are.
    Top,
    /// The manifest.
    Manifest,
    /// Something of the root, by its path there and, if it is a hard link, that of what it is one of;
    /// the entry has these as its names.
    Root(TreePath, Option<TreePath>, Box<Entry>),
}

/// Says what an entry is. There is nothing in an image but its manifest and its root.
pub(super) fn member(mut entry: Entry, limits: &Limits) -> Result<Member, Refused> {
    let depth = limits.depth.saturating_add(1);
    let path = inside(&entry.path, depth)?;
    let is_directory = entry.kind == Type::Directory;
    if path.is_root() {
        return if is_directory {
            Ok(Member::Top)
        } else {
            Err("it can only be a directory".into())
        };
    }
    if path.as_bytes() == MANIFEST {
        if entry.kind != Type::File {
            return Err("the manifest can only be a file".into());
        }
        if entry.size > limits.manifest {
            return Err(format!("the manifest is longer than {} bytes", limits.manifest).into());
        }
        return Ok(Member::Manifest);
    }
    let Some(within) = below_root(&path) else {
        return Err("an image has a manifest and a rootfs, and nothing else".into());
    };
    if within.is_root() && !is_directory {
        return Err("the rootfs can only be a directory".into());
    }
    entry.path = match within.as_bytes() {
        b"" => b".".to_vec(),
        path => path.to_vec(),
    };
    let mut target = None;
    if entry.kind == Type::Hardlink {
        let link = || shown(&entry.link);
        let whole = below(&entry.link, depth)
            .map_err(|reason| format!("hard link to {:?}: {reason}", link()))?;
        let found = below_root(&whole).filter(|path| !path.is_root());
        let found = found
            .ok_or_else(|| format!("hard link to {:?}, which is no file of the rootfs", link()))?;
        entry.link = found.as_bytes().to_vec();
        target = Some(found);
    }
    Ok(Member::Root(within, target, Box::new(entry)))
}

/// The path in the root.
fn below_root(path: &TreePath) -> Option<TreePath> {
    match path.as_bytes().strip_prefix(ROOTFS)? {
        b"" => Some(TreePath::root()),
        [b'/', rest @ ..] => TreePath::new(rest).ok(),
        _ => None,
    }
}

/// The paths that are wanted, and the directories that they are in.
#[derive(Debug)]
pub(super) struct Whitelist(BTreeSet<TreePath>);

impl Whitelist {
    /// That of a manifest, if it has one.
    pub(super) fn of(paths: &[String]) -> Option<Self> {
        // They have been read as paths.
        let paths: BTreeSet<TreePath> =
            paths.iter().filter_map(|path| TreePath::new(path).ok()).collect();
        (!paths.is_empty()).then_some(Self(paths))
    }

    fn has(&self, path: &TreePath, is_directory: bool) -> bool {
        self.0.contains(path) || (is_directory && self.is_above(path))
    }

    fn is_above(&self, directory: &TreePath) -> bool {
        let prefix = [directory.as_bytes(), b"/"].concat();
        let from = (Bound::Included(prefix.as_slice()), Bound::Unbounded);
        self.0
            .range::<[u8], _>(from)
            .next()
            .is_some_and(|path| path.as_bytes().starts_with(&prefix))
    }
}

/// Takes of an image what all lists have.
pub(super) struct Chosen<'image> {
    lists: &'image [Arc<Whitelist>],
    /// The file that a name is one of.
    links: &'image BTreeMap<TreePath, TreePath>,
    /// Of files whose own name is not wanted, the name that is.
    moved: BTreeMap<&'image TreePath, &'image TreePath>,
}

impl<'image> Chosen<'image> {
    pub(super) fn of(image: &'image Aci, lists: &'image [Arc<Whitelist>]) -> Self {
        let mut chosen = Self { lists, links: &image.links, moved: BTreeMap::new() };
        if lists.is_empty() {
            return chosen;
        }
        for (name, file) in chosen.links {
            if !chosen.has(file, false) && chosen.has(name, false) {
                chosen.moved.entry(file).or_insert(name);
            }
        }
        chosen
    }

    fn has(&self, path: &TreePath, is_directory: bool) -> bool {
        self.lists.iter().all(|list| list.has(path, is_directory))
    }

    /// The entry as it is to be applied.
    pub(super) fn entry(&self, entry: Entry, limits: &Limits) -> Result<Option<Entry>, Refused> {
        let Member::Root(path, target, mut entry) = member(entry, limits)? else {
            return Ok(None);
        };
        if self.lists.is_empty() || path.is_root() {
            return Ok(Some(*entry));
        }
        let wanted = self.has(&path, entry.kind == Type::Directory);
        if target.is_some() {
            let Some(file) = self.links.get(&path) else { return Ok(None) };
            let name = *self.moved.get(file).unwrap_or(&file);
            entry.link = name.as_bytes().to_vec();
            return Ok(Some(*entry).filter(|_| wanted && *name != path));
        }
        match self.moved.get(&path) {
            _ if wanted => Ok(Some(*entry)),
            Some(name) => {
                entry.path = name.as_bytes().to_vec();
                Ok(Some(*entry))
            }
            None => Ok(None),
        }
    }
}
