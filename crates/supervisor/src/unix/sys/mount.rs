//! Mounts whose rights are changed together with those of all below them: mount_setattr(2), for which
//! rustix has no function, and the copies of open_tree(2) by number, which need no destructor.

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::libc;
use rustix::io::{Errno, Result};

use super::{checked, number, raw};

/// `struct mount_attr` of `include/uapi/linux/mount.h`, its first version.
#[repr(C)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;
/// `OPEN_TREE_CLONE`; `OPEN_TREE_CLOEXEC` is `O_CLOEXEC`.
const CLONE: i32 = 1;
/// `MOVE_MOUNT_F_EMPTY_PATH`, `MOVE_MOUNT_T_SYMLINKS`.
const FROM_DESCRIPTOR: i32 = 0x04;
const TO_FOLLOWS_LINKS: i32 = 0x10;

/// Whether the kernel has mount_setattr(2), as Linux does since 5.12, and lets us call it.
pub(in crate::unix) fn has_mount_setattr() -> bool {
    let words = [number(libc::AT_FDCWD), c"".as_ptr() as usize, 0, 0, 0];
    // SAFETY: attributes of no bytes are refused before anything else is looked at.
    let result = unsafe { raw::call_with_five(libc::SYS_mount_setattr, words) };
    checked(result) == Err(Errno::INVAL)
}

/// Makes the mount at a path and all below it read-only, hidden ones included; whatever else is said of
/// each of them stays.
pub(in crate::unix) fn make_read_only(path: &CStr) -> Result<()> {
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, userns_fd: 0 };
    let words = [
        number(libc::AT_FDCWD),
        path.as_ptr() as usize,
        number(libc::AT_RECURSIVE),
        &raw const attributes as usize,
        size_of::<Attributes>(),
    ];
    // SAFETY: the path ends in NUL, the size is that of the attributes, and the kernel writes to neither.
    let result = unsafe { raw::call_with_five(libc::SYS_mount_setattr, words) };
    checked(result).map(drop)
}

/// A copy of the mount at a path and of all below it, which is mounted nowhere and closed on exec.
pub(in crate::unix) fn copy_tree(path: &CStr) -> Result<RawFd> {
    let flags = CLONE | libc::O_CLOEXEC | libc::AT_RECURSIVE;
    let words = [number(libc::AT_FDCWD), path.as_ptr() as usize, number(flags)];
    // SAFETY: the path ends in NUL.
    let result = checked(unsafe { raw::call(libc::SYS_open_tree, words) })?;
    RawFd::try_from(result).map_err(|_| Errno::BADF)
}

/// Mounts such a copy.
pub(in crate::unix) fn mount_tree(tree: RawFd, path: &CStr) -> Result<()> {
    let words = [
        number(tree),
        c"".as_ptr() as usize,
        number(libc::AT_FDCWD),
        path.as_ptr() as usize,
        number(FROM_DESCRIPTOR | TO_FOLLOWS_LINKS),
    ];
    // SAFETY: both paths end in NUL.
    checked(unsafe { raw::call_with_five(libc::SYS_move_mount, words) }).map(drop)
}
