//! The names of image formats.

use std::fmt;
use std::str::FromStr;

/// How a disk is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Format {
    /// The disk's bytes.
    Raw,
    /// The disk's bytes compressed by zstd, any part of which can be read. Needs the feature `zstd`.
    RawZst,
    /// QEMU's copy-on-write format.
    Qcow2,
    /// The same, compressed by deflate, which every QEMU reads. Needs the feature `zlib`.
    Qcow2Zlib,
    /// The same, compressed by zstd, which QEMU reads since 5.1. Needs the feature `zstd`.
    Qcow2Zstd,
    /// VMware's, as one sparse file.
    Vmdk,
    /// VMware's, compressed and written in one go: what OVA files have in them and vSphere imports.
    /// Needs the feature `zlib`.
    VmdkStream,
    /// VirtualBox's.
    Vdi,
    /// Microsoft's older one, which grows: Hyper-V's generation 1, Virtual PC, XenServer.
    Vhd,
    /// Microsoft's older one with the disk's bytes as they are: what Azure imports. The disk is
    /// filled up with zeroes to a whole number of MiB, as Azure demands.
    VhdFixed,
    /// Microsoft's newer one: Hyper-V.
    Vhdx,
}

impl Format {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Raw,
        Self::RawZst,
        Self::Qcow2,
        Self::Qcow2Zlib,
        Self::Qcow2Zstd,
        Self::Vmdk,
        Self::VmdkStream,
        Self::Vdi,
        Self::Vhd,
        Self::VhdFixed,
        Self::Vhdx,
    ];

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::RawZst => "raw-zst",
            Self::Qcow2 => "qcow2",
            Self::Qcow2Zlib => "qcow2-zlib",
            Self::Qcow2Zstd => "qcow2-zstd",
            Self::Vmdk => "vmdk",
            Self::VmdkStream => "vmdk-stream",
            Self::Vdi => "vdi",
            Self::Vhd => "vhd",
            Self::VhdFixed => "vhd-fixed",
            Self::Vhdx => "vhdx",
        }
    }

    /// What QEMU calls it, as in `-drive format=`; [`Format::RawZst`] is to be unpacked before.
    #[must_use]
    pub fn qemu_name(self) -> &'static str {
        match self {
            Self::Raw | Self::RawZst => "raw",
            Self::Qcow2 | Self::Qcow2Zlib | Self::Qcow2Zstd => "qcow2",
            Self::Vmdk | Self::VmdkStream => "vmdk",
            Self::Vdi => "vdi",
            Self::Vhd | Self::VhdFixed => "vpc",
            Self::Vhdx => "vhdx",
        }
    }

    /// The usual file extension, without the dot.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::RawZst => "raw.zst",
            Self::Vhd | Self::VhdFixed => "vhd",
            _ => self.qemu_name(),
        }
    }

    /// Whether this build can write and read it: what compresses needs a cargo feature.
    #[must_use]
    pub fn is_available(self) -> bool {
        let zlib = matches!(self, Self::Qcow2Zlib | Self::VmdkStream);
        let zstd = matches!(self, Self::Qcow2Zstd | Self::RawZst);
        (!zlib || cfg!(feature = "zlib")) && (!zstd || cfg!(feature = "zstd"))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A name that is no format's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no image format: expected raw, raw-zst, qcow2, qcow2-zlib, qcow2-zstd, vmdk, \
     vmdk-stream, vdi, vhd, vhd-fixed or vhdx"
)]
pub struct ParseFormatError(String);

impl FromStr for Format {
    type Err = ParseFormatError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| ParseFormatError(text.chars().take(32).collect()))
    }
}
