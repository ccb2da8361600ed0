//! The console: what is put into its root before it starts, and what it runs.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use kiln_cloudconfig::apply::Root;
use kiln_cloudconfig::plan::{self, Action};
use kiln_cloudconfig::schema::{self, User};
use kiln_guest::login;
use kiln_supervisor::unix::{self, Options};
use kiln_supervisor::{Event, Log, Restart, ServiceSpec};

use crate::configuration::{self, Configuration};
use crate::schema::Rancher;
use crate::{command_line, container_files, files, places};

/// What files are for that are for this container.
pub(crate) const NAME: &str = "console";
/// The user that everybody has.
pub(crate) const USER: &str = "rancher";
const UID: u32 = 1100;

/// The default user.
fn user() -> User {
    let mut user = User::named(USER);
    user.uid = Some(UID);
    user.groups = ["docker", "sudo"].map(String::from).to_vec();
    user.sudo = vec!["ALL=(ALL) NOPASSWD:ALL".into()];
    user.shell = Some("/bin/bash".into());
    user
}

/// The plan of a configuration for the console.
fn plan(configuration: &Configuration) -> plan::Plan {
    plan::plan(&configuration.cloud, &plan::Options::with_user(user()))
}

/// Puts users, keys, files and settings where they belong.
fn prepare(configuration: &Configuration) {
    let root = match Root::open(Path::new("/")) {
        Ok(root) => root,
        Err(error) => return say(error),
    };
    let plan = plan(configuration);
    plan.problems.iter().for_each(say);
    for action in &plan.actions {
        let done = match action {
            // those of others are there before they start
            Action::WriteFile(file) if container_files::container(file).is_some() => continue,
            Action::WriteFile(file) => {
                let mut file = file.clone();
                file.container = None;
                root.perform(&Action::WriteFile(file))
            }
            action => root.perform(action),
        };
        if let Err(error) = done {
            say(error);
        }
    }
    let settings = [
        ("/etc/ssh/sshd_config.d/ros.conf", sshd(&configuration.rancher), 0o600),
        ("/etc/profile.d/ros.sh", profile(&configuration.rancher), 0o644),
    ];
    for (path, text, mode) in settings {
        if let Err(error) = files::replace(path, text.as_bytes(), mode) {
            say(format_args!("{path}: {error}"));
        }
    }
}

/// What the configuration says of the ssh server.
fn sshd(rancher: &Rancher) -> String {
    let mut text = String::new();
    if let Some(port) = rancher.ssh.port {
        text += &format!("Port {port}\n");
    }
    if let Some(address) = &rancher.ssh.listen_address {
        // One line is one setting: nothing of a value becomes another.
        let word: String = address.chars().filter(|c| !c.is_whitespace()).collect();
        text += &format!("ListenAddress {word}\n");
    }
    if rancher.password.is_some() && !is_disabled(rancher, "password") {
        text += "PasswordAuthentication yes\n";
    }
    text
}

fn is_disabled(rancher: &Rancher, what: &str) -> bool {
    rancher.disable.iter().any(|word| word == what)
}

/// Variables for people.
fn profile(rancher: &Rancher) -> String {
    let is_name = |name: &str| {
        !name.starts_with(|c: char| c.is_ascii_digit())
            && !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    let quoted = |value: &str| value.replace('\'', "'\\''");
    let variables = rancher.environment.iter().filter(|(name, _)| is_name(name));
    variables.map(|(name, value)| format!("export {name}='{}'\n", quoted(value))).collect()
}

fn say(what: impl std::fmt::Display) {
    unix::console_line(format_args!("console: {what}"));
}

/// What the console's container runs.
pub(crate) fn run() -> ExitCode {
    let configuration = configuration::load();
    let rancher = &configuration.rancher;
    for path in ["/run/sshd", "/var/lib/rancher/ssh"] {
        if let Err(error) = fs::create_dir_all(path) {
            say(format_args!("{path}: {error}"));
        }
    }
    for command in &configuration.cloud.bootcmd {
        execute(command);
    }
    prepare(&configuration);
    home();
    password(rancher);
    let mut services = Vec::new();
    let line = command_line::read();
    for tty in login::terminals(&line, Path::new("/dev")) {
        services.push(getty(&tty, rancher));
    }
    if rancher.ssh.daemon.unwrap_or(true) && host_keys(rancher) {
        services.push(login::sshd());
    }
    if Path::new(places::SCRIPT).exists() {
        services.push(once("cloud-config-script", [places::SCRIPT]));
    }
    if !configuration.cloud.runcmd.is_empty() {
        services.push(once("runcmd", ["/usr/bin/ros", "runcmd"]));
    }
    let mut tell = |event: &Event| {
        if event.is_problem() {
            say(event);
        }
    };
    match unix::run(services, Options::default(), &mut tell) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            say(error);
            ExitCode::FAILURE
        }
    }
}

fn once<const N: usize>(name: &str, command: [&str; N]) -> ServiceSpec {
    let mut spec = ServiceSpec::one_shot(name, command);
    spec.log = Log::Inherit;
    spec.restart = Restart::Never;
    spec
}

/// `runcmd`, one after the other.
pub(crate) fn runcmd() -> ExitCode {
    for command in &configuration::load().cloud.runcmd {
        execute(command);
    }
    ExitCode::SUCCESS
}

/// A command of the configuration; how it ended is told if it did not end well.
fn execute(command: &schema::Command) {
    let (shown, mut process) = match command {
        schema::Command::Shell(line) => {
            let mut process = Command::new("/bin/sh");
            process.args(["-c", line]);
            (line.clone(), process)
        }
        schema::Command::Program(words) => {
            let Some((program, arguments)) = words.split_first() else { return };
            let mut process = Command::new(program);
            process.args(arguments);
            (words.join(" "), process)
        }
    };
    match process.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => {}
        Ok(status) => say(format_args!("{shown}: {status}")),
        Err(error) => say(format_args!("{shown}: {error}")),
    }
}

/// The default user's home, which is kept: made once.
fn home() {
    let path = Path::new("/home").join(USER);
    let made = fs::create_dir_all(&path)
        .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
        .and_then(|()| chown(&path, Some(UID), Some(UID)));
    if let Err(error) = made {
        say(format_args!("{}: {error}", path.display()));
    }
}

/// `rancher.password`, unless that is not to be had.
fn password(rancher: &Rancher) {
    let Some(password) = rancher.password.as_ref().filter(|_| !is_disabled(rancher, "password"))
    else {
        return;
    };
    let shadow = Path::new("/etc/shadow");
    let set = login::hashed(password).and_then(|hash| login::set_password(shadow, USER, &hash));
    if let Err(error) = set {
        say(format_args!("the password cannot be set: {error}"));
    }
}

fn getty(tty: &str, rancher: &Rancher) -> ServiceSpec {
    let free =
        rancher.autologin.iter().any(|name| name == tty) && !is_disabled(rancher, "autologin");
    login::getty(tty, free.then_some("/usr/sbin/ros-autologin"))
}

/// The server's keys: those of the configuration, else made once and kept. Whether there are any.
fn host_keys(rancher: &Rancher) -> bool {
    let directory = Path::new("/var/lib/rancher/ssh");
    for kind in login::HOST_KEYS {
        if let Some(key) = rancher.ssh.keys.get(kind) {
            let path = login::host_key(directory, kind);
            let key = format!("{}\n", key.trim_end());
            if let Err(error) = files::replace(&path, key.as_bytes(), 0o600) {
                say(format_args!("{}: {error}", path.display()));
            }
        }
        if let Err(error) = login::make_host_key(directory, kind) {
            say(format_args!("the {kind} key of ssh: {error}"));
        }
    }
    login::HOST_KEYS.iter().any(|kind| login::host_key(directory, kind).exists())
}
