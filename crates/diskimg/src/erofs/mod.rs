//! EROFS volumes (the kernel's read-only file system), made of a tree in one pass.
//!
//! | part | blocks of 4096 bytes |
//! |---|---|
//! | superblock at byte 1024, root inode | 1, more when the root has long attributes |
//! | data of files | as needed |
//! | their inodes, with what fills no block behind them | at most 4 MiB and one file's; then data again |
//! | directories, symbolic links, devices: data, then inodes | the rest |
//!
//! Inodes come after the data that belong to them because the ends of files are stored with the
//! inodes: so each file is read once, and only the ends of a segment's files are held in memory.
//!
//! Linux 5.4 and later mount what is written here, on machines with pages of 4 KiB (before Linux 6.4
//! blocks had to be as long as pages).
//!
//! A [`Volume`] is planned without reading a file. With the feature `lz4` there is also
//! `Compressed`: where anything is depends on how much the files before it compress to, so planning
//! compresses them, each read once, into a spool of the caller's, in the order of the volume. Then
//! the volume is either a content like any other, copied from the spool, or the spool itself becomes
//! the volume, when it is all that is wanted.
//!
//! # Example: a volume, and a look into it
//!
//! ```
//! use kiln_diskimg::erofs::{Options, Reader, Volume};
//! use kiln_diskimg::{Content, Limits};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("etc/hostname", Node::file("kiln\n"))?;
//! tree.insert("bin", Node::symlink("usr/bin"))?;
//! let volume = Volume::plan(&tree, &Options::default())?;
//! let mut bytes = Vec::new();
//! volume.write_to(&mut bytes)?;
//!
//! let mut reader = Reader::open(&mut bytes, &Limits::default())?;
//! let found = reader.list()?;
//! let paths: Vec<String> = found.iter().map(|it| it.path.to_string()).collect();
//! assert_eq!(paths, ["bin", "etc", "etc/hostname"]);
//! assert_eq!(reader.read(&found[2])?, b"kiln\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "lz4")]
mod cluster;
#[cfg(feature = "lz4")]
mod codec;
#[cfg(feature = "lz4")]
pub(crate) mod compress;
#[cfg(feature = "lz4")]
mod compression;
mod decompress;
mod directory;
pub(crate) mod feed;
mod index;
pub(crate) mod inode;
#[cfg(feature = "lz4")]
mod lz4_high;
#[cfg(feature = "lz4")]
mod matches;
pub(crate) mod outline;
mod place;
mod reader;
mod report;
mod superblock;
mod volume;

#[cfg(feature = "lz4")]
pub use compress::Compressed;
#[cfg(feature = "lz4")]
pub use compression::{Algorithm, Compression};
pub use reader::{Found, Reader};
pub(crate) use report::report;
pub use volume::{Options, Volume};

/// Bytes of a block, as a power of two.
const BLOCK_BITS: u8 = 12;
/// Bytes of a block, and of a logical cluster.
const BLOCK: u64 = 1 << BLOCK_BITS;
