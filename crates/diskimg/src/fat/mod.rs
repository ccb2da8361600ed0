//! FAT12, FAT16 and FAT32 volumes with long names, made of a tree in one pass.
//!
//! | part | sectors |
//! |---|---|
//! | boot sector, FSInfo, their backup at sector 6 (FAT32) | reserved, at least 32 (FAT12/16: 1) |
//! | the table of clusters, twice | as needed |
//! | root directory (FAT12/16 only) | 32 |
//! | clusters: directories first, then files, each contiguous, without gaps | the rest |
//!
//! Nothing moves once it is placed, so a volume is *planned* ([`Volume::plan`]) without reading a
//! file, and *written* from front to back, each file streamed when its turn comes.

mod boot_sector;
mod directory;
mod geometry;
mod names;
mod reader;
mod volume;
mod volume_id;

use std::fmt;
use std::ops::RangeInclusive;

pub use geometry::Geometry;
pub use reader::{Found, Reader};
pub use volume::{Extent, Options, Volume, VolumeSize};
pub use volume_id::set_volume_id;

pub(crate) use boot_sector::BootCode;
pub(crate) use directory::{DirectoryFile, directory_sector};

/// Bits per entry of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Kind {
    /// Up to 4,084 clusters.
    Fat12,
    /// Up to 65,524 clusters.
    Fat16,
    /// Up to 268,435,444 clusters.
    Fat32,
}

impl Kind {
    /// How many clusters a volume of this kind has.
    fn clusters(self) -> RangeInclusive<u64> {
        match self {
            Self::Fat12 => 1..=4084,
            Self::Fat16 => 4085..=65_524,
            Self::Fat32 => 65_525..=0x0fff_fff4,
        }
    }

    /// How many sectors a table for so many clusters has.
    fn table_sectors(self, clusters: u64) -> u64 {
        let entries = clusters.saturating_add(2);
        let bytes = match self {
            Self::Fat12 => entries.saturating_mul(3).div_ceil(2),
            Self::Fat16 => entries.saturating_mul(2),
            Self::Fat32 => entries.saturating_mul(4),
        };
        bytes.div_ceil(crate::units::SECTOR)
    }

    fn signature(self) -> &'static [u8; 8] {
        match self {
            Self::Fat12 => b"FAT12   ",
            Self::Fat16 => b"FAT16   ",
            Self::Fat32 => b"FAT32   ",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Fat12 => "FAT12",
            Self::Fat16 => "FAT16",
            Self::Fat32 => "FAT32",
        })
    }
}

/// Bits of a directory entry's attribute byte.
pub mod attribute {
    /// Must not be changed.
    pub const READ_ONLY: u8 = 0x01;
    /// Not listed.
    pub const HIDDEN: u8 = 0x02;
    /// Belongs to the system; boot loaders' files are marked so that defragmenters leave them.
    pub const SYSTEM: u8 = 0x04;
    /// The volume's label.
    pub const VOLUME_LABEL: u8 = 0x08;
    /// A directory.
    pub const DIRECTORY: u8 = 0x10;
    /// Changed since the last backup: every new file.
    pub const ARCHIVE: u8 = 0x20;
    /// Part of a long name.
    pub const LONG_NAME: u8 = 0x0f;
}
