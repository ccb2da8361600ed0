//! `ros`, for people.

mod carried;
mod choice;
mod config;
mod console;
mod engine;
mod install;
mod os;
pub(crate) mod power;
mod service;
mod tls;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kiln_supervisor::control::{ActionResult, Client, Effect, Request, socket_path};

/// Why a command could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(String);

impl Failure {
    fn new(what: impl std::fmt::Display) -> Self {
        Self(what.to_string())
    }

    /// For `map_err`.
    fn about<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Self {
        move |error| Self(format!("{what}: {error}"))
    }
}

type Result<T = ()> = std::result::Result<T, Failure>;

/// Asks and changes this system.
#[derive(Debug, Parser)]
#[command(name = "ros", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The configuration: what it says, where from, and other values
    #[command(subcommand)]
    Config(config::Command),
    /// Services: of the system, and the user's own
    #[command(subcommand)]
    Service(service::Command),
    /// The system's versions: which there are, another one, the one before
    #[command(subcommand)]
    Os(os::Command),
    /// Puts this system on a disk
    Install(install::Arguments),
    /// Which console there is
    #[command(subcommand)]
    Console(console::Command),
    /// Which engine there is
    #[command(subcommand)]
    Engine(engine::Command),
    /// Certificates of the engine and of those who speak with it
    #[command(subcommand)]
    Tls(tls::Command),
}

/// Does what the command line says.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = match arguments.command {
        Command::Config(command) => config::run(command),
        Command::Service(command) => service::run(command),
        Command::Os(command) => os::run(command),
        Command::Install(arguments) => install::run(&arguments),
        Command::Console(command) => console::run(command),
        Command::Engine(command) => engine::run(command),
        Command::Tls(command) => tls::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ros: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Has the system go over to the configuration as it is now: on the host's side of this container.
fn go_over() -> Result {
    let mut client = Client::connect(socket_path()).map_err(Failure::about("process 1"))?;
    let request = Request::Restart { service: "reconfigure".into(), wait_ms: Some(60_000) };
    let done = client.act(&request).map_err(Failure::about("process 1"))?;
    succeeded(done)
}

/// What process 1 was asked for has come about.
fn succeeded(done: ActionResult) -> Result {
    match done.effect {
        Effect::Accepted | Effect::Done => Ok(()),
        _ => Err(Failure::new(done.text)),
    }
}
