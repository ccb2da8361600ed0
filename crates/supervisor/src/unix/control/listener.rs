//! The listening socket: made so that nobody ever sees it half made, and never a reason to spin.

use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::control::ControlOptions;

/// How many may wait to be accepted.
const BACKLOG: i32 = 128;

#[derive(Debug)]
pub(super) struct Listener {
    fd: OwnedFd,
    path: PathBuf,
    /// Device and inode of the file, which is removed at the end if it is still ours.
    identity: Option<(u64, u64)>,
    /// A descriptor in reserve, so that somebody is still answered when there are no more.
    spare: Option<OwnedFd>,
}

/// What [`Listener::accept`] gives.
pub(super) enum Accepted {
    Connection(OwnedFd),
    Nobody,
    /// The kernel has no descriptor or memory for one; it waits.
    NoPlace,
}

impl Listener {
    /// Makes the socket under a name of its own, gives it its mode and group, listens, and only
    /// then renames it over whatever stale socket was there.
    pub(super) fn bind(options: &ControlOptions) -> std::io::Result<Self> {
        let path = options.path.as_path();
        let name = path
            .file_name()
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, "the socket's path has no name"))?;
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        check_stale(path)?;
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}", rustix::process::getpid()));
        let hidden = path.with_file_name(hidden);
        let fd = socket()?;
        // of an earlier process of our number
        let _ = std::fs::remove_file(&hidden);
        rustix::net::bind(&fd, &SocketAddrUnix::new(&hidden)?)?;
        let made = (|| {
            let mode = std::fs::Permissions::from_mode(options.mode & 0o777);
            std::fs::set_permissions(&hidden, mode)?;
            if options.group.is_some() {
                std::os::unix::fs::lchown(&hidden, None, options.group)?;
            }
            rustix::net::listen(&fd, BACKLOG)?;
            std::fs::rename(&hidden, path)
        })();
        if let Err(error) = made {
            let _ = std::fs::remove_file(&hidden);
            return Err(error);
        }
        Ok(Self::new(fd, path))
    }

    /// Goes on with the socket of the process image before; its file stays as it is.
    pub(super) fn adopt(fd: OwnedFd, options: &ControlOptions) -> Self {
        Self::new(fd, &options.path)
    }

    fn new(fd: OwnedFd, path: &Path) -> Self {
        let mut listener =
            Self { fd, path: path.to_owned(), identity: identity(path), spare: None };
        listener.save();
        listener
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Whether clients still find this socket by its name.
    pub(super) fn is_in_place(&self) -> bool {
        self.identity.is_some() && identity(&self.path) == self.identity
    }

    pub(super) fn accept(&self) -> Accepted {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        // bounded: connections that were given up while they waited
        for _ in 0..16 {
            match rustix::net::accept_with(&self.fd, flags) {
                Ok(fd) => return Accepted::Connection(fd),
                Err(rustix::io::Errno::AGAIN) => return Accepted::Nobody,
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNABORTED) => {}
                // which the kernel also says when nobody is there
                Err(_) if self.is_awaited() => return Accepted::NoPlace,
                Err(_) => return Accepted::Nobody,
            }
        }
        Accepted::Nobody
    }

    /// Whether somebody waits to be accepted.
    fn is_awaited(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        matches!(rustix::event::poll(&mut fds, Some(&at_once)), Ok(1..))
    }

    /// Sets a descriptor aside, if there is none and one is to be had.
    pub(super) fn save(&mut self) {
        if self.spare.is_none() {
            self.spare = rustix::io::fcntl_dupfd_cloexec(&self.fd, 3).ok();
        }
    }

    /// Gives the descriptor that was set aside back to the kernel. Whether there was one.
    pub(super) fn spend(&mut self) -> bool {
        self.spare.take().is_some()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if self.is_in_place() {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::symlink_metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

fn socket() -> std::io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// Nothing may be there but a socket that nobody listens on.
fn check_stale(path: &Path) -> std::io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::new(ErrorKind::AlreadyExists, "there is a file that is no socket"));
        }
        Ok(_) => {}
    }
    match rustix::net::connect(socket()?, &SocketAddrUnix::new(path)?) {
        // a full queue is somebody's too
        Ok(()) | Err(rustix::io::Errno::AGAIN) => {
            Err(Error::new(ErrorKind::AddrInUse, "another process listens there"))
        }
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_sockets_are_replaced_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ControlOptions::new(dir.path().join("run/kiln/s.sock"));
        options.mode = 0o640;
        let first = Listener::bind(&options).unwrap();
        let mode = || std::fs::metadata(&options.path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(), 0o640);
        assert_eq!(Listener::bind(&options).unwrap_err().kind(), ErrorKind::AddrInUse);
        // the process dies: nobody removes the file
        let Listener { fd, .. } = &first;
        rustix::net::shutdown(fd, rustix::net::Shutdown::Both).unwrap();
        let second = Listener::bind(&options).unwrap();
        assert!(!first.is_in_place() && second.is_in_place());
        drop(first);
        assert!(options.path.exists(), "the successor's file is not the first one's to remove");
        drop(second);
        assert!(!options.path.exists());
        std::fs::write(&options.path, "precious").unwrap();
        assert_eq!(Listener::bind(&options).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_dir(options.path.parent().unwrap()).unwrap().count(), 1);
    }
}
