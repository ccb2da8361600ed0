//! A service's output, as fast as it is taken or at its own pace.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};

use crate::Error;
use crate::notes::{self, Notes};

/// How long one line may wait before the service counts as blocked.
const PATIENCE: i64 = 5;

fn line(number: u64, length: usize) -> Vec<u8> {
    format!("{number:012} {:x<1$}\n", "what a service says ", length - 14).into_bytes()
}

/// Notes when it began and when all was taken.
pub(crate) fn write(file: &str, mebibytes: u64) -> Result<ExitCode, Error> {
    let notes = Notes::open(file)?;
    // Services write through buffers of some kilobytes.
    let piece: Vec<u8> = (0..32).flat_map(|number| line(number, 128)).collect();
    let pieces = (mebibytes << 20) / piece.len() as u64;
    notes.add("begun", notes::now())?;
    for _ in 0..pieces {
        let mut rest = piece.as_slice();
        while !rest.is_empty() {
            let written = rustix::io::write(rustix::stdio::stdout(), rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
    notes.add("taken", notes::now())?;
    loop {
        std::thread::park();
    }
}

/// Some megabytes in all, so that a small disk is full soon. Notes the median, the 99th percentile and
/// the most of what a line took, in nanoseconds, and how many lines were taken.
pub(crate) fn lag(file: &str, milliseconds: u64) -> Result<ExitCode, Error> {
    let notes = Notes::open(file)?;
    let end = Instant::now() + Duration::from_millis(milliseconds);
    let mut took: Vec<u64> = Vec::new();
    let stdout = rustix::stdio::stdout();
    while Instant::now() < end {
        let before = notes::now();
        let mut fds = [PollFd::new(&stdout, PollFlags::OUT)];
        let patience = Timespec { tv_sec: PATIENCE, tv_nsec: 0 };
        let taken = rustix::event::poll(&mut fds, Some(&patience))? > 0;
        if taken {
            rustix::io::write(stdout, &line(took.len() as u64, 1024))?;
        }
        took.push(notes::now() - before);
        if !taken {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    took.sort_unstable();
    let at = |part: usize| {
        took.get(took.len() * part / 100).or_else(|| took.last()).copied().unwrap_or(0)
    };
    notes.add("p50", at(50))?;
    notes.add("p99", at(99))?;
    notes.add("lines", took.len() as u64)?;
    notes.add("most", took.last().copied().unwrap_or(0))?;
    loop {
        std::thread::park();
    }
}
