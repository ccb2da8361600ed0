//! Where the output of services goes.

use std::path::PathBuf;

/// Where a service's standard output and error go. Standard input is always `/dev/null`, unless
/// there is a [`ServiceSpec::tty`](crate::ServiceSpec::tty).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Log {
    /// `NAME.log` in the shell's log directory if it has one, otherwise [`Log::Inherit`].
    #[default]
    Auto,
    /// The supervisor's own descriptors 1 and 2.
    Inherit,
    /// Nowhere.
    Null,
    /// Line by line to the supervisor's standard error, with the service's name in front.
    Console,
    /// A file that is rotated by size.
    File(LogFile),
}

/// A log file: `path`, and `path.1` (newest) to `path.N` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct LogFile {
    /// The current file.
    pub path: PathBuf,
    /// Bytes after which it is rotated (default 1 MiB).
    pub max_bytes: u64,
    /// How many rotated files are kept (default 3).
    pub keep: u32,
    /// Whether each line begins with the time at which it was read, as in
    /// `2026-11-22T12:50:22.123456Z` (default: yes).
    pub timestamps: bool,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { path: PathBuf::new(), max_bytes: 1 << 20, keep: 3, timestamps: true }
    }
}

impl LogFile {
    /// A log at `path` with the default bounds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}
