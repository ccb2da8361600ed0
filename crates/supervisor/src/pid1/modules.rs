//! Kernel modules: by name, and for the devices that are there.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_kmod::Index;
use rustix::fs::{Mode, OFlags};

use super::uevent::Uevents;

/// So many buses, and so many devices of each, are looked at.
const MAX_ENTRIES: usize = 10_000;
/// `MODULE_INIT_COMPRESSED_FILE` of `include/uapi/linux/module.h`.
const COMPRESSED: i32 = 4;

/// A module that took so long is named.
const WORTH_TELLING: Duration = Duration::from_millis(50);

/// What a [`Loader`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Modules that are loaded now and were not before, in order, with the time each took.
    pub loaded: Vec<(String, Duration)>,
    /// Modules that could not be loaded, and why.
    pub failed: Vec<(String, String)>,
    /// Names asked for that are no modules.
    pub unknown: Vec<String>,
    /// Rounds of cold-plugging, the last of which found nothing new.
    pub rounds: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} modules loaded", self.loaded.len())?;
        if self.rounds > 0 {
            write!(f, " in {} rounds", self.rounds)?;
        }
        // A driver that probes its devices while it is loaded is where a boot's time goes.
        for (name, took) in self.loaded.iter().filter(|(_, took)| *took >= WORTH_TELLING) {
            write!(f, ", {name} in {took:.1?}")?;
        }
        for (name, why) in &self.failed {
            write!(f, "; {name}: {why}")?;
        }
        if !self.unknown.is_empty() {
            write!(f, "; unknown: {}", self.unknown.join(", "))?;
        }
        Ok(())
    }
}

impl Report {
    pub(super) fn add(&mut self, other: Self) {
        self.loaded.extend(other.loaded);
        self.failed.extend(other.failed);
        self.unknown.extend(other.unknown);
        self.rounds = self.rounds.saturating_add(other.rounds);
    }
}

/// Whether a modalias is that of a network card: PCI base class 02, or virtio device type 1.
fn is_network(alias: &str) -> bool {
    alias.starts_with("virtio:d00000001")
        || alias.strip_prefix("pci:").is_some_and(|rest| rest.contains("bc02"))
}

/// What is loaded before the bus that network cards are on is looked at: a virtio card then works
/// as soon as it is found, not when all virtio devices are, which takes a quarter of a second each
/// in an emulated machine.
fn before_their_bus(network: &BTreeSet<String>) -> &'static [&'static str] {
    let is_virtio = |alias: &String| alias.starts_with("pci:v00001AF4");
    if network.iter().any(is_virtio) { &["virtio:d00000001v00001AF4"] } else { &[] }
}

/// Loads modules of one directory, each once.
#[derive(Debug, Clone)]
pub struct Loader {
    /// Shared with the copy that loads drivers of network cards.
    index: Arc<Index>,
    dir: PathBuf,
    /// Paths that were tried.
    tried: BTreeSet<String>,
    /// Aliases that were looked up.
    seen: BTreeSet<String>,
    command_line: String,
}

impl Loader {
    /// Of `/lib/modules/RELEASE`, for the kernel that runs.
    ///
    /// # Errors
    /// There are no modules for it, or their index is broken.
    pub fn of_running_kernel() -> Result<Self, String> {
        Self::open(running())
    }

    /// The same without what is built into the kernel, whose list is most of the index: names of
    /// built-in modules are then unknown. Enough for devices and for what the kernel asks for.
    ///
    /// # Errors
    /// There are no modules for it, or their index is broken.
    pub fn loadable_of_running_kernel() -> Result<Self, String> {
        let dir = running();
        Self::with_index(Index::read_loadable(&dir), dir)
    }

    /// Of a directory with `modules.dep` and `modules.alias`.
    ///
    /// # Errors
    /// There is none, or its index is broken.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, String> {
        let dir = dir.into();
        Self::with_index(Index::read_dir(&dir), dir)
    }

    fn with_index(index: kiln_kmod::Result<Index>, dir: PathBuf) -> Result<Self, String> {
        let index = Arc::new(index.map_err(|error| error.to_string())?);
        let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
        Ok(Self { index, dir, tried: BTreeSet::new(), seen: BTreeSet::new(), command_line })
    }

    /// A parameter (`name=value`) for a module that is loaded from now on. It counts more than the kernel's
    /// command line.
    pub fn set_parameter(&mut self, module: &str, parameter: &str) {
        self.command_line.push_str(&format!(" {module}.{parameter}"));
    }

    /// Loads modules by name or alias, and what they need, in order. Parameters are taken from
    /// the kernel's command line (`module.parameter=value`).
    pub fn load<S: AsRef<str>>(&mut self, wanted: &[S]) -> Report {
        let mut report = Report::default();
        report.unknown = self.insert(wanted, &mut report);
        report
    }

    /// Loads what the devices below `/sys` ask for, until there is none that was not there before
    /// (a bus's driver brings up the devices on it), in at most `max_rounds` rounds.
    ///
    /// An address takes a network's answer to get, so whoever waits for one waits longest: network
    /// cards are looked for and their drivers loaded first, and beside them, on another processor,
    /// those that have nothing to do with them.
    pub fn cold_plug(&mut self, max_rounds: u32) -> Report {
        let sysfs = Path::new("/sys");
        let mut report = Report::default();
        let mut cards = self.clone();
        // Listening begins before looking, so that no device is missed between the two.
        let (all, of_cards) = (News::listen(), News::listen());
        let mut network = aliases_in(["pci", "virtio"].map(|bus| sysfs.join("bus").join(bus)));
        network.retain(|alias| is_network(alias));
        let early = before_their_bus(&network);
        let mut shared: BTreeSet<String> = self.paths(&network).collect();
        shared.extend(self.paths(early));
        let (together, beside) = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new();
            let work = || {
                let mut report = Report::default();
                let _ = cards.insert(early, &mut report);
                report.add(cards.rounds(network, max_rounds, &of_cards, is_network));
                report
            };
            let thread = thread.spawn_scoped(scope, work);
            let (together, apart): (BTreeSet<String>, BTreeSet<String>) = modaliases(sysfs)
                .into_iter()
                .partition(|alias| self.paths([alias]).any(|path| shared.contains(&path)));
            self.take_in(apart, &mut report);
            (together, thread.ok().and_then(|thread| thread.join().ok()))
        });
        if let Some(beside) = beside {
            report.add(beside);
            self.tried.append(&mut cards.tried);
            self.seen.append(&mut cards.seen);
        }
        report.add(self.rounds(together, max_rounds, &all, |_| true));
        report
    }

    /// Loads what devices ask for that have appeared. Devices without a module are the rule.
    pub(super) fn load_for(&mut self, aliases: impl IntoIterator<Item = String>) -> Report {
        let mut report = Report::default();
        self.take_in(aliases.into_iter().collect(), &mut report);
        report
    }

    /// Loads for these devices, and then for those that appear and are `wanted`, until no new one
    /// does.
    fn rounds(
        &mut self,
        first: BTreeSet<String>,
        max: u32,
        news: &News,
        wanted: impl Fn(&str) -> bool,
    ) -> Report {
        let mut report = Report::default();
        let mut next = first;
        while report.rounds < max {
            report.rounds = report.rounds.saturating_add(1);
            self.take_in(next, &mut report);
            next = news.take();
            next.retain(|alias| wanted(alias) && !self.seen.contains(alias));
            if next.is_empty() {
                break;
            }
        }
        report
    }

    /// Loads for devices that were not looked at before. Devices without a module are the rule, not
    /// worth a word.
    fn take_in(&mut self, mut aliases: BTreeSet<String>, report: &mut Report) {
        aliases.retain(|alias| !self.seen.contains(alias));
        let wanted: Vec<&String> = aliases.iter().collect();
        let _ = self.insert(&wanted, report);
        self.seen.append(&mut aliases);
    }

    /// The files of the modules that names or aliases stand for, with those that they need.
    fn paths<S: AsRef<str>>(
        &self,
        wanted: impl IntoIterator<Item = S>,
    ) -> impl Iterator<Item = String> {
        let wanted: Vec<S> = wanted.into_iter().collect();
        self.index.resolve(&wanted).load.into_iter().map(|module| module.path)
    }

    fn insert<S: AsRef<str>>(&mut self, wanted: &[S], report: &mut Report) -> Vec<String> {
        let resolution = self.index.resolve(wanted);
        for module in resolution.load {
            if !self.tried.insert(module.path.clone()) {
                continue;
            }
            let began = Instant::now();
            match self.finit(&module.name, &module.path) {
                Ok(true) => report.loaded.push((module.name, began.elapsed())),
                Ok(false) => {}
                Err(error) => report.failed.push((module.name, error.to_string())),
            }
        }
        resolution.unknown
    }

    /// Returns whether the module was loaded now (and not before).
    fn finit(&self, name: &str, path: &str) -> std::io::Result<bool> {
        let path = self.dir.join(path);
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::empty())?;
        let parameters = CString::new(parameters(&self.command_line, name))?;
        let compressed =
            path.extension().is_some_and(|e| ["xz", "zst", "gz"].iter().any(|known| e == *known));
        let flags = if compressed { COMPRESSED } else { 0 };
        match rustix::system::finit_module(&file, &parameters, flags) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::EXIST) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn running() -> PathBuf {
    let name = rustix::system::uname();
    Path::new("/lib/modules").join(&*name.release().to_string_lossy())
}

/// What the kernel's command line says for a module: `virtio_net.napi_tx=0` gives `napi_tx=0`.
fn parameters(command_line: &str, module: &str) -> String {
    let words = command_line.split_whitespace().filter_map(|word| {
        let (name, parameter) = word.split_once('.')?;
        let same = name.replace('-', "_") == module.replace('-', "_");
        (same && !parameter.is_empty()).then_some(parameter)
    });
    words.collect::<Vec<_>>().join(" ")
}

/// What devices that have appeared say they are. Looking at all devices again costs more than many
/// a driver, so the kernel's announcements are listened to.
struct News(Option<Uevents>);

impl News {
    fn listen() -> Self {
        Self(Uevents::listen().ok())
    }

    /// The aliases of devices that have appeared since this was last asked, among others perhaps.
    fn take(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let taken = self.0.as_ref().map(|uevents| {
            uevents.take(|news| {
                if let (Some(b"add"), Some(alias)) = (news.get("ACTION"), news.get("MODALIAS")) {
                    found.insert(String::from_utf8_lossy(alias).into_owned());
                }
            })
        });
        match taken {
            Some(Ok(())) => found,
            // Nobody tells, or not all was heard.
            _ => modaliases(Path::new("/sys")),
        }
    }
}

/// Lists of many things that no driver is loaded for: terminals and pieces of memory.
const WITHOUT_DRIVERS: [&str; 3] = ["class/tty", "class/vc", "bus/memory"];

/// What the devices of a sysfs say they are: each bus lists its devices, as does each class (input
/// devices have a modalias and are on no bus), and the processors have one for all of them.
fn modaliases(sysfs: &Path) -> BTreeSet<String> {
    let worth = |list: &PathBuf| !WITHOUT_DRIVERS.iter().any(|without| list.ends_with(without));
    let mut found = aliases_in(children(&sysfs.join("bus")).filter(worth));
    let classes = children(&sysfs.join("class")).filter(worth);
    for devices in classes.chain([sysfs.join("devices/system")]) {
        found.extend(children(&devices).filter_map(|device| alias_of(&device)));
    }
    found
}

/// What the devices of some buses say they are.
fn aliases_in(buses: impl IntoIterator<Item = PathBuf>) -> BTreeSet<String> {
    let devices = buses.into_iter().flat_map(|bus| children(&bus.join("devices")));
    devices.filter_map(|device| alias_of(&device)).collect()
}

fn children(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.take(MAX_ENTRIES).map(|entry| entry.path())
}

fn alias_of(device: &Path) -> Option<String> {
    let text = std::fs::read_to_string(device.join("modalias")).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_cards_are_known_by_their_class() {
        assert!(is_network("pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00"));
        assert!(is_network("virtio:d00000001v00001AF4"));
        assert!(!is_network("pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80"));
        assert!(!is_network("virtio:d00000002v00001AF4"));
    }

    #[test]
    fn a_virtio_cards_own_driver_comes_first() {
        let set = |alias: &str| BTreeSet::from([alias.to_owned()]);
        let virtio = set("pci:v00001AF4d00001000sv00001AF4sd00000001bc02sc00i00");
        assert_eq!(before_their_bus(&virtio), ["virtio:d00000001v00001AF4"]);
        let e1000 = set("pci:v00008086d0000100Esv00001AF4sd00001100bc02sc00i00");
        assert!(before_their_bus(&e1000).is_empty());
    }

    #[test]
    fn parameters_come_from_the_command_line() {
        let line = "console=ttyS0 virtio_net.napi_tx=0 virtio-net.x=1 other.y=2 virtio_net. a.b";
        assert_eq!(parameters(line, "virtio_net"), "napi_tx=0 x=1");
        assert_eq!(parameters(line, "none"), "");
    }

    #[test]
    fn modaliases_of_buses_and_classes_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let device = dir.path().join("devices/pci0/virtio0");
        let input = dir.path().join("devices/input0");
        let processors = dir.path().join("devices/system/cpu");
        let aliases = [
            (&device, "virtio:d00000001v00001AF4\n"),
            (&input, "input:b0019\n"),
            (&processors, "cpu:type:x86\n"),
        ];
        for (of, alias) in aliases {
            std::fs::create_dir_all(of).unwrap();
            std::fs::write(of.join("modalias"), alias).unwrap();
        }
        let list = |path: &str, device: &Path| {
            let list = dir.path().join(path);
            std::fs::create_dir_all(&list).unwrap();
            std::os::unix::fs::symlink(device, list.join("it")).unwrap();
        };
        list("bus/virtio/devices", &device);
        list("class/input", &input);
        list("class/tty", dir.path());
        let found: Vec<_> = modaliases(dir.path()).into_iter().collect();
        assert_eq!(found, ["cpu:type:x86", "input:b0019", "virtio:d00000001v00001AF4"]);
    }
}
