//! What starts an image: loaders for disks and CDs, and one program for UEFI.

mod cd;
mod programs;
mod secure;

use std::sync::Arc;

use kiln_diskimg::boot::bls::{Entry, FileName, LoaderConf, Timeout};
use kiln_diskimg::boot::esp::{Architecture, Esp};
use kiln_diskimg::boot::grub::{Config, MenuEntry};
use kiln_diskimg::boot::pe::Image;
use kiln_diskimg::boot::sign;
use kiln_diskimg::boot::uki::Uki;
use kiln_diskimg::fat::Volume;
use kiln_diskimg::slots;
use kiln_tree::{Node, Source, Tree};

pub use programs::{PACKAGES, Programs};
pub use secure::{SecureBoot, signer};

use crate::definition::Firmware;
use crate::{Error, Result};

/// The first serial line, at the speed that consoles of images have.
const SERIAL: (u8, u32) = (0, 115_200);

/// What is started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct System<'a> {
    /// Its name.
    pub name: &'a str,
    /// What menus show.
    pub title: &'a str,
    /// What a unified image says it is, as `/etc/os-release` does.
    pub os_release: String,
    /// The kernel.
    pub kernel: Source,
    /// The initramfs.
    pub initramfs: Arc<[u8]>,
    /// The kernel's command line.
    pub command_line: String,
    /// Its version, by which one that replaces it is compared. Default: none, which is older than all.
    pub version: Option<String>,
    /// What its CD says it is, beside kernel and initramfs, so that it can be installed from there into
    /// slots: [`System::release`]. Default: nothing.
    pub carried: Option<slots::Release>,
}

impl<'a> System<'a> {
    /// A system of this name.
    #[must_use]
    pub fn new(
        name: &'a str,
        kernel: Source,
        initramfs: Arc<[u8]>,
        command_line: impl Into<String>,
    ) -> Self {
        let (os_release, command_line) = (format!("ID={name}\n"), command_line.into());
        let (version, carried) = (None, None);
        Self { name, title: name, os_release, kernel, initramfs, command_line, version, carried }
    }

    /// All of it as one program that UEFI starts, signed if there is somebody to.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn unified(&self, programs: &Programs, secure: &SecureBoot) -> Result<Image> {
        let mut uki = Uki::new(programs.stub.clone(), self.kernel.clone());
        uki.initrds.push(self.initramfs());
        uki.command_line = Some(self.command_line.clone());
        uki.os_release = Some(self.os_release.clone());
        let image = uki.plan()?;
        Ok(match secure.signer() {
            Some(signer) => sign::sign(image, signer)?,
            None => image,
        })
    }

    /// What is on the partition that firmware starts. With a key of one's own UEFI starts one signed
    /// program, and nothing else that it would believe.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn partition(
        &self,
        programs: &Programs,
        firmware: &[Firmware],
        secure: &SecureBoot,
    ) -> Result<Tree> {
        let (bios, uefi) = (firmware.contains(&Firmware::Bios), firmware.contains(&Firmware::Uefi));
        let mut esp = Esp::new(Architecture::X64);
        if bios || secure.signer().is_none() {
            esp.file("vmlinuz", self.kernel.clone());
            esp.file("initramfs", self.initramfs());
        }
        match secure {
            _ if !uefi => {}
            SecureBoot::Signed(_) => esp.start(self.unified(programs, secure)?.source()),
            SecureBoot::Shim => {
                let (shim, grub) = (programs.shim.clone(), programs.grub.clone());
                esp.shim_and_grub(shim, grub, "debian", &self.grub_config());
                esp.file("EFI/BOOT/mmx64.efi", programs.key_manager.clone());
            }
            SecureBoot::Off => {
                let mut conf = LoaderConf::default();
                conf.timeout = Some(Timeout::Seconds(0));
                esp.systemd_boot(programs.systemd_boot.clone(), &conf);
                let mut entry = Entry::new(self.title);
                entry.linux = Some("/vmlinuz".into());
                entry.initrds.push("/initramfs".into());
                entry.options.clone_from(&self.command_line);
                esp.entry(&FileName::conf(self.name), &entry);
            }
        }
        let mut tree = esp.tree()?;
        if bios {
            tree.insert("syslinux/syslinux.cfg", Node::file(self.syslinux_config()))?;
        }
        Ok(tree)
    }

    /// A volume with two slots, the system in the first one. What does not say that it is healthy is
    /// not started again: should it panic, the kernel restarts.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn slots(
        &self,
        programs: &Programs,
        firmware: &[Firmware],
        options: slots::Options,
    ) -> Result<Volume> {
        let (version, line) = (self.version(), slots::restarting(&self.command_line));
        let system = slots::System::new(version, self.kernel.clone(), self.initramfs(), line);
        let mut plan = slots::Plan::new(options, system);
        if firmware.contains(&Firmware::Bios) {
            plan = plan.syslinux(programs.syslinux.clone());
        }
        if firmware.contains(&Firmware::Uefi) {
            plan = plan.systemd_boot(programs.systemd_boot.clone());
        }
        Ok(plan.volume()?)
    }

    /// What a slot is filled with: its text lies beside kernel and initramfs wherever they are carried to
    /// be installed.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    pub fn release(&self) -> Result<slots::Release> {
        let part = |source: &Source| -> std::io::Result<slots::Part> {
            slots::Part::of_reader(&mut source.open()?)
        };
        let unread = |error: std::io::Error| Error::input("the kernel", error.to_string());
        let kernel = part(&self.kernel).map_err(unread)?;
        let mut release =
            slots::Release::new(self.version(), kernel, slots::Part::of(&self.initramfs));
        release.command_line = slots::restarting(&self.command_line);
        Ok(release)
    }

    fn version(&self) -> &str {
        self.version.as_deref().unwrap_or("0")
    }

    fn initramfs(&self) -> Source {
        Source::Bytes(Arc::clone(&self.initramfs))
    }

    /// For SYSLINUX on a disk and ISOLINUX on a CD.
    fn syslinux_config(&self) -> String {
        let (unit, speed) = SERIAL;
        format!(
            "SERIAL {unit} {speed}\nPROMPT 0\nDEFAULT {name}\nLABEL {name}\n  LINUX /vmlinuz\n  \
             INITRD /initramfs\n  APPEND {}\n",
            self.command_line,
            name = self.name
        )
    }

    fn grub_config(&self) -> Config {
        let mut entry = MenuEntry::new(self.title, self.name, "/vmlinuz");
        entry.initrds.push("/initramfs".to_owned());
        entry.arguments = self.command_line.split_whitespace().map(str::to_owned).collect();
        let mut config = Config::default();
        config.entries.push(entry);
        config.serial = Some(SERIAL);
        config
    }
}
