//! Packages unpacked into a directory that an unprivileged user can make, and the tree that says
//! what the files are in an image.

mod alternatives;
mod pattern;
mod saved;
mod shell;
mod unpack;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_tree::{Tree, TreePath};

pub use alternatives::Alternative;
pub use pattern::Filter;

use crate::Result;
use crate::deb::Limits;
use crate::lock::LockedPackage;

/// The directories of old that are links to those below `/usr` since Debian 12.
const ALIASES: &[&str] = &["bin", "sbin", "lib", "lib32", "lib64", "libo32", "libx32"];
/// Those of them that are always there.
const ALWAYS: &[&str] = &["bin", "sbin", "lib", "lib64"];

/// How packages are unpacked.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// The paths that are left out. Default: none.
    pub filter: Filter,
    /// Alternatives chosen by their name (`editor` → `/bin/nano`), whatever their priorities.
    pub choices: BTreeMap<String, String>,
    /// How much each package may ask for.
    pub limits: Limits,
}

/// Packages in one directory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Root {
    /// Where the files are. They belong to whoever unpacked them; owners, modes, times and links
    /// of an image are in the tree.
    pub directory: PathBuf,
    /// What an image of it consists of.
    pub tree: Tree,
    /// The packages, in the order in which they were given.
    pub packages: Vec<LockedPackage>,
    /// The configuration files, as paths in the tree.
    pub conffiles: Vec<TreePath>,
    /// The alternatives that are set.
    pub alternatives: Vec<Alternative>,
    /// What installing the packages would have done besides, and was not done.
    pub notes: Vec<Note>,
    /// The package of each path of the tree that one has, as its place in `packages`.
    owners: BTreeMap<TreePath, usize>,
}

/// Something that a maintainer script would have done, or that could not be done as it would.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Note {
    /// The package.
    pub package: String,
    /// The script or file, and the line.
    pub place: String,
    /// What about it.
    pub text: String,
}

impl std::fmt::Display for Note {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}: {}: {}", self.package, self.place, self.text)
    }
}

impl Root {
    /// Unpacks packages into a new directory. Nothing is left behind after an error. Each file is
    /// checked against its digest once more. No script of a package is run.
    ///
    /// # Errors
    /// [`Digest`](crate::Error::Digest); [`Deb`](crate::Error::Deb) for a package that is broken, or
    /// that would write anywhere but below its own root; [`Root`](crate::Error::Root) with all the
    /// files for which two packages fight; [`Io`](crate::Error::Io), also when the directory is there
    /// already and not empty.
    pub fn unpack(
        packages: &[(LockedPackage, PathBuf)],
        directory: &Path,
        options: &Options,
    ) -> Result<Self> {
        unpack::unpack(packages, directory, options)
    }

    /// The package that has a path, absolute or not: the file itself, what it is by another name
    /// (`/bin/sh` and `/usr/bin/sh`), or what it leads to by symbolic links.
    #[must_use]
    pub fn owner_of(&self, path: impl AsRef<[u8]>) -> Option<&LockedPackage> {
        let direct = TreePath::new(path.as_ref()).ok().map(|path| without_alias(&path));
        let number = direct
            .as_ref()
            .and_then(|path| self.owners.get(path))
            .or_else(|| self.owners.get(self.by_directory(path.as_ref())?.as_bytes()))
            .or_else(|| self.owners.get(self.tree.resolve(path)?.0))?;
        self.packages.get(*number)
    }

    /// The path of an entry whose directory is reached by links, the entry itself not followed.
    fn by_directory(&self, path: &[u8]) -> Option<TreePath> {
        let end = path.iter().rposition(|byte| *byte == b'/')?;
        let (directory, _) = self.tree.resolve(path.get(..end)?)?;
        directory.join(path.get(end + 1..)?).ok()
    }

    /// Where the content of a path of the tree is on the host.
    #[must_use]
    pub fn host_path(&self, path: &TreePath) -> PathBuf {
        on_host(&self.directory, path)
    }

    /// A package by its name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// The paths that a package has, sorted; directories that several have are the first one's.
    pub fn files_of(&self, name: &str) -> impl Iterator<Item = &TreePath> {
        let number = self.packages.iter().position(|package| package.name == name);
        self.owners.iter().filter(move |(_, owner)| Some(**owner) == number).map(|(path, _)| path)
    }
}

/// The same path with what is now below `/usr` there.
fn without_alias(path: &TreePath) -> TreePath {
    match alias_of(path) {
        // Six bytes more than a path that is no longer than any path may be.
        Some(_) => {
            TreePath::new([b"usr/", path.as_bytes()].concat()).unwrap_or_else(|_| path.clone())
        }
        None => path.clone(),
    }
}

/// The first component, if it is one of the directories of old.
fn alias_of(path: &TreePath) -> Option<&'static str> {
    let first = path.components().next()?;
    ALIASES.iter().copied().find(|alias| alias.as_bytes() == first)
}

fn on_host(directory: &Path, path: &TreePath) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    directory.join(std::ffi::OsStr::from_bytes(path.as_bytes()))
}
