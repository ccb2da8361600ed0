//! Clone, exec, and descriptors by number: the only unsafe code of the shell.
#![expect(
    unsafe_code,
    reason = "clone, dup2 onto a chosen number, signal and execve have no safe wrapper"
)]

use std::ffi::{CString, c_char, c_int, c_void};
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::libc;

use super::child::{self, Plan};
use crate::vocabulary::{Errno, SpawnStep};

/// Where a new process runs from clone to exec, on memory that it shares with us.
pub(super) struct Stack(Vec<u128>);

impl Stack {
    /// Far more than the few system calls of `child` take.
    const BYTES: usize = 64 << 10;
    const WORDS: usize = Self::BYTES / size_of::<u128>();

    pub(super) fn new() -> Self {
        Self(vec![0; Self::WORDS])
    }
}

/// Low numbers of descriptors that are kept for what new processes get: their table of descriptors
/// then ends above these, and is not a copy of ours with one for each service.
pub(super) struct Slots(Vec<OwnedFd>);

impl Slots {
    /// More than nearly all services get; one that gets more has a copy of the whole table.
    const COUNT: usize = 8;
    /// Where fewer descriptors may be open they are worth more than time.
    const LEAST: u64 = 128;

    /// To be called early, while low numbers are free. Without any, tables are copied.
    pub(super) fn new() -> Self {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        if limit.is_some_and(|limit| limit < Self::LEAST) {
            return Self(Vec::new());
        }
        let reserve = || rustix::fs::memfd_create("slot", rustix::fs::MemfdFlags::CLOEXEC);
        Self((0..Self::COUNT).map_while(|_| reserve().ok()).collect())
    }

    /// Has a plan's descriptors here, if there is room.
    fn fill(&self, plan: &mut Plan) -> rustix::io::Result<()> {
        use std::os::fd::AsRawFd;
        // one stays what it is, to empty the others with
        let slots = self.0.iter().skip(1);
        if plan.join.is_some() || plan.files.len() > slots.len() {
            return Ok(());
        }
        for (slot, (from, _)) in slots.zip(&mut plan.files) {
            duplicate(*from, slot.as_raw_fd(), libc::O_CLOEXEC)?;
            *from = slot.as_raw_fd();
        }
        let above = self.0.iter().map(AsRawFd::as_raw_fd).max().and_then(|max| max.checked_add(1));
        plan.descriptors_below = above.and_then(|above| u32::try_from(above).ok());
        Ok(())
    }

    /// Holds nothing of others' open.
    fn empty(&self, count: usize) {
        use std::os::fd::AsRawFd;
        let Some((spare, slots)) = self.0.split_first() else { return };
        for slot in slots.iter().take(count) {
            let _ = duplicate(spare.as_raw_fd(), slot.as_raw_fd(), libc::O_CLOEXEC);
        }
    }
}

/// What the new process and we share until it executes its program.
struct Task<'a> {
    plan: &'a mut Plan,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    failure: Option<(SpawnStep, i32)>,
}

/// A new process.
pub(super) struct Spawned {
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether the kernel has put it into the control group that was asked for.
    pub(super) in_cgroup: bool,
}

/// `struct clone_args` of `include/uapi/linux/sched.h`, its third version.
#[repr(C)]
#[derive(Debug, Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// Starts the process and returns when it has executed the program, or cannot. Its number is in
/// `pid` from its first moment on.
///
/// The process has our memory until then, and this thread waits (as with vfork(2)): nothing is
/// copied, however much memory the program that embeds us has.
pub(super) fn spawn(
    plan: &mut Plan,
    stack: &mut Stack,
    slots: &Slots,
    pid: &AtomicI32,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Spawned, (SpawnStep, Errno)> {
    let count = plan.files.len();
    let filled = slots.fill(plan);
    filled.map_err(|errno| (SpawnStep::Descriptors, Errno(errno.raw_os_error())))?;
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    let namespaces = plan.namespaces;
    let shared = if plan.descriptors_below.is_some() { libc::CLONE_FILES } else { 0 };
    let mut task = Task { plan, argv, envp, failure: None };
    let old = block_signals();
    let spawned = clone(&mut task, stack, pid, cgroup, namespaces | shared);
    let _ = old.thread_set_mask();
    slots.empty(count);
    let spawned = spawned.map_err(|errno| (SpawnStep::Fork, errno))?;
    match task.failure {
        Some((step, errno)) => {
            if let Some(pid) = rustix::process::Pid::from_raw(spawned.pid) {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            }
            Err((step, Errno(errno)))
        }
        None => Ok(spawned),
    }
}

/// The signals that this program ignores: `SIGPIPE`, as Rust's runtime has it, and what its own
/// parent had it ignore. A service must not inherit that.
pub(super) fn ignored_signals() -> Vec<c_int> {
    let is_ignored = |signal: &c_int| {
        // SAFETY: all zeroes is a valid `sigaction`.
        let mut found: libc::sigaction = unsafe { std::mem::zeroed() };
        // SAFETY: nothing is set, and the kernel writes into what it is given.
        let result = unsafe { libc::sigaction(*signal, std::ptr::null(), &raw mut found) };
        result == 0 && found.sa_sigaction == libc::SIG_IGN
    };
    (1..=64).filter(is_ignored).collect()
}

/// No handler of the embedding program may run in the child, on our memory.
fn block_signals() -> nix::sys::signal::SigSet {
    let all = nix::sys::signal::SigSet::all();
    all.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_SETMASK)
        .unwrap_or_else(|_| nix::sys::signal::SigSet::empty())
}

/// Whether clone3(2) is known to be missing (before Linux 5.3, or a container's filter).
static NO_CLONE3: AtomicBool = AtomicBool::new(false);

fn clone(
    task: &mut Task<'_>,
    stack: &mut Stack,
    pid: &AtomicI32,
    cgroup: Option<BorrowedFd<'_>>,
    more: i32,
) -> Result<Spawned, Errno> {
    use std::os::fd::AsRawFd;
    let both = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | more;
    let argument: *mut c_void = std::ptr::from_mut(task).cast();
    let mut pidfd: RawFd = -1;
    if !NO_CLONE3.load(Ordering::Relaxed) && clone3::KNOWN {
        let flags =
            u64::from(both.cast_unsigned()) | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
        let mut arguments = CloneArguments {
            flags,
            pidfd: std::ptr::from_mut(&mut pidfd) as u64,
            parent_tid: pid.as_ptr() as u64,
            exit_signal: libc::SIGCHLD as u64,
            stack: stack.0.as_mut_ptr() as u64,
            stack_size: Stack::BYTES as u64,
            ..CloneArguments::default()
        };
        if let Some(cgroup) = cgroup
            && let Ok(number) = u64::try_from(cgroup.as_raw_fd())
        {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = number;
        }
        // SAFETY: the addresses are those of live variables and of a stack that nothing else uses;
        // the kernel checks the rest. `enter` never returns, and this thread does not run before
        // the child has left our memory, so the child has `task` for itself.
        let mut result = unsafe { clone3::call(&arguments, enter, argument) };
        if cgroup.is_some()
            && [libc::E2BIG, libc::EINVAL]
                .iter()
                .any(|errno| result.saturating_neg() == i64::from(*errno))
        {
            // before Linux 5.7
            arguments.flags &= !CLONE_INTO_CGROUP;
            arguments.cgroup = 0;
            // SAFETY: as above.
            result = unsafe { clone3::call(&arguments, enter, argument) };
        }
        match i32::try_from(result.saturating_neg()) {
            Ok(libc::ENOSYS | libc::EPERM) if more & !libc::CLONE_FILES == 0 => {
                NO_CLONE3.store(true, Ordering::Relaxed);
            }
            Ok(errno @ 1..) => return Err(Errno(errno)),
            _ => {
                // SAFETY: the kernel has made this descriptor for us, and nobody else knows it.
                let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
                let in_cgroup = arguments.flags & CLONE_INTO_CGROUP != 0;
                return Ok(Spawned { pid: i32::try_from(result).unwrap_or(-1), pidfd, in_cgroup });
            }
        }
    }
    let end = stack.0.as_mut_ptr_range().end.cast();
    // SAFETY: as above; the pointer is to the end of the stack, which is a multiple of 16.
    let result =
        unsafe { libc::clone(enter_by_libc, end, both | libc::SIGCHLD, argument, pid.as_ptr()) };
    match result {
        -1 => Err(Errno(nix::errno::Errno::last_raw())),
        pid => Ok(Spawned { pid, pidfd: None, in_cgroup: false }),
    }
}

extern "C" fn enter_by_libc(argument: *mut c_void) -> c_int {
    enter(argument)
}

/// The child's life: nothing is allocated, no lock is taken, nothing can panic.
extern "C" fn enter(argument: *mut c_void) -> ! {
    // SAFETY: it is the task that `clone` was given, and our parent waits.
    let task: &mut Task<'_> = unsafe { &mut *argument.cast() };
    task.failure = Some(match child::prepare(task.plan) {
        Ok(()) => {
            if let Some((place, text)) = &task.plan.own_number
                && let Some(variable) = task.envp.get_mut(*place)
            {
                *variable = text.as_ptr().cast();
            }
            execute(task)
        }
        Err((step, errno)) => (step, errno.raw_os_error()),
    });
    // SAFETY: no preconditions; no destructor or atexit function of the parent's runs.
    unsafe { libc::_exit(127) }
}

/// Returns only when it cannot be done.
fn execute(task: &Task<'_>) -> (SpawnStep, i32) {
    for signal in &task.plan.ignored {
        // SAFETY: SIG_DFL is a valid disposition of any signal.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    // last, so that it need not allow what was done before
    #[cfg(feature = "seccomp")]
    if let Err(errno) = filter_system_calls(&task.plan.filter) {
        return (SpawnStep::Isolation, errno.raw_os_error());
    }
    let mut errno = libc::ENOENT;
    for program in &task.plan.programs {
        // SAFETY: all strings end in NUL and both lists in a null pointer, and outlive the call.
        unsafe { libc::execve(program.as_ptr(), task.argv.as_ptr(), task.envp.as_ptr()) };
        match nix::errno::Errno::last_raw() {
            libc::ENOENT | libc::ENOTDIR => {}
            other => {
                errno = other;
                if other != libc::EACCES {
                    break;
                }
            }
        }
    }
    (SpawnStep::Exec, errno)
}

/// Has the kernel judge all system calls of this process from now on.
#[cfg(feature = "seccomp")]
fn filter_system_calls(filter: &[libc::sock_filter]) -> rustix::io::Result<()> {
    if filter.is_empty() {
        return Ok(());
    }
    let len = u16::try_from(filter.len()).map_err(|_| rustix::io::Errno::TOOBIG)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let (set, none) = (libc::SECCOMP_SET_MODE_FILTER, 0);
    // SAFETY: the kernel copies the program, whose length is that of the slice, and writes nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, set, none, &raw const program) };
    if result == 0 {
        return Ok(());
    }
    Err(rustix::io::Errno::from_raw_os_error(nix::errno::Errno::last_raw()))
}

#[cfg(target_arch = "x86_64")]
mod clone3 {
    use std::arch::asm;
    use std::ffi::c_void;

    use super::CloneArguments;

    pub(super) const KNOWN: bool = true;

    /// clone3(2); the child calls `entry` with `argument` on its own stack. Gives a process number
    /// or the negative of an error number.
    ///
    /// # Safety
    /// What the arguments point to must be valid, and the stack the child's alone.
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
}

#[cfg(target_arch = "aarch64")]
mod clone3 {
    use std::arch::asm;
    use std::ffi::c_void;

    use super::CloneArguments;

    pub(super) const KNOWN: bool = true;

    /// clone3(2); the child calls `entry` with `argument` on its own stack. Gives a process number
    /// or the negative of an error number.
    ///
    /// # Safety
    /// What the arguments point to must be valid, and the stack the child's alone.
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
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod clone3 {
    use std::ffi::c_void;

    use super::CloneArguments;

    pub(super) const KNOWN: bool = false;

    pub(super) unsafe fn call(
        _: &CloneArguments,
        _: extern "C" fn(*mut c_void) -> !,
        _: *mut c_void,
    ) -> i64 {
        -i64::from(nix::libc::ENOSYS)
    }
}

/// Its control group becomes the root of those that this process sees.
pub(super) fn unshare_cgroup() -> rustix::io::Result<()> {
    let flags = rustix::thread::UnshareFlags::NEWCGROUP;
    // SAFETY: no descriptors are unshared, which is what could surprise others.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Gives this process what is open as `from` as number `to` too, not closed on exec.
pub(super) fn place(from: RawFd, to: RawFd) -> rustix::io::Result<()> {
    duplicate(from, to, 0)
}

fn duplicate(from: RawFd, to: RawFd, flags: c_int) -> rustix::io::Result<()> {
    // SAFETY: dup3 takes any numbers and reports bad ones.
    let result = unsafe { libc::dup3(from, to, flags) };
    checked(result).map(|_| ())
}

/// A table of descriptors of its own for this process, with those below a number only.
pub(super) fn unshare_files(below: u32) -> rustix::io::Result<()> {
    /// `CLOSE_RANGE_UNSHARE` of `include/uapi/linux/close_range.h`.
    const UNSHARE: c_int = 1 << 1;
    // SAFETY: the table is copied first, so nobody else's descriptors are closed.
    let result = unsafe { libc::syscall(libc::SYS_close_range, below, u32::MAX, UNSHARE) };
    if result == 0 {
        return Ok(());
    }
    // before Linux 5.9
    // SAFETY: it only makes the table this process's own.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }
}

/// A copy of what is open as `from` under a number of at least `least`, closed on exec.
pub(super) fn above(from: RawFd, least: RawFd) -> rustix::io::Result<RawFd> {
    // SAFETY: fcntl takes any number and reports one that is not open.
    checked(unsafe { libc::fcntl(from, libc::F_DUPFD_CLOEXEC, least) })
}

fn checked(result: c_int) -> rustix::io::Result<c_int> {
    match result {
        -1 => Err(rustix::io::Errno::from_raw_os_error(nix::errno::Errno::last_raw())),
        result => Ok(result),
    }
}

/// Takes over a descriptor that an earlier process image left open for this one, by its number.
/// `None` if nothing is open there.
pub(super) fn adopt_fd(number: RawFd) -> Option<OwnedFd> {
    if number < 3 {
        return None;
    }
    // SAFETY: fcntl takes any number and reports one that is not open.
    let open = unsafe { libc::fcntl(number, libc::F_GETFD) };
    if open == -1 {
        return None;
    }
    // SAFETY: the descriptor is open, and the image that ran before in this process left it to us
    // alone by naming it in its state; nothing else of this process knows the number.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC).ok()?;
    Some(fd)
}

/// kill(2) with any signal, real-time ones included, for which there is no safe wrapper.
pub(super) fn kill(target: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: it takes any numbers, touches no memory, and reports those that mean nothing.
    match unsafe { libc::kill(target, signal) } {
        0 => Ok(()),
        _ => Err(Errno(nix::errno::Errno::last_raw())),
    }
}

/// Makes the ends of children known again where `SIGCHLD` was ignored when this program started: the
/// kernel would reap them unseen.
pub(super) fn hear_of_children() {
    // SAFETY: SIG_DFL is a valid disposition of this signal, and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
}

/// Has a command start in a process group of its own, in the foreground of the terminal on standard
/// input if `terminal`, with this signal mask. `SIGTTOU` must be blocked or ignored here.
pub(super) fn in_own_group(
    command: &mut std::process::Command,
    mask: nix::sys::signal::SigSet,
    terminal: bool,
) {
    let prepare = move || {
        rustix::process::setpgid(None, None)?;
        if terminal {
            rustix::termios::tcsetpgrp(rustix::stdio::stdin(), rustix::process::getpgrp())?;
        }
        mask.thread_set_mask().map_err(std::io::Error::from)
    };
    // SAFETY: between fork and exec it makes system calls only, on what it owns, and an error of it
    // is a number that allocates nothing.
    unsafe { std::os::unix::process::CommandExt::pre_exec(command, prepare) };
}

/// Whether the kernel counts its clock as synchronised (adjtimex(2)).
pub(super) fn clock_is_synchronised() -> bool {
    // SAFETY: all zeroes is a valid `timex`, which asks and sets nothing.
    let mut status: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes into what it is given.
    let state = unsafe { libc::adjtimex(&raw mut status) };
    state >= 0 && status.status & libc::STA_UNSYNC == 0
}

/// Number, user and group of the process at the other end of a Unix socket, as it was when it
/// connected (`SO_PEERCRED`, unix(7)). The number is 0 for a process that has none in our PID
/// namespace, which is why this is not rustix's: its type has no 0.
#[cfg(feature = "control")]
pub(super) fn peer_credentials(fd: BorrowedFd<'_>) -> std::io::Result<(i32, u32, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut length = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: the pointers are to a ucred and to its length, which the kernel does not exceed.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&fd),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut length,
        )
    };
    checked(result)?;
    Ok((peer.pid, peer.uid, peer.gid))
}

/// The supplementary groups of the process at the other end (`SO_PEERGROUPS`, since Linux 4.13).
/// Who is in more than 256 is in none for us.
#[cfg(feature = "control")]
pub(super) fn peer_groups(fd: BorrowedFd<'_>) -> std::io::Result<Vec<u32>> {
    let mut groups = [0 as libc::gid_t; 256];
    let mut length = libc::socklen_t::try_from(size_of_val(&groups)).unwrap_or(0);
    // SAFETY: the pointers are to the array and to its length in bytes, which the kernel does not
    // exceed.
    let result = unsafe {
        libc::getsockopt(
            std::os::fd::AsRawFd::as_raw_fd(&fd),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    checked(result)?;
    let size = size_of::<libc::gid_t>();
    let count = usize::try_from(length).ok().and_then(|length| length.checked_div(size));
    Ok(groups.iter().copied().take(count.unwrap_or(0)).collect())
}
