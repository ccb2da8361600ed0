//! Making room in a service's control group for one that the runtime makes.

use std::path::{Path, PathBuf};

/// Where cgroup2 is mounted.
const MOUNTED: &str = "/sys/fs/cgroup";
/// The group below the service's that has this process.
const OWN: &str = "run";

/// Moves this process into a group below its own, if its own is a service's: has no other process.
///
/// runc makes a container's group *beside* that of its own process, with the bounds of its bundle, and a
/// group that hands controllers on must have no process itself. So the container's group comes to lie
/// within the service's, whose bounds hold for it and which is killed as a whole.
pub(super) fn step_down() -> std::io::Result<()> {
    let Some(group) = own_group(&std::fs::read_to_string("/proc/self/cgroup")?) else {
        return Ok(());
    };
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let own = std::process::id().to_string();
    if !processes.lines().all(|line| line == own) || processes.is_empty() {
        return Ok(());
    }
    let below = group.join(OWN);
    match std::fs::create_dir(&below) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    std::fs::write(below.join("cgroup.procs"), own)
}

/// The cgroup2 group of a process by its `/proc/PID/cgroup`; none for the root of all.
fn own_group(text: &str) -> Option<PathBuf> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::/"))?;
    (!path.is_empty()).then(|| Path::new(MOUNTED).join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_groups() {
        let hybrid = "4:memory:/a\n0::/services/web.service\n";
        assert_eq!(own_group(hybrid), Some("/sys/fs/cgroup/services/web.service".into()));
        assert_eq!(own_group("0::/\n"), None);
        assert_eq!(own_group("1:cpu:/\n"), None);
    }
}
