//! How much a reader accepts from an input it does not trust.

/// Bounds of the readers. The defaults hold every image that people make, and keep a hostile one
/// from taking more than some tens of megabytes of memory.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Entries of a partition table. Default: 1024.
    pub partitions: usize,
    /// Bytes of an image format's index tables that are held at once. Default: 64 MiB.
    pub tables: u64,
    /// Files and directories of a file system. Default: 100,000.
    pub files: usize,
    /// Bytes of a file that is read into memory. Default: 256 MiB.
    pub file_len: u64,
    /// Directories inside of directories. Default: 64.
    pub depth: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { partitions: 1024, tables: 64 << 20, files: 100_000, file_len: 256 << 20, depth: 64 }
    }
}
