//! Filters of system calls.

use kiln_supervisor::{Account, Seccomp, SystemCall, Violation};

use super::*;

fn calls(names: &[&str]) -> Vec<SystemCall> {
    names.iter().map(|name| name.parse().unwrap()).collect()
}

/// The calls that make a directory; an architecture may have the second one alone.
fn mkdir() -> Vec<SystemCall> {
    let names = ["mkdir", "mkdirat"].iter();
    names.filter_map(|name| name.parse().ok()).collect()
}

pub(super) fn run(dir: &Path) {
    let here = dir.display();
    let is_root = rustix::process::geteuid().is_root();
    let shot = |name: &str, text: String, seccomp| {
        let mut spec = sh(name, &text);
        spec.kind = kiln_supervisor::Kind::OneShot;
        spec.log = Log::File(plain(dir.join(format!("{name}.log"))));
        spec.isolation.seccomp = Some(seccomp);
        spec
    };
    // an answer that nothing but the filter gives: ENOSPC
    let full = Seccomp::Deny { calls: mkdir(), otherwise: Violation::Errno(28) };
    let mut fails = shot(
        "fails",
        format!("mkdir {here}/a; echo $?; grep -E '^(Seccomp|NoNewPrivs|Uid):' /proc/self/status"),
        full,
    );
    if is_root {
        // the filter is there for another user too, who could not have made one without
        fails.user = Some(Account::Id(65_534));
    }
    let plain = shot(
        "plain",
        format!("mkdir {here}/b"),
        Seccomp::Deny { calls: calls(&["reboot"]), otherwise: Violation::Fail },
    );
    let killed = shot(
        "killed",
        format!("exec mkdir {here}/c"),
        Seccomp::Deny { calls: mkdir(), otherwise: Violation::Kill },
    );
    let nothing = shot(
        "nothing",
        "exit 0".to_owned(),
        Seccomp::Allow { calls: Vec::new(), otherwise: Violation::Kill },
    );
    let unshare = shot(
        "unshare",
        "unshare --uts true 2>&1".to_owned(),
        Seccomp::Deny { calls: calls(&["unshare"]), otherwise: Violation::Fail },
    );
    super::run(vec![fails, plain, killed, nothing, unshare], options(), &mut |_| {});
}

pub(super) fn test(dir: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o777)).unwrap();
    let lines = supervise("system_calls_are_filtered", dir);
    let log = |name: &str| std::fs::read_to_string(dir.join(format!("{name}.log"))).unwrap();
    let fails = log("fails");
    assert!(fails.contains("No space left on device\n1\n"), "{fails}");
    assert!(fails.contains("NoNewPrivs:\t1") && fails.contains("Seccomp:\t2"), "{fails}");
    if rustix::process::geteuid().is_root() {
        assert!(fails.contains("Uid:\t65534"), "{fails}");
    }
    assert!(dir.join("b").is_dir() && !dir.join("a").exists() && !dir.join("c").exists());
    for name in ["killed", "nothing"] {
        let ended = lines.iter().any(|line| {
            line.contains(&format!("{name}: process")) && line.ends_with("killed by SIGSYS")
        });
        assert!(ended, "{lines:#?}");
    }
    assert!(log("unshare").contains("Operation not permitted"), "{}", log("unshare"));
}
