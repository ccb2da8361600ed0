//! The service `kurma`: the server of pods, as the configuration says.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_guest::login;
use kiln_supervisor::unix::console_line;
use kurma_server::configuration::{Configuration, Console};
use kurma_server::{PodOptions, Server};
use serde_json::{Value, json};

use crate::{configuration, places};

/// The image of the interface over the network, where it is, and its name.
const API: &str = "kurma-api.aci";
const API_NAME: &str = "kurma/kurma-api";
const API_POD: &str = "kurma-api";
/// This program.
const INIT: &str = "/init";
/// The same of the console.
const CONSOLE: &str = "console.aci";
const CONSOLE_NAME: &str = "kurma/console";
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
    let own = [api(&configuration, images), console(&configuration, images)];
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

/// The pod of the machine's terminals and of ssh: of the image that the configuration names, else of the
/// system's own. What people log in with is in files at `/run/console`.
fn console(configuration: &Configuration, images: &Path) -> Option<Value> {
    let console = &configuration.console;
    if console.enabled == Some(false) {
        return None;
    }
    if let Some(pod) = &console.pod {
        return Some(json!({ "name": "console", "pod": pod }));
    }
    let own = images.join(CONSOLE).exists().then_some(CONSOLE_NAME);
    let image = console.aci.as_deref().or(own)?;
    let place = kept("console");
    if let Err(error) = people(console, &place) {
        console_line(format_args!("kurma: {}: {error}", place.display()));
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

/// Writes down what people log in with: keys, and a hash of the password.
fn people(console: &Console, place: &Path) -> io::Result<()> {
    fs::set_permissions(place, fs::Permissions::from_mode(0o700))?;
    let password = console.password.as_deref().filter(|password| !password.is_empty());
    // where there can be none, nobody has one
    let hash = password.and_then(|password| match login::hashed(password) {
        Ok(hash) => Some(hash),
        Err(error) => {
            console_line(format_args!("kurma: console.password: {error}"));
            None
        }
    });
    secret(&place.join("password"), &hash.unwrap_or_default())?;
    let keys: String = console.ssh_keys.iter().map(|key| format!("{}\n", key.trim())).collect();
    secret(&place.join("authorized_keys"), &keys)
}

/// Writes a file that is for root alone.
fn secret(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_kept_as_it_is() {
        if !Path::new("/bin/busybox").exists() {
            println!("skipped: /bin/busybox");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let mut console = Console::default();
        console.password = Some("secret".into());
        console.ssh_keys = vec!["ssh-ed25519 A one\n".into(), "ssh-ed25519 B two".into()];
        let read = |name: &str| {
            let path = place.path().join(name);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            fs::read_to_string(path).unwrap()
        };
        people(&console, place.path()).unwrap();
        assert!(read("password").starts_with("$6$"), "{}", read("password"));
        assert_eq!(read("authorized_keys"), "ssh-ed25519 A one\nssh-ed25519 B two\n");
        let mode = fs::metadata(place.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        // who is not among them any more is not there any more
        people(&Console::default(), place.path()).unwrap();
        assert_eq!((read("password"), read("authorized_keys")), (String::new(), String::new()));
        console.password = Some("$6$a:b".into());
        people(&console, place.path()).unwrap();
        assert_eq!(read("password"), "");
    }
}
