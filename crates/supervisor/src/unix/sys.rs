//! Fork and exec: the only unsafe code of the crate.
#![expect(
    unsafe_code,
    reason = "fork, dup2 onto a chosen number, signal and execve have no safe wrapper"
)]

use std::ffi::{CStr, CString, c_char};
use std::io::Read;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::libc;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Pid, Resource, Rlimit, Uid};

use crate::vocabulary::{Errno, SpawnStep};

/// Everything that the child needs, prepared before the fork: between fork and exec nothing is
/// allocated.
pub(super) struct Plan<'a> {
    /// Paths to try in turn.
    pub(super) programs: Vec<CString>,
    pub(super) argv: Vec<CString>,
    pub(super) envp: Vec<CString>,
    pub(super) directory: Option<CString>,
    pub(super) tty: Option<CString>,
    pub(super) stdin: BorrowedFd<'a>,
    pub(super) stdout: BorrowedFd<'a>,
    pub(super) stderr: BorrowedFd<'a>,
    /// A descriptor and the number under which the child has it.
    pub(super) notify: Option<(BorrowedFd<'a>, RawFd)>,
    pub(super) uid: Option<Uid>,
    pub(super) gid: Option<Gid>,
    pub(super) groups: Option<Vec<Gid>>,
    /// The limit of open files that the supervisor itself had at first.
    pub(super) nofile: Option<Rlimit>,
    /// Whether the supervisor is exempt from the out-of-memory killer, which must not be inherited.
    pub(super) reset_oom: bool,
}

/// How long the new process may take from fork to exec: a hung file system must not hang us.
const EXEC_TIMEOUT: Duration = Duration::from_secs(5);

/// Starts the process and waits until it executes the program or says why it cannot.
pub(super) fn spawn(plan: &Plan<'_>) -> Result<i32, (SpawnStep, Errno)> {
    let step = |step| move |e: rustix::io::Errno| (step, Errno(e.raw_os_error()));
    let (word, child_word) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(step(SpawnStep::Prepare))?;
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&plan.argv), pointers(&plan.envp));
    // SAFETY: fork has no preconditions. The child calls only system calls (through rustix, which
    // wraps them one to one, or libc functions that are async-signal-safe) on memory prepared
    // above, and ends in execve or _exit, so no lock of another thread is ever taken.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err((SpawnStep::Fork, Errno(nix::errno::Errno::last_raw()))),
        0 => {
            let (step, errno) = child(plan, &argv, &envp, &child_word);
            let [a, b, c, d] = errno.to_ne_bytes();
            let mut word_fd = child_word.as_raw_fd();
            if let Some((_, target)) = plan.notify
                && target == word_fd
            {
                word_fd = SPARE;
            }
            let bytes = [step as u8, a, b, c, d];
            // SAFETY: the buffer is valid for its five bytes; a bad descriptor gives an error.
            unsafe { libc::write(word_fd, bytes.as_ptr().cast(), bytes.len()) };
            // SAFETY: no preconditions; no destructor or atexit function of the parent's runs.
            unsafe { libc::_exit(127) }
        }
        pid => {
            drop(child_word);
            confirm(word, pid)
        }
    }
}

/// Where the pipe to the parent goes when the service wants the pipe's number for itself.
const SPARE: RawFd = 1024;

fn confirm(word: OwnedFd, pid: i32) -> Result<i32, (SpawnStep, Errno)> {
    let mut bytes = [0_u8; 5];
    let timeout = rustix::event::Timespec {
        tv_sec: i64::try_from(EXEC_TIMEOUT.as_secs()).unwrap_or(5),
        tv_nsec: 0,
    };
    let mut fds = [rustix::event::PollFd::new(&word, rustix::event::PollFlags::IN)];
    let told = loop {
        match rustix::event::poll(&mut fds, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other,
        }
    };
    let pid_type = Pid::from_raw(pid);
    if !matches!(told, Ok(1..)) {
        if let Some(pid) = pid_type {
            // it is reaped as an orphan when it ends
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        return Err((SpawnStep::Confirm, Errno(libc::ETIMEDOUT)));
    }
    match std::fs::File::from(word).read_exact(&mut bytes) {
        Ok(()) => {
            if let Some(pid) = pid_type {
                let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
            }
            let [step, errno @ ..] = bytes;
            Err((
                STEPS.get(usize::from(step)).copied().unwrap_or(SpawnStep::Exec),
                Errno(i32::from_ne_bytes(errno)),
            ))
        }
        // closed without a word: executed
        Err(_) => Ok(pid),
    }
}

const STEPS: [SpawnStep; 10] = [
    SpawnStep::Prepare,
    SpawnStep::Fork,
    SpawnStep::Session,
    SpawnStep::Terminal,
    SpawnStep::Descriptors,
    SpawnStep::Directory,
    SpawnStep::Credentials,
    SpawnStep::Exec,
    SpawnStep::Interpreter,
    SpawnStep::Confirm,
];

/// The child's life; returns only if a step fails.
fn child(
    plan: &Plan<'_>,
    argv: &[*const c_char],
    envp: &[*const c_char],
    word: &OwnedFd,
) -> (SpawnStep, i32) {
    match prepare(plan, word) {
        Ok(()) => {}
        Err((step, errno)) => return (step, errno.raw_os_error()),
    }
    let mut errno = libc::ENOENT;
    for program in &plan.programs {
        // SAFETY: all strings end in NUL and both lists in a null pointer, and outlive the call.
        unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
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

fn prepare(plan: &Plan<'_>, word: &OwnedFd) -> Result<(), (SpawnStep, rustix::io::Errno)> {
    let at = |step| move |errno| (step, errno);
    rustix::process::setsid().map_err(at(SpawnStep::Session))?;
    if plan.reset_oom {
        reset_oom();
    }
    if let Some(limit) = plan.nofile {
        let _ = rustix::process::setrlimit(Resource::Nofile, limit);
    }
    let fd = SpawnStep::Descriptors;
    match &plan.tty {
        Some(path) => {
            let tty = open_tty(path).map_err(at(SpawnStep::Terminal))?;
            rustix::process::ioctl_tiocsctty(&tty).map_err(at(SpawnStep::Terminal))?;
            rustix::stdio::dup2_stdin(&tty).map_err(at(fd))?;
            rustix::stdio::dup2_stdout(&tty).map_err(at(fd))?;
            rustix::stdio::dup2_stderr(&tty).map_err(at(fd))?;
        }
        None => {
            rustix::stdio::dup2_stdin(plan.stdin).map_err(at(fd))?;
            rustix::stdio::dup2_stdout(plan.stdout).map_err(at(fd))?;
            rustix::stdio::dup2_stderr(plan.stderr).map_err(at(fd))?;
        }
    }
    if let Some((from, to)) = plan.notify {
        place(from, to, word).map_err(at(fd))?;
    }
    if let Some(directory) = &plan.directory {
        rustix::process::chdir(directory.as_c_str()).map_err(at(SpawnStep::Directory))?;
    }
    let credentials = SpawnStep::Credentials;
    if let Some(groups) = &plan.groups {
        rustix::thread::set_thread_groups(groups).map_err(at(credentials))?;
    }
    if let Some(gid) = plan.gid {
        rustix::thread::set_thread_res_gid(gid, gid, gid).map_err(at(credentials))?;
    }
    if let Some(uid) = plan.uid {
        rustix::thread::set_thread_res_uid(uid, uid, uid).map_err(at(credentials))?;
    }
    // SAFETY: SIG_DFL is a valid disposition; Rust's runtime ignores SIGPIPE, a service must not.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    let _ = nix::sys::signal::SigSet::empty().thread_set_mask();
    Ok(())
}

fn open_tty(path: &CStr) -> rustix::io::Result<OwnedFd> {
    rustix::fs::open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn reset_oom() {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    if let Ok(file) = rustix::fs::open(c"/proc/self/oom_score_adj", flags, Mode::empty()) {
        let _ = rustix::io::write(&file, b"0");
    }
}

/// Gives the child `from` as number `to`, which may be in use.
fn place(from: BorrowedFd<'_>, to: RawFd, word: &OwnedFd) -> rustix::io::Result<()> {
    if word.as_raw_fd() == to {
        // SAFETY: dup3 takes any numbers and reports bad ones; SPARE is nobody else's in the child.
        check(unsafe { libc::dup3(to, SPARE, libc::O_CLOEXEC) })?;
    }
    if from.as_raw_fd() == to {
        return rustix::io::fcntl_setfd(from, rustix::io::FdFlags::empty());
    }
    // SAFETY: as above; whatever was open as `to` is close-on-exec and not used any more here,
    // except the pipe that was just moved.
    check(unsafe { libc::dup3(from.as_raw_fd(), to, 0) })
}

fn check(result: libc::c_int) -> rustix::io::Result<()> {
    match result {
        -1 => Err(rustix::io::Errno::from_raw_os_error(nix::errno::Errno::last_raw())),
        _ => Ok(()),
    }
}

/// Takes over a descriptor that an earlier process image left open for this one, by its number.
/// `None` if nothing is open there.
pub(super) fn adopt_fd(number: RawFd) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;
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
