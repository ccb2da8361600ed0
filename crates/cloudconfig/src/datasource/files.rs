//! Files of a source, wherever it is: a directory, an ISO or FAT image, a web server.

/// Why a file cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {why}")]
pub struct ReadError {
    /// Which file.
    pub path: String,
    /// Why.
    pub why: String,
}

impl ReadError {
    /// A path and why it cannot be read.
    #[must_use]
    pub fn new(path: impl Into<String>, why: impl ToString) -> Self {
        Self { path: path.into(), why: why.to_string() }
    }
}

/// Something that has files.
pub trait Files {
    /// The content of a file, by its path with `/` between names and none before them; none where there
    /// is no such file.
    ///
    /// # Errors
    /// Where it is there and cannot be read, or has more than `most` bytes.
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, ReadError>;
}

/// Files that are there already, by path.
impl Files for std::collections::BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str, most: usize) -> Result<Option<Vec<u8>>, ReadError> {
        match self.get(path) {
            Some(bytes) if bytes.len() > most => {
                Err(ReadError::new(path, format_args!("more than {most} bytes")))
            }
            found => Ok(found.cloned()),
        }
    }
}
