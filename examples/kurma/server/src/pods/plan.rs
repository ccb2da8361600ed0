//! What a pod is to be, judged before anything is made: everything that is wrong is told at once.

use kiln_network::container::Forward;
use kiln_oci::appc::{self, Container, Executor, Isolator, Name, PodApp, PodImage, PodManifest};
use kiln_oci::bundle::{Mount, Network};
use kiln_supervisor::Cgroup;
use kurma_client::Create;
use kurma_client::rpc::{DENIED, Fault, INVALID_PARAMS};
use serde_json::Value;

use super::rights::{self, Rights};
use super::stager::Order;
use super::{Options, Place, Result, limits, ports};
use crate::caller::Caller;
use crate::images::{Found, Images};

/// What a pod is to be.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    pub(super) manifest: Value,
    pub(super) hostname: String,
    pub(super) apps: Vec<Planned>,
    /// Volumes that begin empty.
    pub(super) volumes: Vec<Empty>,
    /// Networks to be attached to; none: the pod is in the machine's.
    pub(super) networks: Option<Vec<String>>,
    pub(super) forwards: Vec<Forward>,
    /// What all apps together may use.
    pub(super) limits: Cgroup,
}

/// An app.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// The digest of its image.
    pub(super) image: String,
    /// The container's `config.json`.
    pub(super) config: Vec<u8>,
    pub(super) order: Order,
}

/// A volume that begins empty.
#[derive(Debug)]
pub(super) struct Empty {
    pub(super) name: String,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// Where a pod with all rights finds the machine's files.
const HOST: &str = "/host";
/// The most apps of a pod.
const APPS: usize = 64;

fn invalid(problems: &[String]) -> Fault {
    Fault::new(INVALID_PARAMS, problems.join("; "))
}

pub(super) fn refused(error: impl ToString) -> Fault {
    Fault::new(INVALID_PARAMS, error.to_string())
}

/// Whether a pod may have a name: it becomes a host name, and a word of commands.
fn check_name(name: &str) -> Result<(), String> {
    let ends = |end: Option<char>| end.is_some_and(|end| end.is_ascii_alphanumeric());
    let plain = |one: char| one.is_ascii_alphanumeric() || "-._".contains(one);
    if name.is_empty()
        || ends(name.chars().next())
            && ends(name.chars().last())
            && name.chars().all(plain)
            && name.len() <= 63
    {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    Err(format!(
        "a pod is called by up to 63 letters, digits, and - . _ between them, not {shown:?}"
    ))
}

/// Judges what is asked for.
pub(super) fn plan(
    create: &Create,
    images: &Images,
    caller: &Caller,
    options: &Options,
    place: &Place,
) -> Result<Plan> {
    check_name(&create.name).map_err(refused)?;
    let mut manifest = manifest(create, images)?;
    let rights = rights::rights(&manifest, caller)?;
    let mut problems = Vec::new();
    if manifest.apps.is_empty() || manifest.apps.len() > APPS {
        problems.push(format!("a pod has 1 to {APPS} apps, not {}", manifest.apps.len()));
        return Err(invalid(&problems));
    }
    // what is asked for more than once is looked up once
    let found: Vec<Result<Found>> =
        manifest.apps.iter().map(|app| images.find_for(&app.image)).collect();
    empty_volumes(&mut manifest, &found);
    rights::volumes(&manifest, caller, options)?;
    let networks = networks(create, rights, options, &mut problems);
    let forwards = ports::forwards(create, &manifest, &found, &mut problems);
    if !forwards.is_empty() && networks.as_ref().is_none_or(Vec::is_empty) {
        problems.push("ports lead to a pod that is on no network of its own".into());
    }
    let (limits, left) = appc::pod_resources(&manifest).map_err(refused)?;
    unknown("the pod", &left, &mut problems);
    let mut apps = Vec::new();
    let context = Context {
        manifest: &manifest,
        rights,
        options,
        place,
        alone: networks.is_some(),
        local: caller.local,
    };
    for (app, found) in manifest.apps.iter().zip(found) {
        match found.and_then(|found| context.app(app, &create.name, &found)) {
            Ok((planned, left)) => {
                unknown(app.name.as_str(), &left, &mut problems);
                apps.push(planned);
            }
            Err(fault) if fault.code == DENIED => return Err(fault),
            Err(fault) => problems.push(fault.message),
        }
    }
    let limits = limits::of(&limits);
    let bounded = limits::any(&limits) || apps.iter().any(|app| limits::any(&app.order.limits));
    if bounded && !options.has_cgroups() {
        problems
            .push("nothing can be bounded: this machine has no control groups of version 2".into());
    }
    if !problems.is_empty() {
        return Err(invalid(&problems));
    }
    let empty = appc::empty_volumes(&manifest).into_iter().filter_map(|(name, volume)| {
        let appc::VolumeKind::Empty { mode, uid, gid } = volume.kind else { return None };
        Some(Empty { name, mode: mode.into(), uid, gid })
    });
    let written = manifest.to_bytes().map_err(refused)?;
    Ok(Plan {
        name: create.name.clone(),
        hostname: hostname(&create.name, place),
        apps,
        volumes: empty.collect(),
        manifest: serde_json::from_slice(&written).map_err(refused)?,
        networks,
        forwards,
        limits,
    })
}

/// The pod that is asked for.
fn manifest(create: &Create, images: &Images) -> Result<PodManifest> {
    match (&create.pod, &create.image) {
        (Some(value), None) => {
            let text = serde_json::to_vec(value).map_err(refused)?;
            PodManifest::parse("pod", &text).map_err(refused)
        }
        (None, Some(image)) => {
            let found = images.find(image)?;
            let name = app_name(found.manifest.name.as_str());
            let mut pod = PodManifest::default();
            pod.apps = vec![PodApp::new(name.map_err(refused)?, PodImage::of_id(found.id))];
            Ok(pod)
        }
        _ => Err(Fault::new(INVALID_PARAMS, "either a pod's manifest or an image is given")),
    }
}

/// What an app's image wants a volume for that the pod has none for begins empty.
fn empty_volumes(manifest: &mut PodManifest, found: &[Result<Found>]) {
    for (app, found) in manifest.apps.iter().zip(found) {
        let Ok(found) = found else { continue };
        let points = app.app(&found.manifest).map(|app| app.mount_points.clone());
        for point in points.unwrap_or_default() {
            let mounted = app.mounts.iter().any(|mount| mount.path == point.path);
            if !mounted && !manifest.volumes.iter().any(|volume| volume.name == point.name) {
                manifest.volumes.push(appc::Volume::empty(point.name));
            }
        }
    }
}

/// What the app of an image is called: the last part of the image's name.
fn app_name(image: &str) -> kiln_oci::Result<Name> {
    let last = image.rsplit('/').next().unwrap_or(image);
    let plain =
        |one: char| if one.is_ascii_lowercase() || one.is_ascii_digit() { one } else { '-' };
    let text: String = last.chars().map(plain).collect();
    let parts: Vec<&str> = text.split('-').filter(|part| !part.is_empty()).collect();
    Name::new(if parts.is_empty() { "app".to_owned() } else { parts.join("-") })
}

fn hostname(name: &str, place: &Place) -> String {
    let uuid = place.uuid();
    let short = uuid.split('-').next().unwrap_or_default();
    if name.is_empty() { format!("pod-{short}") } else { name.replace('_', "-") }
}

/// Names isolators that nothing puts into effect.
fn unknown(whose: &str, left: &[Isolator], problems: &mut Vec<String>) {
    for isolator in left {
        let name = isolator.name();
        if !rights::NAMES.contains(&name) {
            problems.push(format!("{whose}: the isolator {name} is not known here"));
        }
    }
}

fn networks(
    create: &Create,
    rights: Rights,
    options: &Options,
    problems: &mut Vec<String>,
) -> Option<Vec<String>> {
    if rights.network || rights.privileged {
        if create.networks.as_ref().is_some_and(|networks| !networks.is_empty()) {
            problems.push("a pod on the machine's network is on no other".into());
        }
        return None;
    }
    let Some(wanted) = &create.networks else {
        return Some(options.networks.first().map(|one| one.name.clone()).into_iter().collect());
    };
    for (at, name) in wanted.iter().enumerate() {
        let known = options.networks.iter().any(|one| one.name == *name);
        if !known || wanted.iter().take(at).any(|other| other == name) {
            let shown: String = name.chars().take(80).collect();
            problems.push(match known {
                true => format!("network {shown:?} is asked for twice"),
                false => format!("there is no network {shown:?}"),
            });
        }
    }
    Some(wanted.clone())
}

/// What all apps of a pod have in common.
struct Context<'plan> {
    manifest: &'plan PodManifest,
    rights: Rights,
    options: &'plan Options,
    place: &'plan Place,
    /// Whether the pod has a network namespace of its own.
    alone: bool,
    /// Whether it is asked for on the machine itself.
    local: bool,
}

impl Context<'_> {
    fn app(&self, app: &PodApp, pod: &str, found: &Found) -> Result<(Planned, Vec<Isolator>)> {
        let mut container = self.container(app, pod, found)?;
        // the stager's supervisor makes the groups
        let limits = limits::of(&std::mem::take(&mut container.options.resources));
        if container.pre_start.is_some() || container.post_stop.is_some() {
            return Err(refused(format!("{}: event handlers are not known here", app.name)));
        }
        let (_, bytes) =
            container.spec().map_err(|error| refused(format!("{}: {error}", app.name)))?;
        let order = Order {
            name: app.name.to_string(),
            image: found.root.clone(),
            stop_signal: kiln_supervisor::Signal::TERM.as_raw(),
            limits,
        };
        let planned = Planned {
            name: app.name.to_string(),
            image: found.id.to_string(),
            config: bytes,
            order,
        };
        Ok((planned, container.left))
    }

    fn container(&self, app: &PodApp, pod: &str, found: &Found) -> Result<Container> {
        let volumes = self.place.volume("");
        let mut executor = Executor::new(volumes.to_string_lossy());
        executor.name = "kurma".into();
        let root = found.root_of_users(app.app(&found.manifest));
        let mut container =
            Container::new(self.manifest, app, &found.manifest, &root.map_err(refused)?, &executor)
                .map_err(refused)?;
        rights::bound(&mut container.options, self.local)
            .map_err(|problem| Fault::new(DENIED, format!("{}: {problem}", app.name)))?;
        let options = &mut container.options;
        options.hostname = Some(hostname(pod, self.place));
        options.network = Network::Host;
        if self.alone {
            options.network = Network::Path(self.place.namespace().to_string_lossy().into_owned());
            for name in ["hosts", "resolv.conf"] {
                let shared = self.place.shared(name).to_string_lossy().into_owned();
                let target = format!("/etc/{name}");
                // what is said of them otherwise counts
                if !options.mounts.iter().any(|mount| mount.destination == target) {
                    options.mounts.push(Mount::bind(shared, target, false));
                }
            }
        } else if !options.mounts.iter().any(|mount| mount.destination == "/etc/resolv.conf") {
            options.mounts.push(Mount::bind("/etc/resolv.conf", "/etc/resolv.conf", true));
        }
        if self.rights.privileged {
            (options.privileged, options.host_pid, options.shared_mounts) = (true, true, true);
            options.hostname = None;
            options.mounts.push(Mount::bind("/", HOST, false).shared());
        }
        if self.rights.api {
            let sockets = self.options.sockets.to_string_lossy().into_owned();
            options.mounts.push(Mount::bind(sockets.clone(), sockets, false));
        }
        Ok(container)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_pods() {
        for good in ["", "web", "web-1.example", "A_b", &"a".repeat(63)] {
            check_name(good).unwrap();
        }
        for bad in ["../etc", "a/b", "-a", "a-", ".", "a b", "a\0b", "ü", &"a".repeat(64)] {
            check_name(bad).unwrap_err();
        }
    }

    #[test]
    fn apps_are_called_as_their_images() {
        for (image, app) in [
            ("example.com/web", "web"),
            ("example.com/My_Web.2", "y-eb-2"),
            ("docker.io/library/busybox", "busybox"),
            ("_", "app"),
        ] {
            assert_eq!(app_name(image).unwrap().as_str(), app);
        }
    }
}
