//! Control groups (version 2): one for each service, below the supervisor's own.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::process::{Gid, Uid};

use crate::spec::Cgroup;

/// The directory that has the groups of all services.
#[derive(Debug)]
pub(super) struct Root {
    path: PathBuf,
}

/// How long those that were left by a run before may take to die of `SIGKILL`.
const LAST_OF_BEFORE: Duration = Duration::from_secs(2);

/// What could not be done with which file of a group.
type Failed = (String, std::io::Error);

impl Root {
    /// Takes a directory below a mounted cgroup2 for the groups of services: makes it, moves this
    /// process out of the way into a group of its own where it is in there, and hands all
    /// controllers on. Gives the controllers that are not to be had, too.
    ///
    /// # Errors
    /// There is no cgroup2, or it cannot be written.
    pub(super) fn take(path: &Path) -> std::io::Result<(Self, Vec<String>)> {
        std::fs::create_dir_all(path)?;
        let known = std::fs::read_to_string(path.join("cgroup.controllers"))?;
        let own = std::fs::read_to_string(path.join("cgroup.procs"))?;
        let number = std::process::id().to_string();
        // A group with processes cannot hand controllers on, the root of all alone excepted.
        let inside = own.lines().any(|line| line == number);
        if inside && path.join("cgroup.type").exists() {
            let leaf = path.join("supervisor");
            std::fs::create_dir_all(&leaf)?;
            for process in own.lines().filter(|line| *line != "0") {
                let moved = write(&leaf, "cgroup.procs", process);
                if process == number {
                    moved.map_err(|(_, error)| error)?;
                }
            }
        }
        let mut missing = Vec::new();
        for name in ["cpu", "io", "memory", "pids"] {
            // one by one: a single write of all is refused as a whole if one cannot be enabled
            let there = known.split_whitespace().any(|known| known == name);
            if !there || write(path, "cgroup.subtree_control", &format!("+{name}")).is_err() {
                missing.push(name.to_owned());
            }
        }
        Ok((Self { path: path.to_owned() }, missing))
    }

    fn group(&self, service: &str) -> PathBuf {
        self.path.join(format!("{service}.service"))
    }

    /// Kills all that is in a service's group.
    pub(super) fn kill(&self, service: &str) {
        let group = self.group(service);
        // before Linux 5.14: one by one, as often as new ones are found, up to a bound
        if write(&group, "cgroup.kill", "1").is_ok() {
            return;
        }
        for _ in 0..16 {
            let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let mut found = false;
            let numbers = text.lines().filter_map(|line| line.parse().ok());
            for pid in numbers.filter_map(rustix::process::Pid::from_raw) {
                found = true;
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            if !found {
                return;
            }
        }
    }

    /// Whether a service's group has processes.
    pub(super) fn is_populated(&self, service: &str) -> bool {
        let events = std::fs::read_to_string(self.group(service).join("cgroup.events"));
        events.is_ok_and(|text| text.lines().any(|line| line == "populated 1"))
    }

    /// Lets a group go that has no processes any more, with those below it; one that has is left. Gives
    /// whether it is gone, or was never there.
    pub(super) fn remove(&self, service: &str) -> bool {
        let group = self.group(service);
        match std::fs::remove_dir(&group) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
            Err(_) => {
                remove(&group, 0);
                !group.exists()
            }
        }
    }

    /// Kills all that a run before has left in the groups of these, gives it time to die (they are not our
    /// children, so nothing tells of their end), and lets the groups go. Gives whether all are gone.
    ///
    /// A group that was killed must not be used again: on Linux 6.18, the next process that is cloned into it
    /// is killed too.
    pub(super) fn kill_left(&self, services: &[&str]) -> bool {
        services.iter().for_each(|name| self.kill(name));
        let began = Instant::now();
        while services.iter().any(|name| self.is_populated(name))
            && began.elapsed() < LAST_OF_BEFORE
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        let left = services.iter().filter(|name| !self.remove(name)).count();
        left == 0
    }
}

/// The group of one service.
#[derive(Debug)]
pub(super) struct Group {
    path: PathBuf,
    pub(super) directory: OwnedFd,
}

impl Group {
    /// Makes a service's group with its bounds, or sets those of one that is there.
    pub(super) fn make(
        root: &Root,
        service: &str,
        bounds: &Cgroup,
        owner: Option<(Uid, Gid)>,
    ) -> Result<Self, Failed> {
        let path = root.group(service);
        let shown = || path.display().to_string();
        match std::fs::create_dir(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err((shown(), error));
            }
            _ => {}
        }
        for (file, value) in bounds.settings() {
            write(&path, file, &value)?;
        }
        if bounds.delegate {
            let text = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap_or_default();
            for name in text.split_whitespace() {
                let _ = write(&path, "cgroup.subtree_control", &format!("+{name}"));
            }
            if let Some((uid, gid)) = owner {
                give(&path, uid, gid).map_err(|error| (shown(), error))?;
            }
        }
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(&path, flags, Mode::empty());
        let directory = directory.map_err(|errno| (shown(), errno.into()))?;
        Ok(Self { path, directory })
    }

    /// Puts a process into it.
    pub(super) fn take(&self, pid: i32) {
        let _ = write(&self.path, "cgroup.procs", &pid.to_string());
    }
}

/// What a delegated group's owner must be able to write (cgroups(7), "Delegation").
fn give(group: &Path, uid: Uid, gid: Gid) -> std::io::Result<()> {
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        let path = group.join(file);
        let owner = (Some(uid.as_raw()), Some(gid.as_raw()));
        std::os::unix::fs::chown(path, owner.0, owner.1)?;
    }
    Ok(())
}

/// Groups are made no deeper than this below a service's.
const DEEPEST: u32 = 16;

/// Removes a group and all below it, as far as they have no processes.
fn remove(group: &Path, depth: u32) {
    if std::fs::remove_dir(group).is_ok() || depth == DEEPEST {
        return;
    }
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path(), depth.saturating_add(1));
        }
    }
    let _ = std::fs::remove_dir(group);
}

fn write(group: &Path, file: &str, value: &str) -> Result<(), Failed> {
    let path = group.join(file);
    let options = std::fs::OpenOptions::new().write(true).open(&path);
    options
        .and_then(|mut file| file.write_all(value.as_bytes()))
        .map_err(|error| (file.to_owned(), error))
}
