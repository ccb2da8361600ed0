//! The programs that start an image, and what they are given.

use std::path::Path;
use std::sync::Arc;

use kiln_diskimg::boot::bls::{Entry, FileName, LoaderConf, Timeout};
use kiln_diskimg::boot::esp::{Architecture, Esp};
use kiln_diskimg::boot::pe::Image;
use kiln_diskimg::boot::sign::{self, Certificate, PrivateKey, Signer};
use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::boot::uki::Uki;
use kiln_tree::{Node, Source, Tree};

use crate::definition::Firmware;
use crate::{Error, Result};

/// The packages that have the programs.
pub const PACKAGES: [&str; 3] = ["syslinux", "syslinux-common", "systemd-boot-efi"];

/// The programs, read from their packages.
#[derive(Debug)]
#[non_exhaustive]
pub struct Programs {
    /// What a BIOS starts.
    pub syslinux: Loader,
    /// What UEFI starts, to start what an entry on its partition says.
    pub systemd_boot: Source,
    /// The beginning of a kernel that UEFI starts itself.
    pub stub: Vec<u8>,
}

impl Programs {
    /// Reads them from a directory with [`PACKAGES`] unpacked.
    ///
    /// # Errors
    /// When one is not there.
    pub fn from_root(root: &Path) -> Result<Self> {
        let read = |name: &str| {
            let path = root.join("usr/lib/systemd/boot/efi").join(name);
            std::fs::read(&path).map_err(Error::io("read", &path))
        };
        Ok(Self {
            syslinux: Loader::from_package(root)?,
            systemd_boot: read("systemd-bootx64.efi")?.into(),
            stub: read("linuxx64.efi.stub")?,
        })
    }
}

/// Reads the key that UEFI programs are signed with: `db.key` and `db.crt` of a directory, PEM or
/// DER.
///
/// # Errors
/// When they are not there, do not parse, or do not belong together.
pub fn signer(directory: &Path) -> Result<Signer> {
    let read = |name: &str| {
        let path = directory.join(name);
        std::fs::read(&path).map_err(Error::io("read", &path))
    };
    let shown = |name: &str| directory.join(name).display().to_string();
    let key = PrivateKey::parse(&read("db.key")?)
        .map_err(|error| Error::input(shown("db.key"), error.to_string()))?;
    let certificate = Certificate::parse(&read("db.crt")?)
        .map_err(|error| Error::input(shown("db.crt"), error.to_string()))?;
    Signer::new(key, certificate)
        .map_err(|error| Error::input(directory.display().to_string(), error.to_string()))
}

/// What is started.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct System<'a> {
    /// Its name.
    pub name: &'a str,
    /// What menus show.
    pub title: &'a str,
    /// The kernel.
    pub kernel: Source,
    /// The initramfs.
    pub initramfs: Arc<[u8]>,
    /// The kernel's command line.
    pub command_line: &'a str,
}

impl<'a> System<'a> {
    /// A system of this name.
    #[must_use]
    pub fn new(name: &'a str, kernel: Source, initramfs: Arc<[u8]>, command_line: &'a str) -> Self {
        Self { name, title: name, kernel, initramfs, command_line }
    }

    /// All of it as one program that UEFI starts, signed if there is somebody to.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn unified(&self, programs: &Programs, signer: Option<&Signer>) -> Result<Image> {
        let mut uki = Uki::new(programs.stub.clone(), self.kernel.clone());
        uki.initrds.push(Source::Bytes(Arc::clone(&self.initramfs)));
        uki.command_line = Some(self.command_line.to_owned());
        let text =
            format!("ID={}\nNAME={:?}\nPRETTY_NAME={:?}\n", self.name, self.title, self.title);
        uki.os_release = Some(text);
        let image = uki.plan()?;
        Ok(match signer {
            Some(signer) => sign::sign(image, signer)?,
            None => image,
        })
    }

    /// What is on the partition that firmware starts. With a signer UEFI starts one signed program,
    /// and nothing else that it would believe.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn partition(
        &self,
        programs: &Programs,
        firmware: &[Firmware],
        signer: Option<&Signer>,
    ) -> Result<Tree> {
        let (bios, uefi) = (firmware.contains(&Firmware::Bios), firmware.contains(&Firmware::Uefi));
        let mut esp = Esp::new(Architecture::X64);
        if bios || signer.is_none() {
            esp.file("vmlinuz", self.kernel.clone());
            esp.file("initramfs", Source::Bytes(Arc::clone(&self.initramfs)));
        }
        match signer {
            Some(_) if uefi => esp.start(self.unified(programs, signer)?.source()),
            None if uefi => {
                let mut conf = LoaderConf::default();
                conf.timeout = Some(Timeout::Seconds(0));
                esp.systemd_boot(programs.systemd_boot.clone(), &conf);
                let mut entry = Entry::new(self.title);
                entry.linux = Some("/vmlinuz".into());
                entry.initrds.push("/initramfs".into());
                self.command_line.clone_into(&mut entry.options);
                esp.entry(&FileName::conf(self.name), &entry);
            }
            _ => {}
        }
        let mut tree = esp.tree()?;
        if bios {
            tree.insert("syslinux/syslinux.cfg", Node::file(self.syslinux_config()))?;
        }
        Ok(tree)
    }

    fn syslinux_config(&self) -> String {
        format!(
            "SERIAL 0 115200\nPROMPT 0\nDEFAULT {name}\nLABEL {name}\n  LINUX /vmlinuz\n  \
             INITRD /initramfs\n  APPEND {}\n",
            self.command_line,
            name = self.name
        )
    }
}
