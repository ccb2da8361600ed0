//! The shell around [`Index::parse`]: reads the files of `/lib/modules/RELEASE`.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::error::{Error, Result};
use crate::index::Index;
use crate::text::{self, IndexFiles};

impl Index {
    /// Reads the index files of `dir`, which is `/lib/modules/RELEASE`.
    ///
    /// A file that is not there counts as empty; so does all of it where `dir` is missing, as on a
    /// kernel without modules. Bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// [`Error::Io`] where a file is there and cannot be read, [`Error::Limit`] as in
    /// [`Index::parse`].
    pub fn read_dir(dir: &Path) -> Result<Self> {
        Self::read(dir, &[text::BUILTIN, text::BUILTIN_MODINFO])
    }

    /// The same without the built-in modules, whose list is most of a small image's index: what
    /// there is to load is the same, names and aliases of built-in modules are unknown.
    ///
    /// # Errors
    /// As [`Index::read_dir`].
    pub fn read_loadable(dir: &Path) -> Result<Self> {
        Self::read(dir, &[])
    }

    fn read(dir: &Path, builtin: &[&str]) -> Result<Self> {
        let read = |name: &str| read_file(&dir.join(name));
        let text = |name: &str| Ok::<_, Error>(into_text(read(name)?));
        let wanted = |name: &str| if builtin.contains(&name) { read(name) } else { Ok(Vec::new()) };
        Self::parse(IndexFiles {
            dep: &text(text::DEP)?,
            alias: &text(text::ALIAS)?,
            softdep: &text(text::SOFTDEP)?,
            weakdep: &text(text::WEAKDEP)?,
            builtin: &into_text(wanted(text::BUILTIN)?),
            builtin_modinfo: &wanted(text::BUILTIN_MODINFO)?,
        })
    }
}

pub(crate) fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The bytes of a file, none where it does not exist.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path)(error)),
    };
    let mut bytes = Vec::new();
    // One byte more than is allowed shows that there is more.
    let most = u64::try_from(text::MAX_FILE).unwrap_or(u64::MAX).saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(Error::io(path))?;
    Ok(bytes)
}
