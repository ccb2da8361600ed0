//! What a service is: plain data, given once, judged before anything runs.

pub(crate) mod account;
#[cfg(feature = "oci")]
mod container;
mod isolation;
mod limits;
mod log;
mod rare;
mod readiness;
mod schedule;
#[cfg(feature = "seccomp")]
mod seccomp;
mod signal;
mod socket;
#[cfg(feature = "serde")]
mod text;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use account::Account;
#[cfg(feature = "oci")]
pub use container::{Container, RuntimeName};
pub use isolation::{Capability, Isolation, Namespace};
pub use limits::{Bytes, Cgroup, Limits, Resource, ResourceLimit};
pub use log::{Log, LogFile};
pub use rare::{Part, Rare};
pub use readiness::{Address, Probe, Readiness};
pub use schedule::{Condition, Timer};
#[cfg(feature = "seccomp")]
pub use seccomp::{Seccomp, SystemCall, Violation};
pub use signal::Signal;
pub use socket::Socket;

use crate::backoff::BackoffPolicy;
use crate::reload::Reload;

/// One service: what to run, when, and what to do when it ends.
///
/// Start from [`ServiceSpec::daemon`], [`ServiceSpec::one_shot`] or [`Default`] and set fields.
///
/// ```
/// use kiln_supervisor::{Kill, Readiness, ServiceSpec};
/// let mut nomad = ServiceSpec::daemon("nomad", ["/bin/nomad", "agent", "-config=/etc/nomad.d"]);
/// nomad.requires = vec!["network".into()];
/// nomad.kill = Kill::Process;          // its tasks live on when the agent is restarted
/// nomad.readiness = Readiness::None;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct ServiceSpec {
    /// Unique name: letters, digits and `.`, `_`, `-`, `@`, at most 64 bytes, not starting with `.`.
    pub name: String,
    /// Whether it stays (default) or ends by itself.
    pub kind: Kind,
    /// Program and arguments. A program without `/` is looked up in `PATH`.
    pub command: Vec<String>,
    /// What is run in place of a command.
    #[cfg(feature = "oci")]
    pub container: Option<Box<Container>>,
    /// Variables set for it.
    pub env: BTreeMap<String, String>,
    /// Whether it also gets the supervisor's own environment (default: yes).
    pub inherit_env: bool,
    /// Working directory (default: the supervisor's).
    pub directory: Option<PathBuf>,
    /// Files with more variables, a `NAME=value` on each line, read when it starts; one that begins
    /// with `-` may be absent. What `env` sets counts for more.
    pub env_files: Vec<PathBuf>,
    /// User by number, or by its name in /etc/passwd; no name service is asked.
    pub user: Option<Account>,
    /// Group by number, or by its name in /etc/group (default: the user's own).
    pub group: Option<Account>,
    /// Supplementary groups, set when `user` or `group` is (default: those of /etc/group that list
    /// the user).
    pub groups: Vec<Account>,
    /// What each of its processes may take.
    pub limits: Rare<Limits>,
    /// What all of them may take together.
    pub cgroup: Rare<Cgroup>,
    /// What they may do and see.
    pub isolation: Rare<Isolation>,
    /// Terminal to open as descriptors 0–2 and as the controlling terminal, for a console shell.
    pub tty: Option<PathBuf>,
    /// Services that must be up (a one-shot: done) before this one starts. When one of them fails
    /// for good before that, this one fails too; when it is stopped, this one is stopped first.
    /// A required service that merely restarts does not disturb the ones that run already.
    pub requires: Vec<String>,
    /// Services that are started with this one and given the chance to come up first, whose
    /// failure does not matter.
    pub wants: Vec<String>,
    /// Pure order: if both start, this one starts after them (and is stopped before them).
    pub after: Vec<String>,
    /// It is not started before all of these hold; it may wait for ever.
    pub waits_for: Vec<Condition>,
    /// When one of these paths is not there at the time of a start, there is none, and it counts
    /// as done.
    pub only_if: Vec<PathBuf>,
    /// When a one-shot runs again by itself.
    pub timer: Option<Timer>,
    /// Sockets that the supervisor opens and the service inherits, as sd_listen_fds(3) says: from
    /// descriptor 3 on, in this order. They stay open while it restarts.
    pub sockets: Vec<Socket>,
    /// Whether it is started only when somebody turns to one of its sockets; for those that require
    /// it, it is up from then on when it listens. A run that ends well counts as one that failed when
    /// somebody is still waiting to be served after it.
    pub on_demand: bool,
    /// How many descriptors it may leave with the supervisor to have them again after a restart
    /// (`FDSTORE=1` of sd_notify(3); default 0).
    pub fd_store: u32,
    /// Whether it is started by itself (default), or only when another one requires or wants it.
    pub enabled: bool,
    /// What to do when it ends.
    pub restart: Restart,
    /// How restarts are paced.
    pub backoff: BackoffPolicy,
    /// How it says that it is ready.
    pub readiness: Readiness,
    /// How long a service with a [`Readiness`] protocol may take (default 90 s) before it is
    /// stopped and counted as failed.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub ready_timeout: Duration,
    /// How long a one-shot may run (default: no bound).
    #[cfg_attr(feature = "serde", serde(with = "crate::duration::option"))]
    pub run_timeout: Option<Duration>,
    /// What asks it to stop (default `SIGTERM`).
    pub stop_signal: Signal,
    /// How long it may take to stop (default 10 s) before `SIGKILL`.
    #[cfg_attr(feature = "serde", serde(with = "crate::duration"))]
    pub stop_timeout: Duration,
    /// How it is told to read its own configuration again (default: not at all).
    pub reload: Option<Reload>,
    /// Whom signals go to.
    pub kill: Kill,
    /// Where its output goes.
    pub log: Log,
}

impl Default for ServiceSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            kind: Kind::Daemon,
            command: Vec::new(),
            #[cfg(feature = "oci")]
            container: None,
            env: BTreeMap::new(),
            inherit_env: true,
            directory: None,
            env_files: Vec::new(),
            user: None,
            group: None,
            groups: Vec::new(),
            limits: Rare::default(),
            cgroup: Rare::default(),
            isolation: Rare::default(),
            tty: None,
            requires: Vec::new(),
            wants: Vec::new(),
            after: Vec::new(),
            waits_for: Vec::new(),
            only_if: Vec::new(),
            timer: None,
            sockets: Vec::new(),
            on_demand: false,
            fd_store: 0,
            enabled: true,
            restart: Restart::Auto,
            backoff: BackoffPolicy::default(),
            readiness: Readiness::None,
            ready_timeout: Duration::from_secs(90),
            run_timeout: None,
            stop_signal: Signal::TERM,
            stop_timeout: Duration::from_secs(10),
            reload: None,
            kill: Kill::ControlGroup,
            log: Log::Auto,
        }
    }
}

impl ServiceSpec {
    /// A long-running service, restarted whenever it ends.
    #[must_use]
    pub fn daemon<S: Into<String>>(
        name: impl Into<String>,
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        let command = command.into_iter().map(Into::into).collect();
        Self { name: name.into(), command, ..Self::default() }
    }

    /// A command that runs once and is done when it exits with 0.
    #[must_use]
    pub fn one_shot<S: Into<String>>(
        name: impl Into<String>,
        command: impl IntoIterator<Item = S>,
    ) -> Self {
        Self { kind: Kind::OneShot, ..Self::daemon(name, command) }
    }

    /// The restart policy with [`Restart::Auto`] resolved. A one-shot that has succeeded is never
    /// run again, so for it `Always` means `OnFailure`; nor is, without demand, a service that is
    /// started on demand and has ended well, unless `Always` is asked for.
    #[must_use]
    pub fn effective_restart(&self) -> Restart {
        match (self.restart, self.kind) {
            (Restart::Auto, Kind::Daemon) if self.on_demand => Restart::OnFailure,
            (Restart::Auto, Kind::Daemon) => Restart::Always,
            (Restart::Auto, Kind::OneShot) => Restart::Never,
            (Restart::Always, Kind::OneShot) => Restart::OnFailure,
            (policy, _) => policy,
        }
    }
}

/// Whether a service stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Kind {
    /// Runs until stopped.
    #[default]
    Daemon,
    /// Runs to its end; exit code 0 satisfies those that require it.
    OneShot,
}

/// What to do when a service ends without having been asked to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Restart {
    /// `Always` for a daemon, `Never` for a one-shot.
    #[default]
    Auto,
    /// Start it again, whatever its status.
    Always,
    /// Start it again unless it exited with 0.
    OnFailure,
    /// Leave it ended.
    Never,
}

/// Whom signals go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Kill {
    /// All that is left of it: as [`Kill::ProcessGroup`], and whatever is in its control group is
    /// killed with it, however it was forked. Without control groups it is the process group alone.
    #[default]
    ControlGroup,
    /// The main process and what is left of its process group; the rest of the group is killed
    /// when the main process has ended, so that no half of a service survives it.
    ProcessGroup,
    /// The main process alone: its children are its own affair and live on (a Nomad agent's tasks).
    Process,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_resolves_by_kind() {
        let daemon = ServiceSpec::daemon("a", ["/a"]);
        assert_eq!(daemon.effective_restart(), Restart::Always);
        let mut shot = ServiceSpec::one_shot("a", ["/a"]);
        assert_eq!(shot.effective_restart(), Restart::Never);
        shot.restart = Restart::Always;
        assert_eq!(shot.effective_restart(), Restart::OnFailure);
    }
}
