//! Why slots were not changed.

use std::path::PathBuf;

/// Why slots were not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel was not started from a slot, or the disk with it is not there.
    #[error("no disk with the slot that this system was started from: {0}")]
    NotThere(String),
    /// There are copies of the disk.
    #[error("several disks have the slot that this system was started from: {}", list(.0))]
    Ambiguous(Vec<PathBuf>),
    /// It is mounted, or somebody changes it.
    #[error("{}: it is mounted, or another change is under way", .0.display())]
    Busy(PathBuf),
    /// It cannot be opened, or is no boot partition with slots.
    #[error("{}: {problem}", device.display())]
    NoSlots {
        /// The device.
        device: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A kernel or initramfs that is not what it should be. Nothing was changed.
    #[error("the new {what}: {problem}")]
    Damaged {
        /// Which one.
        what: &'static str,
        /// How it is.
        problem: String,
    },
    /// What speaks against a change, all of it. Nothing was changed.
    #[error("{0}")]
    Refused(kiln_diskimg::Error),
    /// The disk failed. What was started before is started next.
    #[error("{0}")]
    Disk(kiln_diskimg::Error),
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The result of what changes slots.
pub type Result<T, E = Error> = std::result::Result<T, E>;
