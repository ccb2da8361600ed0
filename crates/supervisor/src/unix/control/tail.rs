//! The end of a log, across its rotations, and what is written from now on.
//!
//! Only files are looked at, so it does not matter who writes them and how. While somebody follows,
//! inotify(7) says when there is more; nothing is polled and nothing is kept in memory.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use crate::spec::LogFile;

/// How far back lines are counted.
const LOOK_BACK: u64 = 1 << 20;
const BLOCK: usize = 32 << 10;

/// How much of what was written is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Amount {
    Lines(u64),
    Bytes(u64),
}

/// What [`Tail::read`] gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// So many bytes, in the buffer.
    Data(usize),
    /// The file read last was rotated away before its successor was found: output may be lost.
    Gap,
    /// Nothing more now.
    Later,
    /// Nothing more.
    End,
}

/// A place in a log.
#[derive(Debug)]
pub(super) struct Tail {
    log: LogFile,
    /// What is still to be read, oldest first; the last is the current one.
    parts: VecDeque<Part>,
    follow: Option<OwnedFd>,
    /// When the file that was read last and then lost was last written to.
    read_last: Option<(i64, i64)>,
    /// Whether inotify has said something since the end was reached.
    grown: bool,
}

#[derive(Debug)]
struct Part {
    file: File,
    /// Device and inode.
    identity: (u64, u64),
    /// When it was last written to, as of its opening.
    modified: (i64, i64),
    at: u64,
    /// Where to stop when not following.
    end: u64,
}

impl Tail {
    /// Finds where the wanted part begins.
    pub(super) fn open(log: LogFile, amount: Amount, follow: bool) -> std::io::Result<Self> {
        let follow = if follow { Some(watch(&log.path)?) } else { None };
        let mut tail = Self { log, parts: VecDeque::new(), follow, read_last: None, grown: true };
        let (mut lines, mut bytes) = match amount {
            Amount::Lines(lines) => (Some(lines), LOOK_BACK),
            Amount::Bytes(bytes) => (None, bytes),
        };
        for number in 0..=tail.log.keep {
            let Some(mut part) = Part::open(&numbered(&tail.log.path, number))? else { continue };
            // it was renamed between two looks
            if tail.parts.iter().any(|known| known.identity == part.identity) {
                continue;
            }
            if number == 0 {
                tail.watch_file();
            }
            let earliest = part.end.saturating_sub(bytes);
            part.at = match &mut lines {
                Some(lines) => part.back(lines, earliest)?,
                None => earliest,
            };
            bytes = bytes.saturating_sub(part.end.saturating_sub(part.at));
            let enough = part.at > 0 || bytes == 0 || lines == Some(0);
            tail.parts.push_front(part);
            if enough {
                break;
            }
        }
        if tail.parts.is_empty() && tail.follow.is_none() {
            return Err(Error::new(ErrorKind::NotFound, "nothing has been written yet"));
        }
        Ok(tail)
    }

    /// What becomes readable when there may be more.
    pub(super) fn watcher(&self) -> Option<BorrowedFd<'_>> {
        self.follow.as_ref().map(AsFd::as_fd)
    }

    /// Takes in that there may be more.
    pub(super) fn notice(&mut self) {
        self.grown = true;
        let mut buffer = [0_u8; 4096];
        if let Some(follow) = &self.follow {
            // what it says does not matter; bounded, since it stays readable if there is more
            let _ = rustix::io::read(follow, &mut buffer);
        }
    }

    /// Whether [`read`](Self::read) is worth calling.
    pub(super) fn is_pending(&self) -> bool {
        self.follow.is_none() || self.grown
    }

    /// The next piece, as far as it fits into the buffer.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<Piece> {
        // each turn either gives something or moves to the next file
        for _ in 0..=self.log.keep.saturating_add(2) {
            let last = self.follow.is_some() && self.parts.len() == 1;
            let Some(part) = self.parts.front_mut() else {
                if self.follow.is_none() {
                    return Ok(Piece::End);
                }
                // what was there was read or lost, so all that is there now is new
                let Some(part) = self.oldest()? else {
                    self.grown = false;
                    return Ok(Piece::Later);
                };
                self.parts.push_back(part);
                self.watch_file();
                continue;
            };
            let wanted = if self.follow.is_some() {
                buffer.len()
            } else {
                let left = part.end.saturating_sub(part.at);
                buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX))
            };
            let length =
                part.file.read_at(buffer.get_mut(..wanted).unwrap_or_default(), part.at)?;
            if length > 0 {
                part.at = part.at.saturating_add(length as u64);
                return Ok(Piece::Data(length));
            }
            if !last {
                self.parts.pop_front();
                continue;
            }
            match self.successor()? {
                Successor::None => {
                    self.grown = false;
                    return Ok(Piece::Later);
                }
                // what was written to the old one before it was renamed is read first
                Successor::Next(part) => {
                    self.parts.push_back(part);
                    self.watch_file();
                }
                Successor::Lost(part) => {
                    self.parts.clear();
                    self.parts.extend(part);
                    self.watch_file();
                    if self.log.keep > 0 {
                        return Ok(Piece::Gap);
                    }
                }
            }
        }
        Ok(Piece::Later)
    }

    /// The oldest file that is not older than what was read before.
    fn oldest(&self) -> std::io::Result<Option<Part>> {
        for number in (0..=self.log.keep).rev() {
            if let Some(part) = Part::open(&numbered(&self.log.path, number))?
                && self.read_last.is_none_or(|last| part.modified >= last)
            {
                return Ok(Some(part));
            }
        }
        Ok(None)
    }

    /// What follows the file that was read to its end.
    fn successor(&mut self) -> std::io::Result<Successor> {
        let Some(part) = self.parts.front_mut() else { return Ok(Successor::None) };
        let mut newer = None;
        for number in 0..=self.log.keep {
            let Some(found) = Part::open(&numbered(&self.log.path, number))? else { continue };
            if found.identity == part.identity {
                if found.end < part.at {
                    // truncated in place, by somebody else
                    part.at = 0;
                }
                return Ok(newer.map_or(Successor::None, Successor::Next));
            }
            newer = Some(found);
        }
        // rotated away or removed
        self.read_last = Some(modified(&part.file.metadata()?));
        Ok(Successor::Lost(self.oldest()?))
    }

    fn watch_file(&self) {
        if let Some(follow) = &self.follow {
            let flags = WatchFlags::MODIFY | WatchFlags::MOVE_SELF;
            let _ = inotify::add_watch(follow, &self.log.path, flags);
        }
    }
}

enum Successor {
    None,
    Next(Part),
    Lost(Option<Part>),
}

impl Part {
    fn open(path: &Path) -> std::io::Result<Option<Self>> {
        let flags = rustix::fs::OFlags::RDONLY
            | rustix::fs::OFlags::CLOEXEC
            | rustix::fs::OFlags::NONBLOCK
            | rustix::fs::OFlags::NOCTTY;
        let file = match rustix::fs::open(path, flags, rustix::fs::Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Error::new(ErrorKind::InvalidInput, "the log is no regular file"));
        }
        let identity = (metadata.dev(), metadata.ino());
        let modified = modified(&metadata);
        Ok(Some(Self { file, identity, modified, at: 0, end: metadata.len() }))
    }

    /// Where so many lines from the end begin, but not before `earliest`; takes them off `lines`.
    fn back(&self, lines: &mut u64, earliest: u64) -> std::io::Result<u64> {
        if *lines == 0 {
            return Ok(self.end);
        }
        let mut block = vec![0_u8; BLOCK];
        let mut at = self.end;
        while at > earliest {
            let from = at.saturating_sub(BLOCK as u64).max(earliest);
            let wanted = usize::try_from(at.saturating_sub(from)).unwrap_or(BLOCK);
            let length = self.file.read_at(block.get_mut(..wanted).unwrap_or_default(), from)?;
            let read = block.get(..length).unwrap_or_default();
            for (place, _) in read.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
                let after = from.saturating_add(place as u64).saturating_add(1);
                // the end of the last line begins none
                if after == self.end {
                    continue;
                }
                *lines = lines.saturating_sub(1);
                if *lines == 0 {
                    return Ok(after);
                }
            }
            at = from;
        }
        if earliest == 0 && self.end > 0 {
            // the first line of the file
            *lines = lines.saturating_sub(1);
        }
        Ok(earliest)
    }
}

fn modified(metadata: &std::fs::Metadata) -> (i64, i64) {
    (metadata.mtime(), metadata.mtime_nsec())
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Hears of files that appear in the log's directory; the file itself is watched once it is there.
fn watch(path: &Path) -> std::io::Result<OwnedFd> {
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent)?;
    inotify::add_watch(&inotify, parent, WatchFlags::CREATE | WatchFlags::MOVED_TO)?;
    Ok(inotify)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, keep: u32) -> LogFile {
        let mut log = LogFile::new(dir.join("a.log"));
        log.keep = keep;
        log
    }

    fn write(path: &Path, text: &str) {
        use std::io::Write;
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn all(tail: &mut Tail) -> String {
        let mut text = String::new();
        let mut buffer = [0_u8; 7];
        loop {
            match tail.read(&mut buffer).unwrap() {
                Piece::Data(length) => {
                    text.push_str(std::str::from_utf8(&buffer[..length]).unwrap())
                }
                Piece::Gap => text.push_str("<gap>"),
                Piece::Later | Piece::End => return text,
            }
        }
    }

    #[test]
    fn the_last_lines_lie_across_rotations() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 2);
        let path = log.path.clone();
        write(&numbered(&path, 2), "1\n2\n");
        write(&numbered(&path, 1), "3\n4\n");
        write(&path, "5\n6\n");
        let last = |amount| all(&mut Tail::open(log.clone(), amount, false).unwrap());
        assert_eq!(last(Amount::Lines(0)), "");
        assert_eq!(last(Amount::Lines(1)), "6\n");
        assert_eq!(last(Amount::Lines(2)), "5\n6\n");
        assert_eq!(last(Amount::Lines(3)), "4\n5\n6\n");
        assert_eq!(last(Amount::Lines(99)), "1\n2\n3\n4\n5\n6\n");
        assert_eq!(last(Amount::Bytes(5)), "\n5\n6\n");
        assert_eq!(last(Amount::Bytes(0)), "");
        assert_eq!(last(Amount::Bytes(u64::MAX)), "1\n2\n3\n4\n5\n6\n");
        write(&path, "half");
        assert_eq!(last(Amount::Lines(2)), "6\nhalf");
    }

    #[test]
    fn what_was_rotated_before_it_was_seen_is_not_missed() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 3);
        let mut tail = Tail::open(log.clone(), Amount::Lines(0), true).unwrap();
        assert_eq!(all(&mut tail), "");
        write(&numbered(&log.path, 2), "1\n");
        write(&numbered(&log.path, 1), "2\n");
        write(&log.path, "3\n");
        tail.notice();
        assert_eq!(all(&mut tail), "1\n2\n3\n");
    }

    #[test]
    fn following_goes_through_rotations_and_tells_of_gaps() {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path(), 2);
        let path = log.path.clone();
        let rotate = || {
            let _ = std::fs::rename(numbered(&path, 1), numbered(&path, 2));
            std::fs::rename(&path, numbered(&path, 1)).unwrap();
        };
        let mut tail = Tail::open(log.clone(), Amount::Lines(1), true).unwrap();
        assert_eq!(all(&mut tail), "");
        write(&path, "1\n");
        assert_eq!(all(&mut tail), "1\n");
        write(&path, "2\n");
        rotate();
        assert_eq!(all(&mut tail), "2\n");
        write(&path, "3\n");
        rotate();
        write(&path, "4\n");
        rotate();
        write(&path, "5\n");
        // what was read last fell off the end, so nobody can say whether more did
        assert_eq!(all(&mut tail), "<gap>3\n4\n5\n");
        // the current one is removed: what is older is not told again
        for number in 1..=2 {
            let older = std::fs::File::options().write(true).open(numbered(&path, number)).unwrap();
            older.set_modified(std::time::UNIX_EPOCH).unwrap();
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(all(&mut tail), "<gap>");
        std::fs::write(&path, "").unwrap();
        write(&path, "6\n");
        assert_eq!(all(&mut tail), "6\n");
    }
}
