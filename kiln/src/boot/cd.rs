//! A CD, and a disk of the same bytes.

use std::sync::Arc;

use kiln_diskimg::boot::esp::{Architecture, Esp};
use kiln_diskimg::fat::{self, VolumeSize};
use kiln_diskimg::iso::{Bios, Hybrid, Options, Volume};
use kiln_diskimg::{ByteLen, Seed};
use kiln_tree::{Node, Tree};

use super::{Programs, SecureBoot, System};
use crate::Result;
use crate::definition::Firmware;
use crate::disk::fat_options;

/// By which GRUB's build for CDs knows the volume with its configuration.
const GRUB_MARK: &str = ".disk/info";

impl System<'_> {
    /// A CD that starts the system, and that does so too when its bytes are written to a disk.
    ///
    /// UEFI gets shim and GRUB, which start from the CD what a BIOS starts; with a key of one's own
    /// one signed program, and nothing else that it would believe.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn cd(
        &self,
        programs: &Programs,
        firmware: &[Firmware],
        secure: &SecureBoot,
        seed: Seed,
        time: u32,
    ) -> Result<Volume> {
        let (bios, uefi) = (firmware.contains(&Firmware::Bios), firmware.contains(&Firmware::Uefi));
        let mut tree = Tree::new();
        let mut options = Options::default();
        options.volume_id = self.name.to_uppercase();
        options.time = time;
        tree.insert(GRUB_MARK, Node::file(format!("{}\n", self.title)))?;
        if bios || secure.signer().is_none() {
            tree.insert("vmlinuz", Node::file(self.kernel.clone()))?;
            tree.insert("initramfs", Node::file(self.initramfs()))?;
            if let Some(release) = &self.carried {
                tree.insert("release", Node::file(release.to_string()))?;
            }
        }
        let mut code = Vec::new();
        if bios {
            let c32 = programs.syslinux.ldlinux_c32().to_vec();
            tree.insert("isolinux/isolinux.bin", Node::file(programs.isolinux.clone()))?;
            tree.insert("isolinux/ldlinux.c32", Node::file(c32))?;
            tree.insert("isolinux/isolinux.cfg", Node::file(self.syslinux_config()))?;
            options.bios = Some(Bios::try_from("isolinux/isolinux.bin")?);
            code.clone_from(&programs.isolinux_mbr);
        }
        if uefi {
            let mut esp = Esp::new(Architecture::X64);
            if secure.signer().is_some() {
                esp.start(self.unified(programs, secure)?.source());
            } else {
                esp.start(programs.shim.clone());
                esp.file("EFI/BOOT/grubx64.efi", programs.grub_cd.clone());
                esp.file("EFI/BOOT/mmx64.efi", programs.key_manager.clone());
                let text = self.grub_config().to_text()?;
                tree.insert("boot/grub/grub.cfg", Node::file(text))?;
            }
            let size = VolumeSize::FromContent { headroom: ByteLen::ZERO };
            let mut volume = fat_options(seed, "efi", None, size);
            volume.hidden_sectors = 0;
            // FAT32 is never shorter than 32 MiB, which the catalog of a CD cannot say.
            volume.kind = Some(fat::Kind::Fat16);
            options.efi = Some(Arc::new(fat::Volume::plan(&esp.tree()?, &volume)?));
        }
        options.hybrid = Some(Hybrid::new(code, seed));
        Ok(Volume::plan(&tree, &options)?)
    }
}
