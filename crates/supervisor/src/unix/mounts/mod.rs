//! The mounts of a service's own namespace. Here is what the new process does, between clone and exec:
//! nothing is allocated, and every step is a system call on what was prepared before.

mod rights;
mod table;

use std::ffi::{CStr, CString};
use std::os::fd::RawFd;

use rustix::io::Errno;
use rustix::mount::{self, MountFlags, MountPropagationFlags};

use super::sys;

pub(super) use rights::present;

/// Changes of a mount namespace of its own.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// Whether there is one.
    pub(super) own: bool,
    /// Whether /proc is to show the process namespace.
    pub(super) proc: bool,
    pub(super) private_tmp: bool,
    pub(super) rights: Rights,
    pub(super) hidden: Vec<CString>,
}

/// Below which paths nothing can be written, and below which of those as before.
#[derive(Debug, Default)]
pub(super) struct Rights {
    /// From the outermost to the innermost.
    paths: Vec<Right>,
    /// Where the kernel cannot make mounts read-only together: each that is to be, with what else is said
    /// of it.
    one_by_one: Option<Vec<(CString, MountFlags)>>,
}

#[derive(Debug)]
struct Right {
    path: CString,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    ReadOnly,
    /// By a copy of what is mounted there, from before anything became read-only.
    AsBefore {
        copy: RawFd,
    },
}

impl Mounts {
    /// Makes them, in the new process.
    pub(super) fn make(&mut self) -> Result<(), Errno> {
        // What is mounted outside still comes in; nothing of ours goes out.
        mount::mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let safe = MountFlags::NOSUID | MountFlags::NODEV;
        if self.proc {
            mount::mount(c"proc", c"/proc", c"proc", safe | MountFlags::NOEXEC, None)?;
        }
        self.rights.apply()?;
        for path in &self.hidden {
            let path = path.as_c_str();
            let found = rustix::fs::stat(path)?;
            if rustix::fs::FileType::from_raw_mode(found.st_mode).is_dir() {
                let flags = safe | MountFlags::NOEXEC | MountFlags::RDONLY;
                mount::mount(c"hidden", path, c"tmpfs", flags, Some(c"mode=0000,size=4k"))?;
            } else {
                mount::mount_bind(c"/dev/null", path)?;
            }
        }
        if self.private_tmp {
            tmpfs(c"/tmp", safe)?;
            match tmpfs(c"/var/tmp", safe) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }
}

impl Rights {
    fn apply(&mut self) -> Result<(), Errno> {
        if let Some(points) = &self.one_by_one {
            // each of the paths becomes a mount, so that those in between can differ
            for right in &self.paths {
                own_mount(&right.path)?;
            }
            for (point, flags) in points {
                let flags = MountFlags::BIND | MountFlags::RDONLY | *flags;
                mount::mount_remount(point.as_c_str(), flags, c"")?;
            }
            return Ok(());
        }
        for Right { path, kind } in &mut self.paths {
            if let Kind::AsBefore { copy } = kind {
                *copy = sys::copy_tree(path)?;
            }
        }
        for Right { path, kind } in &self.paths {
            match kind {
                Kind::ReadOnly => {
                    own_mount(path)?;
                    sys::make_read_only(path)?;
                }
                // its descriptor is closed with the program's execution
                Kind::AsBefore { copy } => sys::mount_tree(*copy, path)?,
            }
        }
        Ok(())
    }
}

/// Makes a path a mount, if it is none by its nature.
fn own_mount(path: &CStr) -> Result<(), Errno> {
    // what is mounted over the root directory is not seen by who has that already
    if path == c"/" { Ok(()) } else { mount::mount_bind_recursive(path, path) }
}

fn tmpfs(path: &CStr, flags: MountFlags) -> Result<(), Errno> {
    mount::mount(c"tmp", path, c"tmpfs", flags, Some(c"mode=1777"))
}
