//! A container's init, and with feature `cli` a user's process supervisor.
//!
//! `init` reads its own few words, so that a build with feature `init` alone stays small.

mod init;
#[cfg(feature = "cli")]
mod run;

use std::process::ExitCode;

use kiln_supervisor::unix::Reserve;

#[global_allocator]
static ALLOCATOR: Reserve = Reserve::new();

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    match words.next() {
        Some(word) if word == "init" => init::run(words),
        #[cfg(feature = "oci")]
        Some(word) if word == "container" => kiln_supervisor::unix::container::main(words),
        _ => others(),
    }
}

#[cfg(feature = "cli")]
#[derive(clap::Parser)]
#[command(name = "kiln-supervisor", version, about = "Runs services, or a container's command")]
enum Arguments {
    /// Run a command as a container's first process (see `init -h`)
    #[command(disable_help_flag = true)]
    Init {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
    /// Run a container by an OCI runtime (see `container --help`)
    #[command(disable_help_flag = true)]
    Container {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        words: Vec<std::ffi::OsString>,
    },
    /// Run the services of a file
    Run(run::Arguments),
}

#[cfg(feature = "cli")]
fn others() -> ExitCode {
    match clap::Parser::parse() {
        Arguments::Init { words } => init::run(words.into_iter()),
        Arguments::Container { words } => kiln_supervisor::unix::container::main(words.into_iter()),
        Arguments::Run(arguments) => run::run(arguments),
    }
}

#[cfg(not(feature = "cli"))]
fn others() -> ExitCode {
    let line = "usage: kiln-supervisor init [OPTIONS] [--] COMMAND (built without feature cli)";
    kiln_supervisor::unix::console_line(format_args!("{line}"));
    ExitCode::from(2)
}
