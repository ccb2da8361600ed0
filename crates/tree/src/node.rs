//! One entry of a tree: what it is, whose it is, why it is there.

use std::collections::BTreeMap;

use crate::{Source, TreePath};

/// Owner, permissions, time and extended attributes of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metadata {
    /// Permission bits, set-id bits and the sticky bit (at most `0o7777`).
    pub mode: u16,
    /// The owner's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// Modification time in seconds since 1970, as every image format of interest can hold it.
    pub mtime: u32,
    /// Extended attributes by their full name (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Owned by root, modified at 0, with these permission bits (others are dropped).
    #[must_use]
    pub fn new(mode: u16) -> Self {
        Self { mode: mode & 0o7777, ..Self::default() }
    }

    /// The same, owned by these numbers.
    #[must_use]
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    /// The same, modified at this time.
    #[must_use]
    pub fn modified_at(mut self, mtime: u32) -> Self {
        self.mtime = mtime;
        self
    }
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// A directory; what is in it are the nodes with paths below its own.
    Directory,
    /// A regular file.
    File(Source),
    /// A symbolic link to this text, which nothing checks.
    Symlink(Vec<u8>),
    /// A further name of a regular file of the same tree; the metadata are those of the file.
    Hardlink(TreePath),
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl Kind {
    /// The kind in words, for messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Directory => "directory",
            Self::File(_) => "regular file",
            Self::Symlink(_) => "symbolic link",
            Self::Hardlink(_) => "hard link",
            Self::CharDevice { .. } => "character device",
            Self::BlockDevice { .. } => "block device",
            Self::Fifo => "named pipe",
            Self::Socket => "socket",
        }
    }
}

/// One entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub meta: Metadata,
    /// Why it is in the tree ("needed by /usr/bin/nomad"), for people and manifests; it reaches no
    /// image and is ignored when nodes are compared on insertion.
    pub why: Option<String>,
}

impl Node {
    /// A node with the usual permissions of its kind.
    #[must_use]
    pub fn new(kind: Kind) -> Self {
        let mode = match kind {
            Kind::Directory => 0o755,
            Kind::Symlink(_) => 0o777,
            Kind::CharDevice { .. } | Kind::BlockDevice { .. } => 0o600,
            _ => 0o644,
        };
        Self { kind, meta: Metadata::new(mode), why: None }
    }

    /// A directory, `0755`.
    #[must_use]
    pub fn directory() -> Self {
        Self::new(Kind::Directory)
    }

    /// A regular file, `0644`.
    #[must_use]
    pub fn file(content: impl Into<Source>) -> Self {
        Self::new(Kind::File(content.into()))
    }

    /// A regular file that can be executed, `0755`.
    #[must_use]
    pub fn executable(content: impl Into<Source>) -> Self {
        Self::file(content).with(Metadata::new(0o755))
    }

    /// A symbolic link.
    #[must_use]
    pub fn symlink(target: impl AsRef<[u8]>) -> Self {
        Self::new(Kind::Symlink(target.as_ref().to_vec()))
    }

    /// A further name of a file of the tree.
    #[must_use]
    pub fn hardlink(target: TreePath) -> Self {
        Self::new(Kind::Hardlink(target))
    }

    /// A character device, `0600`.
    #[must_use]
    pub fn char_device(major: u32, minor: u32) -> Self {
        Self::new(Kind::CharDevice { major, minor })
    }

    /// The node with these metadata.
    #[must_use]
    pub fn with(mut self, meta: Metadata) -> Self {
        self.meta = meta;
        self
    }

    /// The node with this reason for being there.
    #[must_use]
    pub fn because(mut self, why: impl Into<String>) -> Self {
        self.why = Some(why.into());
        self
    }

    /// Whether this is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory)
    }

    /// Whether an image would be the same with either.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.kind == other.kind && self.meta == other.meta
    }
}
