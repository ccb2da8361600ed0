//! An append-only file of bounded size, with its predecessors beside it.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::stamp;
use crate::spec::LogFile;
use crate::unix::reserve;
use crate::vocabulary::Errno;

/// What could not be written, in bytes, and why.
pub(super) type Lost = (u64, Errno);

fn lost(bytes: usize, error: &std::io::Error) -> Lost {
    (bytes as u64, Errno(error.raw_os_error().unwrap_or(nix::libc::EIO)))
}

/// See the module.
#[derive(Debug)]
pub(super) struct Rotating {
    spec: LogFile,
    file: Option<File>,
    length: u64,
    /// Whether what comes next begins a line.
    begins: bool,
}

impl Rotating {
    pub(super) fn new(spec: LogFile) -> Self {
        Self { spec, file: None, length: 0, begins: true }
    }

    /// Closes the file, to be opened anew by its name.
    pub(super) fn reopen(&mut self) {
        self.file = None;
    }

    /// Appends output that was read at a time, in microseconds since 1970, with that before each
    /// line if the log is to have it.
    pub(super) fn append_at(&mut self, chunk: &[u8], unix_us: u64) -> Result<(), Lost> {
        if !self.spec.timestamps {
            return self.append(chunk);
        }
        let stamp = stamp::text(unix_us);
        let mut text = Vec::new();
        let lines = chunk.iter().filter(|byte| **byte == b'\n').count();
        let stamps = lines.saturating_add(1).saturating_mul(stamp.len());
        if !reserve::try_grow(&mut text, chunk.len().saturating_add(stamps)) {
            return Err((chunk.len() as u64, Errno(nix::libc::ENOMEM)));
        }
        for line in chunk.split_inclusive(|byte| *byte == b'\n') {
            if self.begins {
                text.extend_from_slice(&stamp);
            }
            text.extend_from_slice(line);
            self.begins = line.last() == Some(&b'\n');
        }
        self.append(&text)
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
            let _ = std::fs::rename(numbered(n), numbered(n.saturating_add(1)));
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
        Some(at) => at.saturating_add(1),
        None if empty => room,
        None => 0,
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let file = || OpenOptions::new().append(true).create(true).open(path);
    match (file(), path.parent()) {
        (Err(error), Some(parent)) if error.kind() == std::io::ErrorKind::NotFound => {
            // why there is no directory is told, such as that the disk cannot be written
            std::fs::create_dir_all(parent)?;
            file()
        }
        (opened, _) => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotates_at_line_ends_and_keeps_so_many() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/service.log");
        let spec = LogFile { path: path.clone(), max_bytes: 20, keep: 2, timestamps: false };
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
        let mut log =
            Rotating::new(LogFile { path: path.clone(), max_bytes: 8, keep: 9, timestamps: false });
        log.append(&[b'x'; 30]).unwrap();
        let total: u64 = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .sum();
        assert_eq!(total, 30);
        assert!(std::fs::metadata(path).unwrap().len() <= 8);
    }

    #[test]
    fn lines_have_the_time_at_which_they_began() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Rotating::new(LogFile::new(&path));
        log.append_at(b"one\ntw", 0).unwrap();
        log.append_at(b"o\n", 1_000_000).unwrap();
        log.append_at(b"\n", 2_000_001).unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "1970-01-01T00:00:00.000000Z one\n1970-01-01T00:00:00.000000Z two\n\
             1970-01-01T00:00:02.000001Z \n"
        );
    }

    #[test]
    fn an_unwritable_file_loses_and_counts() {
        let mut log = Rotating::new(LogFile::new("/dev/full"));
        let (bytes, errno) = log.append(b"gone\n").unwrap_err();
        assert_eq!((bytes, errno.to_string()), (5, "ENOSPC".into()));
    }
}
