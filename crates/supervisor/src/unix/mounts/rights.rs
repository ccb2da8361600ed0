//! What is prepared of a service's paths before there is a process of it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::{Kind, Right, Rights, table};
use crate::spec::{Isolation, Namespace};
use crate::unix::spawn::unprepared;
use crate::unix::sys;
use crate::vocabulary::{Errno, SpawnError, SpawnStep};

impl Rights {
    /// Those that a service is to have.
    ///
    /// # Errors
    /// One of the paths is not there; or the kernel is too old, and what is mounted there too much for the
    /// way without it: a service is not started with less confinement than it is to have.
    pub(in crate::unix) fn prepare(isolation: &Isolation) -> Result<Self, SpawnError> {
        if isolation.read_only.is_empty() {
            return Ok(Self::default());
        }
        let mut found = BTreeMap::new();
        // of one that is in both lists nothing can be written
        for (paths, read_only) in [(&isolation.writable, false), (&isolation.read_only, true)] {
            for path in paths {
                if let Some(path) = resolve(path)? {
                    found.insert(path, read_only);
                }
            }
        }
        let borders = borders(found);
        let one_by_one = match sys::has_mount_setattr() {
            true => None,
            false => Some(points(isolation, &borders)?),
        };
        let right = |(path, read_only): &(PathBuf, bool)| {
            let kind = if *read_only { Kind::ReadOnly } else { Kind::AsBefore { copy: -1 } };
            Ok(Right { path: text(path)?, kind })
        };
        Ok(Self { paths: borders.iter().map(right).collect::<Result<_, _>>()?, one_by_one })
    }
}

/// Paths where what can be written changes, each after those that it is below of: `true` for read-only.
fn borders(found: BTreeMap<PathBuf, bool>) -> Vec<(PathBuf, bool)> {
    let mut borders: Vec<(PathBuf, bool)> = Vec::new();
    // the order of paths is that of their components
    for (path, read_only) in found {
        if is_read_only(&path, &borders) != read_only {
            borders.push((path, read_only));
        }
    }
    borders
}

/// Whether a path is below one that becomes read-only, or is one.
pub(super) fn is_read_only(path: &Path, borders: &[(PathBuf, bool)]) -> bool {
    let around = borders.iter().rev().find(|(border, _)| path.starts_with(border));
    around.is_some_and(|(_, read_only)| *read_only)
}

/// The mounts to be made read-only one by one, by a kernel that cannot do it together.
fn points(
    isolation: &Isolation,
    borders: &[(PathBuf, bool)],
) -> Result<Vec<(CString, rustix::mount::MountFlags)>, SpawnError> {
    let found = match isolation.all_namespaces().contains(&Namespace::Pid) {
        true if is_read_only(Path::new("/proc"), borders) => {
            Err("it will have another /proc".to_owned())
        }
        _ => std::fs::read("/proc/self/mountinfo").map_err(|error| error.to_string()),
    };
    found.and_then(|text| table::points(&text, borders)).map_err(|why| {
        let kernel = rustix::system::uname();
        let subject = format!(
            "read-only paths by /proc/self/mountinfo ({why}), without which it takes Linux 5.12 (this is {})",
            kernel.release().to_string_lossy()
        );
        SpawnError { step: SpawnStep::Prepare, errno: Errno(libc::ENOSYS), subject }
    })
}

/// Where a path leads to; `None` for one that may be absent, and is.
fn resolve(path: &Path) -> Result<Option<PathBuf>, SpawnError> {
    let (path, optional) = optional(path);
    match std::fs::canonicalize(path) {
        Ok(path) => Ok(Some(path)),
        Err(error) if optional && is_absent(&error) => Ok(None),
        Err(error) => Err(unprepared(path.display().to_string(), &error)),
    }
}

/// The paths that are not left out because they may be absent, and are.
pub(in crate::unix) fn present(paths: &[PathBuf]) -> Result<Vec<CString>, SpawnError> {
    let is_there = |path: &&PathBuf| match optional(path) {
        (path, true) => !std::fs::metadata(path).is_err_and(|error| is_absent(&error)),
        (_, false) => true,
    };
    paths.iter().filter(is_there).map(|path| text(optional(path).0)).collect()
}

/// A path, and whether it may be absent: then it begins with `-`.
fn optional(path: &Path) -> (&Path, bool) {
    match path.as_os_str().as_bytes().strip_prefix(b"-") {
        Some(rest) => (Path::new(OsStr::from_bytes(rest)), true),
        None => (path, false),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn text(path: &Path) -> Result<CString, SpawnError> {
    let bad = |_| unprepared(path.display().to_string(), &io::ErrorKind::InvalidInput.into());
    CString::new(path.as_os_str().as_bytes()).map_err(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_where_it_changes_there_is_something_to_do() {
        let of = |list: &[(&str, bool)]| {
            borders(list.iter().map(|(path, read_only)| (path.into(), *read_only)).collect())
        };
        let path = PathBuf::from;
        assert_eq!(of(&[("/a", false)]), []);
        assert_eq!(of(&[("/a", true), ("/a/b", true), ("/ab", false)]), [(path("/a"), true)]);
        assert_eq!(
            of(&[("/", true), ("/var/x/y", true), ("/var/x", false), ("/var/x/z", false)]),
            [(path("/"), true), (path("/var/x"), false), (path("/var/x/y"), true)]
        );
        // "-" comes before "/" as a byte, and not as a path
        assert_eq!(
            of(&[("/a", true), ("/a/b", false), ("/a-b", false)]),
            [(path("/a"), true), (path("/a/b"), false)]
        );
    }

    #[test]
    fn what_may_be_absent_is_left_out_and_what_may_not_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&directory, directory.join("link")).unwrap();
        let mut isolation = Isolation {
            read_only: vec![directory.join("link")],
            writable: vec!["-/no/such/path".into(), directory.join("link/..")],
            ..Isolation::default()
        };
        let rights = Rights::prepare(&isolation).unwrap();
        let paths: Vec<_> = rights.paths.iter().map(|right| right.path.to_str().unwrap()).collect();
        assert_eq!(paths, [directory.to_str().unwrap()]);
        isolation.read_only.push("/no/such/path".into());
        let error = Rights::prepare(&isolation).unwrap_err().to_string();
        assert_eq!(error, "cannot prepare /no/such/path: ENOENT");
        let hidden = ["-/no/such/path".into(), "/no/such/path".into(), "-/".into()];
        assert_eq!(present(&hidden).unwrap(), [c"/no/such/path".to_owned(), c"/".to_owned()]);
    }
}
