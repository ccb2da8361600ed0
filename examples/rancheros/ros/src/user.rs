//! Services of the user: the engine runs them, and keeps them over boots.

use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use crate::compose::Service;
use crate::{configuration, units};

/// Where archives lie whose images the engine is to have, before anything is pulled.
const PRELOAD: &str = "/var/lib/rancher/preload/docker";
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

/// The service.
pub(crate) fn run() -> ExitCode {
    preload();
    let rancher = configuration::load().rancher;
    let services = units::units(&rancher).user;
    let mut failed = 0;
    for service in &services {
        if let Err(why) = ensure(service, &rancher.environment) {
            say(format_args!("{}: {why}", service.name));
            failed += 1;
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Has the engine read archives, each once.
fn preload() {
    let entries = std::fs::read_dir(PRELOAD).into_iter().flatten().flatten();
    let mut archives: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    archives.sort();
    for archive in archives {
        let name = archive.to_string_lossy().into_owned();
        let is_archive =
            [".tar", ".tar.gz", ".tgz", ".tar.xz"].iter().any(|end| name.ends_with(end));
        let done = archive.with_extension("done");
        if !is_archive || done.exists() {
            continue;
        }
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

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
