//! The device with the slots, for nobody else while it is changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use kiln_diskimg::Device;
use rustix::fs::{Advice, FlockOperation, OFlags, fadvise, flock};

use super::{Error, Result};

/// A device that nobody else has mounted or changes. What is read after a flush comes from the disk
/// and not from the kernel's memory of it.
#[derive(Debug)]
pub(super) struct Disk(pub(super) File);

impl Disk {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let busy = || Error::Busy(path.to_owned());
        // of a block device, a file system that is mounted has the exclusive use
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
        let opened = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path);
        let file = opened.map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => busy(),
            _ => Error::NoSlots { device: path.to_owned(), problem: error.to_string() },
        })?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| busy())?;
        Ok(Self(file))
    }
}

impl Read for Disk {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Disk {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Device for Disk {
    fn persist(&mut self) -> io::Result<()> {
        self.0.sync_data()?;
        fadvise(&self.0, 0, None, Advice::DontNeed)?;
        Ok(())
    }
}
