//! Pods: made, found again, ended, removed.

pub(crate) mod entry;
mod limits;
mod place;
mod plan;
mod ports;
mod record;
mod rights;
mod stage;
pub(crate) mod stager;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use kiln_network::container::{BridgeNetwork, Networks};
use kurma_client::rpc::{CONFLICT, Fault, INTERNAL_ERROR, INVALID_PARAMS, NOT_FOUND};
use kurma_client::{Create, Pod};

pub(crate) use place::Place;
use plan::Plan;
use record::{Phase, Record};

use crate::caller::Caller;
use crate::files;
use crate::images::Images;

/// How pods are made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where pods and images are kept. Default: /var/kurma.
    pub directory: PathBuf,
    /// Where what is gone with the kernel is. Default: /run/kurma.
    pub runtime: PathBuf,
    /// The control group that has those of pods, on a machine that has cgroup2.
    pub cgroup: Option<PathBuf>,
    /// Networks that pods may be attached to, the default one first.
    pub networks: Vec<BridgeNetwork>,
    /// How many pods there may be. Default: 1024.
    pub most: usize,
    /// How long apps may take to end before they are killed. Default: 10 seconds.
    pub patience: Duration,
    /// The program that is a pod's stager when it is called with `stager`. Default: this one.
    pub program: PathBuf,
    /// Directories of the machine that everybody's pods may have.
    pub volumes: Vec<PathBuf>,
    /// The directory of the socket that pods with the right to it are given: what they ask there they ask
    /// as somebody from elsewhere.
    pub sockets: PathBuf,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            directory: "/var/kurma".into(),
            runtime: "/run/kurma".into(),
            cgroup: Some("/sys/fs/cgroup/kurma".into()),
            networks: Vec::new(),
            most: 1024,
            patience: Duration::from_secs(10),
            program: "/proc/self/exe".into(),
            volumes: Vec::new(),
            sockets: "/run/kurma/remote".into(),
        }
    }
}

impl Options {
    /// Whether control groups of version 2 are there.
    pub(crate) fn has_cgroups(&self) -> bool {
        let here =
            |path: &Path| path.ancestors().any(|path| path.join("cgroup.controllers").exists());
        self.cgroup.as_deref().is_some_and(here)
    }
}

/// What this gives.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

/// The pods of a machine.
#[derive(Debug)]
pub struct Pods {
    options: Options,
    networks: Networks,
    images: Arc<Images>,
    all: Mutex<BTreeMap<String, Arc<Entry>>>,
}

/// A pod.
#[derive(Debug)]
struct Entry {
    place: Place,
    record: Mutex<Record>,
    /// Held by who changes anything outside of this process.
    work: Mutex<()>,
}

/// What a lock protects is whole at every moment, so who died with it has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn failed(problem: impl ToString) -> Fault {
    Fault::new(INTERNAL_ERROR, problem.to_string())
}

impl Entry {
    /// The pod as it is.
    fn told(&self) -> Pod {
        let alive = stage::is_alive(&self.place);
        let seen = fs::read(self.place.seen()).unwrap_or_default();
        let seen: Vec<stager::Seen> = serde_json::from_slice(&seen).unwrap_or_default();
        lock(&self.record).told(&seen, alive)
    }

    /// Changes what is known, and keeps it.
    fn change(&self, change: impl FnOnce(&mut Record)) -> Result<()> {
        let mut record = lock(&self.record);
        change(&mut record);
        let text = serde_json::to_vec(&*record).map_err(failed)?;
        let path = self.place.record();
        files::replace(&path, &text).map_err(|error| failed(files::sentence("write", &path)(error)))
    }
}

impl Pods {
    /// The pods that are there, as their files and stagers tell, with nothing left of others.
    ///
    /// # Errors
    /// A sentence: the directories cannot be made or read.
    pub fn open(options: Options, images: Arc<Images>) -> Result<Arc<Self>, String> {
        let (kept, runtime) = (options.directory.join("pods"), options.runtime.join("pods"));
        for path in [&kept, &runtime] {
            fs::create_dir_all(path).map_err(files::sentence("make", path))?;
        }
        let networks = Networks::new(options.runtime.join("networks"));
        let all = Mutex::new(BTreeMap::new());
        let pods = Arc::new(Self { options, networks, images, all });
        pods.find_again()?;
        Ok(pods)
    }

    fn place(&self, uuid: &str) -> Place {
        let options = &self.options;
        Place::new(
            options.directory.join("pods").join(uuid),
            options.runtime.join("pods").join(uuid),
        )
    }

    /// What pods there were before this server began.
    fn find_again(self: &Arc<Self>) -> Result<(), String> {
        let kept = self.options.directory.join("pods");
        for entry in fs::read_dir(&kept).map_err(files::sentence("read", &kept))?.flatten() {
            let Ok(uuid) = entry.file_name().into_string() else { continue };
            let place = self.place(&uuid);
            let text = fs::read(place.record()).unwrap_or_default();
            let Ok(record) = serde_json::from_slice::<Record>(&text) else {
                // it was killed before there was anything but a directory
                stage::clear(&place, &[], None);
                let _ = stage::remove(&place);
                continue;
            };
            let entry = Entry { place, record: Mutex::new(record), work: Mutex::new(()) };
            lock(&self.all).insert(uuid.clone(), Arc::new(entry));
            self.go_on(&uuid).map_err(|fault| format!("pod {uuid}: {fault}"))?;
        }
        let all = lock(&self.all);
        for network in &self.options.networks {
            let up = self.networks.up(network);
            up.map_err(|error| format!("network {}: {error}", network.name))?;
            let swept = self.networks.sweep(network, |owner| all.contains_key(owner));
            swept.map_err(|error| format!("network {}: {error}", network.name))?;
        }
        let runtime = self.options.runtime.join("pods");
        for entry in fs::read_dir(&runtime).into_iter().flatten().flatten() {
            if entry.file_name().to_str().is_none_or(|uuid| !all.contains_key(uuid)) {
                let nowhere = PathBuf::new();
                stage::clear(&Place::new(nowhere, entry.path()), &[], None);
            }
        }
        Ok(())
    }

    /// Takes a pod up where it was left.
    fn go_on(self: &Arc<Self>, uuid: &str) -> Result<()> {
        let entry = self.entry(uuid)?;
        let phase = lock(&entry.record).phase;
        match phase {
            Phase::Started if stage::is_alive(&entry.place) => self.watch(uuid, &entry),
            Phase::Stopped | Phase::Ended => {}
            Phase::New | Phase::Starting => {
                self.end(&entry)?;
                entry.change(|record| {
                    record.phase = Phase::Ended;
                    record.pod.error = Some("the server ended while it was being made".into());
                })?;
            }
            Phase::Started | Phase::Stopping => {
                self.end(&entry)?;
                let ended = if phase == Phase::Stopping { Phase::Stopped } else { Phase::Ended };
                entry.change(|record| record.phase = ended)?;
            }
        }
        Ok(())
    }

    /// All pods, by when they were made.
    pub(crate) fn list(&self) -> Vec<Pod> {
        let entries: Vec<Arc<Entry>> = lock(&self.all).values().cloned().collect();
        let mut pods: Vec<Pod> = entries.iter().map(|entry| entry.told()).collect();
        pods.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        pods
    }

    /// A pod by its UUID, the only beginning of one, or its name.
    fn entry(&self, asked: &str) -> Result<Arc<Entry>> {
        let all = lock(&self.all);
        if let Some(entry) = all.get(asked) {
            return Ok(Arc::clone(entry));
        }
        let named = all.values().find(|entry| lock(&entry.record).pod.name == asked);
        if let Some(entry) = named {
            return Ok(Arc::clone(entry));
        }
        let mut begun = all.iter().filter(|(uuid, _)| asked.len() >= 4 && uuid.starts_with(asked));
        match (begun.next(), begun.next()) {
            (Some((_, entry)), None) => Ok(Arc::clone(entry)),
            (Some(_), Some(_)) => {
                Err(Fault::new(CONFLICT, format!("several pods begin with {asked:?}")))
            }
            _ => Err(Fault::new(NOT_FOUND, format!("there is no pod {asked:?}"))),
        }
    }

    pub(crate) fn get(&self, asked: &str) -> Result<Pod> {
        Ok(self.entry(asked)?.told())
    }

    /// Where what of a pod is, and which of its apps is meant.
    pub(crate) fn app(&self, asked: &str, app: Option<&str>) -> Result<(Place, Pod, String)> {
        let entry = self.entry(asked)?;
        let pod = entry.told();
        let name = match (app, pod.apps.as_slice()) {
            (Some(name), apps) if apps.iter().any(|one| one.name == name) => name.to_owned(),
            (Some(name), _) => {
                let what = format!("pod {} has no app {name:?}", pod.name);
                return Err(Fault::new(NOT_FOUND, what));
            }
            (None, [only]) => only.name.clone(),
            (None, apps) => {
                let names: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
                let what = format!("which app of {}? {}", pod.name, names.join(", "));
                return Err(Fault::new(INVALID_PARAMS, what));
            }
        };
        Ok((entry.place.clone(), pod, name))
    }

    /// Makes a pod, and waits until its apps have been started.
    pub(crate) fn create(self: &Arc<Self>, caller: &Caller, create: &Create) -> Result<Pod> {
        let mut random = [0; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(failed)?;
        let uuid = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
        let plan = plan::plan(create, &self.images, caller, &self.options, &self.place(&uuid))?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let name = if plan.name.is_empty() { uuid.clone() } else { plan.name.clone() };
        let mut pod = Pod::new(uuid.clone(), name, plan.manifest.clone(), now.as_secs());
        pod.apps =
            plan.apps.iter().map(|app| kurma_client::App::new(&app.name, &app.image)).collect();
        let entry = self.add(Record::new(pod))?;
        let begun = self.begin(&uuid, &entry, plan);
        match begun {
            Ok(()) => Ok(entry.told()),
            Err(fault) => {
                // what it was is kept for whoever asks why, nothing of it outside
                let ended = self.end(&entry);
                let _ = entry.change(|record| {
                    record.phase = Phase::Ended;
                    record.pod.error = Some(fault.message.clone());
                });
                ended?;
                Err(fault)
            }
        }
    }

    /// Makes a pod known, if its name is free.
    fn add(&self, record: Record) -> Result<Arc<Entry>> {
        let (uuid, name) = (record.pod.uuid.clone(), record.pod.name.clone());
        let place = self.place(&uuid);
        let entry = Entry { place, record: Mutex::new(record), work: Mutex::new(()) };
        let entry = Arc::new(entry);
        let mut all = lock(&self.all);
        if all.len() >= self.options.most {
            let what = format!("there are {} pods, which is as many as may be", all.len());
            return Err(Fault::new(CONFLICT, what));
        }
        if all.values().any(|other| lock(&other.record).pod.name == name) {
            return Err(Fault::new(CONFLICT, format!("there is a pod {name:?} already")));
        }
        for app in &lock(&entry.record).pod.apps {
            // it may have been removed since it was found
            self.images.get(&app.image)?;
        }
        for path in [entry.place.kept(), entry.place.runtime()] {
            fs::create_dir_all(path)
                .map_err(|error| failed(files::sentence("make", path)(error)))?;
        }
        entry.change(|_| {})?;
        all.insert(uuid, Arc::clone(&entry));
        Ok(entry)
    }

    fn begin(self: &Arc<Self>, uuid: &str, entry: &Arc<Entry>, plan: Plan) -> Result<()> {
        let _work = lock(&entry.work);
        entry.change(|record| record.phase = Phase::Starting)?;
        stage::prepare(&entry.place, uuid, &plan, &self.options).map_err(failed)?;
        self.attach(uuid, entry, &plan)?;
        stage::start(&entry.place, &self.options).map_err(failed)?;
        entry.change(|record| record.phase = Phase::Started)?;
        self.watch(uuid, entry);
        // an app that could not be started is told as what went wrong, if none was
        let pod = entry.told();
        let faults = pod
            .apps
            .iter()
            .filter_map(|app| Some(format!("{}: {}", app.name, app.error.as_ref()?)));
        let faults: Vec<String> = faults.collect();
        match faults.len() {
            0 => Ok(()),
            count if count < pod.apps.len() => Ok(()),
            _ => Err(failed(faults.join("; "))),
        }
    }

    /// Attaches a pod to its networks.
    fn attach(&self, uuid: &str, entry: &Entry, plan: &Plan) -> Result<()> {
        let Some(wanted) = &plan.networks else { return Ok(()) };
        let namespace = kiln_network::container::Namespace::keep(&entry.place.namespace())
            .map_err(|error| failed(format!("make a network namespace: {error}")))?;
        let mut texts = stage::Shared::default();
        for (at, name) in wanted.iter().enumerate() {
            let Some(network) = self.options.networks.iter().find(|one| one.name == *name) else {
                return Err(Fault::new(NOT_FOUND, format!("there is no network {name:?}")));
            };
            entry.change(|record| record.attached.push(name.clone()))?;
            let forwards = if at == 0 { plan.forwards.as_slice() } else { &[] };
            let attached = self.networks.attach(network, uuid, &namespace, forwards);
            let attached = attached.map_err(|error| match error {
                kiln_network::container::Error::Refused(_)
                | kiln_network::container::Error::Asked(_) => {
                    Fault::new(CONFLICT, error.to_string())
                }
                _ => failed(format!("network {name}: {error}")),
            })?;
            let addresses: Vec<_> = attached.lease.addresses.clone();
            texts.add(&attached.resolv_conf, &addresses);
            let shown = addresses.iter().map(ToString::to_string).collect();
            let ports = forwards.iter().map(ToString::to_string).collect();
            let lease = kurma_client::Lease::new(name, shown, ports);
            entry.change(|record| record.pod.networks.push(lease))?;
        }
        texts.write(&entry.place, &plan.hostname).map_err(failed)
    }

    /// Has a thread wait for a pod's end.
    fn watch(self: &Arc<Self>, uuid: &str, entry: &Arc<Entry>) {
        let (pods, entry, uuid) = (Arc::clone(self), Arc::clone(entry), uuid.to_owned());
        let wait = move || {
            stage::wait(&entry.place);
            if !lock(&pods.all).contains_key(&uuid) {
                return;
            }
            let _work = lock(&entry.work);
            let phase = lock(&entry.record).phase;
            if phase == Phase::Started {
                let _ = pods.clear(&entry);
                let _ = entry.change(|record| record.phase = Phase::Ended);
            }
        };
        let thread = std::thread::Builder::new().name("pod".into()).stack_size(128 << 10);
        // without one, whoever asks still sees that it has ended
        let _ = thread.spawn(wait);
    }

    /// Ends what runs of a pod, and lets go of what it has of the machine.
    fn end(&self, entry: &Entry) -> Result<()> {
        stage::stop(&entry.place, self.options.patience).map_err(failed)?;
        self.clear(entry)
    }

    fn clear(&self, entry: &Entry) -> Result<()> {
        let (uuid, apps, attached) = {
            let record = lock(&entry.record);
            let apps: Vec<String> = record.pod.apps.iter().map(|app| app.name.clone()).collect();
            (record.pod.uuid.clone(), apps, record.attached.clone())
        };
        let cgroup = self.options.cgroup.as_ref().map(|path| path.join(&uuid));
        stage::clear(&entry.place, &apps, cgroup.as_deref());
        for network in self.options.networks.iter().filter(|one| attached.contains(&one.name)) {
            let gone = self.networks.detach(network, &uuid);
            gone.map_err(|error| failed(format!("network {}: {error}", network.name)))?;
        }
        entry.change(|record| record.attached.clear())
    }

    /// Ends a pod, and keeps what is known of it.
    pub(crate) fn stop(&self, asked: &str) -> Result<Pod> {
        let entry = self.entry(asked)?;
        let _work = lock(&entry.work);
        let phase = lock(&entry.record).phase;
        if phase == Phase::Started && stage::is_alive(&entry.place) {
            entry.change(|record| record.phase = Phase::Stopping)?;
            self.end(&entry)?;
            entry.change(|record| record.phase = Phase::Stopped)?;
        }
        Ok(entry.told())
    }

    /// Ends a pod and removes all of it.
    pub(crate) fn destroy(&self, asked: &str) -> Result<()> {
        let entry = self.entry(asked)?;
        let _work = lock(&entry.work);
        let uuid = lock(&entry.record).pod.uuid.clone();
        if !lock(&self.all).contains_key(&uuid) {
            return Err(Fault::new(NOT_FOUND, format!("there is no pod {asked:?}")));
        }
        entry.change(|record| record.phase = Phase::Stopping)?;
        self.end(&entry)?;
        stage::remove(&entry.place).map_err(failed)?;
        lock(&self.all).remove(&uuid);
        Ok(())
    }

    /// Removes an image that no pod is made of.
    pub(crate) fn delete_image(&self, asked: &str) -> Result<()> {
        // no pod comes to be meanwhile
        let all = lock(&self.all);
        let mut used = Vec::new();
        for entry in all.values() {
            used.extend(lock(&entry.record).pod.apps.iter().map(|app| app.image.clone()));
        }
        self.images.delete(asked, &used)
    }
}
