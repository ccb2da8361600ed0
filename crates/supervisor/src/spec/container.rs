//! A service that is a container.

use std::path::PathBuf;

use super::{Readiness, ServiceSpec};

/// A container that is run by an OCI runtime in place of a command.
///
/// The service's main process is then a small one of ours that has the runtime make the container,
/// passes signals on to it and ends as it ends: `kiln-supervisor container`, or whatever
/// [`Options::container_command`](crate::unix::Options::container_command) names. What the spec says of
/// users, environment, limits of a process and isolation is for that process and for the runtime; what
/// the container's processes get is in the bundle's `config.json`. `cgroup` bounds both together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[non_exhaustive]
pub struct Container {
    /// The directory with `config.json` and, by its `root.path`, the root file system.
    pub bundle: PathBuf,
    /// Which runtime (default: crun).
    pub runtime: RuntimeName,
    /// Its program (default: its name, looked up in `PATH`).
    pub program: Option<PathBuf>,
    /// What it is known by to the runtime (default: the service's name, with `+` for `@`, which
    /// runtimes do not take). Two services must not share one, nor may anybody else use it.
    pub id: Option<String>,
    /// Where the runtime keeps what it knows of containers (`--root`; default: its own place).
    pub state_dir: Option<PathBuf>,
}

/// An OCI runtime that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
#[non_exhaustive]
pub enum RuntimeName {
    /// [crun](https://github.com/containers/crun).
    #[default]
    Crun,
    /// [runc](https://github.com/opencontainers/runc).
    Runc,
}

impl RuntimeName {
    /// All that are known.
    pub const ALL: [Self; 2] = [Self::Crun, Self::Runc];

    /// The name, which is also its program's.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Crun => "crun",
            Self::Runc => "runc",
        }
    }
}

impl std::fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for RuntimeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(" or ");
            format!("unknown OCI runtime {text:?}, expected {known}")
        })
    }
}

impl Container {
    /// A container of a bundle, run by crun.
    #[must_use]
    pub fn new(bundle: impl Into<PathBuf>) -> Self {
        Self { bundle: bundle.into(), ..Self::default() }
    }

    /// What it is known by to the runtime.
    #[must_use]
    pub fn name_for(&self, spec: &ServiceSpec) -> String {
        self.id.clone().unwrap_or_else(|| spec.name.replace('@', "+"))
    }

    /// The command of a service that is this container, after the words that begin it. The descriptors
    /// that the container inherits are the service's sockets and the one that it says it is ready by,
    /// under the same numbers. Its notification socket, which is another one each time, is not in it.
    ///
    /// ```
    /// use kiln_supervisor::{Container, Readiness, ServiceSpec};
    /// let mut web = ServiceSpec::default();
    /// web.name = "web@1".into();
    /// web.container = Some(Container::new("/var/lib/web").into());
    /// web.readiness = Readiness::NotifyFd(3);
    /// let command = web.container.as_ref().unwrap().command(&["/init", "container"], &web);
    /// assert_eq!(
    ///     command.join(" "),
    ///     "/init container --runtime crun --bundle /var/lib/web --id web+1 --preserve-fds 1"
    /// );
    /// ```
    #[must_use]
    pub fn command<S: AsRef<str>>(&self, begin: &[S], spec: &ServiceSpec) -> Vec<String> {
        let shown = |path: &PathBuf| path.to_string_lossy().into_owned();
        let id = self.name_for(spec);
        let mut words: Vec<String> = begin.iter().map(|word| word.as_ref().to_owned()).collect();
        let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
        option("--runtime", self.runtime.to_string());
        option("--bundle", shown(&self.bundle));
        option("--id", id);
        if let Some(program) = &self.program {
            option("--program", shown(program));
        }
        if let Some(directory) = &self.state_dir {
            option("--state-dir", shown(directory));
        }
        let ready = match spec.readiness {
            Readiness::NotifyFd(number) => number.saturating_sub(2),
            _ => 0,
        };
        let sockets = u32::try_from(spec.sockets.len()).unwrap_or(u32::MAX);
        match ready.max(sockets) {
            0 => {}
            count => option("--preserve-fds", count.to_string()),
        }
        words
    }
}

#[cfg(all(test, feature = "toml"))]
mod tests {
    use super::*;
    use crate::service_file::{Source, parse};

    #[test]
    fn what_is_unknown_has_its_line() {
        let read = |runtime: &str| {
            let text = format!(
                "[[service]]\nname = \"web\"\n\
                 container = {{ bundle = \"/b\", runtime = \"{runtime}\" }}\n"
            );
            parse(&[Source::new("a.toml", text)])
        };
        let container = read("runc").unwrap().specs.remove(0).container.unwrap();
        let expected = Container { runtime: RuntimeName::Runc, ..Container::new("/b") };
        assert_eq!(*container, expected);
        let complaint = read("docker").unwrap_err().to_string();
        assert!(complaint.starts_with("a.toml:3: "), "{complaint}");
        assert!(complaint.contains("unknown value \"docker\""), "{complaint}");
    }
}
