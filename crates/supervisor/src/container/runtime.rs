//! The command lines of OCI runtimes: as the specification's `command-line-interface.md` has them, and
//! what each needs beyond that.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::spec::{RuntimeName, Signal};

/// Which container is meant.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// What it is known by.
    pub id: &'a str,
    /// Where the runtime keeps what it knows (default: its own place).
    pub state_dir: Option<&'a Path>,
}

/// What a runtime is asked for.
#[derive(Debug, Clone, Copy)]
pub enum Request<'a> {
    /// Make the container of a bundle, with its first process waiting to be started. Standard input,
    /// output and error are inherited.
    Create {
        /// The bundle's directory.
        bundle: &'a Path,
        /// How many descriptors from 3 on are inherited, too.
        preserve_fds: u32,
    },
    /// Let its first process begin.
    Start,
    /// Send its first process a signal.
    Kill(Signal),
    /// Let go of all that is known of it, and kill what runs of it.
    Delete,
    /// Print what is known of it, as JSON.
    State,
}

impl Request<'_> {
    /// The verb.
    #[must_use]
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Start => "start",
            Self::Kill(_) => "kill",
            Self::Delete => "delete",
            Self::State => "state",
        }
    }
}

/// An OCI runtime, as far as a supervisor needs one. An own implementation is a name and, where the
/// runtime differs from the specification, its own words.
pub trait Runtime: fmt::Debug + Sync {
    /// Its program, by name.
    fn program(&self) -> &'static str;

    /// Words before the verb.
    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    /// Whether it puts the container into a control group that it makes *beside* its own (runc), rather
    /// than to leave it in its own. Who runs it then enters a group below the service's first, so that
    /// the container's comes to lie within the service's as well.
    fn makes_group_beside(&self) -> bool;

    /// The words after the program's name.
    fn arguments(&self, target: &Target<'_>, request: &Request<'_>) -> Vec<OsString> {
        let mut words: Vec<OsString> = self.options().iter().map(OsString::from).collect();
        if let Some(directory) = target.state_dir {
            words.extend(["--root".into(), directory.into()]);
        }
        words.push(request.verb().into());
        match request {
            Request::Create { bundle, preserve_fds } => {
                words.extend(["--bundle".into(), bundle.into()]);
                if *preserve_fds > 0 {
                    words.extend(["--preserve-fds".into(), preserve_fds.to_string().into()]);
                }
            }
            Request::Delete => words.push("--force".into()),
            Request::Start | Request::Kill(_) | Request::State => {}
        }
        words.push(target.id.into());
        if let Request::Kill(signal) = request {
            words.push(signal.as_raw().to_string().into());
        }
        words
    }
}

/// [crun](https://github.com/containers/crun).
#[derive(Debug, Clone, Copy)]
pub struct Crun;

impl Runtime for Crun {
    fn program(&self) -> &'static str {
        RuntimeName::Crun.as_str()
    }

    fn options(&self) -> &'static [&'static str] {
        // The container stays in the group that it is made from: the service's.
        &["--cgroup-manager=disabled"]
    }

    fn makes_group_beside(&self) -> bool {
        false
    }
}

/// [runc](https://github.com/opencontainers/runc), which has no way to leave control groups alone.
#[derive(Debug, Clone, Copy)]
pub struct Runc;

impl Runtime for Runc {
    fn program(&self) -> &'static str {
        RuntimeName::Runc.as_str()
    }

    fn makes_group_beside(&self) -> bool {
        true
    }
}

/// The runtime of a name.
#[must_use]
pub fn runtime(name: RuntimeName) -> &'static dyn Runtime {
    match name {
        RuntimeName::Crun => &Crun,
        RuntimeName::Runc => &Runc,
    }
}

/// What a runtime says of a container, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// `created`, `running` or `stopped`, among others.
    pub status: String,
    /// Its first process, if there is one.
    pub pid: Option<i32>,
}

impl State {
    /// Reads what [`Request::State`] prints.
    ///
    /// # Errors
    /// It is no JSON.
    pub fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        let value: serde_json::Value = serde_json::from_slice(text)?;
        let status = value.get("status").and_then(|status| status.as_str());
        let pid = value.get("pid").and_then(serde_json::Value::as_i64);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 0);
        Ok(Self { status: status.unwrap_or_default().to_owned(), pid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(runtime: &dyn Runtime, state_dir: Option<&Path>) -> Vec<String> {
        let target = Target { id: "web", state_dir };
        [
            Request::Create { bundle: Path::new("/b"), preserve_fds: 0 },
            Request::Create { bundle: Path::new("/b"), preserve_fds: 2 },
            Request::Start,
            Request::Kill(Signal::TERM),
            Request::Delete,
            Request::State,
        ]
        .iter()
        .map(|request| {
            let words = runtime.arguments(&target, request);
            let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
            format!("{} {}", runtime.program(), words.join(" "))
        })
        .collect()
    }

    #[test]
    fn crun_leaves_the_container_in_its_group() {
        assert_eq!(
            lines(&Crun, None),
            [
                "crun --cgroup-manager=disabled create --bundle /b web",
                "crun --cgroup-manager=disabled create --bundle /b --preserve-fds 2 web",
                "crun --cgroup-manager=disabled start web",
                "crun --cgroup-manager=disabled kill web 15",
                "crun --cgroup-manager=disabled delete --force web",
                "crun --cgroup-manager=disabled state web",
            ]
        );
    }

    #[test]
    fn runc_with_a_place_of_its_own() {
        assert_eq!(
            lines(&Runc, Some(Path::new("/run/c"))),
            [
                "runc --root /run/c create --bundle /b web",
                "runc --root /run/c create --bundle /b --preserve-fds 2 web",
                "runc --root /run/c start web",
                "runc --root /run/c kill web 15",
                "runc --root /run/c delete --force web",
                "runc --root /run/c state web",
            ]
        );
    }

    #[test]
    fn states() {
        let running = br#"{"ociVersion":"1.0.2","id":"web","pid":5377,"status":"running"}"#;
        let state = State { status: "running".into(), pid: Some(5377) };
        assert_eq!(State::parse(running).unwrap(), state);
        // runc has the number 0 for one that has ended
        let stopped = State::parse(br#"{"pid":0,"status":"stopped"}"#).unwrap();
        assert_eq!(stopped.pid, None);
        assert!(State::parse(b"container does not exist").is_err());
    }

    #[test]
    fn names() {
        assert_eq!("runc".parse(), Ok(RuntimeName::Runc));
        assert_eq!(
            "docker".parse::<RuntimeName>().unwrap_err(),
            "unknown OCI runtime \"docker\", expected crun or runc"
        );
    }
}
