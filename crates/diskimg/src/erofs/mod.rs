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

#[cfg(feature = "lz4")]
mod cluster;
#[cfg(feature = "lz4")]
mod codec;
#[cfg(feature = "lz4")]
mod compress;
#[cfg(feature = "lz4")]
mod compression;
mod decompress;
mod directory;
mod feed;
mod index;
mod inode;
mod outline;
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
