//! Lines on the console that never make PID 1 wait for it.

use rustix::event::{PollFd, PollFlags, Timespec};

/// Writes a line to standard error for people, and gives it up rather than wait for a terminal or
/// a pipe that takes nothing.
pub fn console_line(line: std::fmt::Arguments<'_>) {
    write(format!("{line}\n").as_bytes());
}

/// Writes to standard error if it takes anything now; a terminal that is stopped by flow control
/// or a pipe that nobody reads costs the text, not the supervisor. Returns whether all went out.
pub(crate) fn write(mut text: &[u8]) -> bool {
    let stderr = rustix::stdio::stderr();
    while !text.is_empty() {
        let mut fds = [PollFd::new(&stderr, PollFlags::OUT)];
        let now = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        if !matches!(rustix::event::poll(&mut fds, Some(&now)), Ok(1..)) {
            return false;
        }
        // small pieces: what poll promises for a pipe is room for PIPE_BUF bytes
        let piece = text.get(..text.len().min(4096)).unwrap_or_default();
        match rustix::io::write(stderr, piece) {
            Ok(0) => return false,
            Ok(written) => text = text.get(written..).unwrap_or_default(),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
    true
}
