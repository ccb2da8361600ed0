//! Making room in a service's control group for one that the runtime makes, and who is in there.

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

/// The group of a service, by the `/proc/PID/cgroup` of its main process, which is in there or in the
/// group below that this one has stepped down to.
pub(super) fn of_service<'a>(text: &'a str, service: &str) -> Option<&'a str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let path = path.strip_suffix(OWN).and_then(|path| path.strip_suffix('/')).unwrap_or(path);
    let name = path.rsplit('/').next()?.strip_suffix(".service")?;
    (name == service).then_some(path)
}

/// Whether a process is in a group or below, by its `/proc/PID/cgroup`.
pub(super) fn has(group: &str, text: &str) -> bool {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"));
    let rest = path.and_then(|path| path.strip_prefix(group));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_a_services_group() {
        let crun = of_service("1:cpu:/x\n0::/services/web.service\n", "web");
        assert_eq!(crun, Some("/services/web.service"));
        assert_eq!(of_service("0::/services/web.service/run\n", "web"), crun);
        for other in ["0::/services/web.service/else\n", "0::/services/a-web.service\n", "0::/\n"] {
            assert_eq!(of_service(other, "web"), None, "{other}");
        }
        let group = "/services/web.service";
        assert!(has(group, "0::/services/web.service\n"));
        assert!(has(group, "0::/services/web.service/web/deep\n"));
        for other in ["0::/services/web.service2\n", "0::/services\n", "0::/\n", ""] {
            assert!(!has(group, other), "{other}");
        }
    }

    #[test]
    fn own_groups() {
        let hybrid = "4:memory:/a\n0::/services/web.service\n";
        assert_eq!(own_group(hybrid), Some("/sys/fs/cgroup/services/web.service".into()));
        assert_eq!(own_group("0::/\n"), None);
        assert_eq!(own_group("1:cpu:/\n"), None);
    }
}
