//! Paths inside a sysroot: symbolic links followed without ever leaving it, lookups remembered.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// How many symbolic links a path may lead through (`MAXSYMLINKS`).
const MAX_SYMLINKS: usize = 40;

/// What is at a path, links not followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    Missing,
    Directory,
    Link(Vec<u8>),
    /// Device and inode: what makes two names one file.
    File {
        id: (u64, u64),
    },
    Other,
}

/// What lies on the way to a file and must be in the image for the way to exist there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Way {
    /// Symbolic links: where (without leading slash) and their text.
    pub(super) links: Vec<(Vec<u8>, Vec<u8>)>,
    /// Directories that a `..` leaves again.
    pub(super) directories: Vec<Vec<u8>>,
}

/// A path with all links followed.
#[derive(Debug, Clone)]
pub(super) struct Resolved {
    /// The path without leading slash, `..` and links.
    pub(super) real: Vec<u8>,
    pub(super) found: Found,
    pub(super) way: Way,
}

#[derive(Debug)]
pub(super) struct Sysroot {
    root: PathBuf,
    known: HashMap<Vec<u8>, Found>,
}

impl Sysroot {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, known: HashMap::new() }
    }

    /// The path on the host.
    pub(super) fn host(&self, real: &[u8]) -> PathBuf {
        self.root.join(Path::new(OsStr::from_bytes(real)))
    }

    /// What is at a path whose directories are no links.
    pub(super) fn look(&mut self, real: &[u8]) -> Found {
        if let Some(found) = self.known.get(real) {
            return found.clone();
        }
        let path = self.host(real);
        let found = match fs::symlink_metadata(&path) {
            Err(_) => Found::Missing,
            Ok(data) if data.is_dir() => Found::Directory,
            Ok(data) if data.is_file() => Found::File { id: (data.dev(), data.ino()) },
            Ok(data) if data.is_symlink() => match fs::read_link(&path) {
                Ok(target) => Found::Link(target.into_os_string().as_bytes().to_vec()),
                Err(_) => Found::Missing,
            },
            Ok(_) => Found::Other,
        };
        self.known.insert(real.to_vec(), found.clone());
        found
    }

    /// Follows every link of a path. `None` when it leads nowhere.
    pub(super) fn resolve(&mut self, path: &[u8]) -> Option<Resolved> {
        self.resolve_from(
            Resolved { real: Vec::new(), found: Found::Directory, way: Way::default() },
            path,
        )
    }

    /// Follows a path relative to a directory that is resolved already.
    pub(super) fn resolve_from(&mut self, from: Resolved, path: &[u8]) -> Option<Resolved> {
        let Resolved { mut real, mut found, mut way } = from;
        let parts = |path: &[u8]| -> Vec<Vec<u8>> {
            let parts = path.split(|byte| *byte == b'/').rev();
            parts.filter(|part| !matches!(*part, b"" | b".")).map(<[u8]>::to_vec).collect()
        };
        if path.starts_with(b"/") {
            (real, found) = (Vec::new(), Found::Directory);
        }
        let mut pending = parts(path);
        let mut links = 0;
        while let Some(part) = pending.pop() {
            if found != Found::Directory {
                return None;
            }
            if part == b".." {
                if !real.is_empty() {
                    way.directories.push(real.clone());
                }
                let end = real.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                real.truncate(end);
                continue;
            }
            let parent = real.len();
            if parent > 0 {
                real.push(b'/');
            }
            real.extend_from_slice(&part);
            found = self.look(&real);
            match &found {
                Found::Missing => return None,
                Found::Link(target) => {
                    links += 1;
                    if links > MAX_SYMLINKS || target.is_empty() {
                        return None;
                    }
                    way.links.push((real.clone(), target.clone()));
                    real.truncate(if target.starts_with(b"/") { 0 } else { parent });
                    pending.extend(parts(target));
                    found = Found::Directory;
                }
                _ => {}
            }
        }
        Some(Resolved { real, found, way })
    }

    /// The names in a directory, sorted.
    pub(super) fn list(&mut self, directory: &[u8]) -> Vec<Vec<u8>> {
        let Some(resolved) = self.resolve(directory) else { return Vec::new() };
        let Ok(entries) = fs::read_dir(self.host(&resolved.real)) else { return Vec::new() };
        let mut names: Vec<Vec<u8>> =
            entries.flatten().map(|entry| entry.file_name().as_bytes().to_vec()).collect();
        names.sort();
        names
    }

    /// The content of a file of at most `max` bytes; `None` when there is none, or a longer one.
    pub(super) fn read(&mut self, path: &[u8], max: u64) -> Option<Vec<u8>> {
        use std::io::Read as _;
        let resolved = self.resolve(path)?;
        if !matches!(resolved.found, Found::File { .. }) {
            return None;
        }
        let file = fs::File::open(self.host(&resolved.real)).ok()?;
        let mut bytes = Vec::new();
        file.take(max + 1).read_to_end(&mut bytes).ok()?;
        (bytes.len() as u64 <= max).then_some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside_and_are_recorded() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("usr/lib/sub")).unwrap();
        fs::write(dir.path().join("usr/lib/libx.so.1.0"), "x").unwrap();
        symlink("usr/lib", dir.path().join("lib")).unwrap();
        symlink("/lib/libx.so.1.0", dir.path().join("usr/lib/libx.so.1")).unwrap();
        symlink("../../../../..", dir.path().join("up")).unwrap();
        symlink("loop", dir.path().join("loop")).unwrap();
        let mut sysroot = Sysroot::new(dir.path().into());
        let found = sysroot.resolve(b"/lib/sub/../libx.so.1").unwrap();
        assert_eq!(found.real, b"usr/lib/libx.so.1.0");
        let links: Vec<&[u8]> = found.way.links.iter().map(|(at, _)| at.as_slice()).collect();
        assert_eq!(links, [&b"lib"[..], b"usr/lib/libx.so.1", b"lib"]);
        assert_eq!(found.way.directories, [b"usr/lib/sub"]);
        assert_eq!(sysroot.resolve(b"up/up/lib/libx.so.1").unwrap().real, b"usr/lib/libx.so.1.0");
        assert!(sysroot.resolve(b"loop").is_none());
        assert!(sysroot.resolve(b"usr/lib/libx.so.1.0/x").is_none());
    }
}
