//! The slots of the disk that a system runs from: it replaces the other system, says that it is
//! healthy itself, goes back.
//!
//! What is written in which order is decided by [`kiln_diskimg::slots`]; here it is done, on a boot
//! partition that must not be mounted. A machine that loses its power at any moment starts the old or
//! the new system.
//!
//! ```no_run
//! use std::fs::File;
//! use kiln_guest::slots::{Options, Part, Slots};
//!
//! let mut slots = Slots::of_running_system()?;
//! let (mut kernel, mut initrd) = (File::open("/upgrade/linux")?, File::open("/upgrade/initrd")?);
//! let mut options = Options::default();
//! // what a signed list says of them
//! options.kernel = Some(Part { len: 8_206_272, sha256: [0; 32] });
//! let line = "console=ttyS0 panic=5";
//! let slot = slots.upgrade(&mut kernel, &mut initrd, "2.0", line, &options)?;
//! println!("the next start tries slot {slot}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! After the restart the system that was tried says that it is healthy by [`Slots::mark_good`]. If it
//! does not, the next start is the old one's.

mod error;
mod status;

use std::fs::File;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};

use kiln_diskimg::Limits;
use kiln_diskimg::slots::{self, Found, ReadSeek, Release, Step};

pub use error::{Error, Result};
pub use kiln_diskimg::slots::{Firmware, Part, Record, Slot};
pub use status::Status;

use crate::exclusive::Exclusive;
use crate::{disks, files};

/// How a system is replaced.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Whether the new one may be older than what runs. Default: no.
    pub allow_older: bool,
    /// What the kernel has to be. Default: what is given is taken.
    pub kernel: Option<Part>,
    /// What the initramfs has to be. Default: what is given is taken.
    pub initrd: Option<Part>,
}

/// A boot partition with slots that nobody else changes meanwhile.
#[derive(Debug)]
pub struct Slots {
    disk: Exclusive,
    path: PathBuf,
    found: Found,
    running: Option<Slot>,
}

impl Slots {
    /// Those of the disk that this system was started from, which the kernel's command line names.
    ///
    /// # Errors
    /// [`Error::NotThere`], [`Error::Ambiguous`], and those of [`Slots::open`].
    pub fn of_running_system() -> Result<Self> {
        Self::open(&device()?)
    }

    /// Those on a partition, or in a file that holds one.
    ///
    /// # Errors
    /// [`Error::Busy`], [`Error::NoSlots`].
    pub fn open(device: &Path) -> Result<Self> {
        let mut disk = Exclusive::open(device).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => Error::Busy(device.to_owned()),
            _ => Error::NoSlots { device: device.to_owned(), problem: error.to_string() },
        })?;
        let found = read(&mut disk.0, device)?;
        let running = running(&found);
        Ok(Self { disk, path: device.to_owned(), found, running })
    }

    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What is in the slots, and what is started.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(&self.found, self.running)
    }

    /// Puts a system into the slot that does not run and has it started once. Kernel and initramfs are
    /// read twice: before anything is changed they are found to be what they should be.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::Refused`], with nothing changed; [`Error::Disk`].
    pub fn upgrade(
        &mut self,
        kernel: &mut dyn ReadSeek,
        initrd: &mut dyn ReadSeek,
        version: &str,
        command_line: &str,
        options: &Options,
    ) -> Result<Slot> {
        let parts =
            [part("kernel", kernel, options.kernel)?, part("initramfs", initrd, options.initrd)?];
        let mut release = Release::new(version, parts[0], parts[1]);
        command_line.clone_into(&mut release.command_line);
        release.allow_older = options.allow_older;
        let steps = slots::upgrade(&self.found, self.running, &release).map_err(Error::Refused)?;
        self.perform(&steps, kernel, initrd)?;
        let target = steps.iter().find_map(|step| match step {
            Step::Verify { slot, .. } => Some(*slot),
            _ => None,
        });
        Ok(target.unwrap_or(Slot::B))
    }

    /// Says that the system that runs is healthy: it is the one that is always started from now on.
    /// `false` when it was already.
    ///
    /// # Errors
    /// [`Error::NotThere`] when this system was started from elsewhere; [`Error::Refused`],
    /// [`Error::Disk`].
    pub fn mark_good(&mut self) -> Result<bool> {
        let running = self.running_here()?;
        let steps = slots::mark_good(&self.found, running).map_err(Error::Refused)?;
        self.change(&steps)
    }

    /// Has the other system always be started; where one is to be tried, not to try it. Gives what is
    /// started next.
    ///
    /// # Errors
    /// [`Error::Refused`] when nothing whole is there, or, unless that is `forced`, nothing that ever
    /// was healthy; [`Error::Disk`].
    pub fn roll_back(&mut self, forced: bool) -> Result<Option<Slot>> {
        let steps = slots::roll_back(&self.found, self.running, forced).map_err(Error::Refused)?;
        self.change(&steps)?;
        Ok(self.found.firmware().first().and_then(|firmware| self.found.next(*firmware)))
    }

    /// After a start: takes back a try that did not last, where another firmware than this machine's
    /// would still make it. `false` when there is none.
    ///
    /// # Errors
    /// As [`Slots::mark_good`].
    pub fn settle(&mut self) -> Result<bool> {
        let running = self.running_here()?;
        let steps = slots::settle(&self.found, running).map_err(Error::Refused)?;
        self.change(&steps)
    }

    /// The command line that a slot's system is started with by its loader; for who starts it otherwise.
    #[must_use]
    pub fn command_line(&self, slot: Slot, command_line: &str) -> String {
        let word = slots::argument(slot, self.found.places.id);
        format!("{} {word}", command_line.trim()).trim().to_owned()
    }

    fn running_here(&self) -> Result<Slot> {
        let other = || Error::NotThere(format!("{} is another one", self.path.display()));
        self.running.ok_or_else(other)
    }

    fn change(&mut self, steps: &[Step]) -> Result<bool> {
        self.perform(steps, &mut io::empty(), &mut io::empty())?;
        Ok(!steps.is_empty())
    }

    fn perform(
        &mut self,
        steps: &[Step],
        kernel: &mut dyn ReadSeek,
        initrd: &mut dyn ReadSeek,
    ) -> Result<()> {
        slots::perform(steps, &mut self.disk, kernel, initrd).map_err(Error::Disk)?;
        self.found = read(&mut self.disk.0, &self.path)?;
        Ok(())
    }
}

/// What is in the slots of the disk that this system was started from, without waiting for whoever
/// changes them.
///
/// # Errors
/// As [`Slots::of_running_system`], but for [`Error::Busy`].
pub fn status() -> Result<Status> {
    let device = device()?;
    let problem =
        |error: io::Error| Error::NoSlots { device: device.clone(), problem: error.to_string() };
    let found = read(&mut File::open(&device).map_err(problem)?, &device)?;
    Ok(Status::of(&found, running(&found)))
}

/// The partition with the slot that this system was started from.
fn device() -> Result<PathBuf> {
    let line = files::command_line();
    let Some((_, id)) = slots::running(&line) else {
        return Err(Error::NotThere("the kernel's command line names none".to_owned()));
    };
    let limits = Limits::default();
    let mut found: Vec<PathBuf> = disks::partitions();
    found.retain(|path| {
        let read = File::open(path).ok().map(|mut file| slots::read_device(&mut file, &limits));
        matches!(read, Some(Ok(found)) if found.places.id == id)
    });
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(Error::NotThere(format!("no partition has slots with the number {id:08x}"))),
        _ => Err(Error::Ambiguous(found)),
    }
}

fn running(found: &Found) -> Option<Slot> {
    let (slot, id) = slots::running(&files::command_line())?;
    (id == found.places.id).then_some(slot)
}

fn read(file: &mut File, device: &Path) -> Result<Found> {
    slots::read_device(file, &Limits::default())
        .map_err(|error| Error::NoSlots { device: device.to_owned(), problem: error.to_string() })
}

/// What a kernel or initramfs is, once it is known to be what it should be.
pub(crate) fn part(
    what: &'static str,
    source: &mut dyn ReadSeek,
    expected: Option<Part>,
) -> Result<Part> {
    let damaged = |problem: String| Error::Damaged { what, problem };
    let unread = |error: io::Error| damaged(error.to_string());
    source.seek(SeekFrom::Start(0)).map_err(unread)?;
    let found = Part::of_reader(source).map_err(unread)?;
    let Some(expected) = expected else { return Ok(found) };
    if found.len != expected.len {
        let (found, expected) = (found.len, expected.len);
        return Err(damaged(format!("{found} bytes, expected {expected}")));
    }
    if found.sha256 != expected.sha256 {
        return Err(damaged("its digest is another one than expected".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Cursor;

    use kiln_diskimg::slots::{Plan, System};
    use kiln_diskimg::{ByteLen, Content};

    use super::*;

    fn disk() -> tempfile::NamedTempFile {
        let mut options = slots::Options::new(ByteLen::mib(2));
        options.kernel = ByteLen::mib(1);
        let system = System::new("1", vec![1; 100_000], vec![2; 100_000], "quiet");
        let plan = Plan::new(options, system).systemd_boot(vec![0; 1000]);
        let mut bytes = Vec::new();
        plan.volume().unwrap().write_to(&mut bytes).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn upgraded(slots: &mut Slots, options: &Options) -> Result<Slot> {
        let (mut kernel, mut initrd) = (Cursor::new(vec![3; 5000]), Cursor::new(vec![4; 300_000]));
        slots.upgrade(&mut kernel, &mut initrd, "2", "quiet", options)
    }

    #[test]
    fn a_disk_is_changed_by_one_at_a_time() {
        let disk = disk();
        let mut slots = Slots::open(disk.path()).unwrap();
        assert!(matches!(Slots::open(disk.path()), Err(Error::Busy(_))));
        assert_eq!(upgraded(&mut slots, &Options::default()).unwrap(), Slot::B);
        let status = slots.status();
        assert!(status.is_tried_next(Slot::B) && !status.is_tried_next(Slot::A));
        assert_eq!(status.slot(Slot::B).unwrap().version, "2");
        // This process was started from no slot.
        assert!(matches!(slots.mark_good(), Err(Error::NotThere(_))));
        assert_eq!(slots.roll_back(false).unwrap(), Some(Slot::A));
        drop(slots);
        let slots = Slots::open(disk.path()).unwrap();
        assert!(!slots.status().is_tried_next(Slot::B));
    }

    #[test]
    fn what_is_not_as_it_should_be_changes_nothing() {
        let disk = disk();
        let before = fs::read(disk.path()).unwrap();
        let mut slots = Slots::open(disk.path()).unwrap();
        let (kernel, initrd) = (Part::of(&[3; 5000]), Part::of(&[4; 300_001]));
        let mut options =
            Options { kernel: Some(kernel), initrd: Some(initrd), ..Options::default() };
        let error = upgraded(&mut slots, &options).unwrap_err();
        assert_eq!(error.to_string(), "the new initramfs: 300000 bytes, expected 300001");
        options.initrd = Some(Part { len: 300_000, sha256: [0; 32] });
        let error = upgraded(&mut slots, &options).unwrap_err();
        assert!(matches!(error, Error::Damaged { what: "initramfs", .. }), "{error}");
        let (mut kernel, mut initrd) = (Cursor::new(vec![3; 5000]), Cursor::new(vec![4; 2 << 20]));
        let error =
            slots.upgrade(&mut kernel, &mut initrd, "0", "quiet", &Options::default()).unwrap_err();
        assert!(matches!(error, Error::Refused(_)), "{error}");
        assert!(error.to_string().contains("0 is older than 1"), "{error}");
        assert!(error.to_string().contains("2097152 bytes"), "{error}");
        drop(slots);
        assert!(fs::read(disk.path()).unwrap() == before);
        let none = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(Slots::open(none.path()), Err(Error::NoSlots { .. })));
        assert!(matches!(Slots::of_running_system(), Err(Error::NotThere(_))));
    }
}
