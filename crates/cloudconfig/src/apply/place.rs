//! Directories by descriptor, and files in them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid};
use rustix::io::Errno;

/// Bytes of a file that are read: of what is there already, to be added to.
pub(super) const MOST: usize = 64 << 20;
/// What a file is called until it is whole. One that a crash left is taken away.
const UNFINISHED: &str = ".cloud-config-unfinished";

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, DIRECTORY, Mode::empty())?)
}

/// Reads a file, with links followed inside the root; none where it is not there.
pub(super) fn read_in_root(root: &OwnedFd, path: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    match rustix::fs::openat2(root, path, flags, Mode::empty(), INSIDE) {
        Ok(file) => content(file, MOST).map(Some),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn content(file: OwnedFd, most: usize) -> io::Result<Vec<u8>> {
    let file = File::from(file);
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no plain file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > most {
        return Err(io::Error::other(format!("more than {most} bytes")));
    }
    Ok(bytes)
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory(OwnedFd);

impl Directory {
    /// A directory by its path from the root, made with what is above it where it is missing.
    pub(super) fn in_root(root: &OwnedFd, path: &str) -> io::Result<Self> {
        let at = |path: &str| rustix::fs::openat2(root, path, DIRECTORY, Mode::empty(), INSIDE);
        let mut walked = String::from("/");
        let mut above = at(&walked)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            walked.push_str(name);
            above = match at(&walked) {
                Ok(directory) => directory,
                Err(Errno::NOENT) => {
                    // A link that leads nowhere is there: then this fails, and so does what follows.
                    match rustix::fs::mkdirat(&above, name, Mode::from(0o755)) {
                        Ok(()) | Err(Errno::EXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    at(&walked)?
                }
                Err(error) => return Err(error.into()),
            };
            walked.push('/');
        }
        Ok(Self(above))
    }

    /// A directory in this one, no link, made where it is missing. One that is there has to be its user's,
    /// or root's.
    pub(super) fn child(&self, name: &str, mode: u32, uid: u32, gid: u32) -> io::Result<Self> {
        let open =
            || rustix::fs::openat(&self.0, name, DIRECTORY | OFlags::NOFOLLOW, Mode::empty());
        match rustix::fs::mkdirat(&self.0, name, Mode::from(0o700)) {
            Ok(()) => {
                let made = open()?;
                own(&made, uid, gid)?;
                rustix::fs::fchmod(&made, Mode::from_bits_truncate(mode))?;
                Ok(Self(made))
            }
            Err(Errno::EXIST) => {
                let found = open().map_err(|error| match error {
                    Errno::LOOP | Errno::NOTDIR => {
                        io::Error::other(format!("{name} is no directory"))
                    }
                    error => error.into(),
                })?;
                let owner = rustix::fs::fstat(&found)?.st_uid;
                if owner != uid && owner != 0 {
                    return Err(io::Error::other(format!(
                        "{name} belongs to another user, {owner}"
                    )));
                }
                Ok(Self(found))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a file in it; a link is an error.
    pub(super) fn read(&self, name: &str, most: usize) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        match rustix::fs::openat(&self.0, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
            Ok(file) => content(file, most).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(Errno::LOOP) => Err(io::Error::other("a symbolic link, to which nothing is added")),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a file beside its place and renames it.
    pub(super) fn write(
        &self,
        name: &str,
        content: &[u8],
        mode: u32,
        uid: u32,
        gid: u32,
    ) -> io::Result<()> {
        match rustix::fs::statat(&self.0, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Renaming over one of these would take away what somebody waits at.
            Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                FileType::RegularFile | FileType::Symlink => {}
                FileType::Directory => return Err(io::Error::other("a directory")),
                _ => return Err(io::Error::other("no plain file")),
            },
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let unlink = || rustix::fs::unlinkat(&self.0, UNFINISHED, AtFlags::empty());
        match unlink() {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        // Nobody else reads it until it has the mode that it is to have.
        let file = File::from(rustix::fs::openat(&self.0, UNFINISHED, flags, Mode::from(0o600))?);
        let written = fill(&file, content, mode, uid, gid)
            .and_then(|()| Ok(rustix::fs::renameat(&self.0, UNFINISHED, &self.0, name)?));
        if written.is_err() {
            // What went wrong first is what is told.
            let _ = unlink();
        }
        written?;
        Ok(rustix::fs::fsync(&self.0)?)
    }
}

fn fill(mut file: &File, content: &[u8], mode: u32, uid: u32, gid: u32) -> io::Result<()> {
    file.write_all(content)?;
    own(file, uid, gid)?;
    // After the owner, whose change takes set-user-ID bits away.
    rustix::fs::fchmod(file, Mode::from_bits_truncate(mode))?;
    file.sync_all()
}

/// Gives a file to somebody. Whoever is not root can at least leave it as it is.
fn own(file: impl AsFd, uid: u32, gid: u32) -> io::Result<()> {
    let is = rustix::fs::fstat(&file)?;
    if (is.st_uid, is.st_gid) == (uid, gid) {
        return Ok(());
    }
    Ok(rustix::fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?)
}
