//! How much of what strangers give is taken.

/// Bounds on hostile input. What goes beyond them is refused and told.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one document, and bytes that all aliases of it may add.
    pub document_bytes: usize,
    /// How deep lists and maps may be nested.
    pub depth: usize,
    /// Nodes of one document, those that aliases repeat included.
    pub nodes: usize,
    /// Findings of one file that a step (reading, decoding) tells; the rest is counted.
    pub findings: usize,
    /// Bytes of user-data as it is given, and of what its parts make together when they are unpacked.
    pub user_data_bytes: usize,
    /// Parts of a multipart message, those of messages in it included.
    pub parts: usize,
    /// How deep compression and multipart messages may be nested.
    pub nesting: usize,
    /// Bytes of one file of `write_files`, decoded.
    pub file_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            document_bytes: 4 << 20,
            depth: 32,
            nodes: 100_000,
            findings: 100,
            user_data_bytes: 16 << 20,
            parts: 64,
            nesting: 4,
            file_bytes: 16 << 20,
        }
    }
}
