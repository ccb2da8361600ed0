//! What an image should be.

use std::sync::Arc;

use kiln_tree::TreePath;

use crate::content::Content;
use crate::guid::Seed;
use crate::plan::Table;

/// What an image should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The volume's label: 1 to 32 letters, digits, `_`, `-`, `.` or spaces. Default: `ISOIMAGE`.
    pub volume_id: String,
    /// The system that may start from the system area, at most 32 characters.
    pub system_id: String,
    /// The set of volumes that this is one of, at most 128 characters.
    pub volume_set_id: String,
    /// Who publishes it, at most 128 characters.
    pub publisher: String,
    /// Who prepared it, at most 128 characters.
    pub preparer: String,
    /// What is on it, at most 128 characters.
    pub application: String,
    /// When the volume was made, in seconds since 1970. Linux takes it for the volume's UUID, so
    /// different images should have different times. Default: 0.
    pub time: u32,
    /// The form of the names that every reader knows. Default: [`IsoNames::Long`].
    pub names: IsoNames,
    /// Whether the tree's names, owners, modes, times, links and devices are stored for Linux and
    /// its kin. Default: yes.
    pub rock_ridge: bool,
    /// Whether a second tree with names in Unicode is stored for Windows. Default: no.
    pub joliet: Option<Joliet>,
    /// What BIOS starts.
    pub bios: Option<Bios>,
    /// What UEFI starts: a FAT volume with `/EFI/BOOT/BOOTX64.EFI`. It stands after the files; every
    /// firmware understands one of at most [`MAX_EFI`](super::MAX_EFI) bytes.
    pub efi: Option<Arc<dyn Content>>,
    /// What makes the image a disk too.
    pub hybrid: Option<Hybrid>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            volume_id: "ISOIMAGE".to_owned(),
            system_id: String::new(),
            volume_set_id: String::new(),
            publisher: String::new(),
            preparer: String::new(),
            application: String::new(),
            time: 0,
            names: IsoNames::Long,
            rock_ridge: true,
            joliet: None,
            bios: None,
            efi: None,
            hybrid: None,
        }
    }
}

/// The form of plain ISO 9660 names: capital letters, digits and `_`. Other characters become `_`,
/// and names that are then the same are numbered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum IsoNames {
    /// 8 characters and an extension of 3 (level 1).
    Short,
    /// 30 characters with the extension, 31 for directories (levels 2 and 3).
    #[default]
    Long,
}

/// How long Joliet names may be, in UTF-16 units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Joliet {
    /// 64, as the specification says.
    Standard,
    /// 103, the most that a record holds; what reads the other form reads this too.
    Long,
}

impl Joliet {
    pub(super) fn units(self) -> usize {
        match self {
            Self::Standard => 64,
            Self::Long => 103,
        }
    }
}

/// An El Torito boot image that BIOS loads without emulating a disk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Bios {
    /// Which file of the tree it is (`isolinux/isolinux.bin`).
    pub image: TreePath,
    /// How many sectors of 512 bytes BIOS loads. Default: 4; the image loads the rest of itself.
    pub load_sectors: u16,
    /// Whether bytes 8 to 63 of the image are told where it is (`-boot-info-table`). Default: yes,
    /// as ISOLINUX and GRUB demand.
    pub info_table: bool,
}

impl Bios {
    /// ISOLINUX (or a loader like it) at this path of the tree.
    #[must_use]
    pub fn new(image: TreePath) -> Self {
        Self { image, load_sectors: 4, info_table: true }
    }
}

/// What an image has in its first sectors, so that it is a disk too.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Hybrid {
    /// Boot code for the MBR that starts the BIOS boot image: `isohdpfx.bin` of Debian's isolinux,
    /// 432 bytes. Nothing when BIOS should not start from the disk.
    pub code: Vec<u8>,
    /// Which table the disk has. Default: GPT, with an MBR that protects it.
    pub table: Table,
    /// What the disk's and the partitions' identifiers are derived from.
    pub seed: Seed,
}

impl Hybrid {
    /// A disk with a GPT, this boot code and identifiers from this seed.
    #[must_use]
    pub fn new(code: impl Into<Vec<u8>>, seed: Seed) -> Self {
        Self { code: code.into(), table: Table::Gpt, seed }
    }
}
