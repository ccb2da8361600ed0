//! Small files, written beside and renamed.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Replaces a file that is for its owner alone. It is on the disk afterwards.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let write = || {
        let _ = fs::remove_file(&beside);
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&beside);
        sentence("write", path)(error)
    })
}

/// Reads a file that may be missing.
pub(crate) fn read(path: &Path) -> Result<Option<String>, String> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(sentence("read", path)(error)),
    }
}

/// Says what was being done with which file.
pub(crate) fn sentence(what: &str, path: &Path) -> impl FnOnce(io::Error) -> String + use<> {
    let shown = format!("{what} {}", path.display());
    move |error| format!("{shown}: {error}")
}
