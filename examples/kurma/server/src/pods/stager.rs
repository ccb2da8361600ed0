//! The process that a pod is: it starts the pod's apps, keeps their output and how they ended, and ends
//! with them.
//!
//! It lives on when the server ends or is replaced; the server finds it again by the lock that it holds.
//! It has mounts of its own, in which the apps' roots are put together, so that none is left when it has
//! ended, however it has.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_supervisor::control::ControlOptions;
use kiln_supervisor::unix::{self, container};
use kiln_supervisor::{Cgroup, Event, ExitStatus, Readiness, Restart, ServiceSpec, Signal};
use kurma_client::AppState;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::FlockOperation;
use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};
use serde::{Deserialize, Serialize};

use super::place::Place;
use crate::files;

/// What the stager is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// The pod's.
    pub(crate) uuid: String,
    /// What it is to run.
    pub(crate) apps: Vec<Order>,
    /// The control group that is the pod's, on a machine that has cgroup2.
    pub(crate) cgroup: Option<PathBuf>,
    /// How long apps may take to end, in seconds.
    pub(crate) patience: u64,
}

/// What it is told of an app.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The app's name.
    pub(crate) name: String,
    /// Its image's files, which nobody writes to.
    pub(crate) image: PathBuf,
    /// The signal that asks it to end.
    pub(crate) stop_signal: i32,
    /// The bounds of its control group.
    pub(crate) limits: Cgroup,
}

/// How an app is, as the stager has seen it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Seen {
    pub(crate) name: String,
    pub(crate) state: AppState,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) error: Option<String>,
}

/// The name of an app's container, among all of the machine's.
pub(crate) fn container_id(uuid: &str, app: &str) -> String {
    format!("{uuid}.{app}")
}

fn complain(what: impl std::fmt::Display) -> ExitCode {
    unix::console_line(format_args!("kurma: {what}"));
    ExitCode::from(container::NOT_RUN)
}

/// `stager DIRECTORY`: runs the pod whose directory it is. Says so on standard output when all of its apps
/// have been started or have failed, and closes that.
pub(crate) fn main(mut words: impl Iterator<Item = OsString>) -> ExitCode {
    let (Some(directory), Some(runtime)) = (words.next(), words.next()) else {
        return complain("stager: no directory of a pod");
    };
    let place = Place::new(PathBuf::from(directory), PathBuf::from(runtime));
    match run(&place) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            let _ = files::replace(&place.failed(), problem.as_bytes());
            complain(problem)
        }
    }
}

fn run(place: &Place) -> Result<(), String> {
    let _ = rustix::process::setsid();
    let lock = OpenOptions::new().write(true).create(true).truncate(false).open(place.lock());
    let lock = lock.map_err(files::sentence("open", &place.lock()))?;
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
        .map_err(|_| "this pod runs already".to_owned())?;
    write_number(&lock).map_err(files::sentence("write", &place.lock()))?;
    let orders = fs::read(place.orders()).map_err(files::sentence("read", &place.orders()))?;
    let orders: Orders = serde_json::from_slice(&orders)
        .map_err(|error| format!("{}: {error}", place.orders().display()))?;

    // Mounts made here are seen by nobody else; what the machine mounts later is seen here.
    unshare(CloneFlags::CLONE_NEWNS).map_err(|error| format!("unshare mounts: {error}"))?;
    let slaves = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slaves).map_err(|error| format!("make mounts private: {error}"))?;
    for app in &orders.apps {
        mount_root(place, app)?;
    }

    let mut options = unix::Options::default();
    options.log_dir = Some(place.logs());
    options.cgroup = orders.cgroup.as_deref().filter(|path| path.is_dir()).map(Into::into);
    options.credentials_dir = place.runtime().join("credentials");
    options.container_dir = place.runtime().join("containers");
    options.shutdown_timeout = std::time::Duration::from_secs(orders.patience.saturating_add(10));
    options.exit_when_ended = true;
    options.reap_orphans = Some(true);
    options.role = unix::Role::Process;
    options.control = Some(ControlOptions::new(place.socket()));
    let mut watch = Watch::new(place, &orders, lock);
    watch.write();
    let specs = orders.apps.iter().map(|app| spec(place, &orders, app)).collect();
    let ended = unix::run(specs, options, &mut |event| watch.take(event));
    watch.write();
    ended.map(drop).map_err(|error| error.to_string())
}

fn write_number(mut lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    writeln!(lock, "{}", std::process::id())
}

/// Puts an app's root together: its image, and above it what the app writes.
fn mount_root(place: &Place, app: &Order) -> Result<(), String> {
    let (upper, work) = (place.written(&app.name), place.work(&app.name));
    let root = place.root(&app.name);
    // what devices there are is in /dev, which is another file system
    kiln_guest::containers::overlay(&app.image, &upper, &work, &root, MountFlags::NODEV)
}

fn spec(place: &Place, orders: &Orders, app: &Order) -> ServiceSpec {
    let own = |path: &Path| path.to_string_lossy().into_owned();
    let command = [
        "/proc/self/exe".to_owned(),
        "app".to_owned(),
        own(&place.bundle(&app.name)),
        container_id(&orders.uuid, &app.name),
        own(&place.containers()),
    ];
    let mut spec = ServiceSpec::daemon(&app.name, command);
    spec.restart = Restart::Never;
    // Its main process says so when the container has been started.
    spec.readiness = Readiness::NotifyFd(3);
    spec.ready_timeout = std::time::Duration::from_secs(120);
    spec.stop_signal = Signal::from_raw(app.stop_signal).unwrap_or(Signal::TERM);
    spec.stop_timeout = std::time::Duration::from_secs(orders.patience);
    spec.cgroup = app.limits.clone().into();
    spec.inherit_env = true;
    spec
}

/// Keeps a file true that says how the apps are.
struct Watch {
    path: PathBuf,
    logs: PathBuf,
    bundles: Vec<PathBuf>,
    seen: Vec<Seen>,
    begun: Option<io::Stdout>,
    /// Held as long as this process lives.
    _lock: File,
}

impl Watch {
    fn new(place: &Place, orders: &Orders, lock: File) -> Self {
        let names = || orders.apps.iter().map(|app| app.name.clone());
        Self {
            path: place.seen(),
            logs: place.logs(),
            bundles: names().map(|name| place.bundle(&name)).collect(),
            seen: names().map(|name| Seen { name, ..Seen::default() }).collect(),
            begun: Some(io::stdout()),
            _lock: lock,
        }
    }

    fn take(&mut self, event: &Event) {
        let (Event::Ready { service, .. }
        | Event::Exited { service, .. }
        | Event::SpawnFailed { service, .. }
        | Event::Failed { service, .. }) = event
        else {
            return;
        };
        let Some(at) = self.seen.iter().position(|app| app.name == service.as_str()) else {
            return;
        };
        let (Some(app), Some(bundle)) = (self.seen.get_mut(at), self.bundles.get(at)) else {
            return;
        };
        match event {
            Event::Ready { .. } => app.state = AppState::Running,
            Event::SpawnFailed { error, .. } => {
                (app.state, app.error) = (AppState::Failed, Some(error.to_string()));
            }
            Event::Exited { status, .. } if app.state == AppState::Running => {
                app.state = AppState::Ended;
                match status {
                    ExitStatus::Code(code) => app.exit_code = Some(*code),
                    ExitStatus::Signal(number) => app.signal = Some(*number),
                    _ => {}
                }
            }
            Event::Exited { status, .. } => {
                let said = fs::read_to_string(bundle.join(ERROR)).unwrap_or_default();
                let mut said = if said.is_empty() { status.to_string() } else { said };
                // the runtime has said more of it, where the app would have
                let log = fs::read_to_string(self.logs.join(format!("{}.log", app.name)));
                if let Some(line) = log.as_deref().ok().and_then(last_line) {
                    said += &format!(" ({line})");
                }
                (app.state, app.error) = (AppState::Failed, Some(said));
            }
            _ if app.state == AppState::Waiting => {
                app.state = AppState::Failed;
                app.error.get_or_insert_with(|| "not started in time".to_owned());
            }
            _ => return,
        }
        self.write();
    }

    fn write(&mut self) {
        if let Ok(text) = serde_json::to_vec(&self.seen) {
            let _ = files::replace(&self.path, &text);
        }
        let begun = self.seen.iter().all(|app| app.state != AppState::Waiting);
        if begun && let Some(mut output) = self.begun.take() {
            let _ = output.write_all(b"begun\n").and_then(|()| output.flush());
            // whoever reads sees the end now
            let _ = rustix::stdio::dup2_stdout(rustix::stdio::stderr());
        }
    }
}

/// The last line of a log that is not this program's own, without its time.
fn last_line(log: &str) -> Option<&str> {
    let lines = log.lines().rev().filter_map(|line| Some(line.split_once(' ')?.1));
    lines.map(str::trim).find(|line| !line.is_empty() && !line.starts_with("kurma: "))
}

/// The file of a bundle that says why there is no container of it.
const ERROR: &str = "error";

/// `app BUNDLE ID STATE-DIRECTORY`: runs a container, says on descriptor 3 that it has been started, and ends
/// as it ends.
pub(crate) fn app(words: impl Iterator<Item = OsString>) -> ExitCode {
    let words: Vec<OsString> = words.collect();
    let [bundle, id, states] = words.as_slice() else {
        return complain("app: expected a bundle, a name and a directory");
    };
    // the descriptor itself is inherited by nobody: this is another one
    let ready = OpenOptions::new().write(true).open("/proc/self/fd/3").ok();
    let mut options = container::Options::new(bundle, id.to_string_lossy());
    options.state_dir = Some(states.into());
    let mut ready = ready;
    let ended = container::run(&options, &mut |event| match event {
        container::Event::Started(_) => {
            let _ = ready.take().map(|mut ready| ready.write_all(b"\n"));
        }
        container::Event::Without(error) => unix::console_line(format_args!("{error}")),
        _ => {}
    });
    match ended {
        Ok(status) => container::leave(status),
        Err(error) => {
            let _ = files::replace(&Path::new(bundle).join(ERROR), error.to_string().as_bytes());
            complain(error)
        }
    }
}
