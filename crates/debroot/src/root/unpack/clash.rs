//! What becomes of a path that two packages have.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use kiln_tree::{Kind, Metadata, TreePath};

use super::{Refused, Work};
use crate::lock::LockedPackage;
use crate::{Error, dependency};

/// What becomes of a path that another package has too.
pub(super) enum Clash {
    /// Nothing is there.
    Free,
    /// What is there stays.
    Keep,
    /// What is there makes place.
    Replace,
    /// The files must be compared.
    Compare(usize),
}

impl Work<'_> {
    /// Whether a link goes there: what is in its place is taken away, stays, or is in conflict with it.
    pub(super) fn makes_room(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        path: &TreePath,
        what: &'static str,
    ) -> Result<bool, Refused> {
        match self.clash(packages, number, path, what) {
            Clash::Free => {}
            Clash::Replace => self.remove(path)?,
            Clash::Keep => return Ok(false),
            Clash::Compare(other) => {
                self.fight(packages, path, other, number);
                return Ok(false);
            }
        }
        Ok(true)
    }

    pub(super) fn clash(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        number: usize,
        path: &TreePath,
        new: &str,
    ) -> Clash {
        let Some(node) = self.tree.get(path) else { return Clash::Free };
        let existing = node.kind.name();
        let Some(other) = self.owners.get(path).copied() else {
            self.problems.push(format!("{path}: a {new} cannot be in the place of a {existing}"));
            return Clash::Keep;
        };
        if !node.is_directory() && other != number {
            if self.replaces(packages, number, other) {
                return Clash::Replace;
            }
            if self.replaces(packages, other, number) {
                return Clash::Keep;
            }
        }
        if new == "regular file" && matches!(node.kind, Kind::File(_)) {
            return Clash::Compare(other);
        }
        self.fight(packages, path, other, number);
        Clash::Keep
    }

    pub(super) fn fight(
        &mut self,
        packages: &[(LockedPackage, PathBuf)],
        path: &TreePath,
        one: usize,
        other: usize,
    ) {
        let name = |number: usize| {
            packages.get(number).map_or_else(String::new, |(package, _)| package.to_string())
        };
        self.problems.push(if one == other {
            format!("{path}: {} has it twice", name(one))
        } else {
            format!(
                "{path}: {} and {} both have it, with different content, and neither replaces the \
                 other",
                name(one),
                name(other)
            )
        });
    }

    /// Whether files of one package may take the place of the other's (Policy, section 7.6.1).
    fn replaces(&self, packages: &[(LockedPackage, PathBuf)], one: usize, other: usize) -> bool {
        let (Some(field), Some((package, _))) = (self.replaces.get(one), packages.get(other))
        else {
            return false;
        };
        dependency::parse(field)
            .unwrap_or_default()
            .iter()
            .flatten()
            .any(|relation| relation.name == package.name && relation.admits(&package.version))
    }

    /// Whether a file is the same as the one that is there already; their times do not matter.
    pub(super) fn same(
        &mut self,
        path: &TreePath,
        meta: &Metadata,
        entry: &mut tar::Entry<'_, Box<dyn Read>>,
    ) -> Result<bool, Refused> {
        let Some(there) = self.tree.get(path) else { return Ok(false) };
        let like = (there.meta.mode, there.meta.uid, there.meta.gid);
        let at = self.at(path);
        let mut file = File::open(&at).map_err(|error| Error::io("open", &at)(error))?;
        let mut same = like == (meta.mode, meta.uid, meta.gid);
        let mut expected = Vec::new();
        loop {
            let count = entry
                .read(&mut self.buffer)
                .map_err(|error| Refused::Because(format!("{path}: {error}")))?;
            expected.clear();
            (&mut file)
                .take(count.max(1) as u64)
                .read_to_end(&mut expected)
                .map_err(|error| Error::io("read", &at)(error))?;
            same &= self.buffer.get(..count) == Some(expected.as_slice());
            if count == 0 {
                return Ok(same);
            }
        }
    }
}
