//! Bootable disk images without root: partitions, file systems, image formats.
//!
//! An image is made in three steps, each a function of values:
//!
//! 1. **Contents**: a [`fat::Volume`] is planned from a tree of files; other contents are bytes, host
//!    files ([`kiln_tree::Source`]) or [`Zeroes`]. Anything that implements [`Content`] will do.
//! 2. **Layout**: a [`DiskPlan`] says which partitions a disk has; [`DiskPlan::layout`] decides where
//!    every byte goes and reports everything that cannot work, all at once.
//! 3. **Image**: [`container::write`] streams the [`Layout`] into a raw, qcow2 or VMDK file. Only now
//!    are files read.
//!
//! No step looks at a clock, at randomness or at the environment: identifiers come from a [`Seed`],
//! and the same inputs give the same bytes.
//!
//! # Example: a disk with a FAT partition
//!
//! This example shows how to make a disk in memory and to look into it.
//!
//! ```
//! use std::io::Cursor;
//! use kiln_diskimg::container::{self, Format};
//! use kiln_diskimg::fat::{Options, Volume};
//! use kiln_diskimg::gpt::PartitionType;
//! use kiln_diskimg::{DiskPlan, Limits, Partition, Seed, Table, dump};
//! use kiln_tree::{Node, Tree};
//!
//! let mut tree = Tree::new();
//! tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(vec![0x90; 10_000]))?;
//! let volume = Volume::plan(&tree, &Options::default())?;
//! let layout = DiskPlan::new(Table::Gpt, Seed::new("example"))
//!     .with(Partition::new("esp", PartitionType::EFI_SYSTEM, volume))
//!     .layout()?;
//! let image = container::write(Format::Vmdk, &layout, Cursor::new(Vec::new()))?;
//!
//! let report = dump::inspect(image, &Limits::default())?.to_string();
//! assert!(report.contains("10000  EFI/BOOT/BOOTX64.EFI"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Example: what is wrong with a plan
//!
//! This example shows how problems are reported: before anything is written, and all of them.
//!
//! ```
//! use kiln_diskimg::gpt::PartitionType;
//! use kiln_diskimg::{ByteLen, DiskPlan, Partition, Size};
//!
//! let size = Size::Fixed(ByteLen::mib(8));
//! let mut plan = DiskPlan::default()
//!     .with(Partition::empty("boot\n", PartitionType::EFI_SYSTEM, size));
//! plan.size = Some(ByteLen::mib(8));
//! assert_eq!(
//!     plan.layout().unwrap_err().to_string(),
//!     "disk: 2 problems\n  \
//!      partition 1 \"boot\\n\": its name has control characters\n  \
//!      the disk of 8 MiB is 1065472 bytes too small for its partitions and table; \
//!      raise its size to 9454080"
//! );
//! ```
//!
//! # Example: a partition with a content of one's own
//!
//! This example shows how to put anything into a partition: a content pushes its bytes and holes.
//!
//! ```
//! use kiln_diskimg::{Content, Result, Sink};
//!
//! /// A megabyte of which only the first bytes are something.
//! #[derive(Debug)]
//! struct Label(&'static str);
//!
//! impl Content for Label {
//!     fn len(&self) -> u64 {
//!         1 << 20
//!     }
//!
//!     fn write_to(&self, sink: &mut dyn Sink) -> Result<()> {
//!         sink.data(self.0.as_bytes())?;
//!         sink.hole(self.len() - self.0.len() as u64)
//!     }
//! }
//!
//! let mut bytes = Vec::new();
//! Label("kiln").write_to(&mut bytes)?;
//! assert_eq!(bytes.len(), 1 << 20);
//! # Ok::<(), kiln_diskimg::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod boot;
pub mod bundle;
pub mod container;
mod content;
pub mod crash;
mod device;
pub mod dump;
pub mod erofs;
mod error;
pub mod ext4;
pub mod fat;
mod field;
mod found;
pub mod gpt;
mod guid;
mod install;
pub mod iso;
mod limits;
pub mod mbr;
mod parallel;
mod plan;
pub mod slots;
#[cfg(feature = "squashfs")]
pub mod squashfs;
mod units;
pub mod verity;

pub use content::{Content, Sink, Zeroes};
pub use device::Device;
pub use error::{Error, Problems};
pub use guid::{Guid, ParseGuidError, Seed};
pub use install::install;
pub use limits::Limits;
pub use plan::{DiskPlan, Layout, Partition, Placed, Size, Table};
pub use units::{ByteLen, Lba, ParseByteLenError, SECTOR};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
