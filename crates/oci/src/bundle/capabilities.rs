//! Capabilities by name (capabilities(7)).

use crate::{Error, Result};

/// What a container may do.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Capabilities {
    /// What containers of Docker may do.
    #[default]
    Usual,
    /// Everything that Linux 5.9 and later knows.
    All,
    /// These, by their names (`CAP_NET_ADMIN`).
    Only(Vec<String>),
    /// The usual ones and these.
    And(Vec<String>),
}

const USUAL: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

const ALL: [&str; 41] = [
    "CAP_AUDIT_CONTROL",
    "CAP_AUDIT_READ",
    "CAP_AUDIT_WRITE",
    "CAP_BLOCK_SUSPEND",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_KILL",
    "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE",
    "CAP_MAC_ADMIN",
    "CAP_MAC_OVERRIDE",
    "CAP_MKNOD",
    "CAP_NET_ADMIN",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_RAW",
    "CAP_PERFMON",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYSLOG",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_CHROOT",
    "CAP_SYS_MODULE",
    "CAP_SYS_NICE",
    "CAP_SYS_PACCT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_WAKE_ALARM",
];

/// Whether there is a capability of this name.
#[cfg(feature = "appc")]
pub(crate) fn is_capability(name: &str) -> bool {
    ALL.contains(&name)
}

impl Capabilities {
    /// What containers of Docker may do but for these, by name.
    #[must_use]
    pub fn usual_without(removed: impl Fn(&str) -> bool) -> Self {
        let kept = USUAL.iter().filter(|name| !removed(name));
        Self::Only(kept.map(ToString::to_string).collect())
    }

    /// The names, sorted.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let (base, more): (&[&str], &[String]) = match self {
            Self::Usual => (&USUAL, &[]),
            Self::All => (&ALL, &[]),
            Self::Only(names) => (&[], names),
            Self::And(names) => (&USUAL, names),
        };
        if let Some(bad) = more.iter().find(|name| !ALL.contains(&name.as_str())) {
            return Err(Error::invalid(bad.escape_default(), "there is no such capability"));
        }
        let mut names: Vec<String> =
            base.iter().map(ToString::to_string).chain(more.iter().cloned()).collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}
