//! Another kernel in place of this one without firmware in between: kexec_file_load(2), then
//! [`Outcome::Kexec`](crate::Outcome::Kexec).

use std::ffi::CString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::sys;

/// Loads a kernel, with an initramfs and a command line. It is started when the machine ends with
/// [`Outcome::Kexec`](crate::Outcome::Kexec); until then a later call replaces it.
///
/// # Errors
/// A sentence: a file cannot be read, or the kernel refuses (`CAP_SYS_BOOT`, lockdown, a kernel without
/// `CONFIG_KEXEC_FILE`).
pub fn load(kernel: &Path, initramfs: Option<&Path>, command_line: &str) -> Result<(), String> {
    let open =
        |path: &Path| File::open(path).map_err(|error| format!("open {}: {error}", path.display()));
    let image = open(kernel)?;
    let initramfs = initramfs.map(open).transpose()?;
    let line = CString::new(command_line.trim())
        .map_err(|_| "the command line has a zero byte".to_owned())?;
    sys::load_kernel(image.as_fd(), initramfs.as_ref().map(AsFd::as_fd), &line)
        .map_err(|error| format!("load {}: {error}", kernel.display()))
}

/// Whether a kernel is loaded.
#[must_use]
pub fn is_loaded() -> bool {
    std::fs::read_to_string("/sys/kernel/kexec_loaded").is_ok_and(|text| text.trim() == "1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_loaded_is_told_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("none");
        assert!(load(&none, None, "quiet").unwrap_err().starts_with("open /"));
        // An empty file is no kernel: refused here as by a kernel that may do it.
        let empty = dir.path().join("empty");
        std::fs::write(&empty, "").unwrap();
        assert!(load(&empty, Some(&empty), "quiet").unwrap_err().contains("load /"));
        assert!(load(&empty, None, "a\0b").unwrap_err().contains("zero byte"));
    }
}
