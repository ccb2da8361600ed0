//! What a new process does between clone and exec. It has our memory: nothing is allocated and
//! nothing can panic; every step is a system call on what was prepared before.

use std::ffi::CString;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Gid, Resource, Rlimit, Uid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::mounts::Mounts;
use super::sys;
use crate::vocabulary::SpawnStep;

/// Everything that the child needs.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Paths to try in turn.
    pub(super) programs: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) envp: Vec<CString>,
    /// The place in `envp` of a variable that is to have the child's number, and its text.
    pub(super) own_number: Option<(usize, [u8; 24])>,
    pub(super) directory: Option<CString>,
    /// The terminal that it is to control, for descriptors 0 to 2.
    pub(super) tty: Option<CString>,
    /// Descriptors, and the numbers under which the child has them.
    pub(super) files: Vec<(RawFd, RawFd)>,
    /// Signals that are ignored here and must not be there.
    pub(super) ignored: Vec<i32>,
    /// The table of descriptors is still ours: it needs one of its own, with those below this.
    pub(super) descriptors_below: Option<u32>,
    /// What keeps them open.
    pub(super) kept: Vec<Arc<OwnedFd>>,
    pub(super) limits: Vec<(Resource, Rlimit)>,
    pub(super) nice: Option<i32>,
    /// What it has otherwise, which whoever starts it may not have.
    pub(super) usual_nice: Option<i32>,
    /// For /proc/self/oom_score_adj.
    pub(super) oom_score_adj: Option<CString>,
    /// Whether it fails without.
    pub(super) must_be_scored: bool,
    pub(super) umask: Option<Mode>,
    /// `CLONE_NEW*` of namespaces that begin with the process.
    pub(super) namespaces: i32,
    /// Whether its control group is the root of what it sees, which needs it to be there already.
    pub(super) cgroup_namespace: bool,
    /// `cgroup.procs` of a group that the kernel could not put it into at once.
    pub(super) join: Option<Arc<OwnedFd>>,
    pub(super) mounts: Mounts,
    pub(super) uid: Option<Uid>,
    pub(super) gid: Option<Gid>,
    pub(super) groups: Option<Vec<Gid>>,
    pub(super) capabilities: Option<u64>,
    pub(super) no_new_privs: bool,
    /// What the kernel is to do with its system calls, from its program's execution on.
    #[cfg(feature = "seccomp")]
    pub(super) filter: Vec<nix::libc::sock_filter>,
}

type Failed = (SpawnStep, Errno);

fn at(step: SpawnStep) -> impl Fn(Errno) -> Failed {
    move |errno| (step, errno)
}

/// All steps up to the program.
pub(super) fn prepare(plan: &mut Plan) -> Result<(), Failed> {
    if let Some(below) = plan.descriptors_below {
        sys::unshare_files(below).map_err(at(SpawnStep::Descriptors))?;
    }
    rustix::process::setsid().map_err(at(SpawnStep::Session))?;
    limits(plan)?;
    files(plan)?;
    if let Some(join) = &plan.join {
        rustix::io::write(join, b"0").map_err(at(SpawnStep::Limits))?;
    }
    if plan.cgroup_namespace {
        sys::unshare_cgroup().map_err(at(SpawnStep::Isolation))?;
    }
    if plan.mounts.own {
        plan.mounts.make().map_err(at(SpawnStep::Isolation))?;
    }
    if let Some(directory) = &plan.directory {
        rustix::process::chdir(directory.as_c_str()).map_err(at(SpawnStep::Directory))?;
    }
    credentials(plan).map_err(at(SpawnStep::Credentials))?;
    if let Some((_, text)) = &mut plan.own_number {
        append(text, rustix::process::getpid().as_raw_nonzero().get());
    }
    Ok(())
}

/// Writes a number where a text ends in zeroes.
fn append(text: &mut [u8; 24], number: i32) {
    let number = number.unsigned_abs();
    let free = text.iter_mut().skip_while(|byte| **byte != 0);
    // an i32 has ten digits at most
    let places = (0..10_u32).rev().map(|place| 10_u32.saturating_pow(place));
    for (byte, place) in free.zip(places.skip_while(|place| *place > number.max(1))) {
        let digit = number.checked_div(place).unwrap_or(0).wrapping_rem(10);
        *byte = b'0'.saturating_add(u8::try_from(digit).unwrap_or(0));
    }
}

fn limits(plan: &Plan) -> Result<(), Failed> {
    let limits = SpawnStep::Limits;
    if let Some(text) = &plan.oom_score_adj {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        // without /proc there is nothing to be done about it, and the service may run all the same
        if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
            let written = rustix::io::write(&file, text.as_bytes());
            // who is not mighty may not make it less than it was at first
            if plan.must_be_scored {
                written.map_err(at(limits))?;
            }
        }
    }
    for (resource, limit) in &plan.limits {
        rustix::process::setrlimit(*resource, *limit).map_err(at(limits))?;
    }
    if let Some(nice) = plan.nice {
        rustix::process::setpriority_process(None, nice).map_err(at(limits))?;
    } else if let Some(nice) = plan.usual_nice {
        // as it would be if it were refused
        let _ = rustix::process::setpriority_process(None, nice);
    }
    if let Some(umask) = plan.umask {
        rustix::process::umask(umask);
    }
    Ok(())
}

/// Every descriptor to its number: first those out of the way that have a number which is wanted.
fn files(plan: &mut Plan) -> Result<(), Failed> {
    let step = SpawnStep::Descriptors;
    if let Some(path) = &plan.tty {
        let terminal = SpawnStep::Terminal;
        let tty = rustix::fs::open(path.as_c_str(), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(at(terminal))?;
        rustix::process::ioctl_tiocsctty(&tty).map_err(at(terminal))?;
        rustix::stdio::dup2_stdin(&tty).map_err(at(step))?;
        rustix::stdio::dup2_stdout(&tty).map_err(at(step))?;
        rustix::stdio::dup2_stderr(&tty).map_err(at(step))?;
    }
    let free = plan.files.iter().map(|(_, to)| to.saturating_add(1)).max().unwrap_or(3);
    for (from, _) in &mut plan.files {
        if *from < free {
            *from = sys::above(*from, free).map_err(at(step))?;
        }
    }
    for (from, to) in &plan.files {
        sys::place(*from, *to).map_err(at(step))?;
    }
    Ok(())
}

fn credentials(plan: &Plan) -> Result<(), Errno> {
    use rustix::thread;
    if let Some(wanted) = plan.capabilities {
        for number in 0..64_u32 {
            let bit = CapabilitySet::from_bits_retain(1_u64.checked_shl(number).unwrap_or(0));
            if !CapabilitySet::from_bits_retain(wanted).contains(bit) {
                match thread::remove_capability_from_bounding_set(bit) {
                    Ok(()) => {}
                    // one that this kernel does not know, and all after it
                    Err(Errno::INVAL) => break,
                    Err(errno) => return Err(errno),
                }
            }
        }
        thread::set_keep_capabilities(true)?;
    }
    if let Some(groups) = &plan.groups {
        thread::set_thread_groups(groups)?;
    }
    if let Some(gid) = plan.gid {
        thread::set_thread_res_gid(gid, gid, gid)?;
    }
    if let Some(uid) = plan.uid {
        thread::set_thread_res_uid(uid, uid, uid)?;
    }
    if let Some(wanted) = plan.capabilities {
        let set = CapabilitySet::from_bits_retain(wanted);
        let sets = CapabilitySets { effective: set, permitted: set, inheritable: set };
        thread::set_capabilities(None, sets)?;
        thread::clear_ambient_capability_set()?;
        for number in 0..64_u32 {
            let bit = CapabilitySet::from_bits_retain(1_u64.checked_shl(number).unwrap_or(0));
            if set.contains(bit) {
                thread::configure_capability_in_ambient_set(bit, true)?;
            }
        }
    }
    if plan.no_new_privs {
        thread::set_no_new_privs(true)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_goes_after_the_text() {
        for (number, expected) in [(7, "A=7"), (10, "A=10"), (4_194_304, "A=4194304")] {
            let mut text = [0; 24];
            text[..2].copy_from_slice(b"A=");
            append(&mut text, number);
            let end = text.iter().position(|byte| *byte == 0).unwrap();
            assert_eq!(std::str::from_utf8(&text[..end]).unwrap(), expected);
        }
        let mut text = [0; 24];
        append(&mut text, i32::MAX);
        assert_eq!(&text[..11], b"2147483647\0");
    }
}
