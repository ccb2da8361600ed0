//! What the Kurma-like system runs as process 1: the choices that make it this system. What another system
//! would do the same way is in `kiln-guest`; pods are in `kurma-server`, which is this program too.

mod configuration;
mod machine;
mod places;
mod server;
mod upgrade;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use kiln_guest::trial::{self, Trial};
use kiln_guest::{Data, Own, Reserve, Shell, System};
use kiln_supervisor::{Kill, Log, Readiness, ServiceSpec};

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

/// What its lines on the console begin with.
const NAME: &str = "kurma";

fn main() -> ExitCode {
    let mut all = std::env::args_os();
    let name = all.next().unwrap_or_default();
    let words: Vec<OsString> = all.collect();
    // the kernel calls it for each driver and part of the firewall: no configuration is read for that
    if name.to_string_lossy().ends_with("modprobe") {
        return System::new(NAME).run();
    }
    if name.to_string_lossy().ends_with("kurma-upgrade") {
        return upgrade::run(std::env::args_os());
    }
    if std::process::id() == 1 {
        return system().run();
    }
    if let Some(code) = kurma_server::part(&words) {
        return code;
    }
    match words.first().and_then(|word| word.to_str()) {
        Some("config") => machine::run(),
        Some("server") => server::run(),
        // as the server calls it
        Some("upgrade") => upgrade::run(words.into_iter()),
        Some("restart") => upgrade::restarted(),
        Some("trial") => trial::run(&Trial::new(["network", "kurma"])),
        _ => system().run(),
    }
}

/// The choices that make it this system.
fn system() -> System {
    let mut system = System::new(NAME);
    let early = configuration::early();
    let mut data = Data::new(configuration::data_label(&early), places::KEPT);
    data.grow = true;
    data.patience = Duration::from_secs(5);
    system.data = Some(data);
    system.shell = Some(Shell::asked_for_by("kurma.shell"));
    // what the configuration says of links is known before they are set up
    system.own = Own::default();
    system.own.network = false;
    system.services = vec![config(), network(), kurma()];
    system
}

/// Reads the configuration, and makes the machine as it says.
fn config() -> ServiceSpec {
    let mut spec = ServiceSpec::one_shot("config", ["/init", "config"]);
    spec.requires = vec!["modules".into()];
    // without its disk the machine goes on, and keeps nothing
    spec.wants = vec!["data".into()];
    spec.log = Log::Inherit;
    spec
}

fn network() -> ServiceSpec {
    let mut spec = ServiceSpec::daemon("network", ["/init", "network"]);
    spec.requires = vec!["config".into()];
    spec.readiness = Readiness::NotifyFd(3);
    // without a DHCP server it tries for ever, and says so
    spec.ready_timeout = Duration::MAX;
    spec.log = Log::Inherit;
    spec
}

/// The server of pods.
fn kurma() -> ServiceSpec {
    let mut spec = ServiceSpec::daemon("kurma", ["/init", "server"]);
    spec.requires = vec!["config".into()];
    // pods are not asked to wait, but their name servers are known then
    spec.wants = vec!["data".into(), "first-boot".into()];
    spec.readiness = Readiness::NotifyFd(3);
    spec.ready_timeout = Duration::from_secs(180);
    spec.kill = Kill::Process;
    spec.log = Log::Inherit;
    spec
}
