//! What is made of an image.

use kiln_diskimg::container;

/// What is made of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Format {
    /// The initramfs, and its kernel beside it.
    Initramfs,
    /// Kernel and initramfs as one program that UEFI starts.
    Uki,
    /// A disk, as it is.
    Raw,
    /// The same through zstd, with a map for `bmaptool`.
    RawZst,
    /// A disk for QEMU.
    Qcow2,
    /// The same, compressed by zstd.
    Qcow2Zstd,
    /// A disk for VMware and VirtualBox.
    Vmdk,
    /// The same, compressed, for imports.
    VmdkStream,
    /// A disk for VirtualBox.
    Vdi,
    /// A disk for older Hyper-V.
    Vhd,
    /// A disk for Azure.
    VhdFixed,
    /// A disk for Hyper-V.
    Vhdx,
    /// An appliance for VMware, VirtualBox and others.
    Ova,
    /// The same, for VirtualBox, as a zip archive.
    VboxZip,
    /// A machine for VMware's desktop programs, as a zip archive.
    VmxZip,
    /// A disk for Google Compute Engine.
    Gce,
    /// A CD, which is a disk too.
    Iso,
    /// The file tree as an archive, for containers and other systems to unpack.
    Tar,
    /// The same through gzip.
    TarGz,
    /// The same through zstd.
    TarZst,
    /// The tree as a container image: an OCI layout as one archive.
    Oci,
    /// The same as `docker load` takes it.
    Docker,
    /// The tree as an image of appc (ACI).
    Aci,
    /// What firmware loads over a network: kernel, initramfs, and a script for iPXE.
    Netboot,
    /// The tree as a root that is fetched at boot, with its signed list of chunks: an archive through xz.
    RootTarXz,
    /// The same through zstd.
    RootTarZst,
    /// The same as a file system that stays compressed in memory.
    RootErofs,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Initramfs,
        Self::Uki,
        Self::Raw,
        Self::RawZst,
        Self::Qcow2,
        Self::Qcow2Zstd,
        Self::Vmdk,
        Self::VmdkStream,
        Self::Vdi,
        Self::Vhd,
        Self::VhdFixed,
        Self::Vhdx,
        Self::Ova,
        Self::VboxZip,
        Self::VmxZip,
        Self::Gce,
        Self::Iso,
        Self::Tar,
        Self::TarGz,
        Self::TarZst,
        Self::Oci,
        Self::Docker,
        Self::Aci,
        Self::Netboot,
        Self::RootTarXz,
        Self::RootTarZst,
        Self::RootErofs,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Initramfs => "initramfs",
            Self::Uki => "uki",
            Self::Ova => "ova",
            Self::VboxZip => "vbox-zip",
            Self::VmxZip => "vmx-zip",
            Self::Gce => "gce",
            Self::Iso => "iso",
            Self::Tar => "tar",
            Self::TarGz => "tar.gz",
            Self::TarZst => "tar.zst",
            Self::Oci => "oci",
            Self::Docker => "docker",
            Self::Aci => "aci",
            Self::Netboot => "netboot",
            Self::RootTarXz => "root.tar.xz",
            Self::RootTarZst => "root.tar.zst",
            Self::RootErofs => "root.erofs",
            disk => disk.container().map_or("disk", container::Format::name),
        }
    }

    /// How the disk is stored, where it is a disk and nothing around it.
    #[must_use]
    pub fn container(self) -> Option<container::Format> {
        Some(match self {
            Self::Raw => container::Format::Raw,
            Self::RawZst => container::Format::RawZst,
            Self::Qcow2 => container::Format::Qcow2,
            Self::Qcow2Zstd => container::Format::Qcow2Zstd,
            Self::Vmdk => container::Format::Vmdk,
            Self::VmdkStream => container::Format::VmdkStream,
            Self::Vdi => container::Format::Vdi,
            Self::Vhd => container::Format::Vhd,
            Self::VhdFixed => container::Format::VhdFixed,
            Self::Vhdx => container::Format::Vhdx,
            _ => return None,
        })
    }

    /// What the name of its file ends in, another one for each format.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::Uki => "efi",
            Self::RawZst => "raw.zst",
            Self::Qcow2Zstd => "zstd.qcow2",
            Self::VmdkStream => "stream.vmdk",
            Self::VhdFixed => "fixed.vhd",
            Self::VboxZip => "vbox.zip",
            Self::VmxZip => "vmx.zip",
            Self::Gce => "gce.tar.gz",
            Self::Oci => "oci.tar",
            Self::Docker => "docker.tar",
            Self::Netboot => "initrd.img",
            other => other.name(),
        }
    }

    /// The name of its file for a system of this name.
    #[must_use]
    pub fn file_name(self, system: &str) -> String {
        // as such files have been called where they are served
        let separator = if self == Self::Netboot || self.root().is_some() { '-' } else { '.' };
        format!("{system}{separator}{}", self.ending())
    }

    /// How the root is stored, where it is one that is fetched at boot.
    #[must_use]
    pub fn root(self) -> Option<kiln_ramroot::Kind> {
        Some(match self {
            Self::RootTarXz => kiln_ramroot::Kind::TarXz,
            Self::RootTarZst => kiln_ramroot::Kind::TarZst,
            Self::RootErofs => kiln_ramroot::Kind::Erofs,
            _ => return None,
        })
    }

    /// Whether it is the tree alone, which nothing boots by itself.
    #[must_use]
    pub fn is_archive(self) -> bool {
        let plain = matches!(self, Self::Tar | Self::TarGz | Self::TarZst);
        plain || self.is_container() || self.root().is_some()
    }

    /// Whether it is the tree with what a container of it is started with.
    #[must_use]
    pub fn is_container(self) -> bool {
        matches!(self, Self::Oci | Self::Docker | Self::Aci)
    }

    /// Whether the disk is in it that the definition describes.
    #[must_use]
    pub fn is_disk(self) -> bool {
        let memory = [Self::Initramfs, Self::Uki, Self::Iso, Self::Netboot];
        !self.is_archive() && !memory.contains(&self)
    }

    /// Whether something that starts the kernel is part of it.
    #[must_use]
    pub fn has_loader(self) -> bool {
        !self.is_archive() && !matches!(self, Self::Initramfs | Self::Netboot)
    }

    /// Whether QEMU runs it as it is.
    #[must_use]
    pub fn is_run(self) -> bool {
        let bootable = matches!(self, Self::Initramfs | Self::Iso)
            || (self.is_disk() && self.container().is_some());
        bootable && self != Self::RawZst
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            format!("{name:?} is no format; known are {known}")
        })
    }
}
