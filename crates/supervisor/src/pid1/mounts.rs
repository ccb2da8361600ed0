//! The file systems that programs expect, as a table.

use std::ffi::CString;
use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

pub use rustix::mount::MountFlags;

use super::Step;

/// One mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mount {
    /// What is mounted; for most kinds only a name for people.
    pub source: &'static str,
    /// Where; made if it is not there.
    pub target: &'static str,
    /// The kind, as in `/proc/filesystems`.
    pub fstype: &'static str,
    /// See mount(2).
    pub flags: MountFlags,
    /// Options for the file system, comma-separated.
    pub data: &'static str,
    /// When at all.
    pub condition: Condition,
}

/// When a [`Mount`] is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Always; not to be able to is a problem.
    Always,
    /// If the kernel knows the kind (`/proc/filesystems`) and the target is there or can be made.
    IfFilesystemSupported,
    /// If the target is there.
    IfDirExists,
    /// Tried; not to be able to is no problem.
    Optional,
}

const fn mount(
    source: &'static str,
    target: &'static str,
    flags: MountFlags,
    data: &'static str,
    condition: Condition,
) -> Mount {
    Mount { source, target, fstype: source, flags, data, condition }
}

const STRICT: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// What a Linux system of today has, in order.
pub const STANDARD: &[Mount] = {
    use Condition::{Always, IfFilesystemSupported as IfSupported};
    &[
        mount("proc", "/proc", STRICT, "", Always),
        mount("sysfs", "/sys", STRICT, "", Always),
        mount("devtmpfs", "/dev", MountFlags::NOSUID, "mode=0755", Always),
        mount(
            "devpts",
            "/dev/pts",
            MountFlags::NOSUID.union(MountFlags::NOEXEC),
            "mode=0620,gid=5,ptmxmode=0666",
            IfSupported,
        ),
        Mount { fstype: "tmpfs", ..mount("shm", "/dev/shm", STRICT, "mode=1777", Always) },
        mount("mqueue", "/dev/mqueue", STRICT, "", IfSupported),
        Mount {
            fstype: "tmpfs",
            ..mount("run", "/run", MountFlags::NOSUID.union(MountFlags::NODEV), "mode=0755", Always)
        },
        Mount {
            fstype: "tmpfs",
            ..mount("tmp", "/tmp", MountFlags::NOSUID.union(MountFlags::NODEV), "mode=1777", Always)
        },
        mount("cgroup2", "/sys/fs/cgroup", STRICT, "nsdelegate", IfSupported),
        mount("securityfs", "/sys/kernel/security", STRICT, "", IfSupported),
        mount("debugfs", "/sys/kernel/debug", STRICT, "mode=0700", IfSupported),
        mount("tracefs", "/sys/kernel/tracing", STRICT, "mode=0700", IfSupported),
        mount("configfs", "/sys/kernel/config", STRICT, "", IfSupported),
        mount(
            "hugetlbfs",
            "/dev/hugepages",
            MountFlags::NOSUID.union(MountFlags::NODEV),
            "",
            IfSupported,
        ),
        mount("binfmt_misc", "/proc/sys/fs/binfmt_misc", STRICT, "", IfSupported),
    ]
};

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mount {} on {}", self.fstype, self.target)
    }
}

impl Mount {
    /// What [`Mount::perform`] would do now, as a line: the command of mount(8), and why it would
    /// not be needed. Changes nothing.
    #[must_use]
    pub fn describe(&self) -> String {
        let named = [
            (MountFlags::RDONLY, "ro"),
            (MountFlags::NOSUID, "nosuid"),
            (MountFlags::NODEV, "nodev"),
            (MountFlags::NOEXEC, "noexec"),
        ];
        let set =
            named.iter().filter(|(flag, _)| self.flags.contains(*flag)).map(|(_, name)| *name);
        let options: Vec<&str> =
            set.chain([self.data].into_iter().filter(|data| !data.is_empty())).collect();
        let with =
            if options.is_empty() { String::new() } else { format!("-o {} ", options.join(",")) };
        let reason = match self.condition {
            Condition::IfFilesystemSupported if !supported(self.fstype) => {
                ": no, the kernel does not know it"
            }
            Condition::IfDirExists if !Path::new(self.target).is_dir() => {
                ": no, there is no such directory"
            }
            _ if mounted(self.target) => ": mounted already",
            Condition::Optional => ": if it can be",
            _ => "",
        };
        format!("mount -t {} {with}{} {}{reason}", self.fstype, self.source, self.target)
    }

    /// Mounts it, unless its condition says no or it is mounted already. Returns whether it now is.
    ///
    /// # Errors
    /// A sentence that says what could not be done.
    pub fn perform(&self) -> Result<bool, String> {
        let target = Path::new(self.target);
        match self.condition {
            Condition::IfFilesystemSupported if !supported(self.fstype) => return Ok(false),
            Condition::IfDirExists if !target.is_dir() => return Ok(false),
            _ => {}
        }
        if mounted(self.target) {
            return Ok(true);
        }
        let result = self.attempt(target);
        match (result, self.condition) {
            (Ok(()), _) => Ok(true),
            (Err(_), Condition::Optional) => Ok(false),
            (Err(error), _) => Err(format!("{self}: {error}")),
        }
    }

    fn attempt(&self, target: &Path) -> std::io::Result<()> {
        if !target.is_dir() {
            std::fs::create_dir_all(target)?;
        }
        let data = CString::new(self.data)?;
        match rustix::mount::mount(self.source, target, self.fstype, self.flags, data.as_c_str()) {
            Err(rustix::io::Errno::BUSY) => Ok(()),
            // an option that this kernel does not know is not worth the mount
            Err(rustix::io::Errno::INVAL) if !self.data.is_empty() => {
                Ok(rustix::mount::mount(self.source, target, self.fstype, self.flags, c"")?)
            }
            result => Ok(result?),
        }
    }
}

/// Performs a table, each line a [`Step`].
pub fn perform(table: &[Mount]) -> Vec<Step> {
    let mut steps = Vec::new();
    for mount in table {
        let began = Instant::now();
        match mount.perform() {
            Ok(true) => steps.push(Step::done(mount, began.elapsed())),
            Ok(false) => {}
            Err(error) => steps.push(Step::failed(mount, began.elapsed(), error)),
        }
    }
    steps
}

/// Makes all controllers of the root cgroup available to those below, as `exec` tasks need them.
/// Returns their names.
///
/// # Errors
/// A sentence that says what could not be done; controllers that can be delegated are.
pub fn delegate_controllers() -> Result<Vec<String>, String> {
    let root = Path::new("/sys/fs/cgroup");
    let text = std::fs::read_to_string(root.join("cgroup.controllers"))
        .map_err(|error| format!("read cgroup.controllers: {error}"))?;
    let mut refused = Vec::new();
    let mut enabled = Vec::new();
    // one by one: a single write of all is refused as a whole if one cannot be enabled
    for name in text.split_whitespace() {
        match std::fs::write(root.join("cgroup.subtree_control"), format!("+{name}")) {
            Ok(()) => enabled.push(name.to_owned()),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    if refused.is_empty() {
        Ok(enabled)
    } else {
        Err(format!("cgroup controllers not enabled: {}", refused.join(", ")))
    }
}

fn supported(fstype: &str) -> bool {
    std::fs::read_to_string("/proc/filesystems")
        .is_ok_and(|text| text.lines().any(|line| line.split_whitespace().last() == Some(fstype)))
}

fn mounted(target: &str) -> bool {
    table().iter().any(|entry| entry.target == target)
}

/// A line of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: u32,
    pub(super) parent: u32,
    pub(super) target: String,
    pub(super) fstype: String,
}

/// What is mounted; nothing if /proc is not.
pub(super) fn table() -> Vec<Entry> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<Entry> {
    let (head, tail) = line.split_once(" - ")?;
    let mut words = head.split(' ');
    let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let target = unescape(words.nth(2)?);
    Some(Entry { id, parent, target, fstype: tail.split(' ').next()?.to_owned() })
}

/// `\040` and its like.
pub(super) fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match (byte, octal.and_then(|digits| u8::from_str_radix(digits, 8).ok())) {
            (b'\\', Some(value)) => {
                out.push(value);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// How long something took, for a step that is not a mount.
pub(super) fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = work();
    (result, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_lines() {
        // proc_pid_mountinfo(5): optional fields end with a lone hyphen; octal escapes
        let entry =
            parse("36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw").unwrap();
        assert_eq!((entry.id, entry.parent), (36, 35));
        assert_eq!((entry.target.as_str(), entry.fstype.as_str()), ("/mnt 2", "ext3"));
        assert_eq!(parse("nonsense"), None);
        assert_eq!(unescape("a\\1"), "a\\1");
    }

    #[test]
    fn a_mount_is_described_as_mount_8_takes_it() {
        let pts = Mount { target: "/nowhere/pts", condition: Condition::Always, ..STANDARD[3] };
        let line =
            "mount -t devpts -o nosuid,noexec,mode=0620,gid=5,ptmxmode=0666 devpts /nowhere/pts";
        assert_eq!(pts.describe(), line);
        let here = Mount { target: "/", data: "", flags: MountFlags::empty(), ..pts };
        assert_eq!(here.describe(), "mount -t devpts devpts /: mounted already");
        let strange =
            Mount { fstype: "strangefs", condition: Condition::IfFilesystemSupported, ..here };
        assert!(strange.describe().ends_with(": no, the kernel does not know it"));
        let unset = Mount { condition: Condition::IfDirExists, ..pts };
        assert!(unset.describe().ends_with(": no, there is no such directory"));
    }

    #[test]
    fn the_standard_table_mounts_parents_first() {
        for (index, mount) in STANDARD.iter().enumerate() {
            let below = STANDARD
                .iter()
                .take(index)
                .filter(|earlier| earlier.target.starts_with(&format!("{}/", mount.target)));
            assert_eq!(below.count(), 0, "{mount} would hide what is mounted before it");
        }
    }
}
