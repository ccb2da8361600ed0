//! The programs that start an image, out of their packages.

use std::path::Path;

use kiln_diskimg::boot::syslinux::Loader;
use kiln_tree::Source;

use crate::{Error, Result};

/// The packages that have the programs.
pub const PACKAGES: [&str; 7] = [
    "grub-efi-amd64-signed",
    "isolinux",
    "shim-helpers-amd64-signed",
    "shim-signed",
    "syslinux",
    "syslinux-common",
    "systemd-boot-efi",
];

/// The programs, read from their packages.
#[derive(Debug)]
#[non_exhaustive]
pub struct Programs {
    /// What a BIOS starts from a disk.
    pub syslinux: Loader,
    /// What a BIOS starts from a CD (`isolinux.bin`).
    pub isolinux: Source,
    /// What a BIOS starts from a CD's image that is on a disk (`isohdpfx.bin`).
    pub isolinux_mbr: Vec<u8>,
    /// What UEFI starts, to start what an entry on its partition says.
    pub systemd_boot: Source,
    /// The beginning of a kernel that UEFI starts itself.
    pub stub: Vec<u8>,
    /// What firmware trusts that trusts Microsoft's key.
    pub shim: Source,
    /// With what people enrol a key of their own for shim (`mmx64.efi`).
    pub key_manager: Source,
    /// GRUB for a disk, signed by the distribution.
    pub grub: Source,
    /// GRUB for a CD, likewise: it looks for its configuration where `/.disk/info` is.
    pub grub_cd: Source,
}

impl Programs {
    /// Reads them from a directory with [`PACKAGES`] unpacked.
    ///
    /// # Errors
    /// When one is not there.
    pub fn from_root(root: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = root.join("usr/lib").join(name);
            std::fs::read(&path).map_err(Error::io("read", &path))
        };
        let source = |name: &str| read(name).map(Source::from);
        Ok(Self {
            syslinux: Loader::from_package(root)?,
            isolinux: source("ISOLINUX/isolinux.bin")?,
            isolinux_mbr: read("ISOLINUX/isohdpfx.bin")?,
            systemd_boot: source("systemd/boot/efi/systemd-bootx64.efi")?,
            stub: read("systemd/boot/efi/linuxx64.efi.stub")?,
            shim: source("shim/shimx64.efi.signed")?,
            key_manager: source("shim/mmx64.efi.signed")?,
            grub: source("grub/x86_64-efi-signed/grubx64.efi.signed")?,
            grub_cd: source("grub/x86_64-efi-signed/gcdx64.efi.signed")?,
        })
    }
}
