//! ext4 file systems made of a tree in one pass, and a reader of ext2, ext3 and ext4.
//!
//! | part | blocks of 4096 bytes |
//! |---|---|
//! | superblock, group descriptors, room for more of them | group 0; copies in 1 and powers of 3, 5, 7 |
//! | bitmaps and inode tables of sixteen groups together | the first of the sixteen |
//! | journal, directories, then files in the order of their paths, without gaps | what is left |
//!
//! The features are those that `mke2fs` gives: `has_journal ext_attr resize_inode dir_index filetype
//! extent 64bit flex_bg sparse_super large_file huge_file dir_nlink extra_isize metadata_csum`.
//! Since nothing moves once it is placed, a volume is *planned* ([`Volume::plan`]) without reading
//! a file, and *written* from front to back, each file streamed when its turn comes.
//!
//! # Growing
//!
//! A volume keeps room for the descriptors of later groups (`resize_inode`), enough for 1024 times
//! its size and for 64 GiB at least. `resize2fs` grows it, mounted (`EXT4_IOC_RESIZE_FS`) or not,
//! so a small image can fill whatever disk it is put on when it first boots. Beyond that room Linux
//! goes on by itself with `meta_bg`.
//!
//! # Example: a file system with a directory
//!
//! ```
//! use kiln_diskimg::ext4::{Options, Reader, Volume};
//! use kiln_diskimg::{Content, Limits};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("etc/hostname", Node::file("kiln\n"))?;
//! let mut options = Options::default();
//! options.label = Some("root".to_owned());
//! let volume = Volume::plan(&tree, &options)?;
//!
//! let mut bytes = Vec::new();
//! volume.write_to(&mut bytes)?;
//! let mut reader = Reader::open(&mut bytes, &Limits::default())?;
//! assert_eq!(reader.info().label.as_deref(), Some("root"));
//! let paths: Vec<String> = reader.list()?.iter().map(|found| found.path.to_string()).collect();
//! assert_eq!(paths, ["etc", "etc/hostname", "lost+found"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checksum;
mod directory;
mod extents;
mod geometry;
mod htree;
mod inode;
mod outline;
mod reader;
mod stream;
mod superblock;
mod volume;
mod xattr;

pub use crate::found::FileKind;
pub use geometry::Geometry;
pub use reader::{Found, Info, Reader};
pub use volume::{Journal, Options, Volume};

pub use crate::fat::VolumeSize;

/// Bytes of a block, on disk and in memory.
const BLOCK: u64 = 4096;
const BLOCK_LEN: usize = 4096;
/// Bytes of an inode.
const INODE: u64 = 256;
const INODE_LEN: usize = 256;
/// Inodes of a block.
const INODES_PER_BLOCK: u64 = BLOCK / INODE;
/// Bytes of a group descriptor.
const DESCRIPTOR: u64 = 64;
const DESCRIPTOR_LEN: usize = 64;

/// Inodes that exist in every volume (`fs/ext4/ext4.h`).
mod special {
    pub(super) const ROOT: u32 = 2;
    pub(super) const RESIZE: u32 = 7;
    pub(super) const JOURNAL: u32 = 8;
    pub(super) const LOST_AND_FOUND: u32 = 11;
    /// The first that has no meaning of its own.
    pub(super) const FIRST: u32 = 12;
}
