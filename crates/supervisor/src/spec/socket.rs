//! Sockets that a service inherits.

use super::Address;

/// A socket that the supervisor opens for a service.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Socket {
    /// Where it listens.
    pub listen: Address,
    /// Its name in `LISTEN_FDNAMES` (default: `unknown`, as sd_listen_fds(3) has it).
    #[cfg_attr(feature = "serde", serde(default = "unnamed"))]
    pub name: String,
    /// Permission bits of the file of a Unix socket (default 0o666; others: no meaning).
    #[cfg_attr(feature = "serde", serde(default = "everybody"))]
    pub mode: u32,
}

fn unnamed() -> String {
    "unknown".into()
}

const fn everybody() -> u32 {
    0o666
}

impl Socket {
    /// A socket with the default name.
    #[must_use]
    pub fn new(listen: Address) -> Self {
        Self { listen, name: unnamed(), mode: everybody() }
    }
}
