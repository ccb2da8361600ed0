//! What the RancherOS-like system runs as process 1, and its command `ros`: one program, which goes by how
//! it was called. What another system would do the same way is in `kiln-guest`.

mod boot;
mod cli;
mod command_line;
mod compose;
mod configuration;
mod console;
mod container_files;
mod engine;
mod files;
mod laydown;
mod mounts;
mod network;
mod oem;
mod places;
mod reach;
mod releases;
mod role;
mod schema;
mod sources;
mod stock;
mod tls;
mod units;
mod user;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use boot::Stage;
use kiln_guest::trial::{self, Trial};
use kiln_guest::{Data, Own, Ready, Reserve, System};
use kiln_supervisor::unix::init;

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

/// How long `rancher.state.wait` waits.
const STATE_PATIENCE: Duration = Duration::from_secs(30);

fn main() -> ExitCode {
    let mut words = std::env::args().map(|word| word.to_string());
    let name = words.next().unwrap_or_default();
    let name = name.rsplit('/').next().unwrap_or(&name).to_owned();
    if name == "init" {
        command_line::begin_anew_without_arguments();
    }
    match (name.as_str(), words.next().as_deref()) {
        ("halt" | "poweroff" | "reboot" | "shutdown", _) => cli::power::run(&name),
        ("lay-down-os", _) => laydown::main(),
        ("ros-autologin", _) => {
            let error = Command::new("/bin/login").args(["-f", console::USER]).exec();
            eprintln!("login: {error}");
            ExitCode::FAILURE
        }
        (_, Some("config")) if std::process::id() != 1 && name == "init" => boot::run(Stage::Boot),
        ("init", Some("cloud-init")) => boot::run(Stage::Network),
        ("init", Some("data")) if std::process::id() != 1 => {
            oem::mount();
            system().run()
        }
        (_, Some("reconfigure")) => boot::run(Stage::Again),
        ("ros", Some("init")) => first_process(words),
        (_, Some("trial")) if name == "init" => trial(),
        ("ros", Some("network")) => links(),
        (_, Some("console-init")) => console::run(),
        (_, Some("runcmd")) => console::runcmd(),
        (_, Some("dockerd")) => dockerd(words),
        (_, Some("user-services")) => user::run(),
        ("ros", word) if !matches!(word, Some("time" | "modprobe")) => cli::main(),
        _ => system().run(),
    }
}

/// The choices that make it this system.
fn system() -> System {
    let mut system = System::new("rancher");
    let mut data = Data::new(places::LABEL, places::STATE);
    let state = configuration::early().state;
    if let Some(label) = state.dev.as_deref().and_then(|dev| dev.strip_prefix("LABEL=")) {
        data.label = label.to_owned();
    }
    data.blank = state.autoformat.into_iter().map(Into::into).collect();
    data.grow = true;
    if state.wait {
        data.patience = STATE_PATIENCE;
    }
    system.data = Some(data);
    // These are containers here.
    system.own = Own::none();
    system.power_button = false;
    system
}

/// Sees whether a system that replaced another one works.
fn trial() -> ExitCode {
    let upgrade = configuration::load().rancher.upgrade;
    let mut trial = Trial::new(upgrade.trial);
    if let Some(seconds) = upgrade.trial_timeout {
        trial.patience = Duration::from_secs(seconds);
    }
    trial::run(&trial)
}

/// A container's first process, without which a program that is none ignores what asks it to end.
fn first_process(command: impl Iterator<Item = String>) -> ExitCode {
    match init::run(&init::Options::new(command), &mut |_| {}) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("ros init: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// The network, with what the configuration has done before and after.
fn links() -> ExitCode {
    let network = configuration::load().rancher.network.unwrap_or_default();
    network::execute(&network.pre_cmds);
    let mut system = system();
    system.network_ready = Some(Ready::new(move || network::execute(&network.post_cmds)));
    system.run()
}

/// Becomes the user's engine: what the configuration says, and what the service says besides.
fn dockerd(more: impl Iterator<Item = String>) -> ExitCode {
    let docker = configuration::load().rancher.docker;
    let mut words = engine::command(&docker);
    words.extend(more);
    match tls::engine(&docker) {
        Ok(more) => words.extend(more),
        // it is there for this machine all the same
        Err(why) => kiln_supervisor::unix::console_line(format_args!("docker: TLS: {why}")),
    }
    let Some((program, arguments)) = words.split_first() else { return ExitCode::FAILURE };
    let mut command = Command::new(program);
    for pair in &docker.environment {
        if let Some((name, value)) = pair.split_once('=') {
            command.env(name, value);
        }
    }
    let error = command.args(arguments).exec();
    eprintln!("{program}: {error}");
    ExitCode::FAILURE
}
