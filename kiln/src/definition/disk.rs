//! What a disk is: its firmware, what it verifies, its partitions.

use std::path::PathBuf;

use kiln_diskimg::ByteLen;
use kiln_diskimg::gpt::PartitionType;

use super::Placed;

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// Its length; just large enough without.
    pub size: Option<Placed<ByteLen>>,
    /// What starts it. Default: all, with keys of one's own UEFI.
    pub firmware: Vec<Placed<Firmware>>,
    /// What UEFI verifies. Default: nothing.
    pub secure_boot: Option<Placed<SecureBoot>>,
    /// The size of each of two slots, of which one is replaced while the other runs. Default: no slots.
    pub slots: Option<Placed<ByteLen>>,
    /// Its partitions. Default: one to boot from.
    pub partitions: Vec<PartitionEntry>,
}

/// What starts a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Firmware {
    /// A PC's BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

impl Firmware {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Bios, Self::Uefi];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bios => "bios",
            Self::Uefi => "uefi",
        }
    }
}

/// What starts a disk, as a command line says it: `bios`, `uefi`, `both`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FirmwareChoice(pub Vec<Firmware>);

impl std::str::FromStr for FirmwareChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "both" {
            return Ok(Self(Firmware::ALL.to_vec()));
        }
        let found = Firmware::ALL.into_iter().find(|firmware| firmware.name() == text);
        let found = found.ok_or_else(|| format!("{text:?} is neither bios nor uefi nor both"))?;
        Ok(Self(vec![found]))
    }
}

/// Whom UEFI with Secure Boot has to trust.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecureBoot {
    /// The key in this directory.
    Keys(PathBuf),
    /// The distribution, by way of its shim.
    Shim,
}

impl std::str::FromStr for SecureBoot {
    type Err = std::convert::Infallible;

    /// `shim`, or a directory (`./shim` too).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "shim" { Self::Shim } else { Self::Keys(text.into()) })
    }
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionEntry {
    /// Its name in the partition table.
    pub name: Placed<String>,
    /// What it is for.
    pub kind: Placed<PartitionType>,
    /// How large it is.
    pub size: Placed<PartitionSize>,
    /// What is in it.
    pub content: Placed<PartitionContent>,
    /// The label of its file system.
    pub label: Option<Placed<String>>,
}

/// How large a partition is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionSize {
    /// So many bytes: `64MiB`.
    Fixed(ByteLen),
    /// As large as its content and so much more: `content`, `content+16MiB`.
    Content {
        /// Bytes that stay free.
        headroom: ByteLen,
    },
    /// What is left of the disk: `rest`.
    Rest,
}

/// What is in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartitionContent {
    /// The boot loader with kernel and initramfs, on FAT.
    Boot,
    /// A file system.
    Files {
        /// Which one.
        filesystem: Filesystem,
        /// What is in it.
        files: Files,
        /// How it is the system's root, if it is.
        root: Option<Root>,
    },
    /// Nothing: zeroes.
    Empty,
}

/// What is in a file system.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Files {
    /// Nothing.
    None,
    /// A directory of the host.
    Tree(PathBuf),
    /// The image's files.
    Image,
}

/// How a file system is the system's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Root {
    /// As it is.
    Plain,
    /// With every block verified against a hash on the kernel's command line (dm-verity).
    Verified,
}

/// A file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Filesystem {
    /// FAT, which every system reads.
    Fat,
    /// ext4.
    Ext4,
    /// EROFS, read-only.
    Erofs,
    /// The same, compressed.
    ErofsLz4,
    /// SquashFS, read-only, compressed.
    Squashfs,
}

impl Filesystem {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Fat, Self::Ext4, Self::Erofs, Self::ErofsLz4, Self::Squashfs];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Fat => "fat",
            Self::Ext4 => "ext4",
            Self::Erofs => "erofs",
            Self::ErofsLz4 => "erofs-lz4",
            Self::Squashfs => "squashfs",
        }
    }

    /// The kernel module that reads it.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Fat => "vfat",
            Self::Ext4 => "ext4",
            Self::Erofs | Self::ErofsLz4 => "erofs",
            Self::Squashfs => "squashfs",
        }
    }

    /// Whether a system can write to it.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Fat | Self::Ext4)
    }

    /// Whether it can be larger than its content.
    #[must_use]
    pub fn is_sized(self) -> bool {
        self.is_writable()
    }
}
