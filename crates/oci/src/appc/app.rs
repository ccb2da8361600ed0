//! What of an image is run, and how (aci.md, "Image Manifest Schema", `app`).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::{Place, listed, object, pairs};
use super::isolator::{self, Isolator};
use super::names::Name;
use crate::error::shown;

const KEYS: [&str; 13] = [
    "exec",
    "user",
    "group",
    "supplementaryGIDs",
    // So it is called in the specification's own example, and so appc's own reader takes it.
    "supplementaryGids",
    "eventHandlers",
    "workingDirectory",
    "environment",
    "mountPoints",
    "ports",
    "isolators",
    "userAnnotations",
    "userLabels",
];

/// An app.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct App {
    /// The program and its arguments.
    pub exec: Vec<String>,
    /// A name, a number, or the absolute path of a file whose owner it is.
    pub user: String,
    /// A name, a number, or the absolute path of a file whose group it is.
    pub group: String,
    /// Further groups.
    pub supplementary_gids: Vec<u32>,
    /// What is run before the app, and must end well.
    pub pre_start: Option<Vec<String>>,
    /// What is run after the app.
    pub post_stop: Option<Vec<String>>,
    /// The working directory. Without, it is the root.
    pub working_directory: Option<String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// Where something of outside is wanted.
    pub mount_points: Vec<MountPoint>,
    /// Where it listens.
    pub ports: Vec<Port>,
    /// What it may use and do.
    pub isolators: Vec<Isolator>,
    /// For people, without a meaning.
    pub user_annotations: BTreeMap<String, String>,
    /// For people, without a meaning.
    pub user_labels: BTreeMap<String, String>,
}

/// A place of a root at which something of outside is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MountPoint {
    /// By which a volume is found for it.
    pub name: Name,
    /// The place, absolute.
    pub path: String,
    /// Whether it is only read.
    pub read_only: bool,
}

impl MountPoint {
    /// A place that is written to.
    #[must_use]
    pub fn new(name: Name, path: impl Into<String>) -> Self {
        Self { name, path: path.into(), read_only: false }
    }
}

/// Ports at which an app listens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Port {
    /// By which a pod speaks of it.
    pub name: Name,
    /// `tcp`, `udp` or what else.
    pub protocol: String,
    /// The first.
    pub port: u16,
    /// How many. At least 1.
    pub count: u16,
    /// Whether the app is given sockets that listen already (sd_listen_fds(3)).
    pub socket_activated: bool,
}

impl Port {
    /// One port.
    #[must_use]
    pub fn new(name: Name, protocol: impl Into<String>, port: u16) -> Self {
        Self { name, protocol: protocol.into(), port, count: 1, socket_activated: false }
    }

    pub(super) fn read(place: &Place<'_>) -> Option<Self> {
        let fields = place.fields(&["name", "protocol", "port", "count", "socketActivated"])?;
        let name = fields.required("name", Place::parsed);
        let protocol = fields.required("protocol", Place::string);
        let port: Option<u16> = fields.required("port", |place| place.number(1, 65535));
        let count: Option<Option<u16>> = fields.optional("count", |place| place.number(1, 65535));
        let socket_activated = fields.or_default("socketActivated", Place::boolean);
        let (port, count) = (port?, count?.unwrap_or(1));
        if u32::from(port).saturating_add(u32::from(count)) > 65536 {
            return place.refuse(format_args!("{count} ports from {port} on go beyond 65535"));
        }
        Some(Self {
            name: name?,
            protocol: protocol?,
            port,
            count,
            socket_activated: socket_activated?,
        })
    }

    pub(super) fn value(&self) -> Value {
        object([
            ("name", Some(json!(self.name.as_str()))),
            ("protocol", Some(json!(self.protocol))),
            ("port", Some(json!(self.port))),
            ("count", Some(json!(self.count))),
            ("socketActivated", Some(json!(self.socket_activated))),
        ])
    }
}

impl App {
    /// A program that root runs, with its arguments.
    #[must_use]
    pub fn new(exec: Vec<String>) -> Self {
        Self {
            exec,
            user: "0".into(),
            group: "0".into(),
            supplementary_gids: Vec::new(),
            pre_start: None,
            post_stop: None,
            working_directory: None,
            environment: BTreeMap::new(),
            mount_points: Vec::new(),
            ports: Vec::new(),
            isolators: Vec::new(),
            user_annotations: BTreeMap::new(),
            user_labels: BTreeMap::new(),
        }
    }

    pub(super) fn read(place: &Place<'_>) -> Option<Self> {
        let fields = place.fields(&KEYS)?;
        let exec = fields.or_default("exec", Place::strings);
        let who = |place: &Place<'_>| match place.string()? {
            empty if empty.is_empty() => place.refuse("it is empty"),
            // It could be no name of passwd(5).
            text if text.contains([':', '\n']) => place.refuse("it has a colon or a line feed"),
            text => Some(text),
        };
        let user = fields.required("user", who);
        let group = fields.required("group", who);
        let gids = |place: &Place<'_>| place.list(|place| place.number(0, i64::from(u32::MAX) - 1));
        let by_name = fields.optional("supplementaryGIDs", gids);
        let by_example = fields.optional("supplementaryGids", gids);
        let handlers = fields.or_default("eventHandlers", handlers);
        let working_directory = fields.optional("workingDirectory", |place| {
            // Empty is what it is where nothing is said.
            if place.value == "" { Some(None) } else { place.path().map(Some) }
        });
        let environment = fields.or_default("environment", environment);
        let mount_points = fields.or_default("mountPoints", |place| {
            let points = place.list(mount_point)?;
            place.unique(points.iter().map(|point| point.name.as_str()));
            place.unique(points.iter().map(|point| point.path.as_str()));
            Some(points)
        });
        let ports = fields.or_default("ports", |place| {
            let ports = place.list(Port::read)?;
            place.unique(ports.iter().map(|port| port.name.as_str()));
            Some(ports)
        });
        let isolators = fields.or_default("isolators", isolator::read);
        let user_annotations = fields.or_default("userAnnotations", Place::texts);
        let user_labels = fields.or_default("userLabels", Place::texts);
        let supplementary_gids = match (by_name?, by_example?) {
            (Some(_), Some(_)) => {
                return place.refuse("supplementaryGIDs and supplementaryGids are the same");
            }
            (by_name, by_example) => by_name.or(by_example).unwrap_or_default(),
        };
        let (pre_start, post_stop) = handlers?;
        Some(Self {
            exec: exec?,
            user: user?,
            group: group?,
            supplementary_gids,
            pre_start,
            post_stop,
            working_directory: working_directory?.flatten(),
            environment: environment?,
            mount_points: mount_points?,
            ports: ports?,
            isolators: isolators?,
            user_annotations: user_annotations?,
            user_labels: user_labels?,
        })
    }

    pub(super) fn value(&self) -> Value {
        let handlers = [("pre-start", &self.pre_start), ("post-stop", &self.post_stop)];
        let handlers = handlers
            .into_iter()
            .filter_map(|(name, exec)| Some(json!({ "name": name, "exec": exec.as_ref()? })));
        let points = self.mount_points.iter().map(|point| {
            json!({
                "name": point.name.as_str(),
                "path": point.path,
                "readOnly": point.read_only,
            })
        });
        object([
            ("exec", Some(json!(self.exec))),
            ("user", Some(json!(self.user))),
            ("group", Some(json!(self.group))),
            ("supplementaryGIDs", listed(json!(self.supplementary_gids))),
            ("eventHandlers", listed(handlers.collect())),
            ("workingDirectory", self.working_directory.as_ref().map(|path| json!(path))),
            ("environment", listed(pairs(&self.environment))),
            ("mountPoints", listed(points.collect())),
            ("ports", listed(self.ports.iter().map(Port::value).collect())),
            ("isolators", listed(isolator::write(&self.isolators))),
            ("userAnnotations", listed(json!(self.user_annotations))),
            ("userLabels", listed(json!(self.user_labels))),
        ])
    }
}

/// What is run before and after.
type Handlers = (Option<Vec<String>>, Option<Vec<String>>);

fn handlers(place: &Place<'_>) -> Option<Handlers> {
    let list = place.list(|place| {
        let fields = place.fields(&["name", "exec"])?;
        let name = fields.required("name", |place| match place.text()? {
            name @ ("pre-start" | "post-stop") => Some(name.to_owned()),
            other => {
                let other = shown(other.as_bytes());
                place.refuse(format_args!("{other:?} is neither pre-start nor post-stop"))
            }
        });
        let exec = fields.required("exec", |place| match place.strings()? {
            empty if empty.is_empty() => place.refuse("it is empty"),
            exec => Some(exec),
        });
        Some((name?, exec?))
    })?;
    place.unique(list.iter().map(|(name, _)| name.as_str()));
    let of =
        |wanted: &str| list.iter().find(|(name, _)| name == wanted).map(|(_, exec)| exec.clone());
    Some((of("pre-start"), of("post-stop")))
}

fn mount_point(place: &Place<'_>) -> Option<MountPoint> {
    let fields = place.fields(&["name", "path", "readOnly"])?;
    let name = fields.required("name", Place::parsed);
    let path = fields.required("path", Place::path);
    let read_only = fields.or_default("readOnly", Place::boolean);
    Some(MountPoint { name: name?, path: path?, read_only: read_only? })
}

/// Whether the environment may have a variable of this name (aci.md, `environment`).
pub(super) fn is_variable(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn environment(place: &Place<'_>) -> Option<BTreeMap<String, String>> {
    let list = place.list(|place| {
        let fields = place.fields(&["name", "value"])?;
        let name = fields.required("name", |place| {
            let name = place.string()?;
            if is_variable(&name) {
                return Some(name);
            }
            let name = shown(name.as_bytes());
            place.refuse(format_args!(
                "{name:?} is no variable: it has letters, digits, '_', '.' and '-', and does not \
                 begin with a digit"
            ))
        });
        let value = fields.required("value", Place::string);
        Some((name?, value?))
    })?;
    place.unique(list.iter().map(|(name, _)| name.as_str()));
    Some(list.into_iter().collect())
}
