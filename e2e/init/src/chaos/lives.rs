//! What the services do.
#![expect(unsafe_code, reason = "a service takes a descriptor over by number")]

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::fd::{AsFd as _, FromRawFd as _, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use rustix::fs::FlockOperation;

use crate::say;

/// What was done twice at a time is written here.
pub(crate) const VIOLATIONS: &str = "/run/violations";

pub(crate) fn live(name: &str, kind: &str) -> ExitCode {
    // As long as this lives, and not longer: such locks are a process's, and not of what it forks.
    let Some(_marker) = alone(name) else { return ExitCode::FAILURE };
    match kind {
        "notify" => {
            wait(50);
            let _ = std::fs::write("/proc/self/fd/3", "\n");
        }
        "sd-notify" => {
            wait(30);
            notify();
        }
        "crash-0" => return ExitCode::from(7),
        "crash-50" => wait(50),
        "crash-2000" => wait(2000),
        "once" => wait(20),
        "deaf" => {
            // Blocked signals stay so; it is to be killed.
            let _ = nix::sys::signal::SigSet::all().thread_block();
        }
        "forks" => loop {
            fork();
            wait(400);
        },
        "talks" => loop {
            println!("a line that somebody may read, {}", std::process::id());
            wait(5);
        },
        "answer" => answer(),
        _ => {}
    }
    match kind {
        "once" => ExitCode::SUCCESS,
        "crash-50" | "crash-2000" => ExitCode::FAILURE,
        _ => loop {
            std::thread::park();
        },
    }
}

fn wait(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}

/// The lock that a second instance of the service does not get (`F_SETLK`).
fn alone(name: &str) -> Option<File> {
    let path = format!("/run/marker-{name}");
    let file = OpenOptions::new().create(true).append(true).open(path).ok()?;
    if rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let what = format!("{name} runs twice\n");
        let violations = OpenOptions::new().create(true).append(true).open(VIOLATIONS);
        let _ = violations.and_then(|mut file| file.write_all(what.as_bytes()));
        say(format_args!("VIOLATION: {}", what.trim()));
        return None;
    }
    Some(file)
}

/// sd_notify(3).
fn notify() {
    let address = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    let name = address.trim_start_matches('@');
    let Ok(address) = SocketAddr::from_abstract_name(name) else { return };
    if let Ok(socket) = UnixDatagram::unbound() {
        let _ = socket.send_to_addr(b"READY=1\nSTATUS=well\n", &address);
    }
}

/// A child that ends soon, whose own children are orphans then; one of them leaves the process group.
fn fork() {
    let mut command = Command::new("/init");
    command.args(["child", "fork"]).stdin(Stdio::null());
    if let Ok(mut child) = command.spawn() {
        let _ = child.wait();
    }
}

/// Lives for so long, or makes two that do.
pub(crate) fn child(milliseconds: &str) -> ExitCode {
    let Ok(milliseconds) = milliseconds.parse() else {
        for life in ["1500", "3000"] {
            let _ = Command::new("/init").args(["child", life]).spawn();
        }
        return ExitCode::SUCCESS;
    };
    if milliseconds == 3000 {
        let _ = rustix::process::setsid();
    }
    wait(milliseconds);
    ExitCode::SUCCESS
}

/// Answers some that connect, and ends.
fn answer() {
    // SAFETY: the first descriptor that the supervisor passes on; nothing else here knows it.
    let socket = unsafe { OwnedFd::from_raw_fd(3) };
    let listener = UnixListener::from(socket);
    for _ in 0..3 {
        if let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(b"here");
        }
    }
    let _ = listener.as_fd();
    std::process::abort();
}
