//! What is done outside of this process for a pod: its files, its stager, and the end of both.

use std::fs::{self, File};
use std::io::{self, BufRead as _};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::FlockOperation;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::plan::Plan;
use super::stager::{Orders, container_id};
use super::{Options, Place};
use crate::files::{self, sentence};

/// How long apps may take to be started.
const BEGIN: Duration = Duration::from_secs(150);
/// How long a process may take to die of `SIGKILL`.
const KILLED: Duration = Duration::from_secs(10);
/// How often something is looked at that nobody tells of.
const PAUSE: Duration = Duration::from_millis(10);

/// Makes all the files of a pod.
pub(super) fn prepare(
    place: &Place,
    uuid: &str,
    plan: &Plan,
    options: &Options,
) -> Result<(), String> {
    let make = |path: &Path| fs::create_dir_all(path).map_err(sentence("make", path));
    make(&place.logs())?;
    make(&place.containers())?;
    for volume in &plan.volumes {
        let path = place.volume(&volume.name);
        make(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(volume.mode))
            .and_then(|()| std::os::unix::fs::chown(&path, Some(volume.uid), Some(volume.gid)))
            .map_err(sentence("give away", &path))?;
    }
    for app in &plan.apps {
        let path = place.bundle(&app.name);
        make(&path)?;
        let path = path.join("config.json");
        files::replace(&path, &app.config).map_err(sentence("write", &path))?;
    }
    for name in ["hosts", "resolv.conf"] {
        let path = place.shared(name);
        files::replace_as(&path, b"", 0o644).map_err(sentence("write", &path))?;
    }
    let cgroup = options.cgroup.as_ref().filter(|_| options.has_cgroups());
    let cgroup = cgroup.map(|path| path.join(uuid));
    if let Some(cgroup) = &cgroup {
        make_group(cgroup, plan)?;
    }
    let orders = Orders {
        uuid: uuid.to_owned(),
        apps: plan.apps.iter().map(|app| app.order.clone()).collect(),
        cgroup,
        patience: options.patience.as_secs(),
    };
    let text = serde_json::to_vec(&orders).map_err(|error| error.to_string())?;
    files::replace(&place.orders(), &text).map_err(sentence("write", &place.orders()))
}

/// Makes a pod's control group, with the pod's own bounds.
fn make_group(group: &Path, plan: &Plan) -> Result<(), String> {
    fs::create_dir_all(group).map_err(sentence("make", group))?;
    let above = group.parent().unwrap_or(group);
    for directory in [above.parent().unwrap_or(above), above] {
        for name in ["cpu", "io", "memory", "pids"] {
            // what is not to be had is missed where a bound needs it
            let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{name}"));
        }
    }
    for (file, value) in plan.limits.settings() {
        let path = group.join(file);
        fs::write(&path, value).map_err(sentence("write", &path))?;
    }
    Ok(())
}

/// What all apps of a pod read of its networks.
#[derive(Debug, Default)]
pub(super) struct Shared {
    resolv_conf: String,
    addresses: Vec<IpAddr>,
}

impl Shared {
    pub(super) fn add(&mut self, resolv_conf: &str, addresses: &[IpNet]) {
        // one file has room for one network's name servers: those of the first that has any
        if self.resolv_conf.is_empty() {
            self.resolv_conf = resolv_conf.to_owned();
        }
        self.addresses.extend(addresses.iter().map(IpNet::addr));
    }

    pub(super) fn write(&self, place: &Place, hostname: &str) -> Result<(), String> {
        let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
        for address in &self.addresses {
            hosts += &format!("{address} {hostname}\n");
        }
        let mut resolv_conf = self.resolv_conf.clone();
        if resolv_conf.is_empty() {
            let own = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
            resolv_conf = reachable(&own);
        }
        for (name, text) in [("hosts", &hosts), ("resolv.conf", &resolv_conf)] {
            let path = place.shared(name);
            files::replace_as(&path, text.as_bytes(), 0o644).map_err(sentence("write", &path))?;
        }
        Ok(())
    }
}

/// The machine's resolv.conf, as far as pods reach its servers: none of them is on their loopback.
fn reachable(text: &str) -> String {
    let is_reached = |line: &&str| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
        ["nameserver", address] => {
            address.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
        }
        _ => true,
    };
    text.lines().filter(is_reached).map(|line| format!("{line}\n")).collect()
}

/// Starts a pod's stager, and waits until it has started the apps.
pub(super) fn start(place: &Place, options: &Options) -> Result<(), String> {
    let log = place.kept().join("stager.log");
    let errors = File::create(&log).map_err(sentence("make", &log))?;
    let mut command = Command::new(&options.program);
    command.arg("stager").arg(place.kept()).arg(place.runtime());
    command.current_dir("/").env_clear();
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
    let mut child = command.spawn().map_err(|error| format!("start the stager: {error}"))?;
    let output = child.stdout.take().ok_or("the stager has no output")?;
    // it is reaped when it ends, if this process is still there
    std::thread::Builder::new()
        .stack_size(64 << 10)
        .spawn(move || child.wait())
        .map_err(|error| format!("start a thread: {error}"))?;
    let (mut line, until) = (String::new(), Instant::now() + BEGIN);
    if !is_readable(&output.as_fd(), until) {
        return Err(format!("its apps were not started within {} s", BEGIN.as_secs()));
    }
    io::BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
    if line == "begun\n" {
        return Ok(());
    }
    let said = fs::read_to_string(place.failed());
    Err(said.unwrap_or_else(|_| "the stager has ended".to_owned()))
}

fn is_readable(fd: &std::os::fd::BorrowedFd<'_>, until: Instant) -> bool {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or_default();
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return ready > 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// Whether a pod's stager lives: it holds the lock.
pub(super) fn is_alive(place: &Place) -> bool {
    let Ok(lock) = File::open(place.lock()) else { return false };
    let taken = rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared);
    matches!(taken, Err(rustix::io::Errno::WOULDBLOCK))
}

/// A pod's stager, if it lives.
fn stager(place: &Place) -> Option<OwnedFd> {
    let number = fs::read_to_string(place.lock()).ok()?.trim().parse().ok()?;
    let pidfd = pidfd_open(Pid::from_raw(number)?, PidfdFlags::empty()).ok()?;
    // asked after: who holds the lock now is who the descriptor is of
    is_alive(place).then_some(pidfd)
}

/// Waits until a pod's stager has ended.
pub(super) fn wait(place: &Place) {
    while let Some(stager) = stager(place) {
        let _ = poll(&mut [PollFd::new(&stager, PollFlags::IN)], None);
        sleep(PAUSE);
    }
}

/// Ends a pod's stager, and with it the apps.
pub(super) fn stop(place: &Place, patience: Duration) -> Result<(), String> {
    let Some(stager) = stager(place) else { return Ok(()) };
    let gone = |until: Instant| is_readable(&stager.as_fd(), until);
    let now = Instant::now;
    let _ = pidfd_send_signal(&stager, Signal::TERM);
    if gone(now() + patience + Duration::from_secs(15)) {
        return Ok(());
    }
    let _ = pidfd_send_signal(&stager, Signal::KILL);
    if gone(now() + KILLED) {
        return Ok(());
    }
    Err("its stager does not end, though it was killed".to_owned())
}

/// Lets go of what a pod whose stager has ended may have left: processes, its control group, its network
/// namespace, what the runtime knows.
pub(super) fn clear(place: &Place, apps: &[String], cgroup: Option<&Path>) {
    if let Some(group) = cgroup.filter(|group| group.is_dir()) {
        let _ = fs::write(group.join("cgroup.kill"), "1");
        let until = Instant::now() + KILLED;
        while !remove_group(group) && Instant::now() < until {
            sleep(PAUSE);
        }
    }
    let uuid = place.uuid();
    for app in apps {
        let id = container_id(&uuid, app);
        if place.containers().join(&id).exists() {
            let mut command = Command::new("crun");
            command.arg("--cgroup-manager=disabled").arg("--root").arg(place.containers());
            command.args(["delete", "--force", &id]);
            let _ = command.stdin(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
    let _ = kiln_network::container::Namespace::remove(&place.namespace());
    let _ = fs::remove_dir_all(place.runtime());
}

/// Removes a control group with those in it. Gives whether it is gone.
fn remove_group(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_group(&entry.path());
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Removes what is kept of a pod that has been [cleared](clear).
pub(super) fn remove(place: &Place) -> Result<(), String> {
    match fs::remove_dir_all(place.kept()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(sentence("remove", place.kept())(error))
        }
        _ => Ok(()),
    }
}
