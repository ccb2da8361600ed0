//! `ros console`.

use clap::Subcommand;

use super::{Failure, Result, config, go_over};
use crate::{configuration, units};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Consoles, and which one there is
    List,
    /// Goes over to another one
    Switch {
        /// Its name
        name: String,
    },
}

pub(crate) fn run(command: Command) -> Result {
    let rancher = configuration::load().rancher;
    let consoles: Vec<&str> = rancher.services.values().filter_map(units::console_of).collect();
    match command {
        Command::List => {
            let now = rancher.console.as_deref().unwrap_or("default");
            for name in consoles {
                println!("{} {name}", if name == now { "current " } else { "disabled" });
            }
            Ok(())
        }
        Command::Switch { name } => {
            if !consoles.contains(&name.as_str()) {
                let known = consoles.join(", ");
                return Err(Failure::new(format_args!(
                    "there is no console {name:?}; there are {known}"
                )));
            }
            config::change("rancher.console", &name)?;
            go_over()
        }
    }
}
