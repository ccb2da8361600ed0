//! What process 1 is to run of the services of a configuration: which of them, in which order, with which
//! bundle. Pure: the same configuration gives the same units.

use std::collections::{BTreeMap, BTreeSet};

use kiln_oci::bundle::{Capabilities, Mount, Network, Options};
use kiln_supervisor::{Kind, Readiness, Restart, ServiceSpec};

use crate::compose::{self, Net, Service, Volume};
use crate::role::Role;
use crate::schema::Rancher;

const SCOPE: &str = "io.rancher.os.scope";
const DETACH: &str = "io.rancher.os.detach";
const CREATE_ONLY: &str = "io.rancher.os.createonly";
const AFTER: &str = "io.rancher.os.after";
const BEFORE: &str = "io.rancher.os.before";
const RELOAD: &str = "io.rancher.os.reloadconfig";
const REBUILD: &str = "io.docker.compose.rebuild";
/// How a service says that it is ready: `fd` (a newline on descriptor 3), `notify` (sd_notify), or an
/// address that it takes connections at.
const READY: &str = "io.kiln.ready";

/// Where user services run that are not the system's.
pub(crate) const ENGINE: &str = "docker";
/// What makes the network.
pub(crate) const NETWORK: &str = "network";
/// Who asks sources of user-data over it.
pub(crate) const NETWORK_SOURCES: &str = "cloud-init";
/// Names that process 1 has for services of its own.
const RESERVED: &[&str] =
    &["modules", "data", "first-boot", "config", "reconfigure", NETWORK_SOURCES, "user-services"];
/// How deep volumes of volumes are followed.
const DEEPEST: usize = 8;

/// A container of the system.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unit {
    /// The service, without the bundle's path.
    pub(crate) spec: ServiceSpec,
    /// The image.
    pub(crate) image: String,
    /// What its bundle says.
    pub(crate) options: Options,
    /// Whether it begins anew at each boot; else what it writes is kept.
    pub(crate) rebuild: bool,
    /// Whether the configuration is read again when it has ended.
    pub(crate) reload: bool,
}

/// Everything that is to run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Units {
    /// Containers of the system.
    pub(crate) system: Vec<Unit>,
    /// Services that the user's engine runs.
    pub(crate) user: Vec<Service>,
    /// What cannot be done.
    pub(crate) problems: Vec<String>,
}

impl Units {
    /// Keeps a container of the system and those that it is started after.
    pub(crate) fn retain(&mut self, name: &str) {
        let mut kept = BTreeSet::from([name.to_owned()]);
        loop {
            let before = kept.len();
            let of = self.system.iter().filter(|unit| kept.contains(&unit.spec.name));
            let wanted: Vec<String> = of.flat_map(|unit| unit.spec.wants.clone()).collect();
            kept.extend(wanted);
            if kept.len() == before {
                break;
            }
        }
        self.system.retain(|unit| kept.contains(&unit.spec.name));
        self.user.clear();
    }
}

/// Whether a service is one of the system.
pub(crate) fn is_system(service: &Service) -> bool {
    label(service, SCOPE) == Some("system")
}

fn label<'s>(service: &'s Service, name: &str) -> Option<&'s str> {
    service.labels.get(name).map(String::as_str)
}

fn is(service: &Service, name: &str) -> bool {
    label(service, name) == Some("true")
}

fn names(service: &Service, name: &str) -> Vec<String> {
    let list = label(service, name).unwrap_or_default().split(',');
    list.map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether a service is never started: its volumes are others' to take.
pub(crate) fn is_volumes_only(service: &Service) -> bool {
    is(service, CREATE_ONLY)
}

/// Whether a service is there at all: it was not switched off, and it is not another console or engine.
pub(crate) fn is_there(rancher: &Rancher, service: &Service) -> bool {
    let included = rancher.services_include.get(&service.name).copied().unwrap_or(true);
    included && Role::of(service).is_none_or(|(role, name)| role.chosen(rancher) == name)
}

/// The name that a service runs by.
fn unit_name(service: &Service) -> &str {
    Role::of(service).map_or(&service.name, |(role, _)| role.service())
}

/// What follows from a configuration.
pub(crate) fn units(rancher: &Rancher) -> Units {
    let mut units = Units::default();
    let there: BTreeMap<&str, &Service> = rancher
        .services
        .values()
        .filter(|service| is_there(rancher, service))
        .map(|service| (service.name.as_str(), service))
        .collect();
    for role in Role::ALL {
        let (wanted, chosen) = (role.wanted(rancher), role.chosen(rancher));
        if wanted != chosen {
            let noun = role.noun();
            units.problems.push(format!("there is no {noun} {wanted:?}, it is {chosen:?}"));
        }
    }
    let runs = |service: &Service| is_system(service) && !is(service, CREATE_ONLY);
    // What a service is called where it is configured, or runs by, and the latter.
    let mut running: BTreeMap<&str, &str> = BTreeMap::new();
    for service in there.values().filter(|service| runs(service)) {
        running.insert(unit_name(service), unit_name(service));
        running.insert(&service.name, unit_name(service));
    }
    let mut taken: BTreeSet<&str> = RESERVED.iter().copied().collect();
    for service in there.values() {
        if !is_system(service) {
            units.user.push((*service).clone());
        } else if runs(service) && !taken.insert(unit_name(service)) {
            let name = &service.name;
            units.problems.push(format!("service {name}: the system has one of this name"));
        } else if runs(service) {
            match unit(rancher, service, &there, &running) {
                Ok(unit) => units.system.push(unit),
                Err(why) => units.problems.push(format!("service {}: {why}", service.name)),
            }
        }
    }
    // `before` is the other's `after`. Whom nobody knows is nobody's to wait for.
    let before: Vec<(String, String)> = there
        .values()
        .filter(|service| runs(service))
        .flat_map(|service| {
            let first = unit_name(service);
            let others = names(service, BEFORE).into_iter();
            let others = others.filter_map(|other| running.get(other.as_str()));
            others.map(|then| (first.to_owned(), (*then).to_owned())).collect::<Vec<_>>()
        })
        .collect();
    for (first, then) in before {
        let then = units.system.iter_mut().find(|unit| unit.spec.name == then);
        if let Some(unit) = then
            && !unit.spec.wants.contains(&first)
        {
            unit.spec.wants.push(first);
        }
    }
    units
}

fn unit(
    rancher: &Rancher,
    service: &Service,
    there: &BTreeMap<&str, &Service>,
    running: &BTreeMap<&str, &str>,
) -> Result<Unit, String> {
    let mut spec = ServiceSpec::default();
    spec.name = unit_name(service).to_owned();
    if label(service, DETACH) == Some("false") {
        spec.kind = Kind::OneShot;
    }
    spec.restart = match service.restart {
        compose::Restart::Always => Restart::Always,
        compose::Restart::OnFailure => Restart::OnFailure,
        compose::Restart::No => Restart::Never,
    };
    // A service that does not come up does not keep others from theirs.
    let after = names(service, AFTER).into_iter();
    let after = after.filter_map(|name| running.get(name.as_str()));
    spec.wants = after.map(|name| (*name).to_owned()).collect();
    spec.readiness = match label(service, READY) {
        None => Readiness::None,
        Some("fd") => Readiness::NotifyFd(3),
        Some("notify") => Readiness::SdNotify,
        Some(address) => match address.parse() {
            Ok(address) => Readiness::Connect(address),
            Err(error) => return Err(format!("label {READY}: {address:?}: {error}")),
        },
    };
    // An engine with containers of the user takes its time at both ends.
    spec.ready_timeout = std::time::Duration::from_secs(600);
    spec.stop_timeout = std::time::Duration::from_secs(if spec.name == ENGINE { 45 } else { 10 });
    let mut volumes = Vec::new();
    collect(service, there, DEEPEST, &mut volumes)?;
    Ok(Unit {
        options: options(rancher, service, &volumes),
        spec,
        image: service.image.clone(),
        rebuild: label(service, REBUILD) == Some("always"),
        reload: is(service, RELOAD),
    })
}

/// A service's volumes and those of whom it takes them from; its own go before.
fn collect<'s>(
    service: &'s Service,
    there: &BTreeMap<&str, &'s Service>,
    deepest: usize,
    volumes: &mut Vec<&'s Volume>,
) -> Result<(), String> {
    for volume in &service.volumes {
        if !volumes.iter().any(|known| known.target == volume.target) {
            volumes.push(volume);
        }
    }
    for name in &service.volumes_from {
        let other = there.get(name.as_str());
        let other = other.ok_or_else(|| format!("volumes_from: there is no service {name:?}"))?;
        let deepest = deepest.checked_sub(1);
        let deepest = deepest.ok_or_else(|| format!("volumes_from: {name:?} has no end"))?;
        collect(other, there, deepest, volumes)?;
    }
    Ok(())
}

fn options(rancher: &Rancher, service: &Service, volumes: &[&Volume]) -> Options {
    let mut options = Options::default();
    options.entrypoint.clone_from(&service.entrypoint);
    options.args.clone_from(&service.command);
    let global = rancher.environment.iter().map(|(name, value)| format!("{name}={value}"));
    options.env = global.collect();
    // a name alone is the system's value, which is there already, or nothing
    options.env.extend(service.environment.iter().filter(|pair| pair.contains('=')).cloned());
    options.user.clone_from(&service.user);
    options.cwd.clone_from(&service.working_dir);
    options.hostname = match (&service.hostname, service.host_uts) {
        (_, true) => None,
        (Some(name), false) => Some(name.clone()),
        (None, false) => Some(service.name.clone()),
    };
    options.network = if service.net == Net::Host { Network::Host } else { Network::Own };
    (options.host_pid, options.host_ipc) = (service.host_pid, service.host_ipc);
    (options.privileged, options.readonly) = (service.privileged, service.read_only);
    if !service.cap_add.is_empty() {
        let named = |name: &String| match name.strip_prefix("CAP_") {
            Some(_) => name.clone(),
            None => format!("CAP_{name}"),
        };
        options.capabilities = match service.cap_add.iter().any(|name| name == "ALL") {
            true => Capabilities::All,
            false => Capabilities::And(service.cap_add.iter().map(named).collect()),
        };
    }
    options.shared_mounts = volumes.iter().any(|volume| volume.shared);
    // What lies below another is mounted after it.
    let mut sorted = volumes.to_vec();
    sorted.sort_by(|a, b| a.target.cmp(&b.target));
    for volume in sorted {
        let mount = Mount::bind(&*volume.source, &*volume.target, volume.read_only);
        options.mounts.push(if volume.shared { mount.shared() } else { mount });
    }
    for target in &service.tmpfs {
        let mut mount = Mount::default();
        mount.destination = target.split(':').next().unwrap_or(target).to_owned();
        (mount.source, mount.kind) = ("tmpfs".into(), "tmpfs".into());
        mount.options = ["nosuid", "nodev", "mode=1777"].map(String::from).to_vec();
        options.mounts.push(mount);
    }
    options
}

/// The words that have the user's engine run a service, after `docker`.
pub(crate) fn docker_run(service: &Service, environment: &BTreeMap<String, String>) -> Vec<String> {
    let mut words: Vec<String> = ["run", "--detach", "--name"].map(String::from).to_vec();
    words.push(service.name.clone());
    let mut option = |name: &str, value: String| words.extend([name.to_owned(), value]);
    option(
        "--restart",
        match service.restart {
            compose::Restart::No => "no".into(),
            compose::Restart::Always => "always".into(),
            compose::Restart::OnFailure => "on-failure".into(),
        },
    );
    match service.net {
        Net::Bridge => {}
        Net::Host => option("--network", "host".into()),
        Net::None => option("--network", "none".into()),
    }
    for (given, name) in
        [(service.host_pid, "--pid"), (service.host_ipc, "--ipc"), (service.host_uts, "--uts")]
    {
        if given {
            option(name, "host".into());
        }
    }
    for (name, value) in &service.labels {
        option("--label", format!("{name}={value}"));
    }
    for pair in &service.environment {
        match (pair.contains('='), environment.get(pair)) {
            (true, _) => option("--env", pair.clone()),
            (false, Some(value)) => option("--env", format!("{pair}={value}")),
            (false, None) => {}
        }
    }
    for volume in &service.volumes {
        let mut text = format!("{}:{}", volume.source, volume.target);
        let words = [(volume.read_only, "ro"), (volume.shared, "rshared")];
        let words: Vec<&str> = words.iter().filter(|(given, _)| *given).map(|it| it.1).collect();
        if !words.is_empty() {
            text = format!("{text}:{}", words.join(","));
        }
        option("--volume", text);
    }
    let lists = [
        ("--volumes-from", &service.volumes_from),
        ("--cap-add", &service.cap_add),
        ("--tmpfs", &service.tmpfs),
        ("--publish", &service.ports),
    ];
    for (name, list) in lists {
        list.iter().for_each(|value| option(name, value.clone()));
    }
    let single = [
        ("--user", &service.user),
        ("--workdir", &service.working_dir),
        ("--hostname", &service.hostname),
    ];
    for (name, value) in single {
        if let Some(value) = value {
            option(name, value.clone());
        }
    }
    for (given, name) in [(service.privileged, "--privileged"), (service.read_only, "--read-only")]
    {
        if given {
            words.push(name.into());
        }
    }
    // Of an entry point docker's command line takes the first word alone; the others go before arguments.
    let mut arguments = Vec::new();
    if let Some((program, more)) = service.entrypoint.as_deref().and_then(<[String]>::split_first) {
        words.extend(["--entrypoint".into(), program.clone()]);
        arguments.extend_from_slice(more);
    }
    words.push(service.image.clone());
    arguments.extend(service.command.iter().flatten().cloned());
    words.extend(arguments);
    words
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::configuration;

    /// What is built in, with more above it.
    fn configured(more: &str) -> (Rancher, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("more.yml");
        std::fs::write(&file, more).unwrap();
        let built_in = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/os-config.yml"));
        let found = configuration::load_from(&[built_in, file.clone()], "");
        let said = found.findings.to_string().replace(&file.display().to_string(), "more.yml");
        (found.rancher, said)
    }

    fn line(unit: &Unit) -> String {
        let Unit { spec, image, options, .. } = unit;
        let (wants, mounts) = (spec.wants.join(" "), options.mounts.len());
        format!("{}: {image} [{wants}] {:?} {mounts} mounts\n", spec.name, spec.readiness)
    }

    #[test]
    fn what_is_built_in_is_sound_and_runs() {
        let (rancher, said) = configured("{}");
        assert_eq!(said, "");
        let units = units(&rancher);
        assert!(units.problems.is_empty() && units.user.is_empty(), "{:?}", units.problems);
        assert!(units.system.iter().all(|unit| unit.options.privileged && unit.rebuild));
        let specs: Vec<ServiceSpec> = units.system.iter().map(|unit| unit.spec.clone()).collect();
        let with_command = specs.into_iter().map(|mut spec| {
            spec.command = vec!["/init".into()];
            spec
        });
        assert!(kiln_supervisor::Graph::new(&with_command.collect::<Vec<_>>()).is_ok());
        insta::assert_snapshot!(units.system.iter().map(line).collect::<String>(), @r#"
        acpid: rancher/os-acpid:v1 [] None 8 mounts
        console: rancher/os-console:v1 [] None 13 mounts
        docker: rancher/os-docker:v1 [network] Connect(Unix("/run/docker.sock")) 13 mounts
        network: rancher/os-network:v1 [syslog] NotifyFd(3) 8 mounts
        ntp: rancher/os-ntp:v1 [network] NotifyFd(3) 8 mounts
        syslog: rancher/os-syslog:v1 [] None 8 mounts
        "#);
    }

    #[test]
    fn labels_and_choices_say_what_runs() {
        let (rancher, said) = configured(
            "rancher:\n  console: other\n  services_include: {acpid: false}\n  services:\n    other:\n      \
             image: o:1\n      labels: {io.rancher.os.scope: system, io.rancher.os.console: other, \
             io.rancher.os.before: docker}\n      volumes_from: [user-volumes]\n      volumes: [/x:/home:ro]\n    \
             mine:\n      image: web\n      ports: ['80:80']\n    job:\n      image: j:1\n      labels: \
             {io.rancher.os.scope: system, io.rancher.os.detach: 'false', io.rancher.os.after: 'other,nobody'}\n    \
             lost:\n      image: l:1\n      labels: {io.rancher.os.scope: system}\n      volumes_from: [nothing]\n",
        );
        assert_eq!(said, "");
        let units = units(&rancher);
        assert_eq!(units.problems, ["service lost: volumes_from: there is no service \"nothing\""]);
        let find = |name: &str| units.system.iter().find(|unit| unit.spec.name == name);
        assert!(
            find("other").is_none() && find("acpid").is_none() && find("user-volumes").is_none()
        );
        // it is the console, whatever it is called
        let other = find("console").unwrap();
        assert_eq!(other.image, "o:1");
        let home = other.options.mounts.iter().find(|mount| mount.destination == "/home").unwrap();
        assert_eq!((home.source.as_str(), home.options.contains(&"ro".to_owned())), ("/x", true));
        assert!(find("docker").unwrap().spec.wants.contains(&"console".to_owned()));
        let job = find("job").unwrap();
        assert_eq!(
            (job.spec.kind, job.spec.wants.clone()),
            (Kind::OneShot, vec!["console".to_owned()])
        );
        assert_eq!(units.user.len(), 1);
        assert_eq!(
            docker_run(&units.user[0], &BTreeMap::new()).join(" "),
            "run --detach --name mine --restart no --publish 80:80 web:latest"
        );
    }

    #[test]
    fn a_choice_that_is_not_there_is_told_and_the_default_is() {
        let (rancher, _) = configured("rancher: {console: ubuntu, docker: {engine: docker-1.2}}\n");
        let units = units(&rancher);
        let expected = [
            "there is no console \"ubuntu\", it is \"default\"",
            "there is no engine \"docker-1.2\", it is \"docker\"",
        ];
        assert_eq!(units.problems, expected);
        let found = |name: &str| units.system.iter().any(|unit| unit.spec.name == name);
        assert!(found("console") && found("docker"));
    }

    #[test]
    fn one_engine_of_several_is_the_engine() {
        let (rancher, said) = configured(
            "rancher:\n  docker: {engine: next}\n  services:\n    newer:\n      image: e:2\n      labels: \
             {io.rancher.os.scope: system, io.kiln.engine: next, io.kiln.ready: 'unix:/run/docker.sock'}\n    \
             late:\n      image: l:1\n      labels: {io.rancher.os.scope: system, io.rancher.os.after: newer}\n    \
             later:\n      image: l:1\n      labels: {io.rancher.os.scope: system, io.rancher.os.after: docker}\n    \
             console:\n      labels: {io.rancher.os.console: ''}\n    second:\n      image: s:1\n      labels: \
             {io.rancher.os.scope: system, io.rancher.os.console: default}\n",
        );
        assert_eq!(said, "");
        let units = units(&rancher);
        assert!(units.problems.is_empty(), "{:?}", units.problems);
        let find = |name: &str| units.system.iter().find(|unit| unit.spec.name == name).unwrap();
        let engine = find(ENGINE);
        assert_eq!((engine.image.as_str(), engine.spec.stop_timeout.as_secs()), ("e:2", 45));
        assert_eq!(find("console").image, "s:1");
        for name in ["late", "later"] {
            assert_eq!(find(name).spec.wants, [ENGINE], "{name}");
        }
    }

    #[test]
    fn two_of_one_name_are_told() {
        let (rancher, _) = configured(
            "rancher:\n  console: b\n  services:\n    a:\n      image: a:1\n      labels: \
             {io.rancher.os.scope: system, io.rancher.os.console: b}\n    b:\n      image: b:1\n      \
             labels: {io.rancher.os.scope: system, io.rancher.os.console: b}\n",
        );
        assert_eq!(units(&rancher).problems, ["service b: the system has one of this name"]);
    }

    #[test]
    fn the_network_can_be_had_alone() {
        let text = "rancher:\n  services:\n    mine: {image: 'a:1'}\n    config:\n      image: a:1\n      \
                    labels: {io.rancher.os.scope: system}\n";
        let (rancher, said) = configured(text);
        assert_eq!(said, "");
        let mut units = units(&rancher);
        assert_eq!(units.problems, ["service config: the system has one of this name"]);
        units.retain(NETWORK);
        let names: Vec<&str> = units.system.iter().map(|unit| unit.spec.name.as_str()).collect();
        assert_eq!((names, units.user.len()), (vec!["network", "syslog"], 0));
    }

    #[test]
    fn volumes_that_have_no_end_are_told() {
        let service = |name: &str, from: &str| {
            format!(
                "    {name}:\n      image: a:1\n      labels: {{io.rancher.os.scope: system}}\n      \
                 volumes_from: [{from}]\n"
            )
        };
        let text = format!("rancher:\n  services:\n{}{}", service("a", "b"), service("b", "a"));
        let problems = units(&configured(&text).0).problems;
        assert_eq!(problems.len(), 2);
        assert!(problems[0].contains("has no end"), "{problems:?}");
    }
}
