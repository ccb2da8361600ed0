//! The service `config`: the machine as its configuration says.

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use kiln_guest::mounts::{Done, Entry};
use kiln_supervisor::unix::console_line;
use kurma_server::configuration::{Configuration, Disk};

use crate::{configuration, places};

/// Tells what went wrong; the boot goes on.
fn take<T, E: Display>(what: impl Display, result: Result<T, E>) -> Option<T> {
    result.map_err(|error| console_line(format_args!("config: {what}: {error}"))).ok()
}

/// Does it all.
pub(crate) fn run() -> ExitCode {
    let early = configuration::early();
    if let Some(device) = &early.oem.device {
        oem(device);
    }
    let loaded = configuration::load();
    for finding in loaded.findings.iter() {
        console_line(format_args!("config: {finding}"));
    }
    let configuration = loaded.configuration;
    if let Some(name) = &configuration.hostname {
        take("host name", rustix::system::sethostname(name.as_bytes()));
    }
    for words in &configuration.modules {
        module(words);
    }
    network(&configuration);
    for path in ["images", "pods", "volumes"].map(|name| Path::new(places::KEPT).join(name)) {
        let made = fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o700)));
        take(path.display(), made);
    }
    let data = configuration::data_label(&early);
    for (at, disk) in configuration.disks.iter().enumerate() {
        // the one that all the rest is kept on is mounted by now
        if !disk.device.ends_with(&format!("LABEL={data}")) {
            mount(at, disk);
        }
    }
    ExitCode::SUCCESS
}

/// Mounts the OEM's partition, if there is one.
fn oem(device: &str) {
    let entry = Entry::new(device, places::OEM, "auto", "ro,nosuid,nodev,noexec");
    if entry.is_missing() {
        return;
    }
    if let Some(Done::Done) = take("the OEM's partition", entry.perform()) {
        console_line(format_args!("config: {device} is at {}", places::OEM));
    }
}

fn module(words: &[String]) {
    let done = Command::new("/init").arg("modprobe").args(words).stdin(Stdio::null()).status();
    let done = done.and_then(|status| match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(status.to_string())),
    });
    take(format_args!("module {}", words.join(" ")), done);
}

/// Writes what the network is started with. Where nothing is said of links, the first that there is asks for
/// an address.
fn network(configuration: &Configuration) {
    let mut config = configuration.network.clone().unwrap_or_default();
    config.hostname.clone_from(&configuration.hostname);
    config.ntp.clone_from(&configuration.ntp.servers);
    if let Some(text) = take("network", kiln_network::to_toml(&config)) {
        take(places::NETWORK, fs::write(places::NETWORK, text));
    }
}

/// Mounts a disk, and has what is kept on it be there.
fn mount(at: usize, disk: &Disk) {
    let place = Path::new(places::DISKS).join(format!("disk{at}"));
    let options = if disk.options.is_empty() { "defaults" } else { &disk.options };
    let entry = Entry::new(&disk.device, place.to_string_lossy(), &disk.fstype, options);
    if take(&disk.device, entry.perform()).is_none() {
        return;
    }
    for usage in &disk.usage {
        let (part, target) =
            (place.join(usage.as_str()), Path::new(places::KEPT).join(usage.as_str()));
        take(part.display(), fs::create_dir_all(&part));
        let bound = Entry::new(part.to_string_lossy(), target.to_string_lossy(), "none", "bind");
        take(target.display(), bound.perform());
    }
}
