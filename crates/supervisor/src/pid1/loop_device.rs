//! Files as disks that are only read (loop(4)).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::sys;

const CONTROL: &str = "/dev/loop-control";
/// How long a device's node may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);
/// Others may take the same device at the same time.
const TRIES: usize = 16;

/// Makes a disk of a file, which stays one until nothing uses the disk any more and it is detached. Needs Linux 5.8
/// and the module `loop`.
///
/// # Errors
/// A sentence.
pub fn attach(file: &Path) -> Result<PathBuf, String> {
    let fail = |error: io::Error| format!("make a disk of {}: {error}", file.display());
    let content = File::open(file).map_err(fail)?;
    let control = waited_for(Path::new(CONTROL)).map_err(fail)?;
    let mut last = io::ErrorKind::ResourceBusy.into();
    for _ in 0..TRIES {
        let number = sys::free_loop(control.as_fd()).map_err(fail)?;
        let path = PathBuf::from(format!("/dev/loop{number}"));
        let device = waited_for(&path).map_err(fail)?;
        match sys::attach_loop(&device, content.as_fd()) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy => last = error,
            Err(error) => return Err(fail(error)),
        }
    }
    Err(fail(last))
}

/// Opens a device that is made about now.
fn waited_for(path: &Path) -> io::Result<File> {
    let began = Instant::now();
    loop {
        match OpenOptions::new().read(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && began.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            opened => return opened,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;

    use super::*;

    #[test]
    fn a_file_is_a_disk_until_it_is_detached() {
        assert!(attach(Path::new("/there/is/none")).unwrap_err().contains("No such file"));
        if !rustix::process::geteuid().is_root() || File::open(CONTROL).is_err() {
            return println!("nobody may make loop devices here");
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&[7; 8192]).unwrap();
        let path = attach(file.path()).unwrap();
        let device = File::open(&path).unwrap();
        let mut bytes = [0; 8192];
        let read = device.read_exact_at(&mut bytes, 0);
        // Some kernels refuse the opening, others what is written.
        let write = OpenOptions::new().write(true).open(&path);
        let written = write.and_then(|device| device.write_at(&[8; 4096], 0));
        sys::detach_loop(&device).unwrap();
        read.unwrap();
        assert_eq!(bytes, [7; 8192]);
        assert!(written.is_err(), "it is only read");
    }
}
