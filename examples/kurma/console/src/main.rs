//! What the console's pod runs: a prompt on each terminal of the machine, and the ssh server for those whom the
//! configuration knows. It is told of them by files in [`GIVEN`], where it keeps the server's keys too.

mod given;

use std::fmt::Display;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::process::ExitCode;

use given::Given;
use kiln_guest::login;
use kiln_supervisor::unix::{self, Options, Reserve};
use kiln_supervisor::{Event, ServiceSpec};

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

/// A directory of the machine that is kept.
const GIVEN: &str = "/run/console";
/// Who logs in.
const USER: &str = "root";
/// Where the machine's own socket is asked for, and where a pod with all rights has it.
const SOCKET: (&str, &str) = ("/run/kurma/kurma.sock", "/host/run/kurma/kurma.sock");

fn main() -> ExitCode {
    let directory = Path::new(GIVEN);
    let given = Given::read(directory);
    given.problems.iter().for_each(say);
    prepare(&given);
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    // the first screen is a terminal whatever the kernel writes to
    let line = format!("console=tty0 {line}");
    let terminals = login::terminals(&line, Path::new("/dev"));
    let mut services: Vec<ServiceSpec> =
        terminals.iter().map(|tty| login::getty(tty, None)).collect();
    if given.anybody() && host_keys(directory) {
        services.push(login::sshd());
    }
    if services.is_empty() {
        say("there is no terminal here, and nobody who may come in over ssh");
        return ExitCode::FAILURE;
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

fn say(what: impl Display) {
    unix::console_line(format_args!("console: {what}"));
}

fn take<T, E: Display>(what: &str, result: Result<T, E>) {
    if let Err(error) = result {
        say(format_args!("{what}: {error}"));
    }
}

/// Puts what is known of people where login and the ssh server look for it.
fn prepare(given: &Given) {
    take("/run/sshd", fs::create_dir_all("/run/sshd"));
    // nobody but root makes anything there
    take("/run/sshd", fs::set_permissions("/run/sshd", fs::Permissions::from_mode(0o755)));
    take("/etc/issue", fs::write("/etc/issue", given.issue()));
    take("/etc/ssh/sshd_config.d", fs::write("/etc/ssh/sshd_config.d/console.conf", given.sshd()));
    if let Some(hash) = &given.password {
        take("the password", login::set_password(Path::new("/etc/shadow"), USER, hash));
    }
    let (here, there) = SOCKET;
    if Path::new(there).exists() && !Path::new(here).exists() {
        let directory = Path::new(here).parent().unwrap_or_else(|| Path::new("/"));
        take(here, fs::create_dir_all(directory).and_then(|()| symlink(there, here)));
    }
}

/// Sees that the ssh server has keys. Whether it has any.
fn host_keys(directory: &Path) -> bool {
    for kind in login::HOST_KEYS {
        take(&format!("the {kind} key of ssh"), login::make_host_key(directory, kind));
    }
    login::HOST_KEYS.iter().any(|kind| login::host_key(directory, kind).exists())
}
