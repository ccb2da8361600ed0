//! Small files: read with a bound, written beside and renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// No setting is larger.
const LARGEST: u64 = 1 << 20;

/// A file's text; `None` where there is none.
///
/// # Errors
/// What cannot be read, is no text or is larger than a megabyte.
pub(crate) fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    let len = file.take(LARGEST + 1).read_to_string(&mut text)?;
    if len as u64 > LARGEST {
        return Err(io::Error::other("larger than a megabyte"));
    }
    Ok(Some(text))
}

/// Replaces a file. With `persist` it is on the disk when this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32, persist: bool) -> io::Result<()> {
    // Follows a symbolic link, so that the file behind it is replaced and not the link.
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&beside)?;
        file.write_all(bytes)?;
        if persist {
            file.sync_all()?;
        }
        fs::rename(&beside, &path)?;
        if persist && let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    };
    let written = write();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// The kernel's command line.
pub(crate) fn command_line() -> String {
    fs::read_to_string("/proc/cmdline").unwrap_or_default()
}

/// Where a byte of a text is: line and column, from 1.
pub(crate) fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count().saturating_add(1);
    let column = before.chars().rev().take_while(|c| *c != '\n').count().saturating_add(1);
    (line, column)
}

/// An error of the TOML parser as one line with its place.
pub(crate) fn toml_problem(path: &Path, text: &str, error: &toml::de::Error) -> String {
    let (line, column) = place(text, error.span().map_or(0, |span| span.start));
    let message = error.message().lines().collect::<Vec<_>>().join(", ");
    format!("{}:{line}:{column}: {message}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert_eq!(read(&path).unwrap(), None);
        replace(&path, b"one", 0o600, true).unwrap();
        std::os::unix::fs::symlink(&path, dir.path().join("link")).unwrap();
        replace(&dir.path().join("link"), b"two", 0o600, false).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("two"));
        assert!(dir.path().join("link").is_symlink());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn places() {
        assert_eq!(place("ab\ncd", 0), (1, 1));
        assert_eq!(place("ab\ncd", 4), (2, 2));
        assert_eq!(place("ab\ncd", 99), (2, 3));
    }
}
