//! The files of a lock, fetched into a cache and checked on every use.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::fetch::Fetch;
use crate::lock::{Lock, LockedPackage};
use crate::{Error, Result, digest};

/// How many files are fetched at once.
const AT_ONCE: usize = 4;

/// The place of a package's file in a cache: `DIRECTORY/SHA256.deb`.
pub fn by_digest(directory: impl Into<PathBuf>) -> impl Fn(&LockedPackage) -> PathBuf + Sync {
    let directory = directory.into();
    move |package| directory.join(format!("{}.deb", package.sha256))
}

/// Makes sure that the file of every package of a lock is at the place that `place` gives, and
/// gives these places in the order of the lock. Files that are there already are read and checked
/// against the lock; others are fetched, unless `fetch` is `None` (offline), beside their place,
/// checked, and renamed to it.
///
/// # Errors
/// [`Error::Digest`] for a file that is not what the lock says, which is left as it is;
/// [`Error::Offline`]; [`Error::Io`]; that of `fetch`. The first in the order of the lock.
pub fn download(
    lock: &Lock,
    place: &(dyn Fn(&LockedPackage) -> PathBuf + Sync),
    fetch: Option<&dyn Fetch>,
) -> Result<Vec<PathBuf>> {
    download_with(lock, place, fetch, &|_, _| {})
}

/// As [`download`], and calls `progress` with each package that is there and how many are still to
/// come, in any order.
///
/// # Errors
/// As [`download`].
pub fn download_with(
    lock: &Lock,
    place: &(dyn Fn(&LockedPackage) -> PathBuf + Sync),
    fetch: Option<&dyn Fetch>,
    progress: &(dyn Fn(&LockedPackage, usize) + Sync),
) -> Result<Vec<PathBuf>> {
    let next = AtomicUsize::new(0);
    let to_come = AtomicUsize::new(lock.packages.len());
    // The first error in the order of the lock is given, whatever came first in time.
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let first_failed = || match failed.lock() {
        Ok(failed) => failed,
        Err(poisoned) => poisoned.into_inner(),
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(lock.packages.len()) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(package) = lock.packages.get(number) else { return };
                    if first_failed().is_some() {
                        return;
                    }
                    match one(package, &place(package), fetch) {
                        Ok(()) => {
                            let left = to_come.fetch_sub(1, Ordering::Relaxed) - 1;
                            progress(package, left);
                        }
                        Err(error) => {
                            let mut failed = first_failed();
                            if failed.as_ref().is_none_or(|(earlier, _)| number < *earlier) {
                                *failed = Some((number, error));
                            }
                        }
                    }
                }
            });
        }
    });
    match first_failed().take() {
        Some((_, error)) => Err(error),
        None => Ok(lock.packages.iter().map(place).collect()),
    }
}

fn one(package: &LockedPackage, path: &Path, fetch: Option<&dyn Fetch>) -> Result<()> {
    if path.exists() {
        return check(package, path);
    }
    let Some(fetch) = fetch else {
        return Err(Error::Offline { package: package.to_string(), path: path.into() });
    };
    get(fetch, &package.uri(), path, package.size, &|made| check(package, made))
}

/// Checks the file of a package against the lock.
pub(crate) fn check(package: &LockedPackage, path: &Path) -> Result<()> {
    let (found, size) = digest::of_file(path)?;
    if found != package.sha256 || size != package.size {
        return Err(Error::Digest {
            package: package.to_string(),
            path: path.into(),
            expected: package.sha256.clone(),
            found,
        });
    }
    Ok(())
}

/// Fetches a file beside its place, checks it there, and renames it.
pub(crate) fn get(
    fetch: &dyn Fetch,
    uri: &str,
    path: &Path,
    limit: u64,
    check: &dyn Fn(&Path) -> Result<()>,
) -> Result<()> {
    let directory = path.parent().unwrap_or(path);
    std::fs::create_dir_all(directory).map_err(Error::io("create directory", directory))?;
    // Removed when it goes out of scope, which is after every error.
    let beside = tempfile::Builder::new()
        .prefix(".part-")
        .tempfile_in(directory)
        .map_err(Error::io("create a file in", directory))?
        .into_temp_path();
    fetch.fetch(uri, &beside, limit)?;
    check(&beside).map_err(|error| match error {
        // Where the file was for a moment helps nobody.
        Error::Digest { package, expected, found, .. } => {
            Error::Digest { package, path: uri.into(), expected, found }
        }
        other => other,
    })?;
    beside.persist(path).map_err(|error| Error::io("rename to", path)(error.error))
}
