//! `ros engine`.

use clap::Subcommand;

use super::{Result, choice};
use crate::configuration;
use crate::role::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Engines, and which one there is
    List,
    /// Goes over to another one, which finds the containers of the one before
    Switch {
        /// Its name
        name: String,
        /// Accepted for scripts: nothing is asked here
        #[arg(short, long)]
        force: bool,
    },
    /// Has another one be there from the next boot on
    Enable {
        /// Its name
        name: String,
    },
    /// The command that it is started with
    #[command(name = "command")]
    Line,
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::List => choice::list(Role::Engine),
        Command::Switch { name, .. } => choice::choose(Role::Engine, &name, false),
        Command::Enable { name } => choice::choose(Role::Engine, &name, true),
        Command::Line => {
            let docker = configuration::load().rancher.docker;
            println!("{}", crate::engine::command(&docker).join(" "));
            Ok(())
        }
    }
}
