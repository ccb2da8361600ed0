//! What apps say, as it comes.

use std::fs::{File, Metadata};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use kurma_client::Pod;

use crate::pods::Pods;

/// Bytes of a piece.
const PIECE: usize = 64 << 10;
/// Bytes from the end in which the last lines are looked for.
const WINDOW: u64 = 4 << 20;
/// How often it is looked whether an app whose output is shown has said more.
const PAUSE: Duration = Duration::from_millis(250);
/// Lines that are shown of what has come between two looks; others are counted.
const LINES: usize = 20;
/// Characters of a line that are shown.
const LINE: usize = 400;

/// Shows what a pod's apps say from now on, each with its name before it, until the pod ends.
pub(crate) fn show(pods: &Arc<Pods>, pod: &Pod) {
    for app in &pod.apps {
        let (pods, uuid, name) = (Arc::clone(pods), pod.uuid.clone(), app.name.clone());
        let follow = move || {
            let Ok((place, ..)) = pods.app(&uuid, Some(&name)) else { return };
            let Ok(mut reader) = Reader::new(place.log(&name), None) else { return };
            let mut rest = Vec::new();
            loop {
                // asked before: what it says until then is read
                let live = pods.get(&uuid).is_ok_and(|pod| pod.state.is_live());
                while let Some(piece) = reader.read().ok().filter(|piece| !piece.is_empty()) {
                    rest.extend_from_slice(&piece);
                    for line in lines(&mut rest) {
                        eprintln!("{name}: {line}");
                    }
                }
                if !live {
                    return;
                }
                sleep(PAUSE);
            }
        };
        let thread = std::thread::Builder::new().name("tail".into()).stack_size(128 << 10);
        if let Err(error) = thread.spawn(follow) {
            eprintln!("kurma-server: show {}: {error}", app.name);
        }
    }
}

/// Takes whole lines, of which as many are given as are shown. What has no end is not kept for ever.
fn lines(bytes: &mut Vec<u8>) -> Vec<String> {
    let end = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => at + 1,
        None if bytes.len() >= PIECE => bytes.len(),
        None => return Vec::new(),
    };
    let rest = bytes.split_off(end);
    let text = String::from_utf8_lossy(bytes).into_owned();
    *bytes = rest;
    let shown = |line: &str| {
        let plain = line.chars().filter(|one| !one.is_control() || *one == '\t');
        plain.take(LINE).collect::<String>()
    };
    let mut all = text.lines();
    let mut shown: Vec<String> = all.by_ref().take(LINES).map(shown).collect();
    match all.count() {
        0 => {}
        more => shown.push(format!("{more} more lines")),
    }
    shown
}

/// A file that grows, and may be replaced by a new one.
#[derive(Debug)]
pub(crate) struct Reader {
    path: PathBuf,
    file: Option<File>,
}

impl Reader {
    /// From the beginning, or from the last lines of what is there.
    pub(crate) fn new(path: PathBuf, lines: Option<u64>) -> io::Result<Self> {
        let mut file = open(&path)?;
        if let (Some(file), Some(lines)) = (&mut file, lines) {
            let begin = last(file, lines)?;
            file.seek(SeekFrom::Start(begin))?;
        }
        Ok(Self { path, file })
    }

    /// What has come; nothing at the end.
    pub(crate) fn read(&mut self) -> io::Result<Vec<u8>> {
        if self.file.is_none() {
            self.file = open(&self.path)?;
        }
        loop {
            let Some(file) = &mut self.file else { return Ok(Vec::new()) };
            let mut piece = vec![0; PIECE];
            let count = file.read(&mut piece)?;
            piece.truncate(count);
            if count > 0 {
                return Ok(piece);
            }
            let number = |about: Metadata| (about.dev(), about.ino());
            let own = number(file.metadata()?);
            match open(&self.path)? {
                Some(new) if number(new.metadata()?) != own => self.file = Some(new),
                _ => return Ok(Vec::new()),
            }
        }
    }
}

fn open(path: &Path) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the last lines of a file begin.
fn last(file: &mut File, lines: u64) -> io::Result<u64> {
    let len = file.metadata()?.len();
    let from = len.saturating_sub(WINDOW);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(WINDOW).read_to_end(&mut bytes)?;
    let ends =
        bytes.iter().enumerate().rev().filter(|(at, byte)| **byte == b'\n' && at + 1 < bytes.len());
    let count = usize::try_from(lines).unwrap_or(usize::MAX);
    let begin = match count.checked_sub(1) {
        None => bytes.len(),
        Some(before) => ends.map(|(at, _)| at + 1).nth(before).unwrap_or_default(),
    };
    Ok(from.saturating_add(begin as u64))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn whole_lines_are_shown_and_not_too_many() {
        let mut bytes = b"one\n\x1b[2Jtwo\nthr".to_vec();
        assert_eq!(lines(&mut bytes), ["one", "[2Jtwo"]);
        assert_eq!(bytes, b"thr");
        assert!(lines(&mut bytes).is_empty());
        let mut bytes = "x\n".repeat(100).into_bytes();
        let shown = lines(&mut bytes);
        assert_eq!((shown.len(), shown[LINES].as_str()), (LINES + 1, "80 more lines"));
        let mut bytes = vec![b'x'; PIECE];
        assert_eq!(lines(&mut bytes)[0].len(), LINE);
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_last_lines_begin() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"one\ntwo\nthree\n").unwrap();
        for (lines, begin) in [(0, 14), (1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(last(&mut file, lines).unwrap(), begin, "{lines}");
        }
    }

    #[test]
    fn a_new_file_is_read_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.log");
        let mut reader = Reader::new(path.clone(), None).unwrap();
        assert_eq!(reader.read().unwrap(), b"");
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(reader.read().unwrap(), b"one\n");
        std::fs::rename(&path, directory.path().join("app.log.1")).unwrap();
        assert_eq!(reader.read().unwrap(), b"");
        std::fs::write(&path, "two\n").unwrap();
        assert_eq!(reader.read().unwrap(), b"two\n");
    }
}
