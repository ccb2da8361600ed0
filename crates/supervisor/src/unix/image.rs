//! One process image after another: the state that is left for the next, its execution, and the way
//! back to a program that understands its own state.

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::AtFlags;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use rustix::io::FdFlags;
use rustix::process::Resource;

use super::panic::Legacy;
use super::sys;

/// The variable that tells a new process image of the supervisor where its state is.
pub(super) const STATE_VARIABLE: &str = "KILN_SUPERVISOR_STATE";
/// That which says where the program is that was there before, to go back to; or [`RETURNED`].
pub(super) const BEFORE_VARIABLE: &str = "KILN_SUPERVISOR_BEFORE";
/// The program has been gone back to.
const RETURNED: &str = "returned";
/// The program that runs, also if its file has another name by now, or none.
pub(super) const OWN_PROGRAM: &str = "/proc/self/exe";

/// More state than this was not written by us: 16,384 services of some 130 bytes.
const STATE_LIMIT: u64 = 8 << 20;

impl Legacy {
    /// Executes a program in place of this one, with the same arguments; returns only if that fails,
    /// and then all is as before. `handed` counts what the new image gets to read beside this.
    pub(super) fn execute(
        &self,
        program: &Path,
        keep: &[BorrowedFd<'_>],
        handed: u64,
    ) -> std::io::Error {
        let flag = |flags| {
            keep.iter().try_for_each(|fd| rustix::io::fcntl_setfd(fd, flags)).map_err(Into::into)
        };
        let error = flag(FdFlags::empty()).and_then(|()| self.try_execute(program, handed));
        let _: std::io::Result<()> = flag(FdFlags::CLOEXEC);
        error.err().unwrap_or_else(|| std::io::ErrorKind::Other.into())
    }

    fn try_execute(&self, program: &Path, handed: u64) -> std::io::Result<()> {
        let mut state =
            File::from(rustix::fs::memfd_create("kiln-supervisor", MemfdFlags::empty())?);
        state.write_all(self.encode().as_bytes())?;
        // After a panic it is the same program, and there is no other to go back to.
        let before = if self.asked {
            rustix::fs::open(OWN_PROGRAM, OFlags::PATH, Mode::empty()).ok()
        } else {
            None
        };
        let text = before.as_ref().map(|fd| fd.as_raw_fd().to_string());
        let program = CString::new(program.as_os_str().as_bytes())?;
        let environment = environment(&state, text.as_deref());
        check_size(state.metadata()?.len().saturating_add(handed))?;
        // Not std's: it would unblock signals first, and one that comes then is lost.
        let Err(error) = nix::unistd::execve(&program, &arguments(), &environment);
        Err(error.into())
    }
}

/// What this image had when it had begun: KiB of all its addresses, and of its data.
static SIZE: OnceLock<[u64; 2]> = OnceLock::new();

/// Notes how large an image is that has just begun. Without /proc nobody knows.
pub(super) fn note_size() {
    let Ok(text) = std::fs::read_to_string("/proc/self/status") else { return };
    let number = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let (Some(all), Some(data)) = (number("VmSize:"), number("VmData:")) {
        SIZE.get_or_init(|| [all, data]);
    }
}

/// How many bytes reading what is handed on takes for each of it.
const FOR_EACH: u64 = 4;

/// An error if this process may not have as much memory as an image has when it has begun, and as
/// reading so many bytes of what was left takes. The kernel kills who executes a program and then has
/// no place for it: there is no way back by then.
pub(super) fn check_size(left: u64) -> std::io::Result<()> {
    let Some([all, data]) = SIZE.get() else { return Ok(()) };
    for (resource, size) in [(Resource::As, all), (Resource::Data, data)] {
        let limit = rustix::process::getrlimit(resource).current;
        let more = left.saturating_mul(FOR_EACH) / 1024;
        if limit.is_some_and(|limit| limit / 1024 < size.saturating_add(more)) {
            return Err(rustix::io::Errno::NOMEM.into());
        }
    }
    Ok(())
}

fn arguments() -> Vec<CString> {
    // what came from the kernel has no NUL in it
    std::env::args_os().filter_map(|word| CString::new(word.as_bytes()).ok()).collect()
}

fn environment(state: &File, before: Option<&str>) -> Vec<CString> {
    let entry = |key: &OsStr, value: &OsStr| {
        CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    let own = [STATE_VARIABLE, BEFORE_VARIABLE];
    let others = std::env::vars_os().filter(|(key, _)| !own.iter().any(|name| key == name));
    let mut all: Vec<CString> = others.filter_map(|(key, value)| entry(&key, &value)).collect();
    let number = state.as_raw_fd().to_string();
    all.extend(entry(STATE_VARIABLE.as_ref(), number.as_ref()));
    all.extend(before.and_then(|text| entry(BEFORE_VARIABLE.as_ref(), text.as_ref())));
    all
}

/// What the image before this one has left.
#[derive(Debug)]
pub(super) struct Estate {
    state: Option<File>,
    program: Option<OwnedFd>,
    /// Whether this is the program of before again, after another that was asked for could not go
    /// on.
    pub(super) returned: bool,
}

impl Estate {
    /// That of this image, if there is one; once: numbers may be of other files by the next time.
    pub(super) fn taken() -> Option<Self> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        if TAKEN.swap(true, Ordering::Relaxed) {
            return None;
        }
        let number = std::env::var(STATE_VARIABLE).ok()?;
        let before = std::env::var(BEFORE_VARIABLE).unwrap_or_default();
        let adopt = |text: &str| text.parse().ok().and_then(sys::adopt_fd);
        Some(Self {
            state: adopt(&number).map(File::from),
            program: adopt(&before),
            returned: before == RETURNED,
        })
    }

    /// The state; `None` if it cannot be understood.
    pub(super) fn read(&mut self) -> Option<Legacy> {
        let file = self.state.as_mut()?;
        file.rewind().ok()?;
        let mut text = String::new();
        file.take(STATE_LIMIT).read_to_string(&mut text).ok()?;
        Legacy::decode(&text)
    }

    /// Executes the program of before with the state as it left it. Returns if there is none, or it
    /// cannot be done.
    pub(super) fn go_back(&self) {
        if let (Some(state), Some(program)) = (&self.state, &self.program)
            && rustix::io::fcntl_setfd(state, FdFlags::empty()).is_ok()
        {
            let (arguments, environment) = (arguments(), environment(state, Some(RETURNED)));
            let flags = AtFlags::AT_EMPTY_PATH;
            let _ = nix::unistd::execveat(program, c"", &arguments, &environment, flags);
            let _ = rustix::io::fcntl_setfd(state, FdFlags::CLOEXEC);
        }
    }
}
