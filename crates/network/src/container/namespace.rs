//! Network namespaces.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use rustix::fs::{FsWord, fstatfs};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// What statfs(2) says of a file that is a namespace (linux/magic.h).
const NSFS_MAGIC: FsWord = 0x6e73_6673;

const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace. It lives as long as something is in it, this value is, or a file that it was
/// bound to.
#[derive(Debug)]
pub struct Namespace {
    file: OwnedFd,
}

impl Namespace {
    /// Makes one that only this value keeps. Its loopback is up.
    ///
    /// # Errors
    /// What the kernel says: it wants the rights of root. So for all methods.
    pub fn new() -> io::Result<Self> {
        on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            set_loopback_up()?;
            Ok(Self { file: File::open(OWN)?.into() })
        })
    }

    /// The one that is bound to a file, made where there is none: as `ip netns add` does, whose
    /// directory is /run/netns.
    ///
    /// # Errors
    /// What the kernel says; a file that is there and is no namespace.
    pub fn keep(path: &Path) -> io::Result<Self> {
        match Self::open(path) {
            Ok(found) => return Ok(found),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // A file that nothing is bound to, left by who was interrupted here.
            Err(_) if fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0) => {
            }
            Err(error) => return Err(error),
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
        let bound = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            set_loopback_up()?;
            mount_bind(OWN, path)?;
            Ok(Self { file: File::open(OWN)?.into() })
        });
        if bound.is_err() {
            let _ = fs::remove_file(path);
        }
        bound
    }

    /// The one that a file is.
    ///
    /// # Errors
    /// `InvalidInput` where it is none.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file: OwnedFd = File::open(path)?.into();
        if fstatfs(&file)?.f_type != NSFS_MAGIC {
            let what = format!("{} is no namespace", path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        Ok(Self { file })
    }

    /// The one that a process is in.
    ///
    /// # Errors
    /// There is no such process.
    pub fn of_process(pid: u32) -> io::Result<Self> {
        Self::open(&PathBuf::from(format!("/proc/{pid}/ns/net")))
    }

    /// The one that this thread is in.
    ///
    /// # Errors
    /// /proc is not mounted.
    pub fn own() -> io::Result<Self> {
        Self::open(Path::new(OWN))
    }

    /// Does something in it, on a thread of its own: this one stays where it is.
    ///
    /// # Errors
    /// The kernel does not let this process in.
    pub fn run<T: Send>(&self, what: impl FnOnce() -> T + Send) -> io::Result<T> {
        on_a_thread(|| {
            move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(what())
        })
    }

    /// Forgets one that is bound to a file. It lives on where something is in it. One that is not
    /// there is fine.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(path: &Path) -> io::Result<()> {
        loop {
            match unmount(path, UnmountFlags::DETACH) {
                // Somebody may have bound it twice.
                Ok(()) => {}
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        // What a namespace was bound to is empty.
        match fs::metadata(path) {
            Ok(found) if found.is_file() && found.len() == 0 => fs::remove_file(path),
            Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "no namespace")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A new namespace's loopback is down, which programs do not expect.
fn set_loopback_up() -> io::Result<()> {
    let mut netlink = crate::linux::Netlink::open().map_err(io::Error::other)?;
    let change = crate::Change::SetUp { link: "lo".into(), up: true };
    netlink.apply(&change).map_err(io::Error::other)
}

fn on_a_thread<T: Send>(what: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".into()).spawn_scoped(scope, what)?;
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
