//! What a supervisor lacks: processes, a disk to write to, /proc, descriptors.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use kiln_supervisor::{Log, LogFile, ServiceSpec};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::process::{Gid, Resource, Rlimit, Uid};

use crate::supervised::{PATIENCE, Supervisor, options, sh, supervise, until};
use crate::{first_argument, is_root};

const SERVICES: usize = 20;
/// So many processes and threads the user may have: those of all services and the supervisor's own.
const MOST: u64 = 30;
const HOGS: usize = 15;
const USER: &str = "KILN_TEST_USER";

/// As a user that nobody else is.
pub(crate) fn nobody_run(dir: &Path) {
    let number: u32 = std::env::var(USER).unwrap().parse().unwrap();
    let (uid, gid) = (Uid::from_raw(number), Gid::from_raw(number));
    std::os::unix::fs::chown(dir, Some(number), Some(number)).unwrap();
    rustix::thread::set_thread_groups(&[]).unwrap();
    rustix::thread::set_thread_res_gid(gid, gid, gid).unwrap();
    rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
    let limit = Rlimit { current: Some(MOST), maximum: Some(MOST) };
    rustix::process::setrlimit(Resource::Nproc, limit).unwrap();
    let mut specs: Vec<_> =
        (0..SERVICES).map(|number| sh(&format!("s{number}"), "exec sleep 1000")).collect();
    for spec in &mut specs {
        spec.backoff.max = std::time::Duration::from_millis(500);
    }
    supervise(specs, options(dir));
}

/// The same user's processes leave it too few, until they end.
pub(crate) fn nobody_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let number = 1_000_000_000 + std::process::id();
    let hogs = std::iter::repeat_with(|| {
        let mut hog = Command::new("sleep");
        hog.arg("1000").uid(number).gid(number).spawn().unwrap()
    });
    let mut hogs: Vec<_> = hogs.take(HOGS).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(USER, number.to_string());
    let supervisor = Supervisor::start_by(command, "no_process_to_be_had_is_waited_out", dir);
    let mut client = supervisor.client();
    let up = |client: &mut kiln_supervisor::control::Client| {
        client.status(None).unwrap().iter().filter(|status| status.state == "up").count()
    };
    until("it is told of", || supervisor.out().contains("EAGAIN").then_some(()));
    let before = up(&mut client);
    for hog in &mut hogs {
        hog.kill().unwrap();
        hog.wait().unwrap();
    }
    assert!(before < SERVICES);
    until("all are up", || (up(&mut client) == SERVICES).then_some(()));
    let out = supervisor.end();
    // each try is one line, and tries are paced
    assert!(out.matches("EAGAIN").count() < 2000, "{out}");
}

pub(crate) fn read_only_run(dir: &Path) {
    let text = "while :; do echo line || echo failed >&2; sleep 0.01; done";
    let mut writer = sh("writer", text);
    writer.log = Log::File(LogFile::new(dir.join("disk/below/writer.log")));
    supervise(vec![writer, sh("other", "exec sleep 1000")], options(dir));
}

pub(crate) fn read_only_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let disk = dir.join("disk");
    std::fs::create_dir(&disk).unwrap();
    rustix::mount::mount("disk", &disk, "tmpfs", MountFlags::RDONLY, c"size=64k").unwrap();
    let supervisor = Supervisor::start("a_read_only_disk_costs_the_log_alone", dir);
    until("it is told of", || {
        let out = supervisor.out();
        let line = out.lines().find(|line| line.starts_with("writer: ") && line.contains("EROFS"));
        line.map(str::to_owned)
    });
    let mut client = supervisor.client();
    until("both are up", || {
        client.status(None).unwrap().iter().all(|status| status.state == "up").then_some(())
    });
    // and from when it can be written, it is
    let flags = MountFlags::empty();
    rustix::mount::mount_remount(&disk, flags, c"size=64k").unwrap();
    let has_lines = || std::fs::read_to_string(disk.join("below/writer.log")).unwrap_or_default();
    until("lines are kept again", || has_lines().contains("line\n").then_some(()));
    supervisor.end();
    rustix::mount::unmount(&disk, UnmountFlags::DETACH).unwrap();
}

pub(crate) fn run(dir: &Path) {
    let mut lists = ServiceSpec::daemon("lists", ["/bin/sh", "-c", LIST]);
    lists.log = Log::File({
        let mut file = LogFile::new(dir.join("list"));
        file.timestamps = false;
        file
    });
    supervise(vec![lists, sh("other", "exec sleep 1000")], options(dir));
}

/// Which of the descriptors 0 to 2 are open, and that it is so.
const LIST: &str = "(: <&0) && echo in; (: >&2) && echo err; echo listed; exec sleep 1000";

/// Restarts a service and ends it all.
fn works(supervisor: Supervisor) {
    let mut client = supervisor.client();
    let pid = |client: &mut kiln_supervisor::control::Client| {
        let status = client.status(Some("other")).unwrap().remove(0);
        status.pid.filter(|_| status.state == "up")
    };
    let before = until("it is up", || pid(&mut client));
    client.restart("other", PATIENCE).unwrap();
    assert_ne!(pid(&mut client), Some(before));
    supervisor.end();
}

pub(crate) fn no_proc_test(dir: &Path) {
    if !is_root() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--mount", "--fork", "--kill-child", "sh", "-c"]);
    command.arg("umount -l /proc && [ ! -e /proc/self ] && exec \"$0\" \"$@\"");
    works(Supervisor::start_by(first_argument(command), "no_proc_is_no_end", dir));
}

pub(crate) fn bare_test(dir: &Path) {
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"]);
    let name = "no_descriptors_at_the_start_are_no_end";
    let supervisor = Supervisor::start_by(first_argument(command), name, dir);
    let list = || std::fs::read_to_string(dir.join("list")).unwrap_or_default();
    until("a service has looked", || list().contains("listed").then_some(()));
    assert_eq!(list(), "in\nerr\nlisted\n");
    works(supervisor);
}
