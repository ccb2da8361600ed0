//! When a service runs: what it waits for, and how often it comes again.

use std::path::PathBuf;
use std::time::Duration;

/// Something outside of services that one may wait for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Condition {
    /// Something is there under this absolute path.
    Path(PathBuf),
    /// There is a route to everywhere: IPv4 or IPv6 has a default route.
    Network,
    /// The clock has been set: it is synchronised as the kernel counts it (adjtimex(2)), or shows a
    /// time after this program was built.
    TimeSet,
}

impl std::fmt::Display for Condition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Network => f.write_str("network"),
            Self::TimeSet => f.write_str("time set"),
        }
    }
}

/// When a one-shot runs by itself. Runs never overlap: one that is due while the last one is not
/// over takes place after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Timer {
    /// From a start to the next one.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub every: Duration,
    /// From when it was wanted to the first start (default: at once).
    #[cfg_attr(feature = "serde", serde(default, with = "crate::duration"))]
    pub first: Duration,
}

impl Timer {
    /// Runs at once, and then again and again.
    #[must_use]
    pub fn every(every: Duration) -> Self {
        Self { every, first: Duration::ZERO }
    }
}
