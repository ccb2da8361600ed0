//! A mounted file system as entries.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use crate::{Entry, digest};

/// Everything below a directory and the directory itself, in the order of the paths' bytes.
///
/// # Errors
/// Those of the file system, with the path.
pub fn walk(root: &Path) -> io::Result<Vec<Entry>> {
    let mut found = vec![entry(root, Path::new("."))?];
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for child in fs::read_dir(&directory).map_err(|error| named(&directory, &error))? {
            let path = child.map_err(|error| named(&directory, &error))?.path();
            let below = path.strip_prefix(root).unwrap_or(&path);
            let (entry, inode) = entry(&path, below)?;
            if entry.kind == 'd' {
                directories.push(path);
            }
            found.push((entry, inode));
        }
    }
    found.sort_by(|a, b| a.0.path.cmp(&b.0.path));
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    Ok(found
        .into_iter()
        .map(|(entry, inode)| {
            let first_name = first.entry(inode).or_insert_with(|| entry.path.clone()).clone();
            Entry { first_name, ..entry }
        })
        .collect())
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn entry(path: &Path, below: &Path) -> io::Result<(Entry, u64)> {
    let fail = |error: io::Error| named(path, &error);
    let metadata = fs::symlink_metadata(path).map_err(fail)?;
    let kind = metadata.file_type();
    let device = || {
        let (major, minor) =
            (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
        format!("{major}:{minor}")
    };
    let (letter, what) = if kind.is_dir() {
        ('d', String::new())
    } else if kind.is_file() {
        ('f', digest(File::open(path).map_err(fail)?, metadata.len()).map_err(fail)?)
    } else if kind.is_symlink() {
        let target = fs::read_link(path).map_err(fail)?;
        ('l', target.into_os_string().into_vec().escape_ascii().to_string())
    } else if kind.is_char_device() {
        ('c', device())
    } else if kind.is_block_device() {
        ('b', device())
    } else {
        (if kind.is_fifo() { 'p' } else { 's' }, String::new())
    };
    let entry = Entry {
        path: below.as_os_str().as_bytes().to_vec(),
        kind: letter,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: metadata.mtime(),
        links: metadata.nlink(),
        first_name: Vec::new(),
        what,
        xattrs: xattrs(path).map_err(fail)?,
    };
    Ok((entry, metadata.ino()))
}

fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0; 1 << 12];
    let len = match rustix::fs::llistxattr(path, &mut names) {
        Ok(len) => len,
        Err(rustix::io::Errno::OPNOTSUPP) => 0,
        Err(error) => return Err(error.into()),
    };
    let names = names.get(..len).unwrap_or_default();
    let mut found = BTreeMap::new();
    for name in names.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 1 << 13];
        let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value)?;
        value.truncate(len);
        found.insert(name.to_vec(), value);
    }
    Ok(found)
}
