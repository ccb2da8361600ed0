//! The service `config`: reads the configuration, makes containers of the services, and has process 1 run
//! them. It runs at each boot, and again whenever the configuration is another.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use kiln_guest::containers::{self, Unpacked};
use kiln_supervisor::control::{Client, Effect, Request, socket_path};
use kiln_supervisor::{Container, Log, Restart, ServiceSpec};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};

use crate::configuration::{self, Configuration};
use crate::role::Role;
use crate::stock::{self, Stock};
use crate::units::{self, Unit, Units};
use crate::user;
use crate::{command_line, container_files, files, mounts, network, oem, places, sources};

/// What the network is started with.
const NETWORK_TOML: &str = "/etc/kiln/network.toml";

/// Why the configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The machine starts, and nothing runs.
    Boot,
    /// The network is started, and there are sources to ask over it.
    Network,
    /// The configuration is another.
    Again,
}

/// What has gone wrong, told as it is found; the boot goes on.
#[derive(Debug, Default)]
pub(crate) struct Problems(usize);

impl Problems {
    /// Notes something.
    pub(crate) fn note(&mut self, what: impl Display) {
        self.0 += 1;
        kiln_supervisor::unix::console_line(format_args!("config: {what}"));
    }

    /// Notes what failed.
    pub(crate) fn take<T, E: Display>(
        &mut self,
        what: impl Display,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.note(format_args!("{what}: {error}"))).ok()
    }
}

/// The service. Where the network is to be asked, nothing but it and who asks are started first.
pub(crate) fn run(stage: Stage) -> ExitCode {
    let mut problems = Problems::default();
    let mut only = None;
    match stage {
        Stage::Boot => {
            prepare(&mut problems);
            let open = sources::local(&configuration::sources().datasources, &mut problems);
            only = open.then_some(units::NETWORK);
        }
        Stage::Network => sources::network(&mut problems),
        Stage::Again => {}
    }
    let configuration = configuration::load();
    // what is wrong is told once, when all of it is there
    if only.is_none() {
        configuration.findings.iter().for_each(|finding| problems.note(finding));
    }
    if stage != Stage::Again {
        machine(&configuration, stage, &mut problems);
    }
    if stage != Stage::Again && only.is_none() {
        mounts::perform(&configuration.cloud.mounts, &mut problems);
    }
    match apply(&configuration, stage, only, &mut problems) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            problems.note(why);
            ExitCode::FAILURE
        }
    }
}

/// Directories and files that containers find.
fn prepare(problems: &mut Problems) {
    oem::mount();
    // What is mounted in a container whose volumes are shared is seen by the others.
    let shared = MountPropagationFlags::SHARED | MountPropagationFlags::REC;
    problems.take("share mounts", mount_change("/", shared));
    if !is_mounted(Path::new(places::STATE)) {
        problems.note("the state disk cannot be used: RECOVERY, nothing is kept");
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        problems.take(places::STATE, mount("tmpfs", places::STATE, "tmpfs", flags, c""));
    }
    if let Some(directory) = configuration::early().state.directory {
        problems.take(&directory, below(Path::new(places::STATE), &directory));
    }
    for (name, mode) in places::KEPT {
        let path = Path::new(places::STATE).join(name);
        let made = fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(*mode)));
        problems.take(path.display(), made);
    }
    for path in [places::NOW, places::BUNDLES, places::FLEETING, places::WRITTEN] {
        problems.take(path, fs::create_dir_all(path));
    }
    problems.take(places::NOW, fs::set_permissions(places::NOW, fs::Permissions::from_mode(0o700)));
    command_line::hide(problems);
    // Links of the images lead to these before anybody has written them.
    for path in ["/run/resolv.conf", "/run/hosts"] {
        if !Path::new(path).exists() {
            problems.take(path, fs::write(path, ""));
        }
    }
}

/// Has a directory of the disk stand for the whole disk. Once a boot: the directories that are made for
/// containers are made after it.
fn below(state: &Path, directory: &str) -> io::Result<()> {
    if Path::new(places::BUNDLES).exists() {
        return Ok(());
    }
    let part = state.join(directory);
    fs::create_dir_all(&part)?;
    Ok(mount_bind_recursive(&part, state)?)
}

/// Whether something is mounted at a path of the root.
fn is_mounted(path: &Path) -> bool {
    let number = |path: &Path| rustix::fs::stat(path).map(|found| found.st_dev);
    matches!((number(path), number(Path::new("/"))), (Ok(own), Ok(root)) if own != root)
}

/// What is the machine's as a whole: its name, its kernel's modules and settings, its links.
fn machine(configuration: &Configuration, stage: Stage, problems: &mut Problems) {
    let (cloud, rancher) = (&configuration.cloud, &configuration.rancher);
    if let Some(name) = &cloud.hostname {
        problems.take("host name", rustix::system::sethostname(name.as_bytes()));
        let hosts = format!("127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {name}\n");
        problems.take("/run/hosts", fs::write("/run/hosts", hosts));
    }
    let own = rancher.modules.iter().cloned();
    let theirs = cloud.modules.iter().map(|module| {
        std::iter::once(&module.name).chain(&module.parameters).cloned().collect::<Vec<_>>()
    });
    for words in own.chain(theirs).filter(|words| !words.is_empty()) {
        let done = Command::new("/init").arg("modprobe").args(&words).stdin(Stdio::null()).status();
        if let Some(status) = problems.take(format_args!("module {}", words.join(" ")), done)
            && !status.success()
        {
            problems.note(format_args!("module {}: {status}", words.join(" ")));
        }
    }
    for (name, value) in cloud.sysctl.iter().chain(&rancher.sysctl) {
        // sysctl.d(5): the separators are dots, or slashes where a name has a dot in it
        let path = match name.find(['.', '/']) {
            Some(at) if name.get(at..).is_some_and(|rest| rest.starts_with('/')) => name.clone(),
            _ => name.replace('.', "/"),
        };
        let plain = !path.split('/').any(|part| matches!(part, "" | "." | ".."));
        let done = match plain {
            true => fs::write(Path::new("/proc/sys").join(path), value),
            false => Err(io::Error::other("no name of a setting")),
        };
        problems.take(format_args!("sysctl {name}"), done);
    }
    if let Some(links) = network::links(configuration)
        && let Some(text) = problems.take("network", kiln_network::to_toml(&links))
    {
        let before = fs::read_to_string(NETWORK_TOML).unwrap_or_default();
        problems.take(NETWORK_TOML, fs::write(NETWORK_TOML, &text));
        // it was started as it was known before; a name is no reason to take links down
        if stage == Stage::Network && !network::same_whatever_its_name(&links, &before) {
            problems.take("network", restart(units::NETWORK));
        }
    }
    let yaml = configuration.merged.root.to_yaml();
    let path = Path::new(places::NOW).join("config.yml");
    problems.take(path.display(), files::replace(&path, yaml.as_bytes(), 0o600));
}

fn restart(service: &str) -> Result<(), String> {
    let mut client = Client::connect(socket_path()).map_err(|error| error.to_string())?;
    let request = Request::Restart { service: service.into(), wait_ms: None };
    client.act(&request).map(|_| ()).map_err(|error| error.to_string())
}

/// Makes containers of the services and tells process 1 of them.
fn apply(
    configuration: &Configuration,
    stage: Stage,
    only: Option<&str>,
    problems: &mut Problems,
) -> Result<(), String> {
    let stock = Stock::open(problems)?;
    let units = match only {
        Some(name) => {
            let mut units = units::units(&configuration.rancher);
            units.retain(name);
            units
        }
        None => {
            let settled = stock.settle(&configuration.rancher, problems);
            let units = units::units(&settled);
            units.problems.iter().for_each(|problem| problems.note(problem));
            for role in Role::ALL {
                let noted = files::replace(role.note(), role.chosen(&settled).as_bytes(), 0o600);
                problems.take(role.noun(), noted);
            }
            units
        }
    };
    let Units { mut system, user, .. } = units;
    mounts::share(&mut system, &configuration.cloud.mounts);
    command_line::hide_in(&mut system);
    if only.is_none() {
        let files = &configuration.cloud.write_files;
        container_files::unknown(&system, files).for_each(|problem| problems.note(problem));
    }
    let mut unpacked = Vec::new();
    let mut bundles = BTreeSet::new();
    let mut specs = Vec::new();
    for unit in system {
        let name = unit.spec.name.clone();
        let image = stock.unpacked(&name, &unit.image, problems);
        let Some(image) = problems.take(&name, image) else { continue };
        let made = bundle(&unit, &image);
        let Some(place) = problems.take(&name, made) else { continue };
        let files = &configuration.cloud.write_files;
        container_files::write(&unit, &place, files, Path::new(places::NOW), problems);
        specs.push(with_bundle(unit, &place));
        bundles.insert(place);
        unpacked.push(image);
    }
    let has_engine = specs.iter().any(|spec| spec.name == units::ENGINE);
    let missing = stock::missing(&configuration.rancher, stock::is_at_hand);
    if (!user.is_empty() || user::has_archives() || !missing.is_empty()) && has_engine {
        specs.push(user_services());
    }
    // who asks the network is not stopped by what it has been told
    if only.is_some() || stage == Stage::Network {
        specs.push(network_sources());
    }
    #[derive(serde::Serialize)]
    struct File {
        service: Vec<ServiceSpec>,
    }
    let text = toml::to_string(&File { service: specs }).map_err(|error| error.to_string())?;
    let path = Path::new(kiln_guest::NOTES).join("services.toml");
    files::replace(&path, text.as_bytes(), 0o600).map_err(|error| error.to_string())?;
    let mut client = Client::connect(socket_path()).map_err(|error| error.to_string())?;
    let done = client
        .act(&Request::Reload { service: None, wait_ms: None })
        .map_err(|error| error.to_string())?;
    if matches!(done.effect, Effect::Failed | Effect::TimedOut) {
        return Err(done.text);
    }
    // what was unpacked for the others is theirs yet
    if only.is_some() {
        return Ok(());
    }
    containers::retain_bundles(Path::new(places::BUNDLES), &bundles);
    stock.retain(&unpacked);
    Ok(())
}

fn bundle(unit: &Unit, image: &Unpacked) -> Result<PathBuf, String> {
    let name = &unit.spec.name;
    // What is kept is kept above the image that it was written above.
    let written = match unit.rebuild {
        true => Path::new(places::FLEETING).join(name),
        false => {
            let digest = image.image.digest().digest();
            Path::new(places::WRITTEN)
                .join(format!("{name}-{}", digest.get(..12).unwrap_or(digest)))
        }
    };
    containers::bundle(Path::new(places::BUNDLES), name, image, unit.options.clone(), &written)
}

fn with_bundle(unit: Unit, place: &Path) -> ServiceSpec {
    let mut spec = unit.spec;
    spec.container = Some(Container::new(place).into());
    spec
}

/// Asks sources over the network, and goes on from there.
fn network_sources() -> ServiceSpec {
    let mut spec = ServiceSpec::one_shot(units::NETWORK_SOURCES, ["/init", "cloud-init"]);
    spec.restart = Restart::OnFailure;
    spec.log = Log::Inherit;
    spec
}

/// Has the engine run what is the user's.
fn user_services() -> ServiceSpec {
    let mut spec = ServiceSpec::one_shot("user-services", ["/init", "user-services"]);
    spec.requires = vec![units::ENGINE.into()];
    spec.wants = vec!["console".into()];
    spec.log = Log::Inherit;
    spec
}
