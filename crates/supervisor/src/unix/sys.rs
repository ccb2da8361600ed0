//! Clone, exec, and descriptors by number: the only unsafe code of the shell.
#![expect(
    unsafe_code,
    reason = "clone, dup2 onto a chosen number, signal and execve have no safe wrapper"
)]

mod clone3;
mod message;
mod mount;
mod raw;
mod reserve;

use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::mem::ManuallyDrop;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use nix::libc;

pub(super) use self::message::receive;
pub(super) use self::mount::{copy_tree, has_mount_setattr, make_read_only, mount_tree};
pub use self::reserve::Reserve;
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
struct Task {
    plan: Plan,
    argv: Vec<*const c_char>,
    envp: Vec<*const c_char>,
    failure: Option<Failure>,
}

/// Which step has failed, and why.
pub(super) type Failure = (SpawnStep, Errno);

/// What a process needs to be started, one after another: it is lent to each in turn.
pub(super) struct Room {
    stack: Stack,
    slots: Slots,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { stack: Stack::new(), slots: Slots::new() }
    }
}

/// A process that has our memory, until it has executed its program or has ended without.
pub(super) struct Flight {
    /// Of a `Box`; the process has it for itself.
    task: *mut Task,
    /// 0 when our memory is ours again.
    has_memory: ManuallyDrop<Box<AtomicU32>>,
    room: ManuallyDrop<Room>,
    /// Descriptors in slots.
    count: usize,
    spawned: Result<Spawned, Failure>,
}

// SAFETY: what the pointers in it point to belongs to it alone, and to the process, until that has let
// go of it; which thread waits for that is all the same.
unsafe impl Send for Flight {}

impl Flight {
    /// Waits until it has executed its program, or could not, and gives everything back.
    pub(super) fn land(self) -> (Room, Plan, Result<Spawned, Failure>) {
        while self.has_memory.load(Ordering::Acquire) != 0 {
            // the kernel wakes by an address that processes share
            let flags = rustix::thread::futex::Flags::empty();
            let _ = rustix::thread::futex::wait(&self.has_memory, flags, 1, None);
        }
        let Self { task, has_memory, room, count, spawned } = self;
        drop(ManuallyDrop::into_inner(has_memory));
        let room = ManuallyDrop::into_inner(room);
        // SAFETY: it came from a box, and whom it was lent to has gone.
        let task = *unsafe { Box::from_raw(task) };
        room.slots.empty(count);
        let result = match (spawned, task.failure) {
            (Ok(spawned), Some(failure)) => {
                if let Some(pid) = rustix::process::Pid::from_raw(spawned.pid) {
                    let options = rustix::process::WaitOptions::empty();
                    let _ = rustix::process::waitpid(Some(pid), options);
                }
                Err(failure)
            }
            (spawned, _) => spawned,
        };
        (room, task.plan, result)
    }
}

/// A new process.
pub(super) struct Spawned {
    pub(super) pid: i32,
    pub(super) pidfd: Option<OwnedFd>,
    /// Whether the kernel has put it into the control group that was asked for.
    pub(super) in_cgroup: bool,
    /// Whether it has our memory no more.
    has_gone: bool,
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

/// Who starts a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Starter {
    /// A thread that is held until the process has executed its program (vfork(2)).
    Waits,
    /// One that goes on meanwhile, where that [may be](may_go_on). The kernel then takes the process for
    /// one of two that share memory for good: what it does to the memory's owner it does to us.
    GoesOn,
}

/// Whether a process may be started by a thread that goes on meanwhile: it leaves nothing of that
/// thread's changed, `errno` above all.
pub(super) fn may_go_on() -> bool {
    raw::KNOWN && clone3::KNOWN && !NO_CLONE3.load(Ordering::Relaxed)
}

/// Starts a process. Its number is in `pid` from its first moment on.
///
/// It has our memory until it executes its program: nothing is copied, however much memory the program
/// that embeds us has. It writes to what it was given alone.
pub(super) fn start(
    mut plan: Plan,
    mut room: Room,
    pid: &AtomicI32,
    cgroup: Option<BorrowedFd<'_>>,
    starter: Starter,
) -> Flight {
    let count = plan.files.len();
    let filled = room.slots.fill(&mut plan);
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    let namespaces = plan.namespaces;
    let shared = if plan.descriptors_below.is_some() { libc::CLONE_FILES } else { 0 };
    let task = Box::into_raw(Box::new(Task { plan, argv, envp, failure: None }));
    let has_memory = Box::new(AtomicU32::new(1));
    let spawned = match filled {
        Err(errno) => Err((SpawnStep::Descriptors, Errno(errno.raw_os_error()))),
        Ok(()) => {
            let old = block_signals();
            let lent = Lent { task, stack: &mut room.stack, has_memory: &has_memory };
            let spawned = clone(lent, pid, cgroup, namespaces | shared, starter);
            let _ = old.thread_set_mask();
            spawned.map_err(|errno| (SpawnStep::Fork, errno))
        }
    };
    if spawned.as_ref().map_or(true, |spawned| spawned.has_gone) {
        has_memory.store(0, Ordering::Release);
    }
    let (has_memory, room) = (ManuallyDrop::new(has_memory), ManuallyDrop::new(room));
    Flight { task, has_memory, room, count, spawned }
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

/// What a new process gets for itself.
struct Lent<'a> {
    task: *mut Task,
    stack: &'a mut Stack,
    /// The kernel clears it when the process has our memory no more.
    has_memory: &'a AtomicU32,
}

fn clone(
    Lent { task, stack, has_memory }: Lent<'_>,
    pid: &AtomicI32,
    cgroup: Option<BorrowedFd<'_>>,
    more: i32,
    starter: Starter,
) -> Result<Spawned, Errno> {
    use std::os::fd::AsRawFd;
    let both = libc::CLONE_VM | libc::CLONE_PARENT_SETTID | more;
    let argument: *mut c_void = task.cast();
    let mut pidfd: RawFd = -1;
    if !NO_CLONE3.load(Ordering::Relaxed) && clone3::KNOWN {
        let end = match starter {
            Starter::Waits => libc::CLONE_VFORK,
            Starter::GoesOn => libc::CLONE_CHILD_CLEARTID,
        };
        let flags = u64::from((both | end).cast_unsigned())
            | libc::CLONE_PIDFD as u64
            | CLONE_CLEAR_SIGHAND;
        let mut arguments = CloneArguments {
            flags,
            pidfd: std::ptr::from_mut(&mut pidfd) as u64,
            parent_tid: pid.as_ptr() as u64,
            child_tid: has_memory.as_ptr() as u64,
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
        // SAFETY: the addresses are those of variables that live until the child has left our memory
        // (see `Flight`), and of a stack that nothing else uses; the kernel checks the rest. `enter`
        // never returns, and the child has `task` for itself.
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
                let pid = i32::try_from(result).unwrap_or(-1);
                let has_gone = starter == Starter::Waits;
                return Ok(Spawned { pid, pidfd, in_cgroup, has_gone });
            }
        }
    }
    let end = stack.0.as_mut_ptr_range().end.cast();
    let flags = both | libc::CLONE_VFORK | libc::SIGCHLD;
    // SAFETY: as above; the pointer is to the end of the stack, which is a multiple of 16.
    let result = unsafe { libc::clone(enter_by_libc, end, flags, argument, pid.as_ptr()) };
    match result {
        -1 => Err(Errno(nix::errno::Errno::last_raw())),
        pid => Ok(Spawned { pid, pidfd: None, in_cgroup: false, has_gone: true }),
    }
}

extern "C" fn enter_by_libc(argument: *mut c_void) -> c_int {
    enter(argument)
}

/// The child's life: nothing is allocated, no lock is taken, nothing can panic.
extern "C" fn enter(argument: *mut c_void) -> ! {
    // SAFETY: it is the task that `clone` was given, and nobody else has it while we run.
    let task: &mut Task = unsafe { &mut *argument.cast() };
    task.failure = Some(match child::prepare(&mut task.plan) {
        Ok(()) => {
            if let Some((place, text)) = &task.plan.own_number
                && let Some(variable) = task.envp.get_mut(*place)
            {
                *variable = text.as_ptr().cast();
            }
            execute(task)
        }
        Err((step, errno)) => (step, Errno(errno.raw_os_error())),
    });
    // SAFETY: no preconditions; no destructor or atexit function of the parent's runs.
    unsafe { libc::_exit(127) }
}

/// Returns only when it cannot be done.
fn execute(task: &Task) -> Failure {
    for signal in &task.plan.ignored {
        // SAFETY: SIG_DFL is a valid disposition of any signal.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    // last, so that it need not allow what was done before
    #[cfg(feature = "seccomp")]
    if let Err(errno) = filter_system_calls(&task.plan.filter) {
        return (SpawnStep::Isolation, Errno(errno.raw_os_error()));
    }
    let mut errno = libc::ENOENT;
    for program in &task.plan.programs {
        let words =
            [program.as_ptr() as usize, task.argv.as_ptr() as usize, task.envp.as_ptr() as usize];
        // SAFETY: all strings end in NUL and both lists in a null pointer, and outlive the call.
        let result = checked(unsafe { raw::call(libc::SYS_execve, words) });
        match result.map_or_else(|errno| errno.raw_os_error(), |_| 0) {
            libc::ENOENT | libc::ENOTDIR => {}
            other => {
                errno = other;
                if other != libc::EACCES {
                    break;
                }
            }
        }
    }
    (SpawnStep::Exec, Errno(errno))
}

/// Has the kernel judge all system calls of this process from now on.
#[cfg(feature = "seccomp")]
fn filter_system_calls(filter: &[libc::sock_filter]) -> rustix::io::Result<()> {
    if filter.is_empty() {
        return Ok(());
    }
    let len = u16::try_from(filter.len()).map_err(|_| rustix::io::Errno::TOOBIG)?;
    let program = libc::sock_fprog { len, filter: filter.as_ptr().cast_mut() };
    let (set, none) = (libc::SECCOMP_SET_MODE_FILTER, 0_usize);
    // SAFETY: the kernel copies the program, whose length is that of the slice, and writes nothing.
    let result =
        unsafe { raw::call(libc::SYS_seccomp, [set as usize, none, &raw const program as usize]) };
    checked(result).map(|_| ())
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
    let result = unsafe { raw::call(libc::SYS_dup3, [from, to, flags].map(number)) };
    checked(result).map(|_| ())
}

/// A table of descriptors of its own for this process, with those below a number only.
pub(super) fn unshare_files(below: u32) -> rustix::io::Result<()> {
    /// `CLOSE_RANGE_UNSHARE` of `include/uapi/linux/close_range.h`.
    const UNSHARE: c_int = 1 << 1;
    let words = [below as usize, u32::MAX as usize, number(UNSHARE)];
    // SAFETY: the table is copied first, so nobody else's descriptors are closed.
    let result = unsafe { raw::call(libc::SYS_close_range, words) };
    if checked(result).is_ok() {
        return Ok(());
    }
    // before Linux 5.9
    // SAFETY: it only makes the table this process's own.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::FILES) }
}

/// A copy of what is open as `from` under a number of at least `least`, closed on exec.
pub(super) fn above(from: RawFd, least: RawFd) -> rustix::io::Result<RawFd> {
    let words = [from, libc::F_DUPFD_CLOEXEC, least].map(number);
    // SAFETY: fcntl takes any number and reports one that is not open.
    let result = checked(unsafe { raw::call(libc::SYS_fcntl, words) })?;
    RawFd::try_from(result).map_err(|_| rustix::io::Errno::BADF)
}

/// As the kernel takes it.
fn number(number: c_int) -> usize {
    number.cast_unsigned() as usize
}

/// What a system call has given: errors are the numbers from -4095 to -1.
fn checked(result: c_long) -> rustix::io::Result<c_long> {
    match i32::try_from(result) {
        Ok(errno @ -4095..=-1) => Err(rustix::io::Errno::from_raw_os_error(errno.saturating_neg())),
        _ => Ok(result),
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

/// Gives the kernel back what the heap has free, after something that has taken much for a moment: in a
/// process that then waits for years.
pub(super) fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Whether the kernel gives so many bytes now. They are given back, and none of them is touched.
pub(super) fn is_given(bytes: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: it is put where nothing is, and no other memory is changed.
    let given = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
    if given == libc::MAP_FAILED {
        return false;
    }
    // SAFETY: it was given to us just now, as long as that, and nobody knows of it.
    unsafe { libc::munmap(given, bytes) };
    true
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

/// What a call of the C library has given.
#[cfg(feature = "control")]
fn asked(result: c_int) -> std::io::Result<()> {
    if result == -1 { Err(std::io::Error::last_os_error()) } else { Ok(()) }
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
    asked(result)?;
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
    asked(result)?;
    let size = size_of::<libc::gid_t>();
    let count = usize::try_from(length).ok().and_then(|length| length.checked_div(size));
    Ok(groups.iter().copied().take(count.unwrap_or(0)).collect())
}
