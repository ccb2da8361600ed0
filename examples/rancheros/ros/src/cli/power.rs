//! `poweroff`, `reboot`, `halt`, `shutdown`: the machine's end, asked of process 1.

use std::process::ExitCode;

use kiln_supervisor::Outcome;
use kiln_supervisor::control::{ActionResult, Client, ClientError, Effect, socket_path};

use super::{Failure, Result, succeeded};

/// Does what the program of this name does.
pub(crate) fn run(name: &str) -> ExitCode {
    let asked_to_restart = std::env::args().any(|word| word == "-r" || word == "--reboot");
    let outcome = match name {
        "reboot" => Outcome::Reboot,
        "halt" => Outcome::Halt,
        _ if asked_to_restart => Outcome::Reboot,
        _ => Outcome::PowerOff,
    };
    match end(outcome) {
        Ok(answer) if answer.effect != Effect::Failed => ExitCode::SUCCESS,
        Ok(answer) => {
            eprintln!("{name}: {}", answer.text);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{name}: {error}; only root may: try `sudo {name}`");
            ExitCode::FAILURE
        }
    }
}

fn end(outcome: Outcome) -> std::result::Result<ActionResult, ClientError> {
    Client::connect(socket_path())?.shutdown(outcome, false)
}

/// Starts the machine anew.
pub(crate) fn reboot() -> Result {
    succeeded(end(Outcome::Reboot).map_err(Failure::about("process 1"))?)
}
