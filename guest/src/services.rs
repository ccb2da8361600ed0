//! Which services there are: those that every system has, and those that the image's file lists.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::Duration;

use kiln_supervisor::service_file::{Context, Findings, Source, parse_sound, parse_with};
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
    if system.own.network {
        services.push(network);
    }

    let mut time = ServiceSpec::daemon("time", ["/init", "time"]);
    time.readiness = Readiness::NotifyFd(3);
    // It gives up by itself, so that those that only want the time go on; then it is tried again.
    time.ready_timeout = Duration::MAX;
    time.backoff.initial = crate::time::BOUND.saturating_add(Duration::from_secs(5));
    time.backoff.max = Duration::from_secs(300);
    time.backoff.healthy = Duration::from_secs(3600);
    time.log = Log::Inherit;
    if system.own.time {
        services.push(time);
    }
    services.extend(system.services.iter().cloned());
    services
}

/// The services that there are anyway, and the files that list more: the image's, and one that the
/// running system may write.
#[derive(Debug)]
pub(crate) struct Listed {
    pub(crate) own: Vec<ServiceSpec>,
    pub(crate) files: [PathBuf; 2],
}

impl Listed {
    /// All services that can start. What of the files cannot is left out, or where one cannot be read at
    /// all, all of it; what is wrong comes as lines.
    pub(crate) fn read(&self) -> (Vec<ServiceSpec>, Vec<String>) {
        let (texts, mut problems) = self.texts();
        let sources = sources(&texts);
        let read = carefully(|| parse_sound(&sources, Context::with(&self.own)));
        match read {
            Ok((more, findings)) => {
                problems.extend(lines(&findings));
                (self.and(more.specs), problems)
            }
            Err(why) => {
                problems.push(why);
                (self.own.clone(), problems)
            }
        }
    }

    /// What the files say that are there, and what cannot be read.
    fn texts(&self) -> (Vec<(&PathBuf, String)>, Vec<String>) {
        let (mut texts, mut problems) = (Vec::new(), Vec::new());
        for file in &self.files {
            match files::read(file) {
                Ok(text) => texts.extend(text.map(|text| (file, text))),
                Err(error) => {
                    problems
                        .push(format!("{0}: {error}: its services are left out", file.display()));
                }
            }
        }
        (texts, problems)
    }

    fn and(&self, more: Vec<ServiceSpec>) -> Vec<ServiceSpec> {
        self.own.iter().cloned().chain(more).collect()
    }
}

fn sources(texts: &[(&PathBuf, String)]) -> Vec<Source> {
    texts.iter().map(|(file, text)| Source::new(file, text.as_str())).collect()
}

/// A parser is much code for process 1: should it panic, the system goes on all the same.
fn carefully<T>(parse: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(parse)).map_err(|_| "the parser of services failed".to_owned())
}

impl SpecSource for Listed {
    fn load(&mut self) -> Result<Vec<ServiceSpec>, String> {
        let (texts, problems) = self.texts();
        if !problems.is_empty() {
            return Err(problems.join("\n"));
        }
        // whoever has none any more hardly means to stop everything
        if texts.is_empty() {
            return Err(format!("{} is not there", self.files[0].display()));
        }
        let sources = sources(&texts);
        match carefully(|| parse_with(&sources, Context::with(&self.own)))? {
            Ok(more) => Ok(self.and(more.specs)),
            Err(findings) => Err(lines(&findings).join("\n")),
        }
    }
}

fn lines(findings: &Findings) -> Vec<String> {
    findings.0.iter().map(ToString::to_string).collect()
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

    fn listed(file: PathBuf) -> Listed {
        let other = file.with_file_name("more.toml");
        Listed { own: own(&system()), files: [file, other] }
    }

    fn joined(text: &str) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("services.toml");
        std::fs::write(&path, text).unwrap();
        let (services, problems) = listed(path).read();
        let prefix = format!("{}", dir.path().display());
        let problems = problems.iter().map(|problem| problem.replace(&prefix, "")).collect();
        (services.into_iter().map(|service| service.name).collect(), problems)
    }

    const OWN: [&str; 5] = ["modules", "data", "first-boot", "network", "time"];

    #[test]
    fn the_services_of_every_system_are_sound_with_and_without_data() {
        assert!(Graph::new(&own(&system())).is_ok());
        assert!(Graph::new(&own(&System::new("none"))).is_ok());
        let (names, problems) = listed("/nonexistent/file".into()).read();
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

    /// What is wrong, beside one that is sound.
    #[test]
    fn what_is_wrong_is_told_with_its_line_and_left_out_alone() {
        let good = "[[service]]\nname = \"good\"\ncommand = [\"/good\"]\n";
        for (text, expected) in [
            ("[[service]]\nname = \"a\"\nbad = 1\n", "/services.toml:6: unknown key"),
            ("[[service]]\nname = 5\n", "/services.toml:5: name: expected a string"),
            (
                "[[service]]\nname = \"modules\"\ncommand = [\"/a\"]\n",
                "/services.toml:5: left out: modules is defined twice, first at the program itself",
            ),
            (
                "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nrequires = [\"nobody\"]\n",
                "/services.toml:7: left out: a requires \"nobody\", which does not exist",
            ),
            (
                "[[service]]\nname = \"a\"\ncommand = [\"/a\"]\nafter = [\"b\"]\n\
                 [[service]]\nname = \"b\"\ncommand = [\"/b\"]\nafter = [\"a\"]\n",
                "/services.toml:7: left out: service a: after b, which depends on a: dependency cycle",
            ),
        ] {
            let (names, problems) = joined(&format!("{good}{text}"));
            assert_eq!(names.get(..5), Some(&OWN.map(String::from)[..]), "{text}");
            assert_eq!(names.get(5..), Some(&["good".to_owned()][..]), "{text}");
            assert!(problems.iter().any(|it| it.starts_with(expected)), "{text}: {problems:?}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_left_out_whole_and_a_reload_is_strict() {
        let (names, problems) = joined("[[service\n");
        assert_eq!(names, OWN);
        assert!(problems[0].starts_with("/services.toml:1:"), "{problems:?}");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("services.toml");
        let mut listed = listed(file.clone());
        let good = "[[service]]\nname = \"good\"\ncommand = [\"/good\"]\n";
        std::fs::write(&file, format!("{good}requires = [\"nobody\"]\n")).unwrap();
        assert!(listed.load().unwrap_err().contains("nobody"));
        std::fs::write(&file, good).unwrap();
        assert_eq!(listed.load().unwrap().len(), OWN.len() + 1);
    }
}
