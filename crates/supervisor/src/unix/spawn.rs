//! From a spec to a process.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use rustix::process::{Gid, Rlimit, Uid};

use super::sys;
use crate::spec::{Readiness, ServiceSpec};
use crate::vocabulary::{Errno, Pid, SpawnError, SpawnStep};

/// The variable that tells a new process image of the supervisor where its state is.
pub(super) const STATE_VARIABLE: &str = "KILN_SUPERVISOR_STATE";

/// What the shell gives to a new process.
pub(super) struct Gifts<'a> {
    pub(super) null: BorrowedFd<'a>,
    /// Standard output and error.
    pub(super) output: Option<BorrowedFd<'a>>,
    /// The write end of the notification pipe.
    pub(super) notify: Option<BorrowedFd<'a>>,
    /// `NOTIFY_SOCKET`.
    pub(super) socket: Option<String>,
    pub(super) nofile: Option<Rlimit>,
    pub(super) reset_oom: bool,
}

pub(super) fn spawn(spec: &ServiceSpec, gifts: &Gifts<'_>) -> Result<Pid, SpawnError> {
    let program = spec.command.first().map_or("", String::as_str);
    let bad = || SpawnError {
        step: SpawnStep::Prepare,
        errno: Errno(nix::libc::EINVAL),
        subject: program.to_owned(),
    };
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| bad());
    let environment = environment(spec, gifts);
    let path =
        environment.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let programs = candidates(program, path);
    let notify = match (spec.readiness, gifts.notify) {
        (Readiness::NotifyFd(number), Some(fd)) => {
            Some((fd, RawFd::try_from(number).map_err(|_| bad())?))
        }
        _ => None,
    };
    let drops = spec.uid.is_some() || spec.gid.is_some();
    let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
    let plan = sys::Plan {
        programs: programs.iter().map(|p| text(p)).collect::<Result<_, _>>()?,
        argv: spec.command.iter().map(|a| text(a.as_ref())).collect::<Result<_, _>>()?,
        envp: environment
            .iter()
            .map(|(key, value)| text(&[key.as_os_str(), OsStr::new("="), value].join_all()))
            .collect::<Result<_, _>>()?,
        directory: spec.directory.as_ref().map(|d| text(d.as_os_str())).transpose()?,
        tty: spec.tty.as_ref().map(|t| text(t.as_os_str())).transpose()?,
        stdin: gifts.null,
        stdout: gifts.output.unwrap_or_else(|| stdout.as_fd()),
        stderr: gifts.output.unwrap_or_else(|| stderr.as_fd()),
        notify,
        uid: spec.uid.map(Uid::from_raw),
        gid: spec.gid.map(Gid::from_raw),
        groups: drops.then(|| spec.groups.iter().copied().map(Gid::from_raw).collect()),
        nofile: gifts.nofile,
        reset_oom: gifts.reset_oom,
    };
    sys::spawn(&plan).map(Pid).map_err(|(step, errno)| {
        let subject = match step {
            SpawnStep::Directory => spec.directory.as_ref().map(|d| d.display().to_string()),
            SpawnStep::Terminal => spec.tty.as_ref().map(|t| t.display().to_string()),
            _ => None,
        };
        // the program is there, so what is missing is what would run it
        let there = programs.iter().any(|p| Path::new(p).exists());
        let step = match step {
            SpawnStep::Exec if errno.0 == nix::libc::ENOENT && there => SpawnStep::Interpreter,
            step => step,
        };
        SpawnError { step, errno, subject: subject.unwrap_or_else(|| program.to_owned()) }
    })
}

trait JoinAll {
    fn join_all(&self) -> OsString;
}

impl JoinAll for [&OsStr] {
    fn join_all(&self) -> OsString {
        let mut bytes = Vec::new();
        for part in self {
            bytes.extend_from_slice(part.as_bytes());
        }
        OsString::from_vec(bytes)
    }
}

fn environment(spec: &ServiceSpec, gifts: &Gifts<'_>) -> Vec<(OsString, OsString)> {
    let mut list: Vec<(OsString, OsString)> = Vec::new();
    if spec.inherit_env {
        let own = ["NOTIFY_FD", "NOTIFY_SOCKET", STATE_VARIABLE];
        list.extend(std::env::vars_os().filter(|(key, _)| {
            !own.iter().any(|name| key == name)
                && !spec.env.keys().any(|name| OsStr::new(name.as_str()) == key)
        }));
    }
    list.extend(spec.env.iter().map(|(key, value)| (key.into(), value.into())));
    if let (Readiness::NotifyFd(number), Some(_)) = (spec.readiness, gifts.notify) {
        list.push(("NOTIFY_FD".into(), number.to_string().into()));
    }
    if let Some(socket) = &gifts.socket {
        list.push(("NOTIFY_SOCKET".into(), socket.into()));
    }
    list
}

/// What a program's name may mean. Without a `PATH` the kernel's and shells' usual one is used.
fn candidates(program: &str, path: Option<&OsStr>) -> Vec<OsString> {
    if program.contains('/') {
        return vec![program.into()];
    }
    let path = path.unwrap_or_else(|| OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin"));
    std::env::split_paths(path).map(|dir| dir.join(program).into_os_string()).collect()
}
