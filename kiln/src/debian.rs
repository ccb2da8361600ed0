//! Debian packages, downloaded and unpacked below the cache, never installed.
//!
//! The package index and the download are apt's (which checks the archive's signatures); each file
//! is checked against the index's SHA-256 again before it is unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Cache, Error, Result, command, digest};

/// How long a package may take to come.
const DOWNLOAD: Duration = Duration::from_secs(600);
/// How long apt may take to answer from its index, and a package to unpack.
const LOCAL: Duration = Duration::from_secs(120);

/// A package as it stands in apt's index.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its file name, which holds the version.
    pub file_name: String,
    /// The SHA-256 of the file.
    pub sha256: String,
}

/// Looks packages up, in one question to apt whose answer is kept until apt's index changes.
///
/// # Errors
/// [`Error::Input`] when apt does not know one, with what to do.
pub fn find(cache: &Cache, names: &[&str]) -> Result<Vec<Package>> {
    let answer = ask(cache, "apt-get", &["download", "--print-uris"], names)?;
    let packages: Vec<Package> = names
        .iter()
        .filter_map(|name| {
            let start = format!("{name}_");
            // 'address' file-name size SHA256:digest
            answer.lines().find_map(|line| {
                let mut words = line.split_whitespace().skip(1);
                let file_name = words.next().filter(|name| name.starts_with(&start))?.to_owned();
                let sha256 = words.nth(1)?.strip_prefix("SHA256:")?.to_owned();
                Some(Package { name: (*name).to_owned(), file_name, sha256 })
            })
        })
        .collect();
    match names.iter().find(|name| !packages.iter().any(|package| package.name == **name)) {
        None => Ok(packages),
        Some(name) => Err(unknown(name, "apt knows no file for it")),
    }
}

fn unknown(name: &str, reason: &str) -> Error {
    Error::input(format!("Debian package {name}"), format!("{reason}; try `apt-get update`"))
}

/// What apt answers to a question about packages.
fn ask(cache: &Cache, program: &str, words: &[&str], names: &[&str]) -> Result<String> {
    // apt replaces files in this directory when its index changes.
    let lists = std::fs::metadata("/var/lib/apt/lists").and_then(|found| found.modified()).ok();
    let question = format!("{program} {words:?} {names:?} {lists:?}");
    let kept =
        cache.get_or_make(format!("apt/{}", digest::of_bytes(question.as_bytes())), |made| {
            command::require(program, "to get Debian packages", "apt")?;
            let mut query = Command::new(program);
            query.args(words).args(names);
            let output = command::run(&mut query, LOCAL)
                .map_err(|error| unknown(&names.join(", "), &error.to_string()))?;
            std::fs::write(made, output.stdout).map_err(Error::io("write", made))
        })?;
    std::fs::read_to_string(&kept).map_err(Error::io("read", &kept))
}

/// The packages that a package depends on directly, first alternatives only.
///
/// # Errors
/// [`Error::Command`].
pub fn dependencies(cache: &Cache, name: &str) -> Result<Vec<String>> {
    let text = ask(cache, "apt-cache", &["show", "--no-all-versions"], &[name])?;
    let depends = text.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap_or("");
    Ok(depends
        .split(',')
        .filter_map(|alternatives| alternatives.split('|').next()?.split_whitespace().next())
        .map(str::to_owned)
        .collect())
}

/// Downloads a package into the cache, unless it is there.
///
/// # Errors
/// [`Error::Command`] after three tries, [`Error::Digest`].
pub fn download(cache: &Cache, package: &Package) -> Result<PathBuf> {
    cache.get_or_make(format!("debian/{}.deb", package.sha256), |made| {
        let directory = tempfile::tempdir().map_err(Error::io("create directory", made))?;
        // apt drops its privileges for a download and must still be able to write here.
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        std::fs::set_permissions(directory.path(), open)
            .map_err(Error::io("set the mode of", directory.path()))?;
        let mut tries = 0;
        loop {
            tries += 1;
            let mut fetch = Command::new("apt-get");
            fetch.args(["download", "-qq", &package.name]).current_dir(directory.path());
            match command::run(&mut fetch, DOWNLOAD) {
                Ok(_) => break,
                Err(error) if tries == 3 => return Err(error),
                Err(_) => {}
            }
        }
        let path = directory.path().join(&package.file_name);
        let found = digest::of_file(&path)?;
        if found != package.sha256 {
            return Err(Error::Digest { path, expected: package.sha256.clone(), found });
        }
        std::fs::copy(&path, made).map(drop).map_err(Error::io("copy to", made))
    })
}

/// Unpacks packages, downloaded if need be, into one directory tree with Debian's merged `/usr`.
/// No maintainer script runs. Gives the directory.
///
/// # Errors
/// Those of [`find`] and [`download`]; [`Error::Command`].
pub fn sysroot(cache: &Cache, names: &[&str]) -> Result<PathBuf> {
    let packages = find(cache, names)?;
    let key = digest::of_parts(packages.iter().map(|package| package.sha256.as_bytes()));
    cache.get_or_make(format!("sysroot/{key}"), |made| {
        merge_usr(made)?;
        for package in &packages {
            unpack(&download(cache, package)?, made)?;
        }
        Ok(())
    })
}

fn merge_usr(root: &Path) -> Result<()> {
    for name in ["bin", "sbin", "lib", "lib64"] {
        let directory = root.join("usr").join(name);
        std::fs::create_dir_all(&directory).map_err(Error::io("create directory", &directory))?;
        let link = root.join(name);
        std::os::unix::fs::symlink(format!("usr/{name}"), &link)
            .map_err(Error::io("create link", &link))?;
    }
    Ok(())
}

fn unpack(deb: &Path, into: &Path) -> Result<()> {
    command::require("dpkg-deb", "to unpack Debian packages", "dpkg")?;
    // The archive goes through a file: a pipe between the two would hide the failure of the first.
    let archive = tempfile::NamedTempFile::new_in(into.parent().unwrap_or(into))
        .map_err(Error::io("create a file in", into))?;
    let mut extract = Command::new("sh");
    extract.args(["-c", "exec dpkg-deb --fsys-tarfile \"$1\" > \"$2\"", "sh"]);
    extract.arg(deb).arg(archive.path());
    command::run(&mut extract, LOCAL)?;
    let mut tar = Command::new("tar");
    tar.arg("--extract").arg("--file").arg(archive.path());
    tar.args([
        "--keep-directory-symlink",
        "--no-same-owner",
        "--preserve-permissions",
        "--directory",
    ])
    .arg(into);
    command::run(&mut tar, LOCAL)?;
    Ok(())
}

/// A kernel and what belongs to it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Kernel {
    /// The bootable image.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`; nothing for a kernel of the user's own that needs none.
    pub modules: Option<PathBuf>,
    /// Its configuration.
    pub config: PathBuf,
    /// Its release, as `uname -r` says it.
    pub release: String,
    /// The package it is from, or the source that it was built from.
    pub package: String,
}

/// Gets a kernel from a package, or from the package that a meta-package such as
/// `linux-image-amd64` stands for.
///
/// # Errors
/// Those of [`sysroot`]; [`Error::Input`] when the package holds no kernel.
pub fn kernel(cache: &Cache, package: &str) -> Result<Kernel> {
    let holds_kernel = |name: &str| {
        name.strip_prefix("linux-image-")
            .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let name = if holds_kernel(package) {
        package.to_owned()
    } else {
        dependencies(cache, package)?.into_iter().find(|name| holds_kernel(name)).ok_or_else(
            || Error::input(format!("Debian package {package}"), "it is no kernel and names none"),
        )?
    };
    let root = sysroot(cache, &[&name])?;
    crate::kernel::in_root(&root, &name)
}
