//! clone3(2), for which the C library has no function.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ffi::c_void;

use super::CloneArguments;

/// Whether it is there for this processor.
pub(super) const KNOWN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// clone3(2); the child calls `entry` with `argument` on its own stack. Gives a process number
/// or the negative of an error number.
///
/// # Safety
/// What the arguments point to must be valid, and the stack the child's alone.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call(
    arguments: &CloneArguments,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11. In the child, where rax is 0
    // and the stack is empty, control never comes back.
    unsafe {
        asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r12",
            "call r13",
            "ud2",
            "2:",
            inlateout("rax") nix::libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<CloneArguments>(),
            in("r12") argument,
            in("r13") entry,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// clone3(2); the child calls `entry` with `argument` on its own stack. Gives a process number
/// or the negative of an error number.
///
/// # Safety
/// What the arguments point to must be valid, and the stack the child's alone.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call(
    arguments: &CloneArguments,
    entry: extern "C" fn(*mut c_void) -> !,
    argument: *mut c_void,
) -> i64 {
    let result: i64;
    // SAFETY: the kernel keeps all registers but x0. In the child, where x0 is 0 and the stack
    // is empty, control never comes back.
    unsafe {
        asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x30, xzr",
            "mov x0, x20",
            "blr x21",
            "brk 1",
            "2:",
            in("x8") nix::libc::SYS_clone3,
            inlateout("x0") arguments => result,
            in("x1") size_of::<CloneArguments>(),
            in("x20") argument,
            in("x21") entry,
            lateout("x30") _,
        );
    }
    result
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn call(
    _: &CloneArguments,
    _: extern "C" fn(*mut c_void) -> !,
    _: *mut c_void,
) -> i64 {
    -i64::from(nix::libc::ENOSYS)
}
