//! Lines on the console that never make PID 1 wait for it.

use std::sync::{Mutex, PoisonError, TryLockError};

use rustix::event::{PollFd, PollFlags, Timespec};

/// Bytes that are held for a console that takes nothing now.
const MOST_HELD: usize = 64 << 10;

/// How long one that takes nothing is waited for, each time.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
const NONE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What the console has not taken yet.
static HELD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Writes a line to standard error for people. What a terminal or a pipe does not take now is held,
/// and written before the next line; if that is too much, the line is lost.
pub fn console_line(line: std::fmt::Arguments<'_>) {
    let line = format!("{line}\n");
    let mut held = match HELD.try_lock() {
        Ok(held) => held,
        Err(TryLockError::Poisoned(held)) => PoisonError::into_inner(held),
        // another thread writes, or this one panicked while it did
        Err(TryLockError::WouldBlock) => {
            write(line.as_bytes());
            return;
        }
    };
    // one that did not take the line before is not waited for at each of a thousand lines
    let patience = if held.is_empty() { PATIENCE } else { NONE };
    if held.len().saturating_add(line.len()) <= MOST_HELD {
        held.extend_from_slice(line.as_bytes());
    }
    let left = write_within(&held, patience).len();
    let written = held.len().saturating_sub(left);
    held.drain(..written);
}

/// Writes to standard error if it takes anything now; a terminal that is stopped by flow control
/// or a pipe that nobody reads costs the text, not the supervisor. Returns what was not written.
pub(crate) fn write(text: &[u8]) -> &[u8] {
    write_within(text, PATIENCE)
}

fn write_within(mut text: &[u8], patience: Timespec) -> &[u8] {
    let stderr = rustix::stdio::stderr();
    while !text.is_empty() {
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        if !matches!(rustix::event::poll(&mut fds, Some(&patience)), Ok(1..)) {
            break;
        }
        // small pieces: what poll promises for a pipe is room for PIPE_BUF bytes
        let piece = text.get(..text.len().min(4096)).unwrap_or_default();
        match rustix::io::write(stderr, piece) {
            Ok(0) => break,
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;

    use super::*;

    /// In a process of its own, whose standard error is a pipe that is full, then read.
    #[test]
    fn a_line_that_finds_no_place_comes_before_the_next() {
        if std::env::var_os("KILN_CONSOLE_TEST").is_some() {
            let mut gate = String::new();
            console_line(format_args!("{}", "x".repeat(65_000)));
            console_line(format_args!("{}", "y".repeat(900)));
            console_line(format_args!("held"));
            println!("\nfull");
            std::io::stdin().read_line(&mut gate).unwrap();
            let stderr = rustix::stdio::stderr();
            let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
            let _ = rustix::event::poll(&mut fds, Some(&Timespec { tv_sec: 60, tv_nsec: 0 }));
            console_line(format_args!("last"));
            return;
        }
        let (read, write) = rustix::pipe::pipe().unwrap();
        rustix::pipe::fcntl_setpipe_size(write.as_fd(), 65_536).unwrap();
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args([
            "--exact",
            "unix::console::tests::a_line_that_finds_no_place_comes_before_the_next",
        ]);
        child.arg("--nocapture").env("KILN_CONSOLE_TEST", "1").stderr(write);
        child.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut running = child.spawn().unwrap();
        drop(child);
        let stdout = std::io::BufReader::new(running.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(stdout);
        assert!(lines.any(|line| line.unwrap() == "full"));
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            std::fs::File::from(read).read_to_string(&mut text).unwrap();
            text
        });
        drop(running.stdin.take());
        lines.for_each(drop);
        assert!(running.wait().unwrap().success());
        let text = reader.join().unwrap();
        assert!(text.ends_with("\nheld\nlast\n"), "{}", &text[text.len() - 100..]);
    }
}
