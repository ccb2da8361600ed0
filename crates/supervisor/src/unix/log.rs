//! A service's output: read from a pipe that outlives the service's restarts, written to a file
//! that is rotated by size. Whatever happens to the file, the pipe is emptied, so the service never
//! waits for its log; what cannot be written is counted.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::spec::LogFile;
use crate::vocabulary::{Errno, Time};

/// At most this often a loss is reported.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Both ends of a service's output pipe, and where it goes.
#[derive(Debug)]
pub(super) struct LogPipe {
    pub(super) read: OwnedFd,
    pub(super) write: Arc<OwnedFd>,
    pub(super) sink: Sink,
    dropped: u64,
    why: Option<Errno>,
    reported: Option<Time>,
}

#[derive(Debug)]
pub(super) enum Sink {
    File(Rotating),
    /// The supervisor's standard error, each line with this prefix; the rest is a line begun.
    Console(String, Vec<u8>),
}

impl LogPipe {
    pub(super) fn new(sink: Sink) -> rustix::io::Result<Self> {
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        Self::with_ends(read, write, sink)
    }

    /// A pipe taken over from an earlier process image.
    pub(super) fn with_ends(read: OwnedFd, write: OwnedFd, sink: Sink) -> rustix::io::Result<Self> {
        // the reader's open file description only: a service's writes block as it expects
        rustix::io::ioctl_fionbio(&read, true)?;
        let write = Arc::new(write);
        Ok(Self { read, write, sink, dropped: 0, why: None, reported: None })
    }

    /// Moves what is in the pipe, at most one buffer full. Returns whether there was any.
    pub(super) fn pump(&mut self, buffer: &mut [u8]) -> bool {
        let Ok(length @ 1..) = rustix::io::read(&self.read, &mut *buffer) else { return false };
        let chunk = buffer.get(..length).unwrap_or_default();
        let lost = match &mut self.sink {
            Sink::File(file) => file.append(chunk),
            Sink::Console(prefix, partial) => console(prefix, partial, chunk),
        };
        if let Err((bytes, errno)) = lost {
            self.dropped = self.dropped.saturating_add(bytes);
            self.why = Some(errno);
        }
        true
    }

    /// What was lost since this was last asked, not more often than is good for people.
    pub(super) fn loss(&mut self, now: Time) -> Option<(u64, Errno)> {
        let errno = self.why?;
        if self.reported.is_some_and(|at| now.saturating_sub(at) < REPORT_EVERY) {
            return None;
        }
        self.reported = Some(now);
        self.why = None;
        Some((std::mem::take(&mut self.dropped), errno))
    }
}

/// What could not be written, in bytes, and why.
type Lost = (u64, Errno);

fn lost(bytes: usize, error: &std::io::Error) -> Lost {
    (bytes as u64, Errno(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

/// An append-only file of bounded size, with its predecessors beside it.
#[derive(Debug)]
pub(super) struct Rotating {
    spec: LogFile,
    file: Option<File>,
    length: u64,
}

impl Rotating {
    pub(super) fn new(spec: LogFile) -> Self {
        Self { spec, file: None, length: 0 }
    }

    /// Closes the file, to be opened anew by its name.
    pub(super) fn reopen(&mut self) {
        self.file = None;
    }

    fn append(&mut self, chunk: &[u8]) -> Result<(), Lost> {
        let mut rest = chunk;
        while !rest.is_empty() {
            if self.file.is_none() {
                let opened = open(&self.spec.path).map_err(|e| lost(rest.len(), &e))?;
                self.length = opened.metadata().map_or(0, |metadata| metadata.len());
                self.file = Some(opened);
            }
            let room = self.spec.max_bytes.max(1).saturating_sub(self.length);
            let take = cut(rest, usize::try_from(room).unwrap_or(usize::MAX), self.length == 0);
            let (now, later) = rest.split_at(take);
            if take > 0 {
                let Some(file) = &mut self.file else { return Ok(()) };
                match file.write(now) {
                    Ok(written) => {
                        self.length = self.length.saturating_add(written as u64);
                        rest = rest.get(written..).unwrap_or_default();
                        if written > 0 {
                            continue;
                        }
                        return Err((rest.len() as u64, Errno(nix::libc::ENOSPC)));
                    }
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                    Err(error) => {
                        // a full disk must not keep old logs for ever in the way of new ones, but
                        // neither must it cost them: the file stays as it is
                        return Err(lost(rest.len(), &error));
                    }
                }
            }
            rest = later;
            self.rotate();
        }
        Ok(())
    }

    fn rotate(&mut self) {
        self.file = None;
        self.length = 0;
        let numbered = |n: u32| -> PathBuf {
            let mut name = self.spec.path.clone().into_os_string();
            name.push(format!(".{n}"));
            name.into()
        };
        if self.spec.keep == 0 {
            let _ = std::fs::remove_file(&self.spec.path);
            return;
        }
        for n in (1..self.spec.keep).rev() {
            let _ = std::fs::rename(numbered(n), numbered(n + 1));
        }
        let _ = std::fs::rename(&self.spec.path, numbered(1));
    }
}

/// How much of `data` goes into `room` bytes: up to the last line end that fits, or if the file is
/// empty and no line end fits, all the room there is.
fn cut(data: &[u8], room: usize, empty: bool) -> usize {
    if data.len() <= room {
        return data.len();
    }
    let fits = data.get(..room).unwrap_or_default();
    match fits.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None if empty => room,
        None => 0,
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(parent) = path.parent() {
        let _ = std::fs::create_dir_all(parent);
    }
    OpenOptions::new().append(true).create(true).open(path)
}

/// Whole lines with a prefix; a line without end is kept until it has one or is long.
fn console(prefix: &str, partial: &mut Vec<u8>, chunk: &[u8]) -> Result<(), Lost> {
    partial.extend_from_slice(chunk);
    let end = match partial.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None if partial.len() >= 4096 => partial.len(),
        None => return Ok(()),
    };
    let mut text = Vec::with_capacity(end + 64);
    for line in partial.get(..end).unwrap_or_default().split_inclusive(|byte| *byte == b'\n') {
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(line);
    }
    partial.drain(..end);
    if super::console::write(&text) {
        Ok(())
    } else {
        Err((text.len() as u64, Errno(nix::libc::EAGAIN)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_at_line_ends_and_keeps_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/service.log");
        let spec = LogFile { path: path.clone(), max_bytes: 20, keep: 2 };
        let mut log = Rotating::new(spec);
        for n in 0..10 {
            log.append(format!("line {n}\n").as_bytes()).unwrap();
        }
        let read = |suffix: &str| {
            std::fs::read_to_string(format!("{}{suffix}", path.display())).unwrap_or_default()
        };
        assert_eq!(read(""), "line 8\nline 9\n");
        assert_eq!(read(".1"), "line 6\nline 7\n");
        assert_eq!(read(".2"), "line 4\nline 5\n");
        assert_eq!(read(".3"), "");
    }

    #[test]
    fn a_line_longer_than_the_file_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Rotating::new(LogFile { path: path.clone(), max_bytes: 8, keep: 9 });
        log.append(&[b'x'; 30]).unwrap();
        let total: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(total, 30);
        assert!(std::fs::metadata(path).unwrap().len() <= 8);
    }

    #[test]
    fn an_unwritable_file_loses_and_counts() {
        let mut log = Rotating::new(LogFile::new("/dev/full"));
        let (bytes, errno) = log.append(b"gone\n").unwrap_err();
        assert_eq!((bytes, errno.to_string()), (5, "ENOSPC".into()));
    }
}
