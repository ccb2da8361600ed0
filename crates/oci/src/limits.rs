//! How much an image may ask for.

/// What an image may take: whoever made it may mean harm. Each is per image unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The bytes of a manifest or index; the distribution specification asks for no more than these.
    /// Default: 4 MiB.
    pub manifest: u64,
    /// The bytes of a configuration. Default: 16 MiB.
    pub config: u64,
    /// Manifests and indexes that are looked at, and layers. Default: 1,000.
    pub manifests: usize,
    /// How deep indexes may lie in indexes. Default: 4.
    pub nesting: usize,
    /// How deep images of App Containers may depend on one another. Default: 32.
    pub dependencies: usize,
    /// The entries of all layers together, directories that nobody mentions but that are needed
    /// counted. Default: 2,000,000.
    pub entries: u64,
    /// The bytes of all files of all layers. Default: 64 GiB.
    pub bytes: u64,
    /// The bytes of names, link targets and attributes, all of which are kept in memory.
    /// Default: 512 MiB.
    pub names: u64,
    /// The bytes of one entry's extension headers (long names, attributes). Default: 1 MiB.
    pub extension: u64,
    /// Components of a path. Default: 256.
    pub depth: usize,
    /// How many times longer than its blob a layer may be once it is decompressed, when it is longer
    /// than [`Limits::RATIO_FROM`]. Default: 1,000, which gzip just reaches.
    pub ratio: u64,
    /// The bytes of contents that are kept in memory where there is no spool. Default: 256 MiB.
    pub memory: u64,
}

impl Limits {
    /// Below this many bytes (64 MiB) no layer is a bomb, whatever its ratio.
    pub const RATIO_FROM: u64 = 64 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            manifest: 4 << 20,
            config: 16 << 20,
            manifests: 1_000,
            nesting: 4,
            dependencies: 32,
            entries: 2_000_000,
            bytes: 64 << 30,
            names: 512 << 20,
            extension: 1 << 20,
            depth: 256,
            ratio: 1_000,
            memory: 256 << 20,
        }
    }
}
