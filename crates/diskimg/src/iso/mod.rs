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
//! | then, at a multiple of 1 MiB | the EFI system partition: after the ISO volume's end, or its last part where it is too long for the boot catalog ([`MAX_EFI`]) |
//! | the end of the file | the backup GPT of a hybrid image |
//!
//! As with [`fat`](crate::fat), a volume is *planned* ([`Volume::plan`]) without reading a file (but
//! the BIOS boot image, which is patched), and *written* from front to back.
//!
//! # Example: an image that starts from a CD and from a USB disk, by BIOS and by UEFI
//!
//! ```no_run
//! use std::sync::Arc;
//! use kiln_diskimg::container::{self, Format};
//! use kiln_diskimg::iso::{Bios, Hybrid, Options, Volume};
//! use kiln_diskimg::{Seed, fat};
//! use kiln_tree::{Tree, host};
//!
//! // With isolinux/isolinux.bin, ldlinux.c32 and isolinux.cfg.
//! let mut tree = Tree::new();
//! host::import(&mut tree, "cd".as_ref(), "", &host::Policy::default())?;
//! // With EFI/BOOT/BOOTX64.EFI.
//! let mut esp = Tree::new();
//! host::import(&mut esp, "esp".as_ref(), "", &host::Policy::default())?;
//! let mut fat = fat::Options::default();
//! fat.hidden_sectors = 0;
//! fat.kind = Some(fat::Kind::Fat16);
//!
//! let mut options = Options::default();
//! options.bios = Some(Bios::try_from("isolinux/isolinux.bin")?);
//! options.efi = Some(Arc::new(fat::Volume::plan(&esp, &fat)?));
//! let code = std::fs::read("/usr/lib/ISOLINUX/isohdpfx.bin")?;
//! options.hybrid = Some(Hybrid::new(code, Seed::new("my image 1.0")));
//! container::write_file(Format::Raw, &Volume::plan(&tree, &options)?, "image.iso")?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What readers make of it
//!
//! Directories deeper than eight levels stay where they are, which Linux, libarchive and libisofs
//! read and plain ECMA-119 forbids. Rock Ridge's numbers of devices have the form that Linux
//! computes; for minor numbers above 255 no form suits all readers, and Linux's was taken.
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

pub use crate::found::FileKind;
pub use boot::MAX_EFI;
pub use options::{Bios, Hybrid, IsoNames, Joliet, Options};
pub use reader::{BootImage, Found, Names, Reader};
pub use volume::Volume;

/// Bytes of a sector of a CD, which every structure counts in.
pub const SECTOR: u64 = 2048;
/// The same as a length in memory.
pub(crate) const SECTOR_LEN: usize = 2048;
/// Sectors before the first volume descriptor.
pub(crate) const SYSTEM_AREA: u64 = 16;
/// The longest extent: a length has 32 bits, and all but a file's last extent are whole sectors.
pub(crate) const MAX_EXTENT: u64 = 0xffff_f800;
