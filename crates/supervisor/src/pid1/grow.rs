//! Using all of a disk that became larger, while it is in use.
//!
//! An image is written to a disk that is larger than it, or a disk is enlarged under its machine.
//! Once a partition table says so ([`partition`] tells the kernel), a mounted ext4 file system is
//! grown to the end of its device ([`file_system`]): neither needs the file system unmounted, and
//! doing either twice is the same as once.

use std::fmt;
use std::fs::File;
use std::path::Path;

use super::sys;

/// `EXT4_SUPER_MAGIC` of linux/magic.h.
const EXT4: u64 = 0xef53;
/// Bytes of what the kernel counts a device's length in.
const SECTOR: u64 = 512;

/// A file system that was grown. `Display` gives both sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Grown {
    /// Bytes that files could have before.
    pub before: u64,
    /// Bytes that files can have.
    pub after: u64,
}

impl fmt::Display for Grown {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} MiB, before {} MiB", self.after >> 20, self.before >> 20)
    }
}

/// Tells the kernel that a partition of a disk has another end, which the table on the disk already
/// says. Unlike reading the whole table again this can be done while partitions are mounted.
///
/// # Errors
/// A sentence: there is no partition of this number that begins there, or another one is in the way.
pub fn partition(disk: &Path, number: u32, first: u64, sectors: u64) -> Result<(), String> {
    let fail = |error: &dyn fmt::Display| {
        format!("partition {number} of {} with {sectors} sectors: {error}", disk.display())
    };
    let bytes = |sectors: u64| {
        let bytes = sectors.checked_mul(SECTOR).and_then(|bytes| i64::try_from(bytes).ok());
        bytes.ok_or_else(|| fail(&"more than a disk has"))
    };
    let number = i32::try_from(number).map_err(|error| fail(&error))?;
    let (start, length) = (bytes(first)?, bytes(sectors)?);
    let file = File::open(disk).map_err(|error| fail(&error))?;
    sys::resize_partition(&file, number, start, length).map_err(|error| fail(&error))
}

/// Grows the file system that is mounted here to the end of its device. `None` when it reaches there
/// already, or is none that can be grown while it is mounted.
///
/// # Errors
/// A sentence, with what the kernel says; the file system is then as large as before.
pub fn file_system(mounted: &Path) -> Result<Option<Grown>, String> {
    let fail = |what: &str, error: &dyn fmt::Display| {
        format!("grow the file system on {}: {what}: {error}", mounted.display())
    };
    let place = File::open(mounted).map_err(|error| fail("open", &error))?;
    let look = || rustix::fs::fstatfs(&place).map_err(|error| fail("statfs", &error));
    let before = look()?;
    let block = u64::try_from(before.f_bsize).unwrap_or(0);
    if u64::try_from(before.f_type) != Ok(EXT4) || block == 0 {
        return Ok(None);
    }
    let device = rustix::fs::fstat(&place).map_err(|error| fail("stat", &error))?.st_dev;
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let len = device_len(Path::new("/sys/dev/block"), major, minor)
        .map_err(|error| fail("its device's length", &error))?;
    // The kernel takes a length that it has already for done, and refuses a smaller one.
    sys::resize_ext4(&place, len.checked_div(block).unwrap_or(0))
        .map_err(|error| fail("resize", &error))?;
    let after = look()?;
    let grown = after.f_blocks > before.f_blocks;
    Ok(grown.then(|| Grown {
        before: before.f_blocks.saturating_mul(block),
        after: after.f_blocks.saturating_mul(block),
    }))
}

/// Bytes of a block device.
fn device_len(devices: &Path, major: u32, minor: u32) -> Result<u64, String> {
    let path = devices.join(format!("{major}:{minor}/size"));
    let name = path.display();
    let text = std::fs::read_to_string(&path).map_err(|error| format!("{name}: {error}"))?;
    let sectors: u64 = text.trim().parse().map_err(|error| format!("{name}: {error}"))?;
    Ok(sectors.saturating_mul(SECTOR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_devices_length_is_counted_in_sectors() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("254:3");
        std::fs::create_dir(&device).unwrap();
        std::fs::write(device.join("size"), "2048\n").unwrap();
        assert_eq!(device_len(dir.path(), 254, 3), Ok(1 << 20));
        std::fs::write(device.join("size"), "many\n").unwrap();
        assert!(device_len(dir.path(), 254, 3).unwrap_err().contains("254:3/size: invalid digit"));
        assert!(device_len(dir.path(), 1, 1).unwrap_err().contains("1:1/size: No such file"));
    }

    #[test]
    fn what_is_no_ext4_and_what_is_no_disk() {
        assert_eq!(file_system(Path::new("/proc")), Ok(None));
        let error = file_system(Path::new("/nonexistent")).unwrap_err();
        assert!(
            error.starts_with("grow the file system on /nonexistent: open: No such"),
            "{error}"
        );
        let error = partition(Path::new("/dev/null"), 1, 0, u64::MAX).unwrap_err();
        assert!(error.ends_with("more than a disk has"), "{error}");
        let error = partition(Path::new("/dev/null"), 1, 2048, 4096).unwrap_err();
        assert!(error.starts_with("partition 1 of /dev/null with 4096 sectors: "), "{error}");
    }
}
