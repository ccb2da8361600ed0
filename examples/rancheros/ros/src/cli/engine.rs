//! `ros engine`.

use clap::Subcommand;

use super::Result;
use crate::configuration;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Engines, and which one there is
    List,
    /// The command that it is started with
    Command,
}

pub(crate) fn run(command: Command) -> Result {
    let docker = configuration::load().rancher.docker;
    match command {
        Command::List => println!("current  {}", docker.engine.as_deref().unwrap_or("docker")),
        Command::Command => println!("{}", crate::engine::command(&docker).join(" ")),
    }
    Ok(())
}
