//! Small files, written beside and renamed.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha512};

/// Replaces a file that is for its owner alone.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_as(path, bytes, 0o600)
}

/// Replaces a file, with permission bits.
pub(crate) fn replace_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = || {
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        fs::rename(&beside, path)
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Says what was being done with which file.
pub(crate) fn sentence(what: &str, path: &Path) -> impl FnOnce(io::Error) -> String + use<> {
    let shown = format!("{what} {}", path.display());
    move |error| format!("{shown}: {error}")
}

/// The SHA-512 of a file, in hexadecimal digits.
pub(crate) fn sha512(path: &Path) -> io::Result<String> {
    let (mut file, mut hash) = (File::open(path)?, Sha512::new());
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            count => hash.update(piece.get(..count).unwrap_or_default()),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
