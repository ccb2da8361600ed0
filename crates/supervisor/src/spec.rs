//! What a service is: plain data, given once, judged before anything runs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

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
    /// Variables set for it.
    pub env: BTreeMap<String, String>,
    /// Whether it also gets the supervisor's own environment (default: yes).
    pub inherit_env: bool,
    /// Working directory (default: the supervisor's).
    pub directory: Option<PathBuf>,
    /// User by number; no name service is asked.
    pub uid: Option<u32>,
    /// Group by number.
    pub gid: Option<u32>,
    /// Supplementary groups, set when `uid` or `gid` is set (default: none).
    pub groups: Vec<u32>,
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
            env: BTreeMap::new(),
            inherit_env: true,
            directory: None,
            uid: None,
            gid: None,
            groups: Vec::new(),
            tty: None,
            requires: Vec::new(),
            wants: Vec::new(),
            after: Vec::new(),
            enabled: true,
            restart: Restart::Auto,
            backoff: BackoffPolicy::default(),
            readiness: Readiness::None,
            ready_timeout: Duration::from_secs(90),
            run_timeout: None,
            stop_signal: Signal::TERM,
            stop_timeout: Duration::from_secs(10),
            reload: None,
            kill: Kill::ProcessGroup,
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
    /// run again, so for it `Always` means `OnFailure`.
    #[must_use]
    pub fn effective_restart(&self) -> Restart {
        match (self.restart, self.kind) {
            (Restart::Auto, Kind::Daemon) => Restart::Always,
            (Restart::Auto, Kind::OneShot) => Restart::Never,
            (Restart::Always, Kind::OneShot) => Restart::OnFailure,
            (policy, _) => policy,
        }
    }
}

/// Reads specs from TOML text: one `[[service]]` table each, fields in kebab case, durations as
/// `"500ms"`, `"5s"`, `"2m"` or a number of seconds.
///
/// # Errors
/// What is not understood, with its line. Whether the services are sound together is
/// [`Graph::new`](crate::Graph::new)'s to say.
///
/// ```
/// let text = "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nreadiness = { notify-fd = 3 }\n";
/// assert_eq!(kiln_supervisor::specs_from_toml(text)?[0].name, "a");
/// # Ok::<(), toml::de::Error>(())
/// ```
#[cfg(feature = "toml")]
pub fn specs_from_toml(text: &str) -> Result<Vec<ServiceSpec>, toml::de::Error> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        #[serde(default)]
        service: Vec<ServiceSpec>,
    }
    toml::from_str::<File>(text).map(|file| file.service)
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

/// How a service says that it is ready for those that require it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Readiness {
    /// Running is being ready.
    #[default]
    None,
    /// It writes a newline to this descriptor (at least 3), as s6 defined it:
    /// <https://skarnet.org/software/s6/notifywhenup.html>. The number is also put into
    /// the variable `NOTIFY_FD`.
    NotifyFd(u32),
    /// It sends `READY=1` to the datagram socket named by `NOTIFY_SOCKET`, as sd_notify(3) does.
    /// Only the service's main process is believed.
    SdNotify,
}

/// Whom signals go to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
pub enum Kill {
    /// The main process and what is left of its process group; the rest of the group is killed
    /// when the main process has ended, so that no half of a service survives it.
    #[default]
    ProcessGroup,
    /// The main process alone: its children are its own affair and live on (a Nomad agent's tasks).
    Process,
}

/// Where a service's standard output and error go. Standard input is always `/dev/null`, unless
/// there is a [`ServiceSpec::tty`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum Log {
    /// `NAME.log` in the shell's log directory if it has one, otherwise [`Log::Inherit`].
    #[default]
    Auto,
    /// The supervisor's own descriptors 1 and 2.
    Inherit,
    /// Nowhere.
    Null,
    /// Line by line to the supervisor's standard error, with the service's name in front.
    Console,
    /// A file that is rotated by size.
    File(LogFile),
}

/// A log file: `path`, and `path.1` (newest) to `path.N` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct LogFile {
    /// The current file.
    pub path: PathBuf,
    /// Bytes after which it is rotated (default 1 MiB).
    pub max_bytes: u64,
    /// How many rotated files are kept (default 3).
    pub keep: u32,
}

impl Default for LogFile {
    fn default() -> Self {
        Self { path: PathBuf::new(), max_bytes: 1 << 20, keep: 3 }
    }
}

impl LogFile {
    /// A log at `path` with the default bounds.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }
}

/// A signal by its Linux number (signal(7), x86 and ARM column).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// `SIGHUP`.
    pub const HUP: Self = Self(1);
    /// `SIGINT`.
    pub const INT: Self = Self(2);
    /// `SIGQUIT`.
    pub const QUIT: Self = Self(3);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGCONT`.
    pub const CONT: Self = Self(18);

    /// A signal by number, 1 to 64.
    #[must_use]
    pub fn from_raw(number: i32) -> Option<Self> {
        (1..=64).contains(&number).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Self::from_raw(number).ok_or_else(|| format!("no signal has number {text}"));
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        SIGNALS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| Self(*number))
            .ok_or_else(|| format!("unknown signal {text:?}, expected a name such as TERM"))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.collect_str(&self.0),
        }
    }
}

#[cfg(feature = "serde")]
impl<'de> serde::Deserialize<'de> for Signal {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!("TERM".parse(), Ok(Signal::TERM));
        assert_eq!("SIGKILL".parse(), Ok(Signal::KILL));
        assert_eq!("2".parse(), Ok(Signal::INT));
        assert_eq!("37".parse::<Signal>().map(|s| s.to_string()), Ok("signal 37".into()));
        assert!("SIGNOPE".parse::<Signal>().is_err());
        assert!("0".parse::<Signal>().is_err());
        assert!("65".parse::<Signal>().is_err());
        for (name, number) in SIGNALS {
            assert_eq!(name.parse::<Signal>().map(Signal::as_raw), Ok(number));
        }
    }

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
