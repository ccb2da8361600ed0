//! A file of what happened when, appended to by many processes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

/// Nanoseconds of `CLOCK_MONOTONIC`, which all namespaces of PIDs share.
pub(crate) fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    part(time.tv_sec) * 1_000_000_000 + part(time.tv_nsec)
}

pub(crate) struct Notes(File);

impl Notes {
    pub(crate) fn open(path: &str) -> io::Result<Self> {
        OpenOptions::new().append(true).create(true).open(path).map(Self)
    }

    /// Adds a line of 40 bytes, so that the file's length says how many there are.
    pub(crate) fn add(&self, what: &str, number: u64) -> io::Result<()> {
        (&self.0).write_all(format!("{what:<18} {number:>20}\n").as_bytes())
    }
}
