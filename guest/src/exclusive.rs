//! A block device that nobody else has, while it is changed.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use kiln_diskimg::Device;
use rustix::fs::{Advice, FlockOperation, OFlags, fadvise, flock};

/// A device that nobody else has mounted or changes. What is read after a flush comes from the disk
/// and not from the kernel's memory of it.
#[derive(Debug)]
pub(crate) struct Exclusive(pub(crate) File);

impl Exclusive {
    /// Opens a device, or a file in place of one.
    ///
    /// # Errors
    /// [`io::ErrorKind::ResourceBusy`] while a file system of it is mounted, or somebody else has it; what
    /// else the kernel says.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        // of a block device, a file system that is mounted has the exclusive use: of its partition, and
        // so of the whole disk
        let exclusive = i32::try_from(OFlags::EXCL.bits()).unwrap_or(0);
        let file = OpenOptions::new().read(true).write(true).custom_flags(exclusive).open(path)?;
        let busy = |_| io::Error::from(io::ErrorKind::ResourceBusy);
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(busy)?;
        Ok(Self(file))
    }
}

impl Read for Exclusive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Exclusive {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl Seek for Exclusive {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Device for Exclusive {
    fn persist(&mut self) -> io::Result<()> {
        self.0.sync_data()?;
        fadvise(&self.0, 0, None, Advice::DontNeed)?;
        Ok(())
    }
}
