//! Where a kernel's source comes from.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Cache, Error, Progress, Result, command, digest};

/// How long unpacking 1.3 GB of files may take.
const UNPACK: Duration = Duration::from_secs(15 * 60);

/// Where a kernel's source comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A Debian package such as `linux-source-6.1`, unpacked, which holds a tarball.
    Package {
        /// The name.
        name: String,
        /// The directory that has `usr/src`.
        root: PathBuf,
        /// Of the package's file.
        sha256: String,
    },
    /// A tree of the user's own, in which nothing has been built. It is only read.
    Tree(PathBuf),
}

impl Source {
    /// A tree of the user's own.
    pub fn tree(path: impl Into<PathBuf>) -> Self {
        Self::Tree(path.into())
    }

    /// The source as files: unpacked into the cache, or where the user has it.
    ///
    /// # Errors
    /// [`Error::Input`] when this is no kernel's source, or one that has been built in.
    pub fn unpack(&self, cache: &Cache, progress: &Progress) -> Result<Unpacked> {
        let (path, digest) = match self {
            Self::Package { name, root, sha256 } => {
                from_package(cache, name, sha256, root, progress)?
            }
            Self::Tree(path) => {
                let path = std::path::absolute(path).map_err(Error::io("find", path))?;
                let step = progress.step(format!("reading {}", path.display()));
                for built in [".config", "include/config"] {
                    if path.join(built).exists() {
                        return Err(Error::input(
                            path.display().to_string(),
                            format!("it has been built in ({built} is there): run `make mrproper`"),
                        ));
                    }
                }
                let digest = digest_of(&path)?;
                step.done();
                (path, digest)
            }
        };
        if path.join("Kconfig").is_file() && path.join("Makefile").is_file() {
            Ok(Unpacked { path, digest })
        } else {
            let reason = "it is no kernel's source: there is no Kconfig or no Makefile";
            Err(Error::input(path.display().to_string(), reason))
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Package { name, .. } => f.write_str(name),
            Self::Tree(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A kernel's source as files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unpacked {
    /// The top of the tree. Nothing is written there.
    pub path: PathBuf,
    /// What tells it from any other: of the package it is from, or of all of its files.
    pub digest: String,
}

fn from_package(
    cache: &Cache,
    package: &str,
    sha256: &str,
    root: &Path,
    progress: &Progress,
) -> Result<(PathBuf, String)> {
    let name = format!("linux/source-{}", sha256.get(..16).unwrap_or(sha256));
    let path = cache.get_or_make(name, |made| {
        let step = progress.step(format!("unpacking {package} (once)"));
        let sources = root.join("usr/src");
        let entries = std::fs::read_dir(&sources).map_err(Error::io("read directory", &sources))?;
        let tarball = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .find(|path| path.to_string_lossy().contains(".tar"))
            .ok_or_else(|| {
                let what = format!("Debian package {package}");
                Error::input(what, "it holds no /usr/src/*.tar.*: give a linux-source package")
            })?;
        if tarball.extension().is_some_and(|extension| extension == "xz") {
            command::require("xz", "to unpack the kernel's source", "xz-utils")?;
        }
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let mut tar = Command::new("tar");
        tar.args(["--extract", "--no-same-owner", "--strip-components=1", "--file"]);
        tar.arg(&tarball).arg("--directory").arg(made);
        command::run(&mut tar, UNPACK)?;
        step.done();
        Ok(())
    })?;
    Ok((path, sha256.to_owned()))
}

/// Of the paths, modes and contents of all files, those of git's own aside.
fn digest_of(root: &Path) -> Result<String> {
    let mut directories = vec![root.to_path_buf()];
    let mut files = Vec::new();
    while let Some(directory) = directories.pop() {
        let entries =
            std::fs::read_dir(&directory).map_err(Error::io("read directory", &directory))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("read directory", &directory))?;
            let kind = entry.file_type().map_err(Error::io("stat", &entry.path()))?;
            if kind.is_dir() && entry.file_name() != ".git" {
                directories.push(entry.path());
            } else if kind.is_file() || kind.is_symlink() {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    let mut parts = Vec::with_capacity(files.len());
    for path in files {
        let inner = path.strip_prefix(root).unwrap_or(&path).as_os_str().as_encoded_bytes();
        let meta = std::fs::symlink_metadata(&path).map_err(Error::io("stat", &path))?;
        let content = if meta.is_symlink() {
            let target = std::fs::read_link(&path).map_err(Error::io("read link", &path))?;
            digest::of_bytes(target.as_os_str().as_encoded_bytes())
        } else {
            digest::of_file(&path)?
        };
        // A script runs by its mode; nothing else of it gets into a build.
        let runs = std::os::unix::fs::PermissionsExt::mode(&meta.permissions()) & 0o111 != 0;
        let kind = [u8::from(runs), u8::from(meta.is_symlink())];
        parts.push(digest::of_parts([inner, &kind, content.as_bytes()]));
    }
    Ok(digest::of_parts(parts.iter().map(String::as_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_told_by_its_content_and_refused_when_it_is_none() {
        let work = tempfile::tempdir().unwrap();
        let cache = Cache::at(work.path().join("cache"));
        let unpack = |path: &Path| Source::tree(path).unpack(&cache, &Progress::quiet());
        let make = |name: &str, makefile: &str| {
            let tree = work.path().join(name);
            std::fs::create_dir_all(tree.join("init")).unwrap();
            std::fs::write(tree.join("Kconfig"), "").unwrap();
            std::fs::write(tree.join("init/main.c"), "int x;").unwrap();
            std::fs::write(tree.join("Makefile"), makefile).unwrap();
            tree
        };
        let (a, b, c) = (make("a", "all:"), make("b", "all:"), make("c", "none:"));
        assert_eq!(unpack(&a).unwrap().digest, unpack(&b).unwrap().digest);
        assert_ne!(unpack(&a).unwrap().digest, unpack(&c).unwrap().digest);

        std::fs::write(a.join(".config"), "").unwrap();
        let built = unpack(&a).unwrap_err().to_string();
        assert!(built.contains("mrproper"), "{built}");
        std::fs::remove_file(b.join("Kconfig")).unwrap();
        let none = unpack(&b).unwrap_err().to_string();
        assert!(none.contains("no kernel's source"), "{none}");
    }
}
