//! The files of a closure, each with its reason.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kiln_tree::{Kind, Metadata, Node, Source, Tree, TreePath, host};

use super::modules::Module;
use super::sysroot::Way;
use crate::{Error, Result};

/// Everything that programs need to run, themselves included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Closure {
    /// The files, by path in the image.
    pub files: Vec<ClosureFile>,
    /// Libraries that were found in directories of the sysroot's `ld.so.conf` alone: the image
    /// needs an `ld.so.cache` for its loader to find them.
    pub needs_ldconfig: Vec<TreePath>,
}

/// A file of a closure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClosureFile {
    /// Where it is in the image; no directory on the way is a symbolic link.
    pub path: TreePath,
    /// What it is.
    pub kind: ClosureKind,
    /// Why it is in the closure, in words.
    pub why: String,
    /// Everything that needs it, in the order in which it was found.
    pub needed_by: Vec<NeededBy>,
}

/// What a file of a closure is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClosureKind {
    /// A file with the content of this file of the host.
    File {
        /// The path on the host.
        host_path: PathBuf,
    },
    /// A symbolic link.
    Symlink {
        /// Its text, as in the sysroot.
        target: Vec<u8>,
    },
    /// A directory that is passed through by a `..` and must exist for that.
    Directory,
}

/// Who needs a file, and under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeededBy {
    /// The file that needs it, by path in the image.
    pub path: TreePath,
    /// The name: of a `DT_NEEDED`, or the path of an interpreter.
    pub name: String,
}

impl Closure {
    /// Puts the files into a tree: contents from the host, owner, time and modes by the
    /// policy, the reason with each. The policy's own reason wins over that of the closure.
    ///
    /// # Errors
    /// [`Error::File`] when a file is gone; [`Error::Tree`] when something else is at its path.
    pub fn add_to(&self, tree: &mut Tree, policy: &host::Policy) -> Result<()> {
        for file in &self.files {
            let why = policy.why.clone().unwrap_or_else(|| file.why.clone());
            let node = match &file.kind {
                ClosureKind::Directory if tree.contains(file.path.as_bytes()) => continue,
                ClosureKind::Directory => Node::directory().with(metadata(policy, 0o755, 0, 0, 0)),
                ClosureKind::Symlink { target } => {
                    let mut node = Node::symlink(target);
                    let mode = node.meta.mode;
                    node.meta = metadata(policy, mode, 0, 0, 0);
                    node
                }
                ClosureKind::File { host_path } => {
                    let found = std::fs::metadata(host_path).map_err(|source| Error::File {
                        action: "stat",
                        path: host_path.clone(),
                        source,
                    })?;
                    let mode = u16::try_from(found.mode() & 0o7777).unwrap_or(0o755);
                    let mtime = u32::try_from(found.mtime().max(0)).unwrap_or(u32::MAX);
                    let mode = policy.modes.apply(mode, false);
                    let meta = metadata(policy, mode, found.uid(), found.gid(), mtime);
                    let source = Source::File { path: host_path.clone(), len: found.len() };
                    Node::file(source).with(meta)
                }
            };
            tree.insert(file.path.as_bytes(), node.because(why))?;
        }
        Ok(())
    }
}

fn metadata(policy: &host::Policy, mode: u16, uid: u32, gid: u32, mtime: u32) -> Metadata {
    let (uid, gid) = policy.owner.unwrap_or((uid, gid));
    Metadata::new(mode).owned_by(uid, gid).modified_at(policy.mtime.unwrap_or(mtime))
}

/// Gathers a closure.
#[derive(Debug, Default)]
pub(super) struct Builder {
    files: BTreeMap<Vec<u8>, Draft>,
    needs_ldconfig: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Draft {
    kind: ClosureKind,
    why: String,
    needed_by: Vec<(Vec<u8>, String)>,
}

impl Builder {
    /// A file with everything on the way to it.
    pub(super) fn file(&mut self, real: &[u8], host: &Path, way: &Way, why: &str) {
        let shown = || String::from_utf8_lossy(real).into_owned();
        for (at, target) in &way.links {
            let kind = || ClosureKind::Symlink { target: target.clone() };
            self.add(at, kind, || format!("symbolic link on the way to /{}", shown()));
        }
        for directory in &way.directories {
            let why = || format!("directory on the way to /{}", shown());
            self.add(directory, || ClosureKind::Directory, why);
        }
        self.add(real, || ClosureKind::File { host_path: host.into() }, || why.into());
    }

    /// A file from elsewhere on the host.
    pub(super) fn placed(&mut self, path: &[u8], host: &Path, why: &str) {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        self.add(path, || ClosureKind::File { host_path: host.into() }, || why.into());
    }

    /// A program that was asked for.
    pub(super) fn program(&mut self, module: &Module, why: &str) {
        self.file(&module.real, &module.host, &module.way, why);
    }

    /// A library or interpreter.
    pub(super) fn needed(&mut self, module: &Module, by: &[u8], name: &[u8], is_interp: bool) {
        let name = String::from_utf8_lossy(name).into_owned();
        let shown = String::from_utf8_lossy(by);
        let why = if is_interp {
            format!("ELF interpreter of /{shown}")
        } else {
            format!("needed by /{shown} as {name}")
        };
        self.file(&module.real, &module.host, &module.way, &why);
        if let Some(draft) = self.files.get_mut(module.real.as_slice()) {
            draft.needed_by.push((by.to_vec(), name));
        }
    }

    /// The sysroot's cache, without which a library is not found.
    pub(super) fn through_cache(&mut self, sysroot: &Path, module: &Module) {
        let path = b"etc/ld.so.cache";
        let host_path = sysroot.join(OsStr::from_bytes(path));
        let shown = String::from_utf8_lossy(&module.real);
        let why = || format!("names /{shown}, which is in no directory of the loader's own");
        self.add(path, || ClosureKind::File { host_path }, why);
    }

    pub(super) fn needs_ldconfig(&mut self, module: &Module) {
        if !self.needs_ldconfig.contains(&module.real) {
            self.needs_ldconfig.push(module.real.clone());
        }
    }

    fn add(
        &mut self,
        path: &[u8],
        kind: impl FnOnce() -> ClosureKind,
        why: impl FnOnce() -> String,
    ) {
        if self.files.contains_key(path) {
            return;
        }
        if let Entry::Vacant(place) = self.files.entry(path.to_vec()) {
            place.insert(Draft { kind: kind(), why: why(), needed_by: Vec::new() });
        }
    }

    pub(super) fn finish(self) -> Result<Closure> {
        let mut files = Vec::with_capacity(self.files.len());
        for (path, draft) in self.files {
            let mut needed_by = Vec::with_capacity(draft.needed_by.len());
            for (path, name) in draft.needed_by {
                needed_by.push(NeededBy { path: TreePath::new(path)?, name });
            }
            let (kind, why) = (draft.kind, draft.why);
            files.push(ClosureFile { path: TreePath::new(path)?, kind, why, needed_by });
        }
        // A directory that something is in need not be told; an empty one must be.
        let mut needs_ldconfig = Vec::new();
        for path in self.needs_ldconfig {
            needs_ldconfig.push(TreePath::new(path)?);
        }
        Ok(Closure { files, needs_ldconfig })
    }
}

impl ClosureKind {
    /// The node that this would be, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::File { .. } => Kind::File(Source::Bytes(Vec::new().into())).name(),
            Self::Symlink { .. } => "symbolic link",
            Self::Directory => Kind::Directory.name(),
        }
    }
}
