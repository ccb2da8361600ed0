//! Who may say that a container is ready, or anything else that sd_notify(3) knows.

use super::group;
use crate::vocabulary::Pid;

/// Whether a process is one of a container, by the number and the name of the service whose main process
/// runs that: its first process, whose parent is that one; or any one in the service's control group.
pub(in crate::unix) fn is_of(sender: Pid, main: Pid, service: &str, grouped: bool) -> bool {
    let read = |pid: Pid, file| std::fs::read_to_string(format!("/proc/{}/{file}", pid.0));
    if read(sender, "stat").is_ok_and(|stat| parent(&stat) == Some(main)) {
        return true;
    }
    if !grouped {
        return false;
    }
    let (Ok(ours), Ok(theirs)) = (read(main, "cgroup"), read(sender, "cgroup")) else {
        return false;
    };
    group::of_service(&ours, service).is_some_and(|group| group::has(group, &theirs))
}

/// The parent by a `/proc/PID/stat` (proc_pid_stat(5)), whose second field may have anything in it.
fn parent(stat: &str) -> Option<Pid> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(1)?.parse().ok().map(Pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_found_behind_any_name() {
        assert_eq!(parent("12 (a) R 1 ) b) S 7 12 12 0 -1 4194560"), Some(Pid(7)));
        assert_eq!(parent("12 (sh"), None);
    }

    #[test]
    fn a_child_is_believed_and_another_is_not() {
        let own = Pid(i32::try_from(std::process::id()).unwrap());
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        let number = Pid(i32::try_from(child.id()).unwrap());
        assert!(is_of(number, own, "a", false));
        assert!(!is_of(own, number, "a", false) && !is_of(Pid(1), own, "a", true));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_of(number, own, "a", true));
    }
}
