//! What a service may do and see.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// What a service may do and see. What is absent or empty is left as the supervisor has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Isolation {
    /// The capabilities (capabilities(7)) that it has, also as an ordinary user, and the only ones
    /// that it or a program it executes can ever get.
    pub capabilities: Option<Vec<Capability>>,
    /// Whether programs with a set-user-ID bit or file capabilities give it nothing
    /// (`PR_SET_NO_NEW_PRIVS`).
    pub no_new_privs: bool,
    /// Which system calls it may make; implies `no_new_privs`.
    #[cfg(feature = "seccomp")]
    pub seccomp: Option<super::Seccomp>,
    /// Namespaces of its own (namespaces(7)).
    pub namespaces: Vec<Namespace>,
    /// Paths that it can read only, with all that is mounted below them when it starts; they need a
    /// mount namespace of its own, which they imply. One that begins with `-` may be absent, here and
    /// in the next two.
    pub read_only: Vec<PathBuf>,
    /// Paths within those that stay as they are: what can be written there otherwise can be written.
    /// What is in both lists is read-only.
    pub writable: Vec<PathBuf>,
    /// Paths whose content it does not see; implies a mount namespace.
    pub hidden: Vec<PathBuf>,
    /// Whether it has an empty /tmp and /var/tmp of its own; implies a mount namespace.
    pub private_tmp: bool,
    /// Secrets: files of these names, readable by its user alone, in the directory that the variable
    /// `CREDENTIALS_DIRECTORY` names; each is copied from a path when it starts, and gone when it
    /// has ended.
    pub credentials: BTreeMap<String, PathBuf>,
}

impl Isolation {
    /// The namespaces that it has with those that are implied.
    #[must_use]
    pub fn all_namespaces(&self) -> Vec<Namespace> {
        let mut all = self.namespaces.clone();
        let implied = !self.read_only.is_empty() || !self.hidden.is_empty() || self.private_tmp;
        // A /proc of the own processes has to be mounted somewhere.
        if implied || all.contains(&Namespace::Pid) {
            all.push(Namespace::Mount);
        }
        all.sort();
        all.dedup();
        all
    }
}

/// A kind of namespace (namespaces(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Namespace {
    /// Mounts, which still receive what is mounted outside.
    Mount,
    /// Processes, with a /proc of its own; implies mounts. The service is process 1 there: signals
    /// that it does not handle do nothing, and it has to reap.
    Pid,
    /// Network: nothing but an own loopback interface, which is down.
    Net,
    /// System V IPC and POSIX message queues.
    Ipc,
    /// Host name.
    Uts,
    /// Control groups: its own one is the root.
    Cgroup,
}

/// A capability by its number in `include/uapi/linux/capability.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// By number.
const CAPABILITIES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

impl Capability {
    /// All that are known, by number.
    #[cfg(feature = "systemd")]
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        CAPABILITIES.iter().zip(0..).map(|(_, number)| Self(number))
    }

    /// Its bit in a set of 64.
    #[must_use]
    pub fn bit(self) -> u64 {
        1_u64.checked_shl(self.0.into()).unwrap_or(0)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match CAPABILITIES.get(usize::from(self.0)) {
            Some(name) => write!(f, "CAP_{name}"),
            None => write!(f, "capability {}", self.0),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_prefix("CAP_").unwrap_or(text);
        CAPABILITIES
            .iter()
            .zip(0..)
            .find(|(known, _)| **known == name)
            .map(|(_, number)| Self(number))
            .ok_or_else(|| format!("unknown capability {text:?}, expected a name such as NET_RAW"))
    }
}

#[cfg(feature = "serde")]
super::text::shown_and_parsed!(Capability);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_by_name() {
        let bind: Capability = "CAP_NET_BIND_SERVICE".parse().unwrap();
        assert_eq!((bind.bit(), bind.to_string().as_str()), (1 << 10, "CAP_NET_BIND_SERVICE"));
        assert_eq!("CHECKPOINT_RESTORE".parse::<Capability>().map(Capability::bit), Ok(1 << 40));
        assert!("CAP_FLY".parse::<Capability>().is_err());
    }

    #[test]
    fn what_needs_a_mount_namespace_has_one() {
        let mut isolation = Isolation::default();
        assert_eq!(isolation.all_namespaces(), []);
        isolation.namespaces = vec![Namespace::Net, Namespace::Pid];
        assert_eq!(isolation.all_namespaces(), [Namespace::Mount, Namespace::Pid, Namespace::Net]);
    }
}
