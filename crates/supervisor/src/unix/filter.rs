//! A filter of system calls, compiled before there is a process that it is for.

use std::collections::BTreeMap;

use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::spec::{Seccomp, SystemCall, Violation};

/// The bit in numbers of the x32 interface (`__X32_SYSCALL_BIT` of `arch/x86/include/uapi/asm/unistd.h`),
/// which counts as the same architecture: what is denied is denied there too.
#[cfg(target_arch = "x86_64")]
const OTHER: Option<i64> = Some(0x4000_0000);
#[cfg(not(target_arch = "x86_64"))]
const OTHER: Option<i64> = None;

/// The program for the kernel, or why there is none.
pub(super) fn compile(seccomp: &Seccomp) -> Result<Vec<libc::sock_filter>, String> {
    let action = |violation: &Violation| match violation {
        Violation::Fail => SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        Violation::Errno(number) => SeccompAction::Errno(u32::from(*number)),
        Violation::Kill => SeccompAction::KillProcess,
        Violation::Log => SeccompAction::Log,
    };
    let mut numbers: Vec<i64> = Vec::new();
    let (mismatch, matching) = match seccomp {
        Seccomp::Allow { calls, otherwise } => {
            numbers.extend(calls.iter().copied().map(SystemCall::number));
            numbers.extend([libc::SYS_execve, libc::SYS_exit, libc::SYS_exit_group]);
            (action(otherwise), SeccompAction::Allow)
        }
        Seccomp::Deny { calls, otherwise } => {
            let calls = calls.iter().copied().map(SystemCall::number);
            numbers.extend(calls.flat_map(|n| [Some(n), OTHER.map(|bit| n | bit)]).flatten());
            (SeccompAction::Allow, action(otherwise))
        }
    };
    let rules: BTreeMap<i64, Vec<_>> = numbers.into_iter().map(|n| (n, Vec::new())).collect();
    let architecture: TargetArch =
        std::env::consts::ARCH.try_into().map_err(|error| format!("{error}"))?;
    let filter = SeccompFilter::new(rules, mismatch, matching, architecture);
    let program: BpfProgram =
        filter.and_then(TryInto::try_into).map_err(|error| format!("{error}"))?;
    let raw = |step: seccompiler::sock_filter| libc::sock_filter {
        code: step.code,
        jt: step.jt,
        jf: step.jf,
        k: step.k,
    };
    Ok(program.into_iter().map(raw).collect())
}
