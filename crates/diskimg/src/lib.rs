//! Bootable disk images without root: partitions, file systems, image formats.

#![forbid(unsafe_code)]

pub mod boot;
pub mod container;
mod content;
pub mod dump;
mod error;
pub mod fat;
mod field;
pub mod gpt;
mod guid;
mod limits;
pub mod mbr;
mod plan;
mod units;

pub use content::{Content, Sink, Zeroes};
pub use error::{Error, Problems};
pub use guid::{Guid, ParseGuidError, Seed};
pub use limits::Limits;
pub use plan::{DiskPlan, Layout, Partition, Placed, Size, Table};
pub use units::{ByteLen, Lba, ParseByteLenError, SECTOR};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;
