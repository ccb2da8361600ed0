//! Isolators: what an app or a pod may use and do (ace.md, "Isolators").

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::document::{Place, object};
use super::names::Identifier;
use super::quantity::Quantity;
use crate::error::shown;

/// An isolator. What nobody here knows is [`Isolator::Other`], for whoever runs the app to accept or to
/// refuse: a pod is never run as though it were not there.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Isolator {
    /// `resource/cpu`: processors, in thousandths.
    Cpu(Resource),
    /// `resource/memory`: bytes.
    Memory(Resource),
    /// `resource/block-bandwidth`: bytes read and written in a second, of each block device.
    BlockBandwidth(Quantity),
    /// `resource/block-iops`: operations in a second, of each block device.
    BlockIops(Quantity),
    /// `resource/network-bandwidth`: bytes in a second, on each interface but the loopback.
    NetworkBandwidth(Quantity),
    /// `os/linux/capabilities-retain-set`: these and no others.
    CapabilitiesRetainSet(BTreeSet<String>),
    /// `os/linux/capabilities-remove-set`: the usual ones without these.
    CapabilitiesRemoveSet(BTreeSet<String>),
    /// `os/linux/no-new-privileges`.
    NoNewPrivileges(bool),
    /// `os/linux/seccomp-retain-set`: these system calls and no others.
    SeccompRetainSet(Seccomp),
    /// `os/linux/seccomp-remove-set`: all system calls but these.
    SeccompRemoveSet(Seccomp),
    /// `os/linux/oom-score-adj`, from -1000 to 1000.
    OomScoreAdj(i16),
    /// `os/linux/cpu-shares`, from 2 to 262144.
    CpuShares(u32),
    /// `os/linux/selinux-context`.
    SelinuxContext {
        /// The context's user.
        user: String,
        /// Its role.
        role: String,
        /// Its type.
        kind: String,
        /// Its level.
        level: String,
    },
    /// `os/linux/apparmor-profile`, by its name.
    ApparmorProfile(String),
    /// `os/unix/sysctl`, of a pod.
    Sysctl(BTreeMap<String, String>),
    /// Any other.
    Other {
        /// Its name.
        name: Identifier,
        /// What it says.
        value: Value,
    },
}

/// How much of a resource there is for sure, and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Resource {
    /// What there is for sure. Without, it is the limit.
    pub request: Option<Quantity>,
    /// What there is at most.
    pub limit: Option<Quantity>,
}

impl Resource {
    /// At most so much.
    #[must_use]
    pub fn limited_to(limit: Quantity) -> Self {
        Self { request: None, limit: Some(limit) }
    }

    /// The same, with so much for sure.
    #[must_use]
    pub fn requesting(mut self, request: Quantity) -> Self {
        self.request = Some(request);
        self
    }
}

/// A set of system calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Seccomp {
    /// Their names; `@SCOPE/NAME` is a set of somebody's.
    pub set: BTreeSet<String>,
    /// The error that a call gives that is not allowed (`EPERM`). Without, it ends the app.
    pub errno: Option<String>,
}

const CPU: &str = "resource/cpu";
const MEMORY: &str = "resource/memory";
const BLOCK_BANDWIDTH: &str = "resource/block-bandwidth";
const BLOCK_IOPS: &str = "resource/block-iops";
const NETWORK_BANDWIDTH: &str = "resource/network-bandwidth";
const RETAIN: &str = "os/linux/capabilities-retain-set";
const REMOVE: &str = "os/linux/capabilities-remove-set";
const NO_NEW_PRIVILEGES: &str = "os/linux/no-new-privileges";
const SECCOMP_RETAIN: &str = "os/linux/seccomp-retain-set";
const SECCOMP_REMOVE: &str = "os/linux/seccomp-remove-set";
const OOM_SCORE_ADJ: &str = "os/linux/oom-score-adj";
const CPU_SHARES: &str = "os/linux/cpu-shares";
const SELINUX: &str = "os/linux/selinux-context";
const APPARMOR: &str = "os/linux/apparmor-profile";
const SYSCTL: &str = "os/unix/sysctl";

impl Isolator {
    /// The name in a manifest.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu(_) => CPU,
            Self::Memory(_) => MEMORY,
            Self::BlockBandwidth(_) => BLOCK_BANDWIDTH,
            Self::BlockIops(_) => BLOCK_IOPS,
            Self::NetworkBandwidth(_) => NETWORK_BANDWIDTH,
            Self::CapabilitiesRetainSet(_) => RETAIN,
            Self::CapabilitiesRemoveSet(_) => REMOVE,
            Self::NoNewPrivileges(_) => NO_NEW_PRIVILEGES,
            Self::SeccompRetainSet(_) => SECCOMP_RETAIN,
            Self::SeccompRemoveSet(_) => SECCOMP_REMOVE,
            Self::OomScoreAdj(_) => OOM_SCORE_ADJ,
            Self::CpuShares(_) => CPU_SHARES,
            Self::SelinuxContext { .. } => SELINUX,
            Self::ApparmorProfile(_) => APPARMOR,
            Self::Sysctl(_) => SYSCTL,
            Self::Other { name, .. } => name.as_str(),
        }
    }

    /// The value in a manifest.
    #[must_use]
    pub fn value(&self) -> Value {
        let text =
            |quantity: &Option<Quantity>| quantity.map(|quantity| json!(quantity.to_string()));
        match self {
            Self::Cpu(resource) | Self::Memory(resource) => {
                object([("request", text(&resource.request)), ("limit", text(&resource.limit))])
            }
            Self::BlockBandwidth(limit)
            | Self::BlockIops(limit)
            | Self::NetworkBandwidth(limit) => {
                json!({ "default": true, "limit": limit.to_string() })
            }
            Self::CapabilitiesRetainSet(set) | Self::CapabilitiesRemoveSet(set) => {
                json!({ "set": set })
            }
            Self::NoNewPrivileges(value) => json!(value),
            Self::SeccompRetainSet(seccomp) | Self::SeccompRemoveSet(seccomp) => object([
                ("set", Some(json!(seccomp.set))),
                ("errno", seccomp.errno.as_ref().map(|errno| json!(errno))),
            ]),
            Self::OomScoreAdj(value) => json!(value),
            Self::CpuShares(value) => json!(value),
            Self::SelinuxContext { user, role, kind, level } => {
                json!({ "user": user, "role": role, "type": kind, "level": level })
            }
            Self::ApparmorProfile(profile) => json!({ "profile": profile }),
            Self::Sysctl(values) => json!(values),
            Self::Other { value, .. } => value.clone(),
        }
    }
}

/// Isolators of an app or a pod.
pub(super) fn read(place: &Place<'_>) -> Option<Vec<Isolator>> {
    let isolators = place.list(one)?;
    let known = |isolator: &&Isolator| !matches!(isolator, Isolator::Other { .. });
    place.unique(isolators.iter().filter(known).map(Isolator::name));
    let has = |name: &str| isolators.iter().any(|isolator| isolator.name() == name);
    for (one, other) in [(RETAIN, REMOVE), (SECCOMP_RETAIN, SECCOMP_REMOVE)] {
        if has(one) && has(other) {
            return place.refuse(format_args!("{one} and {other} exclude each other"));
        }
    }
    Some(isolators)
}

pub(super) fn write(isolators: &[Isolator]) -> Value {
    isolators
        .iter()
        .map(|isolator| json!({ "name": isolator.name(), "value": isolator.value() }))
        .collect()
}

fn one(place: &Place<'_>) -> Option<Isolator> {
    let fields = place.fields(&["name", "value"])?;
    let name: Option<Identifier> = fields.required("name", Place::parsed);
    fields.required("value", |place| {
        let name = name?;
        Some(match name.as_str() {
            CPU => Isolator::Cpu(resource(place)?),
            MEMORY => Isolator::Memory(resource(place)?),
            BLOCK_BANDWIDTH => Isolator::BlockBandwidth(bandwidth(place)?),
            BLOCK_IOPS => Isolator::BlockIops(bandwidth(place)?),
            NETWORK_BANDWIDTH => Isolator::NetworkBandwidth(bandwidth(place)?),
            RETAIN => Isolator::CapabilitiesRetainSet(capabilities(place)?),
            REMOVE => Isolator::CapabilitiesRemoveSet(capabilities(place)?),
            NO_NEW_PRIVILEGES => Isolator::NoNewPrivileges(place.boolean()?),
            SECCOMP_RETAIN => Isolator::SeccompRetainSet(seccomp(place)?),
            SECCOMP_REMOVE => Isolator::SeccompRemoveSet(seccomp(place)?),
            OOM_SCORE_ADJ => Isolator::OomScoreAdj(place.number(-1000, 1000)?),
            CPU_SHARES => Isolator::CpuShares(place.number(2, 262_144)?),
            SELINUX => selinux(place)?,
            APPARMOR => {
                let fields = place.fields(&["profile"])?;
                Isolator::ApparmorProfile(fields.required("profile", filled)?)
            }
            SYSCTL => Isolator::Sysctl(place.texts()?),
            _ => Isolator::Other { name, value: place.value.clone() },
        })
    })
}

fn filled(place: &Place<'_>) -> Option<String> {
    match place.string()? {
        empty if empty.is_empty() => place.refuse("it is empty"),
        text => Some(text),
    }
}

/// A string, or a whole number, which Kubernetes takes as well.
fn quantity(place: &Place<'_>) -> Option<Quantity> {
    match place.value.as_u64() {
        Some(number) => Some(Quantity::units(number)),
        None => place.parsed(),
    }
}

/// `default` is for resources that there are several of: it is true for those and false for others.
fn resource(place: &Place<'_>) -> Option<Resource> {
    let fields = place.fields(&["default", "request", "limit"])?;
    let default = fields.or_default("default", Place::boolean);
    let request = fields.optional("request", quantity);
    let limit = fields.optional("limit", quantity);
    let (default, request, limit) = (default?, request?, limit?);
    if default {
        return place.refuse("default is not for this resource");
    }
    match (request, limit) {
        (None, None) => place.refuse("it has neither a request nor a limit"),
        (Some(request), Some(limit)) if request > limit => {
            place.refuse(format_args!("the request ({request}) is above the limit ({limit})"))
        }
        _ => Some(Resource { request, limit }),
    }
}

fn bandwidth(place: &Place<'_>) -> Option<Quantity> {
    let fields = place.fields(&["default", "request", "limit"])?;
    let default = fields.required("default", Place::boolean);
    let request = fields.optional("request", quantity);
    let limit = fields.required("limit", quantity);
    let (default, request, limit) = (default?, request?, limit?);
    if !default {
        return place.refuse("default is not true");
    }
    if request.is_some() {
        return place.refuse("there is no request of this resource");
    }
    Some(limit)
}

fn set(place: &Place<'_>) -> Option<BTreeSet<String>> {
    let list = place.list(filled)?;
    place.unique(list.iter().map(String::as_str));
    if list.is_empty() { place.refuse("it is empty") } else { Some(list.into_iter().collect()) }
}

fn capabilities(place: &Place<'_>) -> Option<BTreeSet<String>> {
    place.fields(&["set"])?.required("set", |place| {
        let set = set(place)?;
        match set.iter().find(|name| !crate::bundle::is_capability(name)) {
            Some(bad) => {
                let bad = shown(bad.as_bytes());
                place.refuse(format_args!("there is no capability {bad:?}"))
            }
            None => Some(set),
        }
    })
}

fn seccomp(place: &Place<'_>) -> Option<Seccomp> {
    let fields = place.fields(&["set", "errno"])?;
    let set = fields.required("set", set);
    let errno = fields.or_default("errno", |place| {
        let text = place.string()?;
        if text.is_empty() || super::errno::number(&text).is_some() {
            return Some(text);
        }
        place.refuse(format_args!("{:?} is no error of Linux", shown(text.as_bytes())))
    });
    let errno = errno?;
    Some(Seccomp { set: set?, errno: (!errno.is_empty()).then_some(errno) })
}

fn selinux(place: &Place<'_>) -> Option<Isolator> {
    let fields = place.fields(&["user", "role", "type", "level"])?;
    let part = |place: &Place<'_>| {
        let text = filled(place)?;
        if text.contains(':') { place.refuse("it has a colon") } else { Some(text) }
    };
    let (user, role) = (fields.required("user", part), fields.required("role", part));
    let kind = fields.required("type", part);
    // A range of categories has colons: s0:c1,c2.
    let level = fields.required("level", filled);
    Some(Isolator::SelinuxContext { user: user?, role: role?, kind: kind?, level: level? })
}
