//! Where downloads, unpacked packages and built programs are kept between runs.
//!
//! Everything in the cache is addressed by a digest of what it was made from, is made beside its
//! place and renamed into it, and can be deleted at any time.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// A directory of things that can be made again.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    explain: bool,
}

impl Cache {
    /// The cache of this workspace: `$KILN_CACHE`, else `target/cache` of the workspace.
    #[must_use]
    pub fn of_workspace() -> Self {
        let root = std::env::var_os("KILN_CACHE")
            .map_or_else(|| workspace_root().join("target/cache"), PathBuf::from);
        Self { root, explain: false }
    }

    /// A cache in this directory.
    #[must_use]
    pub fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), explain: false }
    }

    /// The same cache, which says on standard error what it had and what it had to make. The names
    /// are those below its directory: each holds the digest of what the thing is made of.
    #[must_use]
    pub fn explained(mut self) -> Self {
        self.explain = true;
        self
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A path inside the cache; the directory it is in exists afterwards.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn path(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        Ok(path)
    }

    /// A directory inside the cache, which exists afterwards.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn directory(&self, name: impl AsRef<Path>) -> Result<PathBuf> {
        let path = self.root.join(name);
        std::fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
        Ok(path)
    }

    /// The thing at `name`, made by `make` if it is not there. `make` gets a path to make a file or
    /// directory at, which is renamed into place when it is whole.
    ///
    /// # Errors
    /// [`Error::Io`] and those of `make`.
    pub fn get_or_make(
        &self,
        name: impl AsRef<Path>,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let name = name.as_ref();
        let path = self.path(name)?;
        if path.exists() {
            self.say("there", name);
            return Ok(path);
        }
        self.say("made", name);
        let parent = path.parent().unwrap_or(&self.root);
        let beside = tempfile::Builder::new()
            .prefix(".making-")
            .tempdir_in(parent)
            .map_err(Error::io("create directory in", parent))?;
        let made = beside.path().join("made");
        make(&made)?;
        match std::fs::rename(&made, &path) {
            Ok(()) => Ok(path),
            // Another process made the same thing first: the address says that it is the same.
            Err(_) if path.exists() => Ok(path),
            Err(error) => Err(Error::io("rename into", &path)(error)),
        }
    }

    fn say(&self, what: &str, name: &Path) {
        if self.explain {
            eprintln!("cache: {what}: {}", name.display());
        }
    }
}

/// The directory of the workspace this crate was built in.
#[must_use]
pub fn workspace_root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Writes a file beside its place and renames it into it, so that no reader and no crash ever
/// leaves half of it.
///
/// # Errors
/// [`Error::Io`].
pub fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = beside(path)?;
    std::io::Write::write_all(&mut file, bytes).map_err(Error::io("write", path))?;
    persist(file, path)
}

/// Copies a file beside its place and renames it into it.
///
/// # Errors
/// [`Error::Io`].
pub fn copy_file(from: &Path, path: &Path) -> Result<()> {
    let file = beside(path)?;
    std::fs::copy(from, file.path()).map_err(Error::io("copy to", path))?;
    persist(file, path)
}

/// A file in the directory of another, to be [persisted](persist) as that.
pub(crate) fn beside(path: &Path) -> Result<tempfile::NamedTempFile> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or_else(|| Path::new("."));
    tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(parent)
        .map_err(Error::io("create a file in", parent))
}

/// Renames a finished temporary file into place, with the permissions that a file made by hand
/// would have (temporary files are private).
///
/// # Errors
/// [`Error::Io`].
pub fn persist(file: tempfile::NamedTempFile, path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::Permissions::from_mode(0o644);
    file.as_file().set_permissions(mode).map_err(Error::io("set the mode of", path))?;
    file.persist(path).map_err(|error| Error::io("rename into", path)(error.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_leaves_nothing_and_what_is_there_is_not_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::at(dir.path());
        let failed = cache.get_or_make("a/b", |path| {
            std::fs::write(path, "half").unwrap();
            Err(Error::input("b", "no"))
        });
        assert!(failed.is_err() && !dir.path().join("a/b").exists());
        for _ in 0..2 {
            let mut calls = 0;
            let path = cache
                .get_or_make("a/b", |path| {
                    calls += 1;
                    std::fs::write(path, "whole").map_err(Error::io("write", path))
                })
                .unwrap();
            assert_eq!(std::fs::read(path).unwrap(), b"whole");
            assert!(calls < 2);
        }
        assert_eq!(std::fs::read_dir(dir.path().join("a")).unwrap().count(), 1);
    }
}
