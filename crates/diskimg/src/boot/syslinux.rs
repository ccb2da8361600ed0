//! SYSLINUX 6 on a FAT volume, for machines with a BIOS.
//!
//! # How it starts
//! 1. BIOS runs the boot code of the MBR (`gptmbr.bin`, `mbr.bin`), which loads the first sector of
//!    the bootable partition.
//! 2. That sector holds SYSLINUX's code around the volume's parameter block. It knows the sector of
//!    the volume at which `ldlinux.sys` begins, and loads it.
//! 3. The first sector of `ldlinux.sys` knows where all the others are, loads and checks them.
//! 4. `ldlinux.sys` reads FAT; it loads `ldlinux.c32` from its own directory and there reads
//!    `syslinux.cfg`.
//!
//! # What is patched
//! All numbers are little-endian; the areas are described by `libinstaller/syslinux.h` and filled in
//! by `libinstaller/syslxmod.c` of the SYSLINUX sources.
//!
//! | in | at | what |
//! |---|---|---|
//! | boot sector | `epa[14]`, `epa[16]` | low and high 32 bits of the first sector of `ldlinux.sys` |
//! | `ldlinux.sys` | magic `3EB202FE`, on four bytes | the patch area: +8 sectors of data, +10 sectors of ADV, +12 dwords, +16 checksum, +22 place of the extended area (`epa`) |
//! | `ldlinux.sys` | `epa[10]`, `epa[12]` | place and number of the extents: 8 bytes first sector, 2 bytes number |
//! | `ldlinux.sys` | `epa[0]` | place of the two sector numbers of the ADV |
//! | `ldlinux.sys` | `epa[2]`, `epa[4]` | place and length of the directory's name |
//! | after `ldlinux.sys` | two sectors | the auxiliary data vector (ADV), twice the same |
//!
//! The checksum makes the sum of all dwords of `ldlinux.sys` equal to the magic.
//!
//! Unlike SYSLINUX's own installer, this one patches the backup boot sector of FAT32 too, so that
//! `fsck.vfat` finds nothing to say.

mod adv;
mod package;
mod patch;

pub use adv::Adv;

use kiln_tree::{Metadata, Node, TreePath};

use crate::fat::{BootCode, Volume, attribute};
use crate::mbr::BOOT_CODE_LEN;
use crate::{Error, Result, Table};

/// The parts of SYSLINUX that an installation needs.
#[derive(Debug, Clone)]
pub struct Loader {
    /// Template of the boot sector.
    boot_sector: [u8; 512],
    /// `ldlinux.sys` without its ADV.
    ldlinux_sys: Vec<u8>,
    /// The module that `ldlinux.sys` loads first.
    ldlinux_c32: Vec<u8>,
    gptmbr: [u8; BOOT_CODE_LEN],
    mbr: [u8; BOOT_CODE_LEN],
}

impl Loader {
    /// A loader from its parts: the boot sector template, `ldlinux.sys`, `ldlinux.c32` of the same
    /// build, and the MBR boot codes `gptmbr.bin` and `mbr.bin` (at most 440 bytes each).
    ///
    /// # Errors
    /// [`Error::Malformed`] when the parts are none of SYSLINUX's or not of one build.
    pub fn from_parts(
        boot_sector: [u8; 512],
        ldlinux_sys: Vec<u8>,
        ldlinux_c32: Vec<u8>,
        gptmbr: &[u8],
        mbr: &[u8],
    ) -> Result<Self> {
        let code = |name: &str, bytes: &[u8]| {
            let mut code = [0; BOOT_CODE_LEN];
            match code.get_mut(..bytes.len()) {
                Some(place) if !bytes.is_empty() => place.copy_from_slice(bytes),
                _ => {
                    let reason = format!("{name} has {} bytes, expected 1 to 440", bytes.len());
                    return Err(Error::malformed("syslinux", 0, reason));
                }
            }
            Ok(code)
        };
        patch::check(&boot_sector, &ldlinux_sys)?;
        Ok(Self {
            boot_sector,
            ldlinux_sys,
            ldlinux_c32,
            gptmbr: code("gptmbr.bin", gptmbr)?,
            mbr: code("mbr.bin", mbr)?,
        })
    }

    /// The boot code for the disk's first sector.
    #[must_use]
    pub fn mbr_code(&self, table: Table) -> [u8; BOOT_CODE_LEN] {
        match table {
            Table::Gpt => self.gptmbr,
            Table::Mbr => self.mbr,
        }
    }

    /// The module `ldlinux.c32` as it is installed.
    #[must_use]
    pub fn ldlinux_c32(&self) -> &[u8] {
        &self.ldlinux_c32
    }

    /// Installs into a directory of a planned volume (`""` is the root): adds `ldlinux.sys` and
    /// `ldlinux.c32`, plans the volume again (a size from its content grows), and patches boot sector
    /// and `ldlinux.sys`. The caller puts `syslinux.cfg` into the same directory.
    ///
    /// # Errors
    /// [`Error::Plan`] when the volume is too small or the directory's name too long;
    /// [`Error::Tree`] when something else is at those paths.
    pub fn install(&self, volume: Volume, directory: &str) -> Result<Volume> {
        let directory = TreePath::new(directory)?;
        let sys = directory.join("ldlinux.sys")?;
        let mut tree = volume.tree().clone();
        let mut options = volume.options().clone();
        let image = self.unpatched();
        let mtime = tree.root().mtime;
        let meta = Metadata::new(0o444).modified_at(mtime);
        tree.insert(sys.as_bytes(), Node::file(image).with(meta.clone()))?;
        let c32 = directory.join("ldlinux.c32")?;
        tree.insert(c32.as_bytes(), Node::file(self.ldlinux_c32.clone()).with(meta))?;
        // A defragmenter that moved the file would end the machine's ability to start.
        let fixed = attribute::READ_ONLY | attribute::HIDDEN | attribute::SYSTEM;
        options.attributes.insert(sys.clone(), fixed);
        let mut volume = Volume::plan(&tree, &options)?;
        let extent = volume.extent(&sys).ok_or_else(|| Error::NotFound {
            what: sys.to_string(),
            place: "the fat volume".to_owned(),
        })?;
        let Patched { boot_sector, ldlinux_sys } = self.patched(extent.first_sector, &directory)?;
        volume.set_content(&sys, ldlinux_sys)?;
        let head = crate::field::array(&boot_sector, 0).unwrap_or_default();
        volume.set_boot_code(BootCode { head, sector: boot_sector });
        Ok(volume)
    }

    /// `ldlinux.sys` filled up to whole sectors, and its two sectors of ADV.
    fn unpatched(&self) -> Vec<u8> {
        let mut image = self.ldlinux_sys.clone();
        image.resize(image.len().next_multiple_of(512), 0);
        let adv = Adv::default().emit();
        image.extend_from_slice(&adv);
        image.extend_from_slice(&adv);
        image
    }

    /// What has to be on any FAT volume on which `ldlinux.sys` lies in one run from a sector (counted
    /// from the volume's start) on: for volumes that were not made here.
    ///
    /// # Errors
    /// [`Error::Plan`] when the directory's name is too long.
    pub fn patched(&self, first_sector: u64, directory: &TreePath) -> Result<Patched> {
        let mut boot_sector = self.boot_sector;
        let mut ldlinux_sys = self.unpatched();
        let len = self.ldlinux_sys.len();
        patch::patch(&mut boot_sector, &mut ldlinux_sys, len, first_sector, directory)?;
        Ok(Patched { boot_sector, ldlinux_sys })
    }
}

/// SYSLINUX for one place on one volume.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patched {
    /// The boot sector; the volume's bytes 11 to 89 (its parameter block) must be kept.
    pub boot_sector: [u8; 512],
    /// The content of `ldlinux.sys`, ADV included.
    pub ldlinux_sys: Vec<u8>,
}
