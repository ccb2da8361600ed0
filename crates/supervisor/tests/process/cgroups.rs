//! Control groups.

use super::*;

/// A process that has left the process group is in the control group all the same.
pub(crate) fn run(dir: &Path) {
    let escape = format!(
        "setsid sh -c 'echo $$ > {0}/$NAME; exec sleep 1000' & while [ ! -s {0}/$NAME ]; do sleep 0.01; done; echo >&3; exec sleep 1000",
        dir.display()
    );
    let spec = |name: &str, kill| {
        let mut spec = sh(name, &escape);
        spec.env.insert("NAME".into(), name.into());
        spec.kill = kill;
        spec.readiness = Readiness::NotifyFd(3);
        spec
    };
    let specs = vec![spec("whole", Kill::ControlGroup), spec("group", Kill::ProcessGroup)];
    let mut options = options();
    options.cgroup = Some(Path::new(&std::env::var("KILN_TEST_CGROUP").unwrap()).into());
    let mut left = 2;
    crate::run(specs, options, &mut |event| {
        left -= i32::from(matches!(event, Event::Ready { .. }));
        if left == 0 {
            left -= 1;
            term_self();
        }
    });
}
pub(crate) fn test(dir: &Path) {
    // Where only the old hierarchies have the controllers, there is still this one.
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(found) = found.and_then(|line| line.split(' ').nth(1)) else {
        println!("skipped: cgroup2 is not mounted");
        return;
    };
    let root = format!("{found}/kiln-test-{}", std::process::id());
    let output = supervise_with("control_groups_are_killed_whole", dir, |command| {
        command.env("KILN_TEST_CGROUP", &root);
    });
    let text = String::from_utf8(output.stdout).unwrap();
    let pid = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap().trim().to_owned();
    let (whole, group) = (pid("whole"), pid("group"));
    let until = Instant::now() + Duration::from_secs(20);
    while alive(&whole) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (whole_lives, group_lives) = (alive(&whole), alive(&group));
    kill(kiln_supervisor::Pid(group.parse().unwrap()), rustix::process::Signal::KILL);
    while alive(&group) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    for directory in ["whole.service", "group.service", ""] {
        let _ = std::fs::remove_dir(Path::new(&root).join(directory));
    }
    assert!(!whole_lives, "{text}");
    assert!(group_lives, "{text}");
    assert!(!Path::new(&root).exists(), "{text}");
}
