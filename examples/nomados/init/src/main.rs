//! What NomadOS runs as process 1: the choices that make it NomadOS. Everything that another system
//! would do the same way is in `kiln-supervisor` and `kiln-dhcp`.

mod config_disk;
mod network;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use kiln_supervisor::pid1::{
    self, Boot, BoxError, Loader, PowerButton, block, console, mounts, switch_root,
};
use kiln_supervisor::unix::{self, OnPanic, Options};
use kiln_supervisor::{Event, Kill, Log, Outcome, Readiness, ServiceSpec};

/// A partition of this name, or a file system of this label, holds Nomad's data.
const DATA_LABEL: &str = "nomad-data";
/// Nomad's data directory: the data disk is mounted here, a tmpfs without one.
const DATA_DIR: &str = "/var/lib/nomad";

fn main() -> ExitCode {
    // The same binary is the network service's program, and what the kernel calls as
    // /sbin/modprobe when a file system or a kind of link is wanted that has no driver yet.
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    let first = arguments.next();
    if name.ends_with("modprobe") {
        return modprobe(first.into_iter().chain(arguments));
    }
    match first.as_deref() {
        Some("modules") => load_drivers(),
        Some("data") => mount_data(),
        Some("config") => take_config(),
        Some("dhcp") => network::keep_configured(),
        _ => pid1::start(boot),
    }
}

fn boot(boot: &mut Boot) -> Result<Outcome, BoxError> {
    boot.mounts(mounts::STANDARD).console();
    say("/init started");
    boot.hostname("nomados").loopback();
    // Nomad's exec driver pivots into its sandboxes, which rootfs does not allow.
    boot.switch_root(switch_root::Method::Bind);
    let talkative = boot.argument("nomados.dev").is_some();
    for step in boot.steps() {
        if talkative || step.error.is_some() || step.took >= Duration::from_millis(50) {
            say(step);
        }
    }

    let mut services = services();
    if talkative {
        services.push(console::shell(["/bin/sh", "-l"]));
    }
    let mut options = Options::default();
    options.log_dir = Some("/var/log".into());
    options.on_panic = OnPanic::Reexec { limit: 5 };
    match PowerButton::open() {
        Ok(button) => options.sources.push(Box::new(button)),
        Err(error) => say(format_args!("no power button: {error}")),
    }
    Ok(unix::run(services, options, &mut tell)?)
}

/// Loads the drivers of the devices that are there.
fn load_drivers() -> ExitCode {
    match Loader::of_running_kernel().map(|mut loader| loader.cold_plug(16)) {
        Ok(report) => {
            say(&report);
            ExitCode::SUCCESS
        }
        // A kernel may have all that it needs built in.
        Err(error) => {
            say(format_args!("no modules: {error}"));
            ExitCode::SUCCESS
        }
    }
}

/// Mounts the disk for Nomad's data, or a tmpfs where there is none.
fn mount_data() -> ExitCode {
    match block::mount_labelled_or_tmpfs(DATA_LABEL, Path::new(DATA_DIR)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

/// Takes what the disk with the node's own configuration holds.
fn take_config() -> ExitCode {
    match config_disk::take() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(taken)) => {
            say(format_args!("config: {taken}"));
            ExitCode::SUCCESS
        }
        // Without its keys a node would be another one than it is meant to be.
        Err(error) => {
            say(format_args!("config: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What the kernel wants: words that are no options are names and aliases.
fn modprobe(words: impl Iterator<Item = String>) -> ExitCode {
    let wanted: Vec<String> = words.filter(|word| !word.starts_with('-')).collect();
    match Loader::of_running_kernel().map(|mut loader| loader.load(&wanted)) {
        Ok(report) if report.failed.is_empty() && report.unknown.is_empty() => ExitCode::SUCCESS,
        // The kernel asks for much that nobody has; that is no news.
        _ => ExitCode::FAILURE,
    }
}

fn services() -> Vec<ServiceSpec> {
    // Drivers are loaded, network cards first, while the DHCP client waits for an interface and
    // then for an answer.
    let mut modules = ServiceSpec::one_shot("modules", ["/init", "modules"]);
    modules.log = Log::Inherit;
    let mut data = ServiceSpec::one_shot("data", ["/init", "data"]);
    data.requires = vec!["modules".into()];
    data.log = Log::Inherit;

    let mut network = ServiceSpec::daemon("network", ["/init", "dhcp"]);
    network.readiness = Readiness::NotifyFd(3);
    // Without a DHCP server it tries for ever, and says so; a restart would not find one sooner.
    network.ready_timeout = Duration::MAX;
    network.log = Log::Inherit;

    let mut config = ServiceSpec::one_shot("config", ["/init", "config"]);
    config.requires = vec!["modules".into()];
    config.log = Log::Inherit;

    let more = format!("-config={}", config_disk::DIRECTORY);
    let command = ["/usr/local/bin/nomad", "agent", "-config=/etc/nomad/init.json", more.as_str()];
    let mut nomad = ServiceSpec::daemon("nomad", command);
    // It ends at once when it finds no default route, and what it wrote in place of a data disk
    // that cannot be mounted would be lost.
    nomad.requires = vec!["network".into(), "data".into(), "config".into()];
    // Its tasks live on when the agent ends, and the next agent takes them over.
    nomad.kill = Kill::Process;
    nomad.env = [
        ("PATH", "/usr/local/bin:/usr/bin:/usr/sbin:/bin:/sbin"),
        ("HOME", "/root"),
        ("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    vec![modules, data, config, network, nomad]
}

/// Events for the console; the tasks' orphans are reaped without a word.
fn tell(event: &Event) {
    if !matches!(event, Event::Reaped { .. } | Event::Ignored { .. }) {
        say(event);
    }
}

/// A line on the console, with the seconds since the kernel started.
fn say(what: impl std::fmt::Display) {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds = uptime.split_whitespace().next().unwrap_or("?");
    unix::console_line(format_args!("[{seconds:>8}] nomados: {what}"));
}
