//! System calls that leave `errno` alone: a new process has that of the thread that started it.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ffi::c_long;

/// Whether it is there for this processor.
pub(super) const KNOWN: bool = cfg!(any(target_arch = "x86_64", target_arch = "aarch64"));

/// # Safety
/// That of the call.
pub(super) unsafe fn call(number: c_long, [first, second, third]: [usize; 3]) -> c_long {
    // SAFETY: the caller's promise; what a call does not take it does not look at.
    unsafe { call_with_five(number, [first, second, third, 0, 0]) }
}

/// # Safety
/// That of the call.
#[cfg(target_arch = "x86_64")]
pub(super) unsafe fn call_with_five(
    number: c_long,
    [first, second, third, fourth, fifth]: [usize; 5],
) -> c_long {
    let result: c_long;
    // SAFETY: the kernel keeps all registers but rax, rcx and r11; the rest is the caller's promise.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") first,
            in("rsi") second,
            in("rdx") third,
            in("r10") fourth,
            in("r8") fifth,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// # Safety
/// That of the call.
#[cfg(target_arch = "aarch64")]
pub(super) unsafe fn call_with_five(
    number: c_long,
    [first, second, third, fourth, fifth]: [usize; 5],
) -> c_long {
    let result: c_long;
    // SAFETY: the kernel keeps all registers but x0; the rest is the caller's promise.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") first => result,
            in("x1") second,
            in("x2") third,
            in("x3") fourth,
            in("x4") fifth,
        );
    }
    result
}

/// # Safety
/// That of the call.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn call_with_five(
    number: c_long,
    [first, second, third, fourth, fifth]: [usize; 5],
) -> c_long {
    // SAFETY: the caller's promise.
    match unsafe { nix::libc::syscall(number, first, second, third, fourth, fifth) } {
        -1 => c_long::from(nix::errno::Errno::last_raw()).saturating_neg(),
        result => result,
    }
}
