//! Pod manifests (pods.md, "Pod Manifest Schema").

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::app::{App, Port};
use super::document::{self, Place, listed, object, pairs};
use super::image::{ImageManifest, head};
use super::isolator::{self, Isolator};
use super::names::{Identifier, ImageId, Name, VERSION};
use crate::error::shown;
use crate::{Result, json};

const KEYS: [&str; 9] = [
    "acKind",
    "acVersion",
    "apps",
    "volumes",
    "isolators",
    "annotations",
    "ports",
    "userAnnotations",
    "userLabels",
];

/// Apps that run together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PodManifest {
    /// The version of the specification (`acVersion`).
    pub version: String,
    /// The apps.
    pub apps: Vec<PodApp>,
    /// Directories that apps have in common with each other or with the host.
    pub volumes: Vec<Volume>,
    /// What all apps together may use and do.
    pub isolators: Vec<Isolator>,
    /// Annotations.
    pub annotations: BTreeMap<Identifier, String>,
    /// Ports of the host that lead to apps.
    pub ports: Vec<ExposedPort>,
    /// For people, without a meaning.
    pub user_annotations: BTreeMap<String, String>,
    /// For people, without a meaning.
    pub user_labels: BTreeMap<String, String>,
}

/// An app of a pod.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PodApp {
    /// Its name in the pod.
    pub name: Name,
    /// Its image.
    pub image: PodImage,
    /// What is run instead of what the image says.
    pub app: Option<App>,
    /// Whether the root can only be read.
    pub read_only_root_fs: bool,
    /// Which volumes are where.
    pub mounts: Vec<Mount>,
    /// Annotations, over those of the image.
    pub annotations: BTreeMap<Identifier, String>,
}

/// Which image an app is of. A pod can be run when there is an ID; without, it is a template, and has a
/// name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PodImage {
    /// The image's ID.
    pub id: Option<ImageId>,
    /// The image's name.
    pub name: Option<Identifier>,
    /// Labels that it has.
    pub labels: BTreeMap<Identifier, String>,
}

impl PodImage {
    /// Just this image.
    #[must_use]
    pub fn of_id(id: ImageId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// Whatever image has this name.
    #[must_use]
    pub fn of_name(name: Identifier) -> Self {
        Self { name: Some(name), ..Self::default() }
    }
}

/// A volume at a place of an app's root.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mount {
    /// The volume's name.
    pub volume: Name,
    /// The place, absolute.
    pub path: String,
    /// A volume of the app's own, in place of the pod's.
    pub app_volume: Option<Volume>,
}

impl Mount {
    /// A volume of the pod.
    #[must_use]
    pub fn new(volume: Name, path: impl Into<String>) -> Self {
        Self { volume, path: path.into(), app_volume: None }
    }
}

/// A directory that can be mounted in apps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// Its name.
    pub name: Name,
    /// Whether it can only be read.
    pub read_only: bool,
    /// What it is.
    pub kind: VolumeKind,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum VolumeKind {
    /// A directory of the host.
    Host {
        /// Its path, absolute.
        source: String,
        /// Whether what is mounted in it is there too.
        recursive: bool,
    },
    /// A directory that is made for the pod, and goes with it.
    Empty {
        /// Its mode.
        mode: u16,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
}

impl Volume {
    /// A directory of the host, with all that is mounted in it.
    #[must_use]
    pub fn host(name: Name, source: impl Into<String>) -> Self {
        let kind = VolumeKind::Host { source: source.into(), recursive: true };
        Self { name, read_only: false, kind }
    }

    /// A directory of the pod's, which is root's.
    #[must_use]
    pub fn empty(name: Name) -> Self {
        Self { name, read_only: false, kind: VolumeKind::Empty { mode: 0o755, uid: 0, gid: 0 } }
    }
}

/// A port of the host that leads to an app.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExposedPort {
    /// The name of an app's port.
    pub name: Name,
    /// The host's port.
    pub host_port: u16,
    /// The host's address; all of them, where there is none here.
    pub host_ip: Option<Ipv4Addr>,
    /// The port, where it is none that an app names.
    pub pod_port: Option<Port>,
}

impl ExposedPort {
    /// A port at all of the host's addresses.
    #[must_use]
    pub fn new(name: Name, host_port: u16) -> Self {
        Self { name, host_port, host_ip: None, pod_port: None }
    }
}

impl PodApp {
    /// An app as its image says.
    #[must_use]
    pub fn new(name: Name, image: PodImage) -> Self {
        Self {
            name,
            image,
            app: None,
            read_only_root_fs: false,
            mounts: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// What is run: what the pod says, else what the image says.
    #[must_use]
    pub fn app<'own>(&'own self, image: &'own ImageManifest) -> Option<&'own App> {
        self.app.as_ref().or(image.app.as_ref())
    }
}

impl Default for PodManifest {
    fn default() -> Self {
        Self {
            version: VERSION.into(),
            apps: Vec::new(),
            volumes: Vec::new(),
            isolators: Vec::new(),
            annotations: BTreeMap::new(),
            ports: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
        }
    }
}

impl PodManifest {
    /// Reads a manifest. `origin` is the file, for messages.
    ///
    /// # Errors
    /// [`Error::Document`](crate::Error::Document) for what is no JSON, with the line;
    /// [`Error::Manifest`](crate::Error::Manifest) with everything that is wrong, each with its path.
    pub fn parse(origin: &str, bytes: &[u8]) -> Result<Self> {
        document::read(origin, bytes, Self::read)
    }

    /// The manifest as JSON: equal manifests have equal bytes.
    ///
    /// # Errors
    /// As [`PodManifest::parse`], for values that no manifest may have.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let bytes = json::write(&self.value())?;
        Self::parse("pod manifest", &bytes).map(|_| bytes)
    }

    fn read(place: &Place<'_>) -> Option<Self> {
        let fields = place.fields(&KEYS)?;
        let head = head(&fields, "PodManifest");
        let apps = fields.required("apps", |place| {
            let apps = place.list(PodApp::read)?;
            place.unique(apps.iter().map(|app| app.name.as_str()));
            Some(apps)
        });
        let volumes = fields.or_default("volumes", |place| {
            let volumes = place.list(Volume::read)?;
            place.unique(volumes.iter().map(|volume| volume.name.as_str()));
            Some(volumes)
        });
        let isolators = fields.or_default("isolators", isolator::read);
        let annotations = fields.or_default("annotations", Place::pairs);
        let ports = fields.or_default("ports", |place| place.list(exposed));
        let user_annotations = fields.or_default("userAnnotations", Place::texts);
        let user_labels = fields.or_default("userLabels", Place::texts);
        Some(Self {
            version: head?,
            apps: apps?,
            volumes: volumes?,
            isolators: isolators?,
            annotations: annotations?,
            ports: ports?,
            user_annotations: user_annotations?,
            user_labels: user_labels?,
        })
    }

    fn value(&self) -> Value {
        let ports = self.ports.iter().map(|port| {
            object([
                ("name", Some(json!(port.name.as_str()))),
                ("hostPort", Some(json!(port.host_port))),
                ("hostIP", port.host_ip.map(|address| json!(address.to_string()))),
                ("podPort", port.pod_port.as_ref().map(Port::value)),
            ])
        });
        object([
            ("acKind", Some(json!("PodManifest"))),
            ("acVersion", Some(json!(self.version))),
            ("apps", Some(self.apps.iter().map(PodApp::value).collect())),
            ("volumes", listed(self.volumes.iter().map(Volume::value).collect())),
            ("isolators", listed(isolator::write(&self.isolators))),
            ("annotations", listed(pairs(&self.annotations))),
            ("ports", listed(ports.collect())),
            ("userAnnotations", listed(json!(self.user_annotations))),
            ("userLabels", listed(json!(self.user_labels))),
        ])
    }
}

impl PodApp {
    fn read(place: &Place<'_>) -> Option<Self> {
        let fields =
            place.fields(&["name", "image", "app", "readOnlyRootFS", "mounts", "annotations"])?;
        let name = fields.required("name", Place::parsed);
        let image = fields.required("image", |place| {
            let fields = place.fields(&["id", "name", "labels"])?;
            let id = fields.optional("id", Place::parsed);
            let name = fields.optional("name", Place::parsed);
            let labels = fields.or_default("labels", Place::labels);
            let image = PodImage { id: id?, name: name?, labels: labels? };
            if image.id.is_none() && image.name.is_none() {
                return place.refuse("it has neither an id nor a name");
            }
            Some(image)
        });
        let app = fields.optional("app", App::read);
        let read_only_root_fs = fields.or_default("readOnlyRootFS", Place::boolean);
        let mounts = fields.or_default("mounts", |place| place.list(mount));
        let annotations = fields.or_default("annotations", Place::pairs);
        Some(Self {
            name: name?,
            image: image?,
            app: app?,
            read_only_root_fs: read_only_root_fs?,
            mounts: mounts?,
            annotations: annotations?,
        })
    }

    fn value(&self) -> Value {
        let image = object([
            ("id", self.image.id.as_ref().map(|id| json!(id.as_str()))),
            ("name", self.image.name.as_ref().map(|name| json!(name.as_str()))),
            ("labels", listed(pairs(&self.image.labels))),
        ]);
        let mounts = self.mounts.iter().map(|mount| {
            object([
                ("volume", Some(json!(mount.volume.as_str()))),
                ("path", Some(json!(mount.path))),
                ("appVolume", mount.app_volume.as_ref().map(Volume::value)),
            ])
        });
        object([
            ("name", Some(json!(self.name.as_str()))),
            ("image", Some(image)),
            ("app", self.app.as_ref().map(App::value)),
            ("readOnlyRootFS", Some(json!(self.read_only_root_fs))),
            ("mounts", listed(mounts.collect())),
            ("annotations", listed(pairs(&self.annotations))),
        ])
    }
}

fn mount(place: &Place<'_>) -> Option<Mount> {
    let fields = place.fields(&["volume", "path", "appVolume"])?;
    let volume = fields.required("volume", Place::parsed);
    let path = fields.required("path", Place::path);
    let app_volume = fields.optional("appVolume", Volume::read);
    Some(Mount { volume: volume?, path: path?, app_volume: app_volume? })
}

fn exposed(place: &Place<'_>) -> Option<ExposedPort> {
    let fields = place.fields(&["name", "hostPort", "hostIP", "podPort"])?;
    let name = fields.required("name", Place::parsed);
    let host_port = fields.required("hostPort", |place| place.number(1, 65535));
    let host_ip = fields.optional("hostIP", |place| match place.text()? {
        // What a program in Go writes for no address.
        "" => Some(None),
        text => match text.parse() {
            Ok(address) => Some(Some(address)),
            Err(_) => {
                let text = shown(text.as_bytes());
                place.refuse(format_args!("{text:?} is no address of IPv4"))
            }
        },
    });
    let pod_port = fields.optional("podPort", Port::read);
    Some(ExposedPort {
        name: name?,
        host_port: host_port?,
        host_ip: host_ip?.flatten(),
        pod_port: pod_port?,
    })
}

impl Volume {
    fn read(place: &Place<'_>) -> Option<Self> {
        let keys = ["name", "kind", "readOnly", "source", "recursive", "mode", "uid", "gid"];
        let fields = place.fields(&keys)?;
        let name = fields.required("name", Place::parsed);
        let read_only = fields.or_default("readOnly", Place::boolean);
        let kind = fields.required("kind", Place::string);
        let source = fields.optional("source", Place::path);
        let recursive = fields.optional("recursive", Place::boolean);
        let mode = fields.optional("mode", |place| {
            let text = place.text()?;
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let mode = u16::from_str_radix(text, 8).ok().filter(|mode| digits && *mode <= 0o7777);
            mode.or_else(|| place.refuse(format_args!("{:?} is no mode", shown(text.as_bytes()))))
        });
        let id = |place: &Place<'_>| place.number(0, i64::from(u32::MAX) - 1);
        let (uid, gid) = (fields.optional("uid", id), fields.optional("gid", id));
        let (source, recursive, mode) = (source?, recursive?, mode?);
        let (uid, gid) = (uid?, gid?);
        let kind = match kind?.as_str() {
            "host" => {
                if mode.is_some() || uid.is_some() || gid.is_some() {
                    return place.refuse("mode, uid and gid are for volumes of kind empty");
                }
                let Some(source) = source else {
                    return place.refuse("a volume of kind host has a source");
                };
                VolumeKind::Host { source, recursive: recursive.unwrap_or(true) }
            }
            "empty" => {
                if source.is_some() {
                    return place.refuse("a source is for volumes of kind host");
                }
                VolumeKind::Empty {
                    mode: mode.unwrap_or(0o755),
                    uid: uid.unwrap_or(0),
                    gid: gid.unwrap_or(0),
                }
            }
            other => {
                let other = shown(other.as_bytes());
                return place.refuse(format_args!("kind {other:?} is neither host nor empty"));
            }
        };
        Some(Self { name: name?, read_only: read_only?, kind })
    }

    fn value(&self) -> Value {
        let (kind, source, recursive, mode, uid, gid) = match &self.kind {
            VolumeKind::Host { source, recursive } => {
                ("host", Some(json!(source)), Some(json!(recursive)), None, None, None)
            }
            VolumeKind::Empty { mode, uid, gid } => {
                let mode = json!(format!("{mode:04o}"));
                ("empty", None, None, Some(mode), Some(json!(uid)), Some(json!(gid)))
            }
        };
        object([
            ("name", Some(json!(self.name.as_str()))),
            ("kind", Some(json!(kind))),
            ("readOnly", Some(json!(self.read_only))),
            ("source", source),
            ("recursive", recursive),
            ("mode", mode),
            ("uid", uid),
            ("gid", gid),
        ])
    }
}
