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

/// Where a test may have control groups.
fn place(name: &str) -> Option<String> {
    // Where only the old hierarchies have the controllers, there is still this one.
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let found = found.and_then(|line| line.split(' ').nth(1));
    if found.is_none() {
        println!("skipped: cgroup2 is not mounted");
    }
    found.map(|found| format!("{found}/kiln-test-{name}-{}", std::process::id()))
}

pub(crate) fn test(dir: &Path) {
    let Some(root) = place("whole") else { return };
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
    remove(&root, &["whole.service", "group.service", ""], &text);
    assert!(!whole_lives, "{text}");
    assert!(group_lives, "{text}");
}

/// Groups go when the kernel has let go of their last processes, which is later than others see.
fn remove(root: &str, directories: &[&str], text: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while Path::new(root).exists() {
        assert!(Instant::now() < until, "{root} stays: {text}");
        for directory in directories {
            let _ = std::fs::remove_dir(Path::new(root).join(directory));
        }
    }
}

/// Each run leaves a child behind that is killed, and has a lock until it is dead.
pub(crate) fn left_run(dir: &Path) {
    let program = std::env::current_exe().unwrap();
    let lock = dir.join("lock");
    let mut spec = ServiceSpec::daemon("locks", [program.to_str().unwrap(), "--lock"]);
    spec.command.push(lock.to_str().unwrap().into());
    spec.log = Log::File(plain(dir.join("log")));
    spec.backoff.initial = Duration::from_millis(1);
    spec.backoff.factor = 1;
    let mut options = options();
    options.cgroup = Some(Path::new(&std::env::var("KILN_TEST_CGROUP").unwrap()).into());
    let mut ends = 0;
    crate::run(vec![spec], options, &mut |event| {
        ends += u32::from(matches!(event, Event::Exited { .. }));
        if ends == 6 {
            ends += 1;
            term_self();
        }
    });
}

pub(crate) fn left_test(dir: &Path) {
    let Some(root) = place("left") else { return };
    let output = supervise_with("what_a_run_leaves_is_gone_before_the_next", dir, |command| {
        command.env("KILN_TEST_CGROUP", &root);
    });
    let text = String::from_utf8(output.stdout).unwrap();
    remove(&root, &["locks.service", ""], &text);
    let log = std::fs::read_to_string(dir.join("log")).unwrap();
    assert!(log.lines().count() >= 6 && !log.contains("held"), "{log}{text}");
}
