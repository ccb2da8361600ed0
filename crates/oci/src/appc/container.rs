//! Apps of pods as containers: what a runtime is told (ace.md, "App Container Executor").

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use kiln_tree::{Kind, Metadata, Tree, TreePath};
use oci_spec::image::{Config, ImageConfiguration};
use oci_spec::runtime::Spec;

use super::app::App;
use super::errno;
use super::image::ImageManifest;
use super::isolator::{self, Isolator};
use super::names::Name;
use super::pod::{PodApp, PodManifest, Volume, VolumeKind};
use crate::bundle::{self, Calls, Capabilities, Identity, Mount, Resources, Users};
use crate::{Error, Result};

/// Who runs apps.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Executor {
    /// What the variable `container` says. Default: `kiln`.
    pub name: String,
    /// Where the pod's metadata service is: `AC_METADATA_URL`.
    pub metadata_url: Option<String>,
    /// The directory of the host in which volumes of kind `empty` are, by [`directory`].
    pub volumes: String,
}

impl Executor {
    /// Who keeps a pod's volumes in this directory, which is absolute.
    #[must_use]
    pub fn new(volumes: impl Into<String>) -> Self {
        Self { name: "kiln".into(), metadata_url: None, volumes: volumes.into() }
    }
}

/// An app of a pod as a container: what an image of the OCI would say of it, and what its user would.
/// The host name, the network, name spaces to join, the control group and the terminal are the
/// caller's to set in `options`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Container {
    /// The program, the environment and the working directory.
    pub config: ImageConfiguration,
    /// Who it runs as.
    pub identity: Identity,
    /// All else.
    pub options: bundle::Options,
    /// Isolators that `options` does not have: no runtime can be told of them. The caller puts them into
    /// effect, or refuses the app.
    pub left: Vec<Isolator>,
    /// What runs before the app, in a container that is otherwise the same
    /// ([`bundle::Options::entrypoint`]).
    pub pre_start: Option<Vec<String>>,
    /// What runs after it.
    pub post_stop: Option<Vec<String>>,
}

/// The name of the directory of a volume of kind `empty`: that of the pod's volume, or that of an app's
/// own one.
#[must_use]
pub fn directory(app: Option<&Name>, volume: &Name) -> String {
    match app {
        // Names have no point in them.
        Some(app) => format!("{app}.{volume}"),
        None => volume.to_string(),
    }
}

/// The volumes that have to be made before a pod's apps run, by their [`directory`].
#[must_use]
pub fn empty_volumes(pod: &PodManifest) -> Vec<(String, &Volume)> {
    let own = pod.apps.iter().flat_map(|app| {
        let volumes = app.mounts.iter().filter_map(|mount| mount.app_volume.as_ref());
        volumes.map(|volume| (directory(Some(&app.name), &volume.name), volume))
    });
    let mut volumes: Vec<(String, &Volume)> = pod
        .volumes
        .iter()
        .map(|volume| (directory(None, &volume.name), volume))
        .chain(own)
        .filter(|(_, volume)| matches!(volume.kind, VolumeKind::Empty { .. }))
        .collect();
    volumes.sort_by(|(one, _), (other, _)| one.cmp(other));
    volumes.dedup_by(|(one, _), (other, _)| one == other);
    volumes
}

/// What the apps of a pod may use together, for the control group in which they all are, and the
/// isolators that are not in it.
///
/// # Errors
/// [`Error::Manifest`].
pub fn pod_resources(pod: &PodManifest) -> Result<(Resources, Vec<Isolator>)> {
    let mut options = bundle::Options::default();
    let mut problems = Vec::new();
    let mut left = Vec::new();
    for isolator in &pod.isolators {
        let of_pods =
            matches!(isolator, Isolator::Cpu(_) | Isolator::Memory(_) | Isolator::CpuShares(_));
        if !of_pods || !enforce(isolator, &mut options, &mut problems) {
            left.push(isolator.clone());
        }
    }
    if problems.is_empty() {
        return Ok((options.resources, left));
    }
    Err(Error::Manifest { origin: "pod".into(), problems })
}

impl Container {
    /// An app of a pod. `root` is the tree of its image as it is rendered, which says who users are.
    ///
    /// # Errors
    /// [`Error::Manifest`] with all that is in the way: nothing to run, users that are not there, mount
    /// points without a volume, mounts one in the other, limits that no kernel takes.
    pub fn new(
        pod: &PodManifest,
        app: &PodApp,
        image: &ImageManifest,
        root: &Tree,
        executor: &Executor,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        let origin = app.name.to_string();
        let Some(what) = app.app(image) else {
            let problem = format!("neither the pod nor the image {} says what is run", image.name);
            return Err(Error::Manifest { origin, problems: vec![problem] });
        };
        if what.exec.is_empty() {
            problems.push("exec is empty: there is nothing to run".into());
        }
        let identity = identity(what, root)?.unwrap_or_else(|problem| {
            problems.push(problem);
            Identity::default()
        });
        let mut options = bundle::Options {
            readonly: app.read_only_root_fs,
            // That is the default of the specification, and no more than what the image is trusted with.
            new_privileges: true,
            mounts: mounts(pod, app, what, executor, &mut problems),
            ..bundle::Options::default()
        };
        let mut left = Vec::new();
        for isolator in &what.isolators {
            if !enforce(isolator, &mut options, &mut problems) {
                left.push(isolator.clone());
            }
        }
        // Over whatever the app says: others rely on them.
        options.env = vec![format!("AC_APP_NAME={}", app.name)];
        if let Some(address) = &executor.metadata_url {
            options.env.push(format!("AC_METADATA_URL={address}"));
        }
        options.env.push(format!("container={}", executor.name));
        if !problems.is_empty() {
            return Err(Error::Manifest { origin, problems });
        }
        let mut run = Config::default();
        run.set_entrypoint(Some(what.exec.clone()));
        run.set_env(Some(variables(what)));
        run.set_working_dir(what.working_directory.clone());
        let mut config = ImageConfiguration::default();
        config.set_config(Some(run));
        let (pre_start, post_stop) = (what.pre_start.clone(), what.post_stop.clone());
        Ok(Self { config, identity, options, left, pre_start, post_stop })
    }

    /// The bundle's `config.json` as a value and as the bytes to write.
    ///
    /// # Errors
    /// As [`bundle::spec`].
    pub fn spec(&self) -> Result<(Spec, Vec<u8>)> {
        bundle::spec_for(&self.config, &self.identity, &self.options)
    }
}

pub(super) fn variables(app: &App) -> Vec<String> {
    app.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()
}

/// Who an app runs as (aci.md, `user` and `group`): by the files of the root, by number, or whoever owns
/// a file of the root. The inner error is what is wrong with the app.
pub(super) fn identity(app: &App, root: &Tree) -> Result<Result<Identity, String>> {
    let users = Users::of_tree(root)?;
    let owner = |what: &str, text: &str| match text.starts_with('/') {
        false if text.is_empty() => Err(format!("{what} is empty")),
        false => Ok(None),
        true => match metadata(root, text) {
            Some(meta) => Ok(Some(meta)),
            None => Err(format!("{what}: {text} is not in the root")),
        },
    };
    let named = |user: &str, group: &str| {
        users.identity(&format!("{user}:{group}")).map_err(|error| error.to_string())
    };
    Ok((|| {
        let (user, group) = (owner("user", &app.user)?, owner("group", &app.group)?);
        let mut identity = match user {
            Some(meta) => Identity { uid: meta.uid, ..Identity::default() },
            None => named(&app.user, "0")?,
        };
        identity.gid = match group {
            Some(meta) => meta.gid,
            None => named("0", &app.group)?.gid,
        };
        let groups: BTreeSet<u32> = app.supplementary_gids.iter().copied().collect();
        identity.groups = groups.into_iter().collect();
        Ok(identity)
    })())
}

/// What a root says of a file, links followed.
fn metadata<'tree>(root: &'tree Tree, path: &str) -> Option<&'tree Metadata> {
    if TreePath::new(path).is_ok_and(|path| path.is_root()) {
        return Some(root.root());
    }
    let (_, node) = root.resolve(path)?;
    match &node.kind {
        Kind::Hardlink(file) => root.get(file).map(|file| &file.meta),
        _ => Some(&node.meta),
    }
}

/// The volumes of an app (ace.md, "Volume Setup").
fn mounts(
    pod: &PodManifest,
    app: &PodApp,
    what: &App,
    executor: &Executor,
    problems: &mut Vec<String>,
) -> Vec<Mount> {
    // What a manifest has thousands of is looked up, not searched for.
    let volumes: BTreeMap<&Name, &Volume> =
        pod.volumes.iter().map(|volume| (&volume.name, volume)).collect();
    let place = |path: &str, problems: &mut Vec<String>| match TreePath::new(path) {
        Ok(path) if !path.is_root() => Some(path),
        Ok(_) => {
            problems.push("no volume can be at the root itself".into());
            None
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    let mut wanted: BTreeMap<TreePath, (&Volume, Option<&Name>)> = BTreeMap::new();
    let mut read_only = BTreeSet::new();
    for mount in &app.mounts {
        let Some(path) = place(&mount.path, problems) else { continue };
        let found = match (&mount.app_volume, volumes.get(&mount.volume)) {
            (Some(own), _) => (own, Some(&app.name)),
            (None, Some(volume)) => (*volume, None),
            (None, None) => {
                let volume = &mount.volume;
                problems.push(format!("mount at /{path}: there is no volume {volume}"));
                continue;
            }
        };
        if let Some((other, _)) = wanted.insert(path.clone(), found) {
            let (one, other) = (&mount.volume, &other.name);
            problems.push(format!("mount at /{path}: both {other} and {one}"));
        }
    }
    // A mount point without a mount has the volume of its own name.
    for point in &what.mount_points {
        let Some(path) = place(&point.path, problems) else { continue };
        if point.read_only {
            read_only.insert(path.clone());
        }
        if let Entry::Vacant(free) = wanted.entry(path) {
            match volumes.get(&point.name) {
                Some(volume) => {
                    free.insert((*volume, None));
                }
                // A mount that has no volume has been told.
                None if app.mounts.iter().any(|mount| mount.path == point.path) => {}
                None => problems.push(format!(
                    "mount point {} at {}: there is neither a mount nor a volume for it",
                    point.name, point.path
                )),
            }
        }
    }
    for path in wanted.keys() {
        let mut above = path.parent();
        while let Some(directory) = above.filter(|directory| !directory.is_root()) {
            if wanted.contains_key(&directory) {
                problems.push(format!("the mount at /{path} is in the one at /{directory}"));
            }
            above = directory.parent();
        }
    }
    wanted
        .into_iter()
        .map(|(path, (volume, own))| {
            let read_only = volume.read_only || read_only.contains(&path);
            let (source, recursive) = match &volume.kind {
                VolumeKind::Host { source, recursive } => (source.clone(), *recursive),
                VolumeKind::Empty { .. } => {
                    let name = directory(own, &volume.name);
                    (format!("{}/{name}", executor.volumes.trim_end_matches('/')), false)
                }
            };
            let mut mount = Mount::bind(source, format!("/{path}"), read_only);
            if !recursive {
                mount.options = vec!["bind".into(), if read_only { "ro" } else { "rw" }.into()];
            }
            mount
        })
        .collect()
}

/// Puts an isolator into effect, if that is something a runtime does.
pub(super) fn enforce(
    isolator: &Isolator,
    options: &mut bundle::Options,
    problems: &mut Vec<String>,
) -> bool {
    let resources = &mut options.resources;
    let mut zero = |what: &str| problems.push(format!("{}: {what} is 0", isolator.name()));
    match isolator {
        Isolator::Memory(memory) => {
            resources.memory = memory.limit.map(super::Quantity::whole);
            resources.memory_reservation = memory.request.map(super::Quantity::whole);
            if resources.memory == Some(0) {
                zero("the limit");
            }
            // Nothing for sure is what there is anyway.
            resources.memory_reservation = resources.memory_reservation.filter(|bytes| *bytes > 0);
        }
        Isolator::Cpu(cpu) => {
            if let Some(limit) = cpu.limit.map(super::Quantity::in_thousandths) {
                // A quota is of at least 1 ms, so small ones are of a longer period.
                let period = if limit < 10 { 1_000_000 } else { 100_000 };
                resources.cpu_period = Some(period);
                resources.cpu_quota = Some(limit.saturating_mul(period / 1000));
                if limit == 0 {
                    zero("the limit");
                }
            }
            // What is said of shares is said with more care.
            if let (None, Some(request)) = (resources.cpu_shares, cpu.request.or(cpu.limit)) {
                let shares = request.in_thousandths().saturating_mul(1024) / 1000;
                resources.cpu_shares = Some(shares.clamp(2, 262_144));
            }
        }
        Isolator::CpuShares(shares) => resources.cpu_shares = Some((*shares).into()),
        Isolator::OomScoreAdj(score) => options.oom_score_adj = Some(*score),
        Isolator::NoNewPrivileges(set) => options.new_privileges = !set,
        Isolator::CapabilitiesRetainSet(set) => {
            options.capabilities = Capabilities::Only(set.iter().cloned().collect());
        }
        Isolator::CapabilitiesRemoveSet(set) => {
            options.capabilities = Capabilities::usual_without(|name| set.contains(name));
        }
        Isolator::SeccompRetainSet(seccomp) | Isolator::SeccompRemoveSet(seccomp) => {
            let retain = matches!(isolator, Isolator::SeccompRetainSet(_));
            match filter(seccomp, retain) {
                Ok(filter) => options.seccomp = filter,
                Err(problem) => problems.push(format!("{}: {problem}", isolator.name())),
            }
        }
        _ => return false,
    }
    true
}

/// What a runtime does between setting a filter and running the app, and what ends the app in order:
/// without these nothing would ever run.
const LIFE: [&str; 5] = ["execve", "exit", "exit_group", "rt_sigreturn", "sigreturn"];

/// A filter, or none where the set says so (ace.md, "os/linux/seccomp-retain-set").
fn filter(seccomp: &isolator::Seccomp, retain: bool) -> Result<Option<bundle::Seccomp>, String> {
    let no_filter = if retain { "@appc.io/all" } else { "@appc.io/empty" };
    if seccomp.set.contains(no_filter) {
        return Ok(None);
    }
    if let Some(unknown) = seccomp.set.iter().find(|name| name.starts_with('@')) {
        return Err(format!("the set {unknown} is not known here"));
    }
    let number = match &seccomp.errno {
        Some(name) => {
            Some(errno::number(name).ok_or_else(|| format!("{name} is no error of Linux"))?)
        }
        None => None,
    };
    let mut names = seccomp.set.clone();
    let calls = if retain {
        names.extend(LIFE.map(str::to_owned));
        Calls::Only(names)
    } else {
        Calls::AllBut(names)
    };
    Ok(Some(bundle::Seccomp::new(calls, number)))
}
