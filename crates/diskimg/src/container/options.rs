//! What a writer needs to know beside the disk.

use std::fmt;
use std::num::NonZeroUsize;
use std::str::FromStr;

use crate::guid::Seed;

/// How an image is written. The defaults suit everybody who makes one image.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How many threads compress; 0 is as many as the machine runs at once. No number of them
    /// changes a byte. Default: 0.
    pub threads: usize,
    /// Where identifiers (VDI, VHD, VHDX, VMDK) come from. Two images that are used in one machine
    /// need different ones. Default: `Seed::default()`.
    pub seed: Seed,
    /// Seconds since 1970 that formats with a time of creation (VHD) record. Default: 0, which VHD
    /// stores as its own epoch, the year 2000.
    pub created: u64,
    /// The controller that a VMDK names. Default: LSI Logic in streams, for vSphere, and IDE in
    /// sparse files, as QEMU does it.
    pub adapter: Option<Adapter>,
    /// zstd's level, 1 to 19. Default: 3.
    pub zstd_level: i32,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 0, seed: Seed::default(), created: 0, adapter: None, zstd_level: 3 }
    }
}

impl Options {
    /// How many threads compress.
    pub(crate) fn threads(&self) -> usize {
        crate::parallel::threads(NonZeroUsize::new(self.threads))
    }
}

/// The controller that a virtual machine's disk is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Adapter {
    /// ATA.
    Ide,
    /// BusLogic's SCSI.
    BusLogic,
    /// LSI Logic's parallel SCSI, which vSphere and Linux both have drivers for.
    LsiLogic,
}

impl Adapter {
    /// As a VMDK's descriptor names it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ide => "ide",
            Self::BusLogic => "buslogic",
            Self::LsiLogic => "lsilogic",
        }
    }
}

impl fmt::Display for Adapter {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A name that is no controller's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no adapter: expected ide, buslogic or lsilogic")]
pub struct ParseAdapterError(String);

impl FromStr for Adapter {
    type Err = ParseAdapterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Ide, Self::BusLogic, Self::LsiLogic]
            .into_iter()
            .find(|adapter| adapter.name() == text)
            .ok_or_else(|| ParseAdapterError(text.chars().take(32).collect()))
    }
}
