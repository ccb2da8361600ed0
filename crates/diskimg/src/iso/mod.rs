//! ISO 9660 images (ECMA-119) with Rock Ridge and Joliet, made of a tree in one pass, that BIOS and
//! UEFI start from a CD and from a USB disk.
//!
//! | sectors of 2048 bytes | what |
//! |---|---|
//! | 0–15 | system area: MBR and GPT of a hybrid image, otherwise zeroes |
//! | 16 … | volume descriptors: primary, El Torito boot record, Joliet, terminator |
//! | then | boot catalog, path tables |
//! | then | directories, each with what Rock Ridge could not fit into its records |
//! | then | files, each contiguous; a file with several names once |
//! | then, at a multiple of 1 MiB | the EFI system partition, after the ISO volume's end |
//! | the end of the file | the backup GPT of a hybrid image |
//!
//! As with [`fat`](crate::fat), a volume is *planned* ([`Volume::plan`]) without reading a file (but
//! the BIOS boot image, which is patched), and *written* from front to back.
//!
//! Standards: ECMA-119 (4th edition), SUSP and RRIP 1.12 (IEEE P1281 and P1282), Joliet
//! Specification 1, El Torito 1.0, UEFI 2.10 section 13.3.2.1 (El Torito) and chapter 5 (GPT).

mod boot;
mod descriptor;
mod hierarchy;
mod hybrid;
mod names;
mod numbers;
mod options;
mod outline;
mod reader;
mod rock_ridge;
mod volume;

pub use options::{Bios, Hybrid, IsoNames, Joliet, Options};
pub use reader::{BootImage, Found, FoundKind, Names, Reader};
pub use volume::Volume;

/// Bytes of a sector of a CD, which every structure counts in.
pub const SECTOR: u64 = 2048;
/// The same as a length in memory.
pub(crate) const SECTOR_LEN: usize = 2048;
/// Sectors before the first volume descriptor.
pub(crate) const SYSTEM_AREA: u64 = 16;
/// The longest extent: a length has 32 bits, and all but a file's last extent are whole sectors.
pub(crate) const MAX_EXTENT: u64 = 0xffff_f800;
