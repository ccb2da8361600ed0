//! `ros os`.

use clap::Subcommand;

use super::{Failure, Result};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// The version that runs
    Version,
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::Version => {
            let text = std::fs::read_to_string("/usr/share/ros/version");
            print!("{}", text.map_err(Failure::about("/usr/share/ros/version"))?);
            Ok(())
        }
    }
}
