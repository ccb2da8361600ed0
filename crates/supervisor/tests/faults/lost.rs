//! A supervisor that is killed, and numbers of processes that are gone.

use std::path::{Path, PathBuf};

use kiln_supervisor::{Kill, Restart, ServiceSpec};
use rustix::process::Signal;

use crate::supervised::{PATIENCE, Supervisor, options, sh, supervise, until};
use crate::{children, first_process, inner, is_root, signal, state};

pub(crate) fn run(dir: &Path) {
    supervise(vec![sh("a", "setsid sleep 1000 & exec sleep 1000")], options(dir));
}

/// Writing logs and starting processes are threads here: who kills a helper kills process 1, with
/// which the kernel ends all that it has started.
pub(crate) fn first_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let supervisor = first_process("a_killed_process_1_leaves_nobody", dir);
    let first = inner(&supervisor);
    let all = until("two processes", || {
        let mut all = children(first);
        let more: Vec<i32> = all.iter().flat_map(children).collect();
        all.extend(more);
        (all.len() == 2).then_some(all)
    });
    signal(first, Signal::KILL);
    until("nobody is left", || all.iter().all(|pid| state(*pid).is_none()).then_some(()));
}

const GROUP: &str = "KILN_TEST_CGROUP";

/// A service that can tell when there are two of it.
fn single(dir: &Path) -> ServiceSpec {
    let text = format!(
        "cd {}; exec 9>lock; flock -n 9 || {{ echo twice >>twice; exit 1; }}; \
         setsid sleep 1000 & echo $$ >>instances; exec sleep 1000",
        dir.display()
    );
    sh("single", &text)
}

pub(crate) fn groups_run(dir: &Path) {
    let mut options = options(dir);
    options.cgroup = Some(PathBuf::from(std::env::var_os(GROUP).unwrap()));
    supervise(vec![single(dir)], options);
}

pub(crate) fn groups_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(found) = found.and_then(|line| line.split(' ').nth(1)) else {
        println!("skipped: cgroup2 is not mounted");
        return;
    };
    let root = PathBuf::from(format!("{found}/kiln-faults-{}", std::process::id()));
    let start = || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.env(GROUP, &root);
        let name = "after_a_killed_supervisor_nothing_runs_twice";
        Supervisor::start_by(command, name, dir)
    };
    let instances = || {
        let text = std::fs::read_to_string(dir.join("instances")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<i32>>()
    };
    let supervisor = start();
    until("it is up", || instances().first().copied());
    // killed, and nobody could do anything about it
    drop(supervisor);
    let supervisor = start();
    until("it is up again", || (instances().len() == 2).then_some(()));
    let members = std::fs::read_to_string(root.join("single.service/cgroup.procs")).unwrap();
    let pids = instances();
    supervisor.end();
    // what was killed last may be a member for a moment
    until("the groups are removed", || {
        let _ = std::fs::remove_dir(root.join("single.service"));
        let _ = std::fs::remove_dir(&root);
        (!root.exists()).then_some(())
    });
    assert!(!dir.join("twice").exists(), "there were two");
    assert!(!members.lines().any(|line| line == pids[0].to_string()), "{members} {pids:?}");
    // the second instance, and what it has started
    assert!(members.lines().count() <= 2, "{members}");
}

/// `victim`, and one that gets itself a process with the number that is asked for in a file.
pub(crate) fn number_run(dir: &Path) {
    let mut victim = sh("victim", "exec sleep 1000");
    victim.kill = Kill::ProcessGroup;
    let text = format!(
        "cd {}; read wanted <wanted; while :; do \
         echo $((wanted - 1)) >/proc/sys/kernel/ns_last_pid; setsid sleep 1000 & \
         [ $! = $wanted ] && break; kill $!; done; echo $! >taken.new; mv taken.new taken",
        dir.display()
    );
    let mut taker = ServiceSpec::one_shot("taker", ["/bin/sh", "-c", &text]);
    (taker.enabled, taker.kill, taker.restart) = (false, Kill::Process, Restart::Never);
    supervise(vec![victim, taker], options(dir));
}

/// While the supervisor has not dealt with an end, the number cannot be had (it is a zombie's); from
/// then on, it is no longer anybody's that it would signal.
pub(crate) fn number_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let supervisor = first_process("a_number_that_is_used_again_is_not_signalled", dir);
    let mut client = supervisor.client();
    let number = |client: &mut kiln_supervisor::control::Client| {
        let status = client.status(Some("victim")).unwrap().remove(0);
        status.pid.filter(|_| status.state == "up")
    };
    let old = until("it is up", || number(&mut client));
    let first = inner(&supervisor);
    let outside = children(first)[0];
    signal(first, Signal::STOP);
    until("it is stopped", || (state(first) == Some('T')).then_some(()));
    signal(outside, Signal::KILL);
    until("the victim is a zombie", || (state(outside) == Some('Z')).then_some(()));
    signal(first, Signal::CONT);
    until("it is restarted", || number(&mut client).filter(|new| *new != old));
    std::fs::write(dir.join("wanted"), format!("{old}\n")).unwrap();
    client.start("taker", PATIENCE).unwrap();
    let taken = std::fs::read_to_string(dir.join("taken")).unwrap();
    assert_eq!(taken.trim(), old.to_string());
    let alive = || {
        let path = format!("/proc/{first}/root/proc/{old}/stat");
        let stat = std::fs::read_to_string(path).unwrap_or_default();
        stat.contains("(sleep) S")
    };
    until("it sleeps", || alive().then_some(()));
    client.restart("victim", PATIENCE).unwrap();
    client.stop("victim", PATIENCE).unwrap();
    client.start("victim", PATIENCE).unwrap();
    client.stop("victim", PATIENCE).unwrap();
    assert!(alive(), "somebody else was signalled");
    let out = supervisor.end();
    assert_eq!(out.matches("victim: started").count(), 4, "{out}");
}
