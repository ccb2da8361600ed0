//! From a spec to a process.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use nix::libc;
use rustix::process::Rlimit;

use super::cgroup::Group;
use super::child::Plan;
use super::image::{BEFORE_VARIABLE, STATE_VARIABLE};
use super::mounts::{Mounts, Rights, present};
pub(super) use super::sys::Starter;
use super::{account, cgroup, credentials, sys};
use crate::spec::{Cgroup, Isolation, Namespace, Readiness, Resource, ServiceSpec};
use crate::vocabulary::{Errno, Pid, SpawnError, SpawnStep};

/// What the shell gives to a new process.
#[derive(Debug, Clone)]
pub(super) struct Gifts {
    pub(super) null: Arc<OwnedFd>,
    /// Standard output and error; without it the supervisor's own.
    pub(super) output: Option<Arc<OwnedFd>>,
    /// The write end of the notification pipe.
    pub(super) notify: Option<Arc<OwnedFd>>,
    /// `NOTIFY_SOCKET`.
    pub(super) socket: Option<String>,
    /// For descriptors from 3 on, with their names: sockets, and what was stored.
    pub(super) inherited: Vec<(String, Arc<OwnedFd>)>,
    /// The limit of open files that the supervisor itself had at first.
    pub(super) nofile: Option<Rlimit>,
    /// The niceness of services, where whoever starts them may have another.
    pub(super) nice: Option<i32>,
    /// Whether the loop has more of it, which what it starts could not get rid of.
    pub(super) loop_is_nicer: bool,
    /// Whether the supervisor is exempt from the out-of-memory killer, which must not be inherited.
    pub(super) reset_oom: bool,
    /// The directory of control groups in which the service has its own.
    pub(super) cgroup: Option<Arc<cgroup::Root>>,
    /// Whether processes of the run before are in there, which were killed and have to be gone first.
    pub(super) is_left: bool,
    /// The directory in which the service's credentials are.
    pub(super) credentials: PathBuf,
    /// What begins the command of a container.
    #[cfg(feature = "oci")]
    pub(super) container_command: Vec<String>,
}

/// What a spawn was about when it failed.
fn failure(step: SpawnStep, errno: i32, subject: impl Into<String>) -> SpawnError {
    SpawnError { step, errno: Errno(errno), subject: subject.into() }
}

/// What could not be prepared.
pub(super) fn unprepared(subject: impl Into<String>, error: &std::io::Error) -> SpawnError {
    failure(SpawnStep::Prepare, error.raw_os_error().unwrap_or(libc::EINVAL), subject)
}

/// What starting processes needs, again and again.
pub(super) struct Room {
    room: sys::Room,
    ignored: Vec<i32>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { room: sys::Room::new(), ignored: sys::ignored_signals() }
    }
}

/// Whether [`begin`] waits for nothing, and the process that it starts cannot be mistaken for us by the
/// kernel: it reads no files, sets up nothing that others may hold, and is neither bounded in memory nor
/// does it change how the out-of-memory killer sees it, which would be of all who share its memory.
pub(super) fn is_quick(spec: &ServiceSpec, gifts: &Gifts) -> bool {
    #[cfg(feature = "oci")]
    if spec.container.is_some() {
        return false;
    }
    let identity = spec.user.is_none() && spec.group.is_none() && spec.groups.is_empty();
    let files = spec.env_files.is_empty() && spec.tty.is_none();
    let isolation = *spec.isolation == Isolation::default();
    let bounds = *spec.cgroup == Cgroup::default() && !gifts.is_left;
    let killer = spec.limits.oom_score_adj.is_none() && !gifts.reset_oom;
    let quick = identity && files && isolation && bounds && killer;
    quick && !gifts.loop_is_nicer && sys::may_go_on()
}

/// A service's process on its way to its program.
pub(super) struct Flight {
    flight: sys::Flight,
    ignored: Vec<i32>,
    spec: Arc<ServiceSpec>,
    /// Its group, if the kernel has not put it into that.
    group: Option<Group>,
}

/// Starts a service's process. Its number is in `pid` from its first moment on.
pub(super) fn begin(
    spec: &Arc<ServiceSpec>,
    gifts: &Gifts,
    room: Room,
    pid: &AtomicI32,
    starter: Starter,
    abandoned: &AtomicBool,
) -> Result<Flight, (Room, SpawnError)> {
    #[cfg(feature = "oci")]
    let spec = match (&spec.container, spec.command.is_empty()) {
        (Some(container), true) => {
            let mut command = container.command(&gifts.container_command, spec);
            if let Some(socket) = &gifts.socket {
                command.extend(["--notify".to_owned(), socket.clone()]);
            }
            &Arc::new(ServiceSpec { command, ..ServiceSpec::clone(spec) })
        }
        // what it is reloaded by, for one
        _ => spec,
    };
    let ready = plan(spec, gifts).and_then(|plan| group(spec, gifts, plan));
    #[cfg(feature = "oci")]
    let ready =
        ready.and_then(|(plan, group)| own_directory(spec, gifts, plan).map(|plan| (plan, group)));
    let (mut plan, group) = match ready {
        Ok(ready) => ready,
        Err(error) => return Err((room, error)),
    };
    if abandoned.load(Ordering::SeqCst) {
        // what was read has taken so long that another may run by now
        return Err((room, failure(SpawnStep::Prepare, libc::ETIMEDOUT, spec.name.as_str())));
    }
    plan.ignored.clone_from(&room.ignored);
    let directory = group.as_ref().map(|group| group.directory.as_fd());
    let Room { room, ignored } = room;
    let flight = sys::start(plan, room, pid, directory, starter);
    Ok(Flight { flight, ignored, spec: Arc::clone(spec), group })
}

/// Who runs a container writes its changed `config.json` beside the notification socket.
#[cfg(feature = "oci")]
fn own_directory(spec: &ServiceSpec, gifts: &Gifts, plan: Plan) -> Result<Plan, SpawnError> {
    if let (Some(socket), Some(uid), true) = (&gifts.socket, plan.uid, spec.container.is_some())
        && let Some(directory) = Path::new(socket).parent()
    {
        std::os::unix::fs::chown(directory, Some(uid.as_raw()), None)
            .map_err(|error| unprepared(directory.display().to_string(), &error))?;
    }
    Ok(plan)
}

/// The control group of a process, if it gets one.
fn group(
    spec: &ServiceSpec,
    gifts: &Gifts,
    plan: Plan,
) -> Result<(Plan, Option<Group>), SpawnError> {
    let Some(root) = &gifts.cgroup else { return Ok((plan, None)) };
    // what a runtime has made below a container's group hands controllers on, which keeps processes out
    #[cfg(feature = "oci")]
    let is_cleared = gifts.is_left || spec.container.is_some();
    #[cfg(not(feature = "oci"))]
    let is_cleared = gifts.is_left;
    let subject = || format!("control group {}", spec.name);
    if is_cleared && !root.kill_left(&[&spec.name]) && gifts.is_left {
        let what = format!("{}: processes of the run before do not end", subject());
        return Err(failure(SpawnStep::Prepare, libc::EBUSY, what));
    }
    let owner = plan.uid.zip(plan.gid).filter(|_| spec.cgroup.delegate);
    let group = Group::make(root, &spec.name, &spec.cgroup, owner)
        .map_err(|(file, error)| unprepared(format!("{}: {file}", subject()), &error))?;
    Ok((plan, Some(group)))
}

impl Flight {
    /// Waits until it has executed its program, or could not.
    pub(super) fn land(self) -> (Room, Result<(Pid, Option<OwnedFd>), SpawnError>) {
        let Self { flight, ignored, spec, group } = self;
        let (room, plan, result) = flight.land();
        let result = match result {
            Err((step, errno)) => Err(explain(&spec, &plan, step, errno)),
            Ok(spawned) => {
                if let Some(group) = group.filter(|_| !spawned.in_cgroup) {
                    // an old kernel: a moment too late for what it forks at once
                    group.take(spawned.pid);
                }
                Ok((Pid(spawned.pid), spawned.pidfd))
            }
        };
        (Room { room, ignored }, result)
    }
}

/// A failed step in words that people can use.
fn explain(spec: &ServiceSpec, plan: &Plan, step: SpawnStep, errno: Errno) -> SpawnError {
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let subject = match step {
        SpawnStep::Directory => shown(&spec.directory),
        SpawnStep::Terminal => shown(&spec.tty),
        _ => None,
    };
    // the program is there, so what is missing is what would run it
    let there = plan.programs.iter().any(|p| Path::new(OsStr::from_bytes(p.as_bytes())).exists());
    let step = match step {
        SpawnStep::Exec if errno.0 == libc::ENOENT && there => SpawnStep::Interpreter,
        step => step,
    };
    let program = || spec.command.first().cloned().unwrap_or_default();
    SpawnError { step, errno, subject: subject.unwrap_or_else(program) }
}

fn plan(spec: &ServiceSpec, gifts: &Gifts) -> Result<Plan, SpawnError> {
    let program = spec.command.first().map_or("", String::as_str);
    let bad = || failure(SpawnStep::Prepare, libc::EINVAL, program);
    let text = |text: &OsStr| CString::new(text.as_bytes()).map_err(|_| bad());
    let who = account::identity(spec)?;
    let credentials = credentials::provide(spec, &gifts.credentials, who.uid)?;
    let environment = environment(spec, gifts, credentials.as_deref())?;
    let path =
        environment.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let programs = candidates(program, path);
    let namespaces = spec.isolation.all_namespaces();
    let own = |namespace| namespaces.contains(&namespace);
    let isolation = &spec.isolation;
    let own_number = environment.iter().position(|(key, _)| key == PID_VARIABLE);
    let mut plan = Plan {
        programs: programs.iter().map(|p| text(p)).collect::<Result<_, _>>()?,
        argv: spec.command.iter().map(|a| text(a.as_ref())).collect::<Result<_, _>>()?,
        envp: environment
            .iter()
            .map(|(key, value)| text(&[key.as_os_str(), OsStr::new("="), value].join_all()))
            .collect::<Result<_, _>>()?,
        own_number: own_number.map(|place| (place, *PID_TEXT)),
        directory: spec.directory.as_ref().map(|d| text(d.as_os_str())).transpose()?,
        tty: spec.tty.as_ref().map(|t| text(t.as_os_str())).transpose()?,
        nice: spec.limits.nice,
        usual_nice: gifts.nice,
        umask: spec.limits.umask.map(rustix::fs::Mode::from_raw_mode),
        namespaces: namespaces.iter().map(|namespace| flag(*namespace)).fold(0, |a, b| a | b),
        cgroup_namespace: own(Namespace::Cgroup),
        mounts: Mounts {
            own: own(Namespace::Mount),
            proc: own(Namespace::Pid),
            private_tmp: isolation.private_tmp,
            rights: Rights::prepare(isolation)?,
            hidden: present(&isolation.hidden)?,
        },
        uid: who.uid,
        gid: who.gid,
        groups: who.groups,
        capabilities: isolation
            .capabilities
            .as_ref()
            .map(|list| list.iter().map(|capability| capability.bit()).fold(0, |a, b| a | b)),
        no_new_privs: isolation.no_new_privs,
        ..Plan::default()
    };
    let score = spec.limits.oom_score_adj.or_else(|| gifts.reset_oom.then_some(0));
    plan.must_be_scored = spec.limits.oom_score_adj.is_some();
    plan.oom_score_adj = score.and_then(|score| CString::new(score.to_string()).ok());
    if let Some(limit) = gifts.nofile {
        plan.limits.push((rustix::process::Resource::Nofile, limit));
    }
    for limit in &spec.limits.resources {
        let value = Rlimit { current: limit.soft, maximum: limit.hard };
        plan.limits.push((resource(limit.resource), value));
    }
    #[cfg(feature = "seccomp")]
    if let Some(seccomp) = &isolation.seccomp {
        // Without it only the mighty may have a filter, and a program with a set-user-ID bit would
        // be misled by it.
        plan.no_new_privs = true;
        plan.filter = super::filter::compile(seccomp)
            .map_err(|why| failure(SpawnStep::Prepare, libc::EINVAL, format!("seccomp: {why}")))?;
    }
    give(&mut plan, spec, gifts)?;
    Ok(plan)
}

/// Which descriptors it gets under which numbers.
fn give(plan: &mut Plan, spec: &ServiceSpec, gifts: &Gifts) -> Result<(), SpawnError> {
    let mut hand = |fd: &Arc<OwnedFd>, number: RawFd| {
        plan.files.push((fd.as_raw_fd(), number));
        plan.kept.push(Arc::clone(fd));
    };
    if spec.tty.is_none() {
        hand(&gifts.null, 0);
        if let Some(output) = &gifts.output {
            hand(output, 1);
            hand(output, 2);
        }
    }
    for ((_, fd), number) in gifts.inherited.iter().zip(3..) {
        hand(fd, number);
    }
    if let (Readiness::NotifyFd(number), Some(fd)) = (&spec.readiness, &gifts.notify) {
        let number = RawFd::try_from(*number)
            .map_err(|_| failure(SpawnStep::Prepare, libc::EINVAL, "notification descriptor"))?;
        hand(fd, number);
    }
    Ok(())
}

fn flag(namespace: Namespace) -> i32 {
    match namespace {
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Pid => libc::CLONE_NEWPID,
        Namespace::Net => libc::CLONE_NEWNET,
        Namespace::Ipc => libc::CLONE_NEWIPC,
        Namespace::Uts => libc::CLONE_NEWUTS,
        // later, when it is in its group
        Namespace::Cgroup => 0,
    }
}

fn resource(resource: Resource) -> rustix::process::Resource {
    use rustix::process::Resource as R;
    match resource {
        Resource::As => R::As,
        Resource::Core => R::Core,
        Resource::Cpu => R::Cpu,
        Resource::Data => R::Data,
        Resource::Fsize => R::Fsize,
        Resource::Memlock => R::Memlock,
        Resource::Msgqueue => R::Msgqueue,
        Resource::Nice => R::Nice,
        Resource::Nofile => R::Nofile,
        Resource::Nproc => R::Nproc,
        Resource::Rtprio => R::Rtprio,
        Resource::Rttime => R::Rttime,
        Resource::Sigpending => R::Sigpending,
        Resource::Stack => R::Stack,
    }
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

/// Has the number of the process that the descriptors are for (sd_listen_fds(3)).
const PID_VARIABLE: &str = "LISTEN_PID";
/// That with room for the digits of any number.
const PID_TEXT: &[u8; 24] = b"LISTEN_PID=\0\0\0\0\0\0\0\0\0\0\0\0\0";

type Variables = Vec<(OsString, OsString)>;

fn environment(
    spec: &ServiceSpec,
    gifts: &Gifts,
    credentials: Option<&Path>,
) -> Result<Variables, SpawnError> {
    let mut list = Variables::new();
    let mut set =
        |key: OsString, value: OsString| match list.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => list.push((key, value)),
        };
    if spec.inherit_env {
        let own = [
            "NOTIFY_FD",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
            PID_VARIABLE,
            STATE_VARIABLE,
            BEFORE_VARIABLE,
        ];
        for (key, value) in std::env::vars_os() {
            if !own.iter().any(|name| key == *name) {
                set(key, value);
            }
        }
    }
    for file in &spec.env_files {
        for (key, value) in account::env_file(file)? {
            set(key.into(), value.into());
        }
    }
    for (key, value) in &spec.env {
        set(key.into(), value.into());
    }
    if let (Readiness::NotifyFd(number), Some(_)) = (&spec.readiness, &gifts.notify) {
        set("NOTIFY_FD".into(), number.to_string().into());
    }
    if let Some(socket) = &gifts.socket {
        set("NOTIFY_SOCKET".into(), socket.into());
    }
    if let Some(directory) = credentials {
        set("CREDENTIALS_DIRECTORY".into(), directory.into());
    }
    if !gifts.inherited.is_empty() {
        let names: Vec<&str> = gifts.inherited.iter().map(|(name, _)| name.as_str()).collect();
        set("LISTEN_FDS".into(), names.len().to_string().into());
        set("LISTEN_FDNAMES".into(), names.join(":").into());
        set(PID_VARIABLE.into(), OsString::new());
    }
    Ok(list)
}

/// What a program's name may mean. Without a `PATH` the kernel's and shells' usual one is used.
fn candidates(program: &str, path: Option<&OsStr>) -> Vec<OsString> {
    if program.contains('/') {
        return vec![program.into()];
    }
    let path = path.unwrap_or_else(|| OsStr::new("/usr/sbin:/usr/bin:/sbin:/bin"));
    std::env::split_paths(path).map(|dir| dir.join(program).into_os_string()).collect()
}
