//! How far it is, on the console.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use super::mib;
use crate::console::say;

/// Between two lines.
const EVERY: Duration = Duration::from_secs(5);

/// What is read, with a line on the console now and then.
pub(super) struct Watched<R> {
    inner: R,
    size: u64,
    read: u64,
    begun: Instant,
    told: Instant,
    system: String,
}

impl<R> Watched<R> {
    pub(super) fn new(inner: R, size: u64, system: String) -> Self {
        let now = Instant::now();
        Self { inner, size, read: 0, begun: now, told: now, system }
    }
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.read += len as u64;
        if self.told.elapsed() >= EVERY {
            self.told = Instant::now();
            let seconds = self.begun.elapsed().as_secs_f64();
            let (read, size) = (mib(self.read), mib(self.size));
            let line = format!("root: {read:.1} of {size:.1} MiB, {:.1} MiB/s", read / seconds);
            say(&self.system, line);
        }
        Ok(len)
    }
}
