//! What was built, and of what: `manifest.json` beside the artifacts.

use std::path::Path;

use kiln_initramfs::manifest::FileRecord;
use serde::Serialize;

use crate::{Error, Result, cache, digest};

/// A file that was made.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Artifact {
    /// Its name in the output directory.
    pub path: String,
    /// What it is: `kernel`, `initramfs`, `raw`, `qcow2`, `vmdk`.
    pub kind: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: String,
}

impl Artifact {
    /// Describes a file that was made in `directory`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn of(directory: &Path, name: &str, kind: &str) -> Result<Self> {
        let path = directory.join(name);
        let size = std::fs::metadata(&path).map_err(Error::io("stat", &path))?.len();
        let sha256 = digest::of_file(&path)?;
        Ok(Self { path: name.into(), kind: kind.into(), size, sha256 })
    }
}

/// Everything about a build that does not depend on who built it, where and when.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The system's name.
    pub name: String,
    /// The kernel's release.
    pub kernel: String,
    /// The kernel's command line.
    pub command_line: String,
    /// What was made.
    pub artifacts: Vec<Artifact>,
    /// What is inside, each with the reason why it is there.
    pub files: Vec<FileRecord>,
}

impl Manifest {
    /// A manifest without artifacts yet. Where on the host a file came from is left out of the
    /// records, because it is the only thing about them that is not the same everywhere.
    #[must_use]
    pub fn new(name: &str, kernel: &str, command_line: &str, mut files: Vec<FileRecord>) -> Self {
        for file in &mut files {
            file.source = None;
        }
        Self {
            name: name.into(),
            kernel: kernel.into(),
            command_line: command_line.into(),
            artifacts: Vec::new(),
            files,
        }
    }

    /// Writes `manifest.json` into a directory.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write(&self, directory: &Path) -> Result<()> {
        let mut text = serde_json::to_string_pretty(self)
            .map_err(|error| Error::input("manifest.json", error.to_string()))?;
        text.push('\n');
        cache::write_file(&directory.join("manifest.json"), text.as_bytes())
    }
}
