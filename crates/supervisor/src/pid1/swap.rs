//! Room on disks for what memory has no room for.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::sys;

/// `SWAP_FLAG_PREFER`, `SWAP_FLAG_PRIO_MASK` and `SWAP_FLAG_DISCARD` of linux/swap.h.
const PREFER: i32 = 0x8000;
const PRIORITY: i32 = 0x7fff;
const DISCARD: i32 = 0x1_0000;

/// How a file or device is swapped to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The highest is filled first, at most 32767. Default: after those that have one.
    pub priority: Option<u16>,
    /// Whether the device is told of blocks that are free again. Default: no.
    pub discard: bool,
}

impl Options {
    fn flags(self) -> i32 {
        let priority = self.priority.map_or(0, |it| PREFER | (i32::from(it).min(PRIORITY)));
        priority | if self.discard { DISCARD } else { 0 }
    }
}

/// Begins to swap to a file or device that mkswap(8) has prepared. At the machine's end all of it stops.
///
/// # Errors
/// What the kernel says (swapon(2)): EINVAL where there is nothing of mkswap's, EBUSY where it does so
/// already.
pub fn start(path: &Path, options: Options) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    sys::start_swapping(&path, options.flags())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_of_linux_swap_h() {
        let mut options = Options::default();
        assert_eq!(options.flags(), 0);
        options.priority = Some(10);
        assert_eq!(options.flags(), 0x800a);
        (options.priority, options.discard) = (Some(u16::MAX), true);
        assert_eq!(options.flags(), 0x1_ffff);
    }

    /// Whoever may not swap hears so, and so does who may and names what mkswap has not seen.
    #[test]
    fn a_file_that_is_no_swap_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 20).unwrap();
        let error = start(file.path(), Options::default()).unwrap_err();
        let known = [rustix::io::Errno::INVAL, rustix::io::Errno::PERM];
        let errno = rustix::io::Errno::from_io_error(&error);
        assert!(errno.is_some_and(|errno| known.contains(&errno)), "{error}");
    }
}
