//! Which services there are: those that every system has, and those that the image's file lists.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kiln_supervisor::service_file::{Context, Source, parse_with};
use kiln_supervisor::unix::SpecSource;
use kiln_supervisor::{Log, Readiness, ServiceSpec};

use crate::{System, files};

/// The services that are this program, and those of the system itself.
pub(crate) fn own(system: &System) -> Vec<ServiceSpec> {
    // Drivers are loaded, network cards first, while the network waits for an interface and then for
    // an answer.
    let mut modules = ServiceSpec::daemon("modules", ["/init", "modules"]);
    modules.readiness = Readiness::NotifyFd(3);
    // A driver takes as long as its device does.
    modules.ready_timeout = Duration::MAX;
    modules.log = Log::Inherit;
    let mut first_boot = ServiceSpec::one_shot("first-boot", ["/init", "first-boot"]);
    first_boot.log = Log::Inherit;
    first_boot.requires = vec!["modules".into()];
    let mut services = vec![modules];
    if system.data.is_some() {
        let mut data = ServiceSpec::one_shot("data", ["/init", "data"]);
        data.requires = vec!["modules".into()];
        data.log = Log::Inherit;
        services.push(data);
        first_boot.wants = vec!["data".into()];
    }
    services.push(first_boot);

    let mut network = ServiceSpec::daemon("network", ["/init", "network"]);
    network.readiness = Readiness::NotifyFd(3);
    // Without a DHCP server it tries for ever, and says so; a restart would not find one sooner.
    network.ready_timeout = Duration::MAX;
    network.log = Log::Inherit;
    services.push(network);

    let mut time = ServiceSpec::daemon("time", ["/init", "time"]);
    time.readiness = Readiness::NotifyFd(3);
    // It gives up by itself, so that those that only want the time go on; then it is tried again.
    time.ready_timeout = Duration::MAX;
    time.backoff.initial = crate::time::BOUND.saturating_add(Duration::from_secs(5));
    time.backoff.max = Duration::from_secs(300);
    time.backoff.healthy = Duration::from_secs(3600);
    time.log = Log::Inherit;
    services.push(time);
    services.extend(system.services.iter().cloned());
    services
}

/// The services that there are anyway, and the file that lists more.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) own: Vec<ServiceSpec>,
    pub(crate) file: PathBuf,
}

impl Listed {
    /// All services. Where the file cannot be used they are those that there are anyway, and what is
    /// wrong comes as lines.
    pub(crate) fn read(&self) -> (Vec<ServiceSpec>, Vec<String>) {
        match self.with_file() {
            Ok(services) => (services.unwrap_or_else(|| self.own.clone()), Vec::new()),
            Err(mut problems) => {
                problems.push(format!("{}: its services are left out", self.file.display()));
                (self.own.clone(), problems)
            }
        }
    }

    fn with_file(&self) -> Result<Option<Vec<ServiceSpec>>, Vec<String>> {
        let shown = self.file.display();
        let text = files::read(&self.file).map_err(|error| vec![format!("{shown}: {error}")])?;
        let Some(text) = text else { return Ok(None) };
        // A parser is much code for process 1: should it panic, the system boots all the same.
        let joined = catch_unwind(AssertUnwindSafe(|| join(&self.own, &self.file, &text)));
        joined.unwrap_or_else(|_| Err(vec![format!("{shown}: the parser failed")])).map(Some)
    }
}

impl SpecSource for Listed {
    fn load(&mut self) -> Result<Vec<ServiceSpec>, String> {
        match self.with_file() {
            Ok(Some(services)) => Ok(services),
            // whoever has none any more hardly means to stop everything
            Ok(None) => Err(format!("{} is not there", self.file.display())),
            Err(problems) => Err(problems.join("\n")),
        }
    }
}

fn join(own: &[ServiceSpec], path: &Path, text: &str) -> Result<Vec<ServiceSpec>, Vec<String>> {
    match parse_with(&[Source::new(path, text)], Context::with(own)) {
        Ok(more) => Ok(own.iter().cloned().chain(more.specs).collect()),
        Err(findings) => Err(findings.0.iter().map(ToString::to_string).collect()),
    }
}

#[cfg(test)]
mod tests {
    use kiln_supervisor::Graph;

    use super::*;
    use crate::Data;

    fn system() -> System {
        let mut system = System::new("test");
        system.data = Some(Data::new("data", "/data"));
        system
    }

    fn joined(text: &str) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services.toml");
        std::fs::write(&path, text).unwrap();
        let (services, problems) = Listed { own: own(&system()), file: path }.read();
        let prefix = format!("{}", dir.path().display());
        let problems = problems.iter().map(|problem| problem.replace(&prefix, "")).collect();
        (services.into_iter().map(|service| service.name).collect(), problems)
    }

    const OWN: [&str; 5] = ["modules", "data", "first-boot", "network", "time"];

    #[test]
    fn the_services_of_every_system_are_sound_with_and_without_data() {
        assert!(Graph::new(&own(&system())).is_ok());
        assert!(Graph::new(&own(&System::new("none"))).is_ok());
        let (names, problems) =
            Listed { own: own(&system()), file: "/nonexistent/file".into() }.read();
        assert_eq!((names.len(), problems.len()), (5, 0));
    }

    #[test]
    fn the_files_services_may_name_the_own_ones() {
        let text = "[[service]]\nname = \"web\"\ncommand = [\"/bin/web\"]\nrequires = [\"network\", \"data\"]\n\
                    wants = [\"time\"]\nafter = [\"modules\"]\nkill = \"process\"\n";
        let (names, problems) = joined(text);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(names.get(..5), Some(&OWN.map(String::from)[..]));
        assert_eq!(names.get(5).map(String::as_str), Some("web"));
    }

    #[test]
    fn a_bad_file_is_told_with_its_line_and_left_out() {
        for (text, expected) in [
            ("[[service]]\nname = \"a\"\nbad = 1\n", "/services.toml:3: unknown key"),
            ("[[service]]\nname = 5\n", "/services.toml:2: name: expected a string"),
            ("[[service\n", "/services.toml:1:"),
            ("[[service]]\nname = \"modules\"\ncommand = [\"/a\"]\n", "modules"),
            (
                "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nrequires = [\"nobody\"]\n",
                "/services.toml:4: a requires \"nobody\"",
            ),
        ] {
            let (names, problems) = joined(text);
            assert_eq!(names, OWN, "{text}");
            assert!(problems[0].contains(expected), "{text}: {problems:?}");
            assert_eq!(problems.last().unwrap(), "/services.toml: its services are left out");
        }
        let cycle = "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nafter = [\"b\"]\n\
                     [[service]]\nname = \"b\"\ncommand = [\"/b\"]\nafter = [\"a\"]\n";
        assert!(joined(cycle).1[0].contains("cycle"));
    }
}
