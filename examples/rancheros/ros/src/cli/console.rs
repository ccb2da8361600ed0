//! `ros console`.

use clap::Subcommand;

use super::{Result, choice};
use crate::role::Role;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Consoles, and which one there is
    List,
    /// Goes over to another one
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
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::List => choice::list(Role::Console),
        Command::Switch { name, .. } => choice::choose(Role::Console, &name, false),
        Command::Enable { name } => choice::choose(Role::Console, &name, true),
    }
}
