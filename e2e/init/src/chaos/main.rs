//! Process 1 of a machine whose services, and whatever they start, are killed at random; and all that
//! runs there. One service is spared: it kills and asks for restarts, and looks all the while for what
//! must never happen.

mod lives;
mod processes;
mod rounds;
mod services;

use std::process::ExitCode;
use std::time::Duration;

use kiln_supervisor::control::ControlOptions;
use kiln_supervisor::pid1::{self, Boot, BoxError, mounts};
use kiln_supervisor::unix::{self, OnPanic, Options, Reserve};
use kiln_supervisor::{Event, Outcome};

type Result<T = ()> = std::result::Result<T, BoxError>;

/// Where the supervisor is asked.
const SOCKET: &str = "/run/supervisor";

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["life", name, kind] => lives::live(name, kind),
        ["child", milliseconds] => lives::child(milliseconds),
        ["rounds", seed, seconds] => {
            let done = rounds::run(seed, seconds);
            if let Err(error) = &done {
                say(format_args!("FAILED: {error}"));
            }
            if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        _ => pid1::start(boot),
    }
}

fn say(what: impl std::fmt::Display) {
    unix::console_line(format_args!("chaos: {what}"));
}

fn boot(boot: &mut Boot) -> Result<Outcome> {
    boot.mounts(mounts::STANDARD).console();
    for problem in boot.problems() {
        say(format_args!("boot: {problem}"));
    }
    let argument = |name: &str| boot.argument(name).unwrap_or_default().to_owned();
    let (seed, seconds) = (argument("chaos.seed"), argument("chaos.seconds"));
    let mut options = Options::default();
    options.cgroup = Some("/sys/fs/cgroup/services".into());
    options.control = Some(ControlOptions::new(SOCKET));
    options.log_dir = Some("/run/log".into());
    options.on_panic = OnPanic::Reexec { limit: 5 };
    options.shutdown_timeout = Duration::from_secs(30);
    let services = services::all(&seed, &seconds);
    Ok(unix::run(services, options, &mut |event: &Event| match event {
        // There are thousands of each kind of the others.
        Event::Warning { .. } | Event::Failed { .. } | Event::Finished { .. } => say(event),
        _ => {}
    })?)
}
