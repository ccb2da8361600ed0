//! The GUID partition table of UEFI 2.10, chapter 5.
//!
//! | sectors | what |
//! |---|---|
//! | 0 | protective MBR |
//! | 1 | header |
//! | 2–33 | 128 entries of 128 bytes |
//! | 34 … n−34 | partitions |
//! | n−33 … n−2 | the entries again |
//! | n−1 | the header again, pointing back |
//!
//! Writing is done by the `gpt` crate on a device in memory ([`emit`]); reading is done here
//! ([`read`]), because that crate's reader asserts the entry size of an untrusted header and does
//! not verify the checksum of the entries.

mod attributes;
mod copy;
mod grow;
mod header;
mod reader;
mod rename;
mod types;
mod writer;

pub use attributes::{attribute_names, parse_attribute};
pub use grow::{Extend, Extended, Grown, grow};
pub use header::{
    Entry, GROW_FILE_SYSTEM, Header, LEGACY_BIOS_BOOTABLE, NO_AUTO, NO_BLOCK_IO, READ_ONLY,
    REQUIRED,
};
pub use reader::{Gpt, read};
pub use rename::{Renamed, primary_disk_guid, read_device, rename};
pub use types::PartitionType;
pub use writer::{Tables, emit};

/// Sectors before the first usable one.
pub const HEAD_SECTORS: u64 = 34;
/// Sectors after the last usable one.
pub const TAIL_SECTORS: u64 = 33;
/// How many partitions a table holds.
pub const MAX_ENTRIES: usize = 128;
/// UTF-16 units that a partition's name may have.
pub const NAME_UNITS: usize = 36;
