//! Builds the RancherOS-like system into a directory: what a test runs as another user of another machine would.

use std::process::ExitCode;

use kiln::Progress;
use rancheros::Options;

fn main() -> ExitCode {
    let Some(out) = std::env::args_os().nth(1) else {
        eprintln!("error: into which directory?");
        return ExitCode::FAILURE;
    };
    match rancheros::build(&Options::default(), out.as_ref(), &Progress::quiet()) {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
