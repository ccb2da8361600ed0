//! The service `kurma`: the server of pods, as the configuration says.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_supervisor::unix::console_line;
use kurma_server::configuration::Configuration;
use kurma_server::{PodOptions, Server};
use serde_json::{Value, json};

use crate::{configuration, places};

/// The image of the interface over the network, where it is, and its name.
const API: &str = "kurma-api.aci";
const API_NAME: &str = "kurma/kurma-api";
const API_POD: &str = "kurma-api";
/// This program.
const INIT: &str = "/init";
/// The port of the interface over the network.
const PORT: u16 = 12312;

/// Runs it.
pub(crate) fn run() -> ExitCode {
    let configuration = configuration::load().configuration;
    let mut options = PodOptions::default();
    options.volumes = vec![Path::new(places::KEPT).join("volumes")];
    let mut server = Server::of(options, &configuration);
    let images = Path::new(places::IMAGES);
    server.begin.images.insert(0, images.into());
    let own = [api(&configuration, images), console(&configuration)];
    for (at, pod) in own.into_iter().flatten().enumerate() {
        server.begin.pods.insert(at, pod);
    }
    // the code that a first client is enrolled with is on the console
    server.begin.shown.push(API_POD.into());
    server.api.upgrades = Some(INIT.into());
    match server.run(ready) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            console_line(format_args!("kurma: {problem}"));
            ExitCode::FAILURE
        }
    }
}

fn ready() {
    // the descriptor that the supervisor waits at
    let told = OpenOptions::new().write(true).open("/proc/self/fd/3");
    if let Err(error) = told.and_then(|mut fd| fd.write_all(b"\n")) {
        console_line(format_args!("kurma: tell that it is ready: {error}"));
    }
}

/// The pod of the interface over the network.
fn api(configuration: &Configuration, images: &Path) -> Option<Value> {
    let there = images.join(API).exists();
    if !there || configuration.api.enabled == Some(false) {
        return None;
    }
    let mut exec = vec!["/usr/bin/kurma-api".to_owned()];
    let names = configuration.api.names.iter().chain(&configuration.hostname);
    exec.extend(names.map(|name| format!("--name={name}")));
    exec.extend(configuration.api.plain.iter().map(|address| format!("--plain={address}")));
    let mut ports = vec![format!("{PORT}:{PORT}")];
    if let Some((_, port)) =
        configuration.api.plain.as_ref().and_then(|plain| plain.rsplit_once(':'))
    {
        ports.push(format!("{port}:{port}"));
    }
    Some(json!({
        "name": API_POD,
        "ports": ports,
        "pod": {
            "acKind": "PodManifest", "acVersion": kurma_server::APPC,
            "apps": [{
                "name": "kurma-api",
                "image": { "name": API_NAME },
                "app": {
                    "exec": exec, "user": "0", "group": "0",
                    "isolators": [{ "name": "host/api-access", "value": true }],
                    "mountPoints": [{ "name": "identity", "path": "/data" }],
                },
            }],
            "volumes": [{ "name": "identity", "kind": "host", "source": kept("api") }],
        },
    }))
}

/// A directory that is kept, whose pod may be another at each boot.
fn kept(name: &str) -> PathBuf {
    let path = Path::new(places::KEPT).join(name);
    if let Err(error) = fs::create_dir_all(&path) {
        console_line(format_args!("kurma: make {}: {error}", path.display()));
    }
    path
}

/// The pod of the terminals of the machine, of an image that is one. What people log in with is in files at
/// `/run/console`.
fn console(configuration: &Configuration) -> Option<Value> {
    let console = &configuration.console;
    if console.enabled == Some(false) {
        return None;
    }
    if let Some(pod) = &console.pod {
        return Some(json!({ "name": "console", "pod": pod }));
    }
    let image = console.aci.as_ref()?;
    let place = kept("console");
    let password = console.password.clone().unwrap_or_default();
    for (name, text) in [("password", password), ("authorized_keys", console.ssh_keys.join("\n"))] {
        let path = place.join(name);
        if let Err(error) = secret(&path, &text) {
            console_line(format_args!("kurma: write {}: {error}", path.display()));
        }
    }
    Some(json!({
        "name": "console",
        "pod": {
            "acKind": "PodManifest", "acVersion": kurma_server::APPC,
            "apps": [{
                "name": "console",
                "image": { "name": image },
                "mounts": [{ "volume": "console", "path": "/run/console" }],
            }],
            "volumes": [{ "name": "console", "kind": "host", "source": place }],
            "isolators": [{ "name": "host/privileged", "value": true }],
        },
    }))
}

/// Writes a file that is for root alone.
fn secret(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}
