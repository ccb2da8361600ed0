//! A namespace of processes with a supervisor as its first, in a small system of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::programs::Programs;
use crate::Result;

/// A line that the probe notes.
const NOTE: u64 = 40;

/// Where supervisors may have control groups, in there.
pub const GROUPS: &str = "/groups/kiln-bench";

/// Makes a root of `/usr` of the peers' system, `/dev`, `/proc` and `/work`, and enters it.
const ENTER: &str = "set -e
root=$1 sysroot=$2 work=$3
shift 3
mount -t tmpfs -o size=64m tmpfs $root
cd $root
mkdir usr proc dev work tmp run etc groups
for name in bin sbin lib lib64; do ln -s usr/$name $name; done
mount --bind $sysroot/usr usr
mount --bind /proc proc
mount --rbind /dev dev
mount --bind $work work
mount -t cgroup2 cgroup2 groups 2>work/stderr || true
if [ \"$DISK\" ]; then
    names=$(ls work/logs)
    mount -t tmpfs -o size=$DISK tmpfs work/logs
    for name in $names; do mkdir work/logs/$name; done
fi
unset DISK
exec chroot . /work/probe launch:/work/notes \"$@\"";

/// A running supervisor; with it goes everything that it started.
#[derive(Debug)]
pub struct World {
    unshare: Child,
    /// What is `/work` in there.
    work: PathBuf,
    _scratch: tempfile::TempDir,
}

/// A process in there, by its number outside.
#[derive(Debug, Clone)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Whether it is one of the supervised.
    pub is_probe: bool,
}

/// A place for a world that does not run yet.
#[derive(Debug)]
pub struct Site {
    scratch: tempfile::TempDir,
    /// The size of the file system of `/work/logs`, as mount(8) takes it; none of its own without.
    pub disk: Option<String>,
}

impl Site {
    /// In memory, so that no disk has a part in the figures.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn new(programs: &Programs) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("supervision").tempdir_in("/dev/shm")?;
        let site = Self { scratch, disk: None };
        fs::create_dir(site.scratch.path().join("root"))?;
        fs::create_dir(site.work())?;
        let files = [
            (Some(&programs.probe), "probe"),
            (Some(&programs.supervisor), "kiln-supervisor"),
            (Some(&programs.init), "kiln-init"),
            (programs.dinit.as_ref(), "dinit-program"),
        ];
        for (from, to) in files {
            from.map(|from| fs::copy(from, site.work().join(to))).transpose()?;
        }
        Ok(site)
    }

    /// What is going to be `/work`.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.scratch.path().join("work")
    }

    /// Starts a command as process 1.
    ///
    /// # Errors
    /// `unshare` cannot be started.
    pub fn start(self, programs: &Programs, command: &[String]) -> Result<World> {
        let work = self.work();
        let mut unshare = Command::new("unshare");
        if programs.real_time {
            unshare = Command::new("chrt");
            unshare.args(["--rr", "1", "unshare"]);
        }
        unshare
            .args(["--pid", "--fork", "--mount", "--mount-proc", "--kill-child"])
            .args(["--ipc", "--uts", "sh", "-c", ENTER, "sh"])
            .arg(self.scratch.path().join("root"))
            .args([&programs.sysroot, &work])
            .args(command)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(self.disk.as_ref().map(|size| ("DISK", size)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(work.join("stderr"))?);
        Ok(World { unshare: unshare.spawn()?, work, _scratch: self.scratch })
    }
}

impl World {
    /// What the probes have noted: words and numbers in order.
    #[must_use]
    pub fn notes(&self) -> Vec<(String, u64)> {
        let text = fs::read_to_string(self.work.join("notes")).unwrap_or_default();
        let note = |line: &str| {
            let (word, number) = line.split_once(' ')?;
            Some((word.to_owned(), number.trim().parse().ok()?))
        };
        text.lines().filter_map(note).collect()
    }

    /// Waits until the probes have noted so many lines.
    ///
    /// # Errors
    /// They did not in this time, or the supervisor ended; with what it said.
    pub fn wait_for_notes(&mut self, number: u64, patience: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let length = fs::metadata(self.work.join("notes")).map_or(0, |found| found.len());
            if length >= number * NOTE {
                return Ok(());
            }
            let ended = self.unshare.try_wait()?;
            if ended.is_some() || start.elapsed() > patience {
                return Err(format!(
                    "{} of {number} notes after {:.1} s{}: {}",
                    length / NOTE,
                    start.elapsed().as_secs_f64(),
                    ended.map_or_else(String::new, |status| format!(", {status}")),
                    self.complaints()
                )
                .into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the supervisor ends; gives its exit code.
    ///
    /// # Errors
    /// It does not in this time.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<i32>> {
        let start = Instant::now();
        while start.elapsed() < patience {
            if let Some(status) = self.unshare.try_wait()? {
                return Ok(status.code());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("it still runs after {patience:?}: {}", self.complaints()).into())
    }

    /// The last that was said on standard error.
    fn complaints(&self) -> String {
        let text = fs::read(self.work.join("stderr")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        lines.join(" / ")
    }

    /// What runs in there, zombies aside.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mut parents: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            if let Some(parent) = parent(pid) {
                parents.entry(parent).or_default().push(pid);
            }
        }
        let mut found = Vec::new();
        let mut left = vec![i32::try_from(self.unshare.id()).unwrap_or(-1)];
        while let Some(pid) = left.pop() {
            for child in parents.get(&pid).into_iter().flatten() {
                left.push(*child);
                if let Ok(program) = fs::read_link(format!("/proc/{child}/exe")) {
                    let is_probe = program.ends_with("probe");
                    found.push(Process { pid: *child, is_probe });
                }
            }
        }
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let all = self.processes();
        // --kill-child: with it goes the first process of the namespace, and with that all others.
        let _ = self.unshare.kill();
        let _ = self.unshare.wait();
        // The next one's figures must not have the clearing up of these in them.
        let is_there = |it: &Process| Path::new("/proc").join(it.pid.to_string()).exists();
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(20) && all.iter().any(is_there) {
            std::thread::sleep(Duration::from_millis(20));
        }
        remove_groups();
    }
}

/// Removes the control groups that a supervisor has left, by this host's own mount of them.
fn remove_groups() {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    let Some(mounted) = found.and_then(|line| line.split(' ').nth(1)) else { return };
    let name = Path::new(GROUPS).file_name().unwrap_or_default();
    let groups = Path::new(mounted).join(name);
    for entry in fs::read_dir(&groups).into_iter().flatten().flatten() {
        let _ = fs::remove_dir(entry.path());
    }
    let _ = fs::remove_dir(groups);
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A figure of a process in kB, summed over `/proc/PID/FILE`'s lines of this name.
#[must_use]
pub fn kilobytes(process: &Process, file: &str, name: &str) -> u64 {
    let path = Path::new("/proc").join(process.pid.to_string()).join(file);
    let text = fs::read_to_string(path).unwrap_or_default();
    let number = |line: &str| {
        line.strip_prefix(name)?.strip_prefix(':')?.split_whitespace().next()?.parse::<u64>().ok()
    };
    text.lines().filter_map(number).sum()
}

/// How often the threads of a process were switched to something else.
#[must_use]
pub fn context_switches(process: &Process) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.pid));
    let mut sum = 0;
    for task in tasks.into_iter().flatten().flatten() {
        let text = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        for line in text.lines().filter(|line| line.contains("ctxt_switches:")) {
            sum += line.rsplit('\t').next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0);
        }
    }
    sum
}
