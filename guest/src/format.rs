//! Disks that nobody has written to become the data disk.
//!
//! A disk is blank when its first MiB is zero, or when it asks for it as Boot2Docker's disks do. It gets
//! one small ext4 file system without a partition table, which grows when it is mounted. From the first
//! sector that is written until the last one is, the disk begins with a mark, so that whatever interrupts
//! it is begun again at the next boot and never taken for done.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use kiln_diskimg::ext4::{self, VolumeSize};
use kiln_diskimg::{ByteLen, Content as _, Error, Seed, Sink};
use kiln_supervisor::pid1::block;
use kiln_tree::Tree;
use rustix::rand::{GetRandomFlags, getrandom};

/// How much of a disk must be zero.
const LOOK: usize = 1 << 20;
/// What a disk of Boot2Docker begins with whose owner wants it formatted.
const ASKED: &[u8] = b"boot2docker, please format-me";
/// What a disk begins with while it is formatted; ext4 leaves the first KiB alone.
const BEGUN: &[u8] = b"kiln: this disk is being formatted\n";
/// How large the file system is at first. Smaller disks are left alone.
const SIZE: u64 = 64 << 20;
/// The mark and the superblock are in it.
const FIRST: u64 = 4096;

/// Formats the first of these disks that is blank, unless a file system has the label already. Says what
/// it has done, or could not; nothing where nothing was to be done.
pub(crate) fn if_blank(label: &str, disks: &[PathBuf]) -> Option<Result<String, String>> {
    let begun = disks.iter().find(|disk| state(disk) == Some(State::Begun));
    if begun.is_none() && block::find_labelled(label).is_some() {
        return None;
    }
    let disk = begun.or_else(|| disks.iter().find(|disk| state(disk) == Some(State::Blank)))?;
    let mut seed = [0; 32];
    let done = getrandom(&mut seed, GetRandomFlags::empty())
        .map_err(io::Error::from)
        .and_then(|_| OpenOptions::new().write(true).open(disk))
        .and_then(|file| format(&file, label, seed));
    let shown = disk.display();
    Some(match done {
        Ok(()) => Ok(format!("{shown}: formatted, {label}")),
        Err(error) => Err(format!("{shown}: format it as {label}: {error}")),
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Blank,
    /// Formatting it was interrupted.
    Begun,
}

fn state(disk: &Path) -> Option<State> {
    let mut file = File::open(disk).ok()?;
    if file.seek(SeekFrom::End(0)).ok()? < SIZE {
        return None;
    }
    file.rewind().ok()?;
    let mut head = vec![0; LOOK];
    file.read_exact(&mut head).ok()?;
    if head.starts_with(BEGUN) {
        return Some(State::Begun);
    }
    let is_blank = head.starts_with(ASKED) || head.iter().all(|byte| *byte == 0);
    is_blank.then_some(State::Blank)
}

/// What a disk is written to by, in the tests something that counts.
trait Disk {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    fn flush(&mut self) -> io::Result<()>;
}

impl Disk for &File {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(SeekFrom::Start(offset))?;
        self.write_all(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

fn format(mut disk: impl Disk, label: &str, seed: [u8; 32]) -> io::Result<()> {
    let mut options = ext4::Options::default();
    options.label = Some(label.to_owned());
    options.seed = Seed::new(seed);
    options.size = VolumeSize::Fixed(ByteLen(SIZE));
    let volume = ext4::Volume::plan(&Tree::new(), &options).map_err(io::Error::other)?;
    let mut mark = [0; 512];
    mark.iter_mut().zip(BEGUN).for_each(|(to, from)| *to = *from);
    disk.write_at(0, &mark)?;
    disk.flush()?;
    let mut dense = Dense { disk, at: 0, first: Vec::new() };
    volume.write_to(&mut dense).map_err(io::Error::other)?;
    let Dense { mut disk, first, .. } = dense;
    disk.flush()?;
    let (boot, superblock) = first.split_at_checked(512).ok_or(io::ErrorKind::UnexpectedEof)?;
    disk.write_at(512, superblock)?;
    disk.flush()?;
    // the mark goes when all else is there
    disk.write_at(0, boot)?;
    disk.flush()
}

/// Writes zeros where there is a hole: the disk may have anything behind what was looked at. The first
/// bytes are kept for the end.
struct Dense<D> {
    disk: D,
    at: u64,
    first: Vec<u8>,
}

impl<D: Disk> Dense<D> {
    fn put(&mut self, bytes: &[u8]) -> kiln_diskimg::Result<()> {
        let kept = usize::try_from(FIRST.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let (first, rest) = bytes.split_at(kept.min(bytes.len()));
        self.first.extend_from_slice(first);
        let offset = self.at.saturating_add(first.len() as u64);
        self.at = self.at.saturating_add(bytes.len() as u64);
        if rest.is_empty() {
            return Ok(());
        }
        let done = self.disk.write_at(offset, rest);
        done.map_err(|source| Error::Io { action: "write".into(), source })
    }
}

impl<D: Disk> Sink for Dense<D> {
    fn data(&mut self, bytes: &[u8]) -> kiln_diskimg::Result<()> {
        self.put(bytes)
    }

    fn hole(&mut self, len: u64) -> kiln_diskimg::Result<()> {
        static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
        let mut left = len;
        while left > 0 {
            let count = left.min(ZEROS.len() as u64);
            let zeros = ZEROS.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
            self.put(zeros)?;
            left -= count;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Remembers writes and flushes.
    #[derive(Default)]
    struct Log(Vec<Option<(u64, Vec<u8>)>>);

    impl Disk for &mut Log {
        fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
            self.0.push(Some((offset, bytes.to_vec())));
            Ok(())
        }

        fn flush(&mut self) -> io::Result<()> {
            self.0.push(None);
            Ok(())
        }
    }

    fn disk(directory: &Path, head: &[u8]) -> PathBuf {
        let path = directory.join("disk");
        std::fs::write(&path, head).unwrap();
        OpenOptions::new().write(true).open(&path).unwrap().set_len(SIZE + (8 << 20)).unwrap();
        path
    }

    #[test]
    fn only_blank_disks_and_those_that_ask_for_it_are_formatted() {
        let directory = tempfile::tempdir().unwrap();
        let state = |head: &[u8]| super::state(&disk(directory.path(), head));
        assert_eq!(state(b""), Some(State::Blank));
        assert_eq!(state(ASKED), Some(State::Blank));
        assert_eq!(state(BEGUN), Some(State::Begun));
        assert_eq!(state(b"\x01"), None);
        let mut late = vec![0; LOOK];
        late[LOOK - 1] = 1;
        assert_eq!(state(&late), None);
        let small = directory.path().join("small");
        std::fs::write(&small, vec![0; LOOK]).unwrap();
        assert_eq!(super::state(&small), None);
    }

    /// What was on the disk behind its first MiB does not show.
    #[test]
    fn it_is_a_file_system_wherever_it_lies() {
        let directory = tempfile::tempdir().unwrap();
        let path = disk(directory.path(), b"");
        let mut file = OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(LOOK as u64)).unwrap();
        file.write_all(&vec![0xa5; 70 << 20]).unwrap();
        format(&file, "STATE", [7; 32]).unwrap();
        assert_eq!(super::state(&path), None);
        let check = Command::new("fsck.ext4").args(["-f", "-n"]).arg(&path).output();
        match check {
            Ok(output) => assert!(output.status.success(), "{output:?}"),
            Err(_) => {
                assert!(std::env::var_os("CI").is_none(), "fsck.ext4 is missing");
                println!("skipped: fsck.ext4");
            }
        }
    }

    /// Whenever the power goes: nothing was done, or it is known to be begun, or it is done. Writes that
    /// no flush has followed may be there, or not, or only a half of them.
    #[test]
    fn whatever_interrupts_it_is_begun_again() {
        let mut log = Log::default();
        format(&mut log, "STATE", [7; 32]).unwrap();
        let whole = replayed(&log.0, log.0.len(), &mut || true);
        let mut random = 0x9e37_79b9_u64;
        let mut chance = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            random >> 62 == 0
        };
        let steps = log.0.len();
        for upto in (0..8).chain(steps.saturating_sub(12)..=steps) {
            for _ in 0..6 {
                let head = replayed(&log.0, upto, &mut chance);
                let begun = head.starts_with(BEGUN);
                let untouched = head.iter().all(|byte| *byte == 0);
                let done = head == whole;
                assert!(begun || untouched || done, "after {upto} of {steps}");
            }
        }
    }

    /// The first 8 KiB after so many steps: what was flushed, and of what was not each sector by chance.
    fn replayed(
        log: &[Option<(u64, Vec<u8>)>],
        upto: usize,
        chance: &mut dyn FnMut() -> bool,
    ) -> Vec<u8> {
        let mut head = vec![0_u8; 8192];
        let flushed = log[..upto].iter().rposition(Option::is_none).unwrap_or(0);
        for (at, step) in log[..upto].iter().enumerate() {
            let Some((offset, bytes)) = step else { continue };
            for (number, sector) in bytes.chunks(512).enumerate() {
                let start = usize::try_from(*offset).unwrap() + number * 512;
                if start < head.len() && (at < flushed || chance()) {
                    head[start..start + sector.len()].copy_from_slice(sector);
                }
            }
        }
        head
    }
}
