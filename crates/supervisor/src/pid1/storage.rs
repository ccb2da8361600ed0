//! Disks at the end: swapping stops, what is mounted is unmounted, loop devices and those of the device
//! mapper let go of what they are on. What is busy is made read-only or detached, what hangs is left.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags};

use super::ending::{bounded, say};
use super::mounts::{self, Entry};
use super::{device_mapper, sys};

/// A file system on a device on a file of another takes a round each.
const MAX_ROUNDS: u32 = 8;
/// No step is given less than this while there is time left.
const LEAST: Duration = Duration::from_millis(500);

/// The kernel's own file systems: nothing of them is on a disk.
const VIRTUAL: [&str; 18] = [
    "proc",
    "sysfs",
    "devtmpfs",
    "devpts",
    "tmpfs",
    "ramfs",
    "rootfs",
    "cgroup2",
    "cgroup",
    "mqueue",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "bpf",
    "hugetlbfs",
    "binfmt_misc",
    "pstore",
];

type Work = (String, Box<dyn FnOnce() -> Result<(), String> + Send>);

/// What is left of the time.
struct Budget(Instant, Duration);

impl Budget {
    /// A share for the next step: half of what is left, so that one that hangs leaves some for others.
    fn share(&self) -> Duration {
        let left = self.1.saturating_sub(self.0.elapsed());
        left.checked_div(2).unwrap_or_default().max(LEAST.min(left))
    }
}

/// Does what is to be done last, and puts everything away within so much time.
pub(super) fn put_away(last: Vec<Work>, wait: Duration) {
    let budget = Budget(Instant::now(), wait);
    for (what, work) in last {
        match bounded(budget.share(), work) {
            Some(Ok(())) => {}
            Some(Err(error)) => say(&format!("{what}: {error}")),
            None => say(&format!("{what}: not done in time")),
        }
    }
    if bounded(budget.share(), rustix::fs::sync).is_none() {
        say("disks do not answer; going anyway");
    }
    let mut hung = BTreeSet::new();
    let mut before = usize::MAX;
    for _ in 0..MAX_ROUNDS {
        let left = round(&budget, &mut hung);
        if left == 0 || left >= before {
            break;
        }
        before = left;
    }
    for entry in to_unmount() {
        if !hung.contains(&entry.target) {
            keep_whole(&entry, &budget);
        }
    }
    let _ = bounded(budget.share(), rustix::fs::sync);
}

/// Unmounts and detaches what it can, and gives how much is left of all.
fn round(budget: &Budget, hung: &mut BTreeSet<String>) -> usize {
    for path in swaps() {
        if let Ok(path) = CString::new(path.into_os_string().into_vec()) {
            let _ = bounded(budget.share(), move || sys::stop_swapping(&path));
        }
    }
    for entry in to_unmount() {
        if entry.target == "/" || hung.contains(&entry.target) {
            continue;
        }
        let target = entry.target.clone();
        let unmount = move || rustix::mount::unmount(target.as_str(), UnmountFlags::NOFOLLOW);
        if bounded(budget.share(), unmount).is_none() {
            say(&format!("{} does not answer", entry.target));
            hung.insert(entry.target);
        }
    }
    for name in loops() {
        let _ = bounded(budget.share(), move || {
            File::open(Path::new("/dev").join(name)).and_then(sys::detach_loop)
        });
    }
    for name in mapped() {
        let _ = bounded(budget.share(), move || device_mapper::remove(&name));
    }
    let mounts = to_unmount().iter().filter(|entry| entry.target != "/").count();
    [mounts, swaps().len(), loops().len(), mapped().len()]
        .iter()
        .fold(0, |sum, count| sum.saturating_add(*count))
}

/// Keeps what is busy whole: read-only, or else detached, so that it is unmounted when whoever holds
/// it is gone.
fn keep_whole(entry: &Entry, budget: &Budget) {
    let target = entry.target.clone();
    let done = bounded(budget.share(), move || {
        let refused =
            rustix::mount::mount_remount(target.as_str(), MountFlags::RDONLY, c"").err()?;
        if target != "/" {
            if let Ok(place) = File::open(&target) {
                let _ = rustix::fs::syncfs(place);
            }
            let _ = rustix::mount::unmount(target.as_str(), UnmountFlags::DETACH);
        }
        Some(refused)
    });
    match done {
        Some(None) => say(&format!("{} is busy: now read-only", entry.target)),
        Some(Some(error)) if entry.target == "/" => say(&format!("/ stays as it is: {error}")),
        Some(Some(error)) => {
            say(&format!("{} is busy and stays writable ({error}): detached", entry.target));
        }
        None => say(&format!("{} does not answer", entry.target)),
    }
}

/// What is mounted and worth a word, what was mounted last first.
fn to_unmount() -> Vec<Entry> {
    mounts::table()
        .into_iter()
        .rev()
        .filter(|entry| is_to_go(&entry.target, &entry.fstype))
        .collect()
}

/// Whether something is to be unmounted: all but what the kernel shows at the places that are needed
/// until the end. A tmpfs elsewhere goes, as it may be on a disk's file system.
fn is_to_go(target: &str, fstype: &str) -> bool {
    let needed = |place: &str| {
        target.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let is_virtual = VIRTUAL.contains(&fstype);
    let kept = target == "/" || ["/proc", "/sys", "/dev", "/run"].into_iter().any(needed);
    !(is_virtual && kept)
}

/// The files and devices of /proc/swaps.
fn swaps() -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    let paths = text.lines().skip(1).filter_map(|line| line.split_whitespace().next());
    paths.map(|path| mounts::unescape(path).into()).collect()
}

/// Loop devices that have a file.
fn loops() -> Vec<String> {
    block_devices("loop", "loop/backing_file").into_iter().map(|(name, _)| name).collect()
}

/// The names of the device mapper's devices.
fn mapped() -> Vec<String> {
    block_devices("dm-", "dm/name").into_iter().map(|(_, name)| name).collect()
}

/// Block devices that have an attribute, and its text.
fn block_devices(prefix: &str, attribute: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let text = name.starts_with(prefix).then(|| entry.path().join(attribute))?;
            let text = std::fs::read_to_string(text).ok()?;
            Some((name, text.trim().to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unmounted() {
        for (target, fstype, goes) in [
            ("/", "rootfs", false),
            ("/", "ext4", true),
            ("/proc", "proc", false),
            ("/dev/shm", "tmpfs", false),
            ("/run/media/disk", "vfat", true),
            ("/run/user", "tmpfs", false),
            ("/running", "tmpfs", true),
            ("/data", "ext4", true),
            ("/data/run", "tmpfs", true),
            ("/data/proc", "proc", true),
            ("/var/lib/x/merged", "overlay", true),
        ] {
            assert_eq!(is_to_go(target, fstype), goes, "{target} {fstype}");
        }
    }

    #[test]
    fn shares_leave_something_for_the_next() {
        let budget = Budget(Instant::now(), Duration::from_secs(3600));
        assert!(budget.share() > Duration::from_secs(1700));
        let over = Budget(Instant::now(), Duration::ZERO);
        assert_eq!(over.share(), Duration::ZERO);
    }
}
