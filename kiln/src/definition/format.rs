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
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 23] = [
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
            other => other.name(),
        }
    }

    /// Whether it is the tree alone, which nothing boots.
    #[must_use]
    pub fn is_archive(self) -> bool {
        matches!(self, Self::Tar | Self::TarGz | Self::TarZst) || self.is_container()
    }

    /// Whether it is the tree with what a container of it is started with.
    #[must_use]
    pub fn is_container(self) -> bool {
        matches!(self, Self::Oci | Self::Docker | Self::Aci)
    }

    /// Whether the disk is in it that the definition describes.
    #[must_use]
    pub fn is_disk(self) -> bool {
        !self.is_archive() && !matches!(self, Self::Initramfs | Self::Uki | Self::Iso)
    }

    /// Whether something that starts the kernel is part of it.
    #[must_use]
    pub fn has_loader(self) -> bool {
        !self.is_archive() && self != Self::Initramfs
    }

    /// Whether QEMU runs it as it is.
    #[must_use]
    pub fn is_run(self) -> bool {
        let packed = [Self::Uki, Self::RawZst, Self::Ova, Self::VboxZip, Self::VmxZip, Self::Gce];
        !self.is_archive() && !packed.contains(&self)
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
