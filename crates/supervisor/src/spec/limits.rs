//! How much a service may take: limits of its processes, and of its control group.

use std::fmt;

/// Bounds that each process of a service has for itself. What is absent is inherited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Limits {
    /// Limits of getrlimit(2), soft and hard alike.
    pub resources: Vec<ResourceLimit>,
    /// How nice it is, -20 (takes most) to 19 (setpriority(2)).
    pub nice: Option<i32>,
    /// How likely the out-of-memory killer takes it, -1000 (never) to 1000. The supervisor's own
    /// exemption is never inherited.
    pub oom_score_adj: Option<i32>,
    /// Bits that files it makes do not have (umask(2)).
    pub umask: Option<u32>,
}

/// One limit of getrlimit(2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(deny_unknown_fields, rename_all = "kebab-case"))]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// The soft limit, in the resource's own unit; absent: unlimited.
    #[cfg_attr(feature = "serde", serde(default))]
    pub soft: Option<u64>,
    /// The hard limit; absent: unlimited.
    #[cfg_attr(feature = "serde", serde(default))]
    pub hard: Option<u64>,
}

/// What getrlimit(2) bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Resource {
    /// Bytes of address space.
    As,
    /// Bytes of a core file.
    Core,
    /// Seconds of processor time.
    Cpu,
    /// Bytes of data segment.
    Data,
    /// Bytes of a file that it writes.
    Fsize,
    /// Bytes of locked memory.
    Memlock,
    /// Bytes in POSIX message queues.
    Msgqueue,
    /// The ceiling of niceness: 20 minus the value.
    Nice,
    /// Open files.
    Nofile,
    /// Processes of its user.
    Nproc,
    /// The ceiling of real-time priority.
    Rtprio,
    /// Microseconds of real-time scheduling without a blocking call.
    Rttime,
    /// Pending signals.
    Sigpending,
    /// Bytes of stack.
    Stack,
}

/// Bounds that all processes of a service have together, by a control group of its own (cgroups(7),
/// version 2; units as in `Documentation/admin-guide/cgroup-v2.rst`). What is absent is left to the
/// kernel. They need [`unix::Options::cgroup`](crate::unix::Options) to be set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Cgroup {
    /// `cpu.weight`, 1 to 10000; the kernel's default is 100.
    pub cpu_weight: Option<u32>,
    /// `cpu.max`, in percent of one processor: 150 is one and a half.
    pub cpu_percent: Option<u32>,
    /// `memory.min`: bytes that are not reclaimed.
    pub memory_min: Option<Bytes>,
    /// `memory.high`: bytes above which it is slowed.
    pub memory_high: Option<Bytes>,
    /// `memory.max`: bytes above which the out-of-memory killer comes, for this group alone.
    pub memory_max: Option<Bytes>,
    /// `memory.swap.max`.
    pub memory_swap_max: Option<Bytes>,
    /// Whether the out-of-memory killer takes the whole group (`memory.oom.group`).
    pub oom_group: bool,
    /// `pids.max`: tasks, threads included.
    pub pids_max: Option<u32>,
    /// `io.weight`, 1 to 10000; the kernel's default is 100.
    pub io_weight: Option<u32>,
    /// Whether it manages groups of its own below: the controllers are handed on, and the group's
    /// directory belongs to its user.
    pub delegate: bool,
}

impl Cgroup {
    /// The files of the group to write, with what goes into them.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        /// Microseconds of a period of `cpu.max`.
        const PERIOD: u64 = 100_000;
        let mut settings = Vec::new();
        let mut set = |file, value: Option<String>| {
            settings.extend(value.map(|value| (file, value)));
        };
        set("cpu.weight", self.cpu_weight.map(|weight| weight.to_string()));
        let quota = |percent: u32| u64::from(percent).saturating_mul(PERIOD / 100);
        set("cpu.max", self.cpu_percent.map(|percent| format!("{} {PERIOD}", quota(percent))));
        let bytes = |bytes: Option<Bytes>| bytes.map(|bytes| bytes.0.to_string());
        set("memory.min", bytes(self.memory_min));
        set("memory.high", bytes(self.memory_high));
        set("memory.max", bytes(self.memory_max));
        set("memory.swap.max", bytes(self.memory_swap_max));
        set("memory.oom.group", self.oom_group.then(|| "1".into()));
        set("pids.max", self.pids_max.map(|tasks| tasks.to_string()));
        set("io.weight", self.io_weight.map(|weight| weight.to_string()));
        settings
    }
}

/// A number of bytes. As text a whole number, or one with `K`, `M`, `G` or `T` for powers of 1024.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0)
    }
}

impl std::str::FromStr for Bytes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("bad size {text:?}, expected bytes, or a number with K, M, G or T");
        let (number, shift) = match text.strip_suffix(['K', 'M', 'G', 'T']) {
            Some(number) if text.ends_with('K') => (number, 10),
            Some(number) if text.ends_with('M') => (number, 20),
            Some(number) if text.ends_with('G') => (number, 30),
            Some(number) => (number, 40),
            None => (text, 0),
        };
        let number: u64 = number.parse().map_err(|_| bad())?;
        number.checked_mul(1 << shift).map(Self).ok_or_else(bad)
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Bytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Bytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(serde::Deserialize)]
        #[serde(untagged, expecting = "expected a number of bytes, or a size such as \"64M\"")]
        enum Text {
            Number(u64),
            Text(String),
        }
        match Text::deserialize(deserializer)? {
            Text::Number(number) => Ok(Self(number)),
            Text::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        assert_eq!("512".parse(), Ok(Bytes(512)));
        assert_eq!("64M".parse(), Ok(Bytes(64 << 20)));
        assert_eq!("2T".parse(), Ok(Bytes(2 << 40)));
        for bad in ["", "M", "-1", "1.5G", "99999999999T", "1 M", "1m"] {
            assert!(bad.parse::<Bytes>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_group_says_which_files_it_sets() {
        let mut group = Cgroup::default();
        assert_eq!(group.settings(), []);
        group.cpu_percent = Some(150);
        group.memory_max = Some(Bytes(1 << 20));
        group.pids_max = Some(7);
        let expected = [("cpu.max", "150000 100000"), ("memory.max", "1048576"), ("pids.max", "7")];
        assert_eq!(group.settings(), expected.map(|(file, value)| (file, value.to_owned())));
    }
}
