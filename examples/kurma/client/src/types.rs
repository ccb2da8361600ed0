//! Pods and images, as they are spoken of.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Where a pod is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum PodState {
    /// It is known, and nothing of it is there yet.
    New,
    /// Its network, its files and its apps are being made.
    Starting,
    /// At least one of its apps runs.
    Running,
    /// It has been told to end.
    Stopping,
    /// It was told to end, and has.
    Stopped,
    /// All of its apps have ended by themselves, or it could not be started.
    Exited,
}

impl PodState {
    /// The name, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "NEW",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Stopping => "STOPPING",
            Self::Stopped => "STOPPED",
            Self::Exited => "EXITED",
        }
    }

    /// Whether something of it may run.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::New | Self::Starting | Self::Running | Self::Stopping)
    }
}

impl fmt::Display for PodState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A pod: apps that share a network and end together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pod {
    /// What it is known by: 32 hexadecimal digits in five groups (RFC 9562).
    pub uuid: String,
    /// What people call it.
    pub name: String,
    /// Where it is in its life.
    pub state: PodState,
    /// Its manifest, as appc has it.
    pub pod: Value,
    /// Its apps.
    #[serde(default)]
    pub apps: Vec<App>,
    /// Where it is reached.
    #[serde(default)]
    pub networks: Vec<Lease>,
    /// When it was asked for, in seconds since 1970.
    pub created: u64,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Pod {
    /// A new one.
    #[must_use]
    pub fn new(uuid: String, name: String, pod: Value, created: u64) -> Self {
        let (apps, networks) = (Vec::new(), Vec::new());
        Self { uuid, name, state: PodState::New, pod, apps, networks, created, error: None }
    }
}

/// Where an app is in its life.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AppState {
    /// It has not been started yet.
    #[default]
    Waiting,
    /// It runs.
    Running,
    /// It has ended.
    Ended,
    /// It could not be started.
    Failed,
}

/// An app of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct App {
    /// Its name in the pod.
    pub name: String,
    /// The digest of its image.
    pub image: String,
    /// Where it is in its life.
    pub state: AppState,
    /// What it ended with, where it left by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl App {
    /// One that has not been started.
    #[must_use]
    pub fn new(name: impl Into<String>, image: impl Into<String>) -> Self {
        Self { name: name.into(), image: image.into(), ..Self::default() }
    }
}

/// A network that a pod is attached to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Lease {
    /// Its name.
    pub network: String,
    /// The pod's addresses there, with the length of their networks.
    pub addresses: Vec<String>,
    /// Ports of the machine that lead to the pod: `8080:80/tcp`.
    #[serde(default)]
    pub ports: Vec<String>,
}

impl Lease {
    /// Addresses of a network.
    #[must_use]
    pub fn new(network: impl Into<String>, addresses: Vec<String>, ports: Vec<String>) -> Self {
        Self { network: network.into(), addresses, ports }
    }
}

/// What is asked for with `Pods.Create`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Create {
    /// What people are to call it.
    #[serde(default)]
    pub name: String,
    /// The manifest, as appc has it. Absent: a pod of one app, [`image`](Self::image).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Value>,
    /// The image of the only app: its digest, or its name with or without a version (`example.com/web:1.0`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// Which networks it is attached to; absent: the machine's default one. Empty: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// Ports of the machine that are to lead to the pod: `8080:80`, `127.0.0.1:53:53/udp`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<String>,
}

/// An image that the machine has.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Image {
    /// `sha512-…`, of the uncompressed archive, as appc has it.
    pub hash: String,
    /// Its manifest, as appc has it.
    pub manifest: Value,
    /// Bytes on the disk.
    pub size: u64,
}

impl Image {
    /// An image.
    #[must_use]
    pub fn new(hash: String, manifest: Value, size: u64) -> Self {
        Self { hash, manifest, size }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.manifest.get("name").and_then(Value::as_str).unwrap_or("?")
    }

    /// A label of it.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        let labels = self.manifest.get("labels")?.as_array()?;
        let label = labels.iter().find(|label| label.get("name").is_some_and(|one| one == name))?;
        label.get("value")?.as_str()
    }
}

/// What machine it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct HostInfo {
    /// Its name.
    pub hostname: String,
    /// How many processors it has.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// `linux`.
    pub platform: String,
    /// `amd64`.
    pub arch: String,
    /// The version of appc's specification.
    pub ac_version: String,
    /// The server's version.
    pub kurma_version: String,
    /// The kernel's.
    pub kernel_version: String,
    /// What it runs, with its version, as `/etc/os-release` has it (os-release(5), `PRETTY_NAME`).
    pub system: String,
}

/// How another version is put beside the one that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Upgrade {
    /// Even if it is older. At the machine itself alone.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Words that the kernel's command line has besides. At the machine itself alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append: Option<String>,
    /// Starts it without the firmware in between (kexec), the first time.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub kexec: bool,
    /// Leaves the machine as it is until somebody starts it anew.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stay: bool,
}

/// What has become of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Upgraded {
    /// What was done, for people.
    pub message: String,
    /// Whether the machine starts anew now.
    pub restarts: bool,
}

impl Upgraded {
    /// This was done.
    #[must_use]
    pub fn new(message: impl Into<String>, restarts: bool) -> Self {
        Self { message: message.into(), restarts }
    }
}
