//! Services of the user: the engine runs them, and keeps them over boots.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use kiln_supervisor::control::{Client, Request, socket_path};

use crate::compose::Service;
use crate::schema::Rancher;
use crate::stock::{self, succeed};
use crate::{configuration, units};

/// Where archives lie whose images the engine is to have, before anything is pulled.
const PRELOAD: &str = "/var/lib/rancher/preload/docker";
/// How long the engine may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// What says which configuration a container was made of.
const LABEL: &str = "io.kiln.service";

fn say(what: impl std::fmt::Display) {
    kiln_supervisor::unix::console_line(format_args!("user services: {what}"));
}

/// The engine's command line program, where it is: in the console.
fn docker() -> Command {
    let mut command = Command::new("/usr/bin/crun");
    command.args(["--cgroup-manager=disabled", "exec", "console", "/usr/bin/docker"]);
    command.stdin(Stdio::null());
    command
}

/// Waits until the engine answers: that it listens is no sign that it stays.
fn wait() {
    let began = Instant::now();
    loop {
        let mut ask = docker();
        ask.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
        if ask.status().is_ok_and(|status| status.success()) {
            return;
        }
        if began.elapsed() > PATIENCE {
            return say(format_args!("the engine has not answered in {} s", PATIENCE.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The service.
pub(crate) fn run() -> ExitCode {
    wait();
    preload();
    let rancher = configuration::load().rancher;
    let services = units::units(&rancher).user;
    let mut failed = 0_usize;
    for service in &services {
        if let Err(why) = ensure(service, &rancher.environment) {
            say(format_args!("{}: {why}", service.name));
            failed = failed.saturating_add(1);
        }
    }
    failed += system_images(&rancher);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Has the engine fetch what the system's services lack, and has the system go over to it: what runs until
/// then is the default. Gives how many could not be had.
fn system_images(rancher: &Rancher) -> usize {
    let missing = stock::missing(rancher, stock::is_at_hand);
    let mut failed = 0_usize;
    for image in &missing {
        if let Err(why) = stock::fetch(image, docker) {
            say(format_args!("{image}: {why}"));
            failed = failed.saturating_add(1);
        }
    }
    if missing.len() > failed {
        // this may be stopped by it
        let request = Request::Restart { service: "reconfigure".into(), wait_ms: None };
        let asked = Client::connect(socket_path()).and_then(|mut client| client.act(&request));
        if let Err(error) = asked {
            say(format_args!("reconfigure: {error}"));
        }
    }
    failed
}

/// Archives that the engine has not read yet, each with the file that says that it has.
fn archives(directory: &Path) -> Vec<(PathBuf, PathBuf)> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let is_archive = |path: &PathBuf| {
        let name = path.to_string_lossy();
        [".tar", ".tar.gz", ".tgz", ".tar.xz"].iter().any(|end| name.ends_with(end))
    };
    let paths = entries.map(|entry| entry.path()).filter(is_archive);
    let with_note = |path: PathBuf| {
        let mut done = path.clone().into_os_string();
        done.push(".done");
        (path, PathBuf::from(done))
    };
    let mut found: Vec<(PathBuf, PathBuf)> =
        paths.map(with_note).filter(|(_, done)| !done.exists()).collect();
    found.sort();
    found
}

/// Whether there are archives for the engine to read.
pub(crate) fn has_archives() -> bool {
    !archives(Path::new(PRELOAD)).is_empty()
}

/// Has the engine read archives, each once.
fn preload() {
    for (archive, done) in archives(Path::new(PRELOAD)) {
        let name = archive.to_string_lossy().into_owned();
        match docker().args(["load", "--quiet", "--input", &name]).status() {
            Ok(status) if status.success() => {
                if let Err(error) = std::fs::write(&done, "") {
                    say(format_args!("{}: {error}", done.display()));
                }
            }
            Ok(status) => say(format_args!("load {name}: {status}")),
            Err(error) => say(format_args!("load {name}: {error}")),
        }
    }
}

/// Has a service run: the container of before if it was made of the same, else a new one.
fn ensure(
    service: &Service,
    environment: &std::collections::BTreeMap<String, String>,
) -> Result<(), String> {
    let mut words = units::docker_run(service, environment);
    let made_of = words.join("\u{1f}");
    let digest = kiln_guest::containers::digest(made_of.as_bytes());
    // behind `run`
    words.splice(1..1, ["--label".to_owned(), format!("{LABEL}={digest}")]);
    let format = format!("{{{{ index .Config.Labels \"{LABEL}\" }}}}");
    let known = docker()
        .args(["container", "inspect", "--format", &format, &service.name])
        .stderr(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    let same = String::from_utf8_lossy(&known.stdout).trim() == digest;
    if known.status.success() && same {
        return succeed(docker().args(["start", &service.name]));
    }
    if known.status.success() {
        succeed(docker().args(["rm", "--force", &service.name]))?;
    }
    succeed(docker().args(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_read_once() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        for name in ["b.tar", "a.tar.gz", "c.tar", "c.tar.done", "readme"] {
            std::fs::write(place(name), "").unwrap();
        }
        let found = archives(directory.path());
        let expected =
            ["a.tar.gz", "b.tar"].map(|name| (place(name), place(&format!("{name}.done"))));
        assert_eq!(found, expected);
        assert!(archives(&place("nowhere")).is_empty());
    }
}
