//! The files that machines may have.

use std::fs::File;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Directories with files that everybody may have. A file of the first that has it is taken.
#[derive(Debug, Clone, Default)]
pub struct Files {
    directories: Vec<PathBuf>,
}

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoFile {
    /// A name that leads out of the directories.
    #[error("its name leads elsewhere")]
    Elsewhere,
    /// There is none of that name.
    #[error("there is no such file")]
    NotFound,
    /// It cannot be read.
    #[error("{0}")]
    Io(io::Error),
}

impl Files {
    /// The files of directories.
    #[must_use]
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { directories: directories.into_iter().collect() }
    }

    /// The directories.
    #[must_use]
    pub fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    /// Opens a file by the name that somebody has for it, and says how long it is. A slash at the beginning and
    /// backslashes, which firmware writes, are taken as what is meant.
    ///
    /// # Errors
    /// [`NoFile`].
    pub fn open(&self, name: &str) -> Result<(File, u64), NoFile> {
        let path = relative(name).ok_or(NoFile::Elsewhere)?;
        for directory in &self.directories {
            let found = directory.join(&path);
            // what is no file is not opened: a FIFO would be waited for
            match std::fs::metadata(&found) {
                Ok(metadata) if metadata.is_file() => {
                    let file = File::open(&found).map_err(NoFile::Io)?;
                    let len = file.metadata().map_err(NoFile::Io)?.len();
                    return Ok((file, len));
                }
                Ok(_) => {}
                Err(error) if is_missing(&error) => {}
                Err(error) => return Err(NoFile::Io(error)),
            }
        }
        Err(NoFile::NotFound)
    }
}

fn is_missing(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidInput, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | InvalidInput)
}

/// The path below a directory that a name means.
fn relative(name: &str) -> Option<PathBuf> {
    let name = name.replace('\\', "/");
    let path = Path::new(name.trim_start_matches('/'));
    let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    (!name.contains('\0') && path.components().all(is_plain)).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let place = tempfile::tempdir().unwrap();
        let (first, second) = (place.path().join("first"), place.path().join("second"));
        std::fs::create_dir_all(first.join("boot")).unwrap();
        std::fs::create_dir_all(&second).unwrap();
        std::fs::write(place.path().join("secret"), "secret").unwrap();
        std::fs::write(first.join("boot/a"), "first").unwrap();
        std::fs::write(second.join("b"), "b").unwrap();
        let files = Files::new([first, second]);
        for name in ["boot/a", "/boot/a", "\\boot\\a", "./boot//a", "//boot/a"] {
            assert_eq!(files.open(name).unwrap().1, 5, "{name}");
        }
        assert_eq!(files.open("b").unwrap().1, 1);
        for name in
            ["../secret", "boot/../../secret", "..\\secret", "/../secret", "a/..", "boot/\0a"]
        {
            assert!(matches!(files.open(name), Err(NoFile::Elsewhere)), "{name:?}");
        }
        let long = "x".repeat(5000);
        for name in ["", "boot", "boot/a/c", "none", &long] {
            assert!(files.open(name).is_err(), "{name:?}");
        }
    }
}
