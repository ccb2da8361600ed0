//! What the README's two commands and CI call: `cargo xtask nomados` and `cargo xtask test`.

mod bench;
mod campaign;
mod deps;
mod fuzz;
mod model;
mod nomados;
mod program;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, run, test and measure Kiln")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Build NomadOS, boot it, run a job on its Nomad, shut it down in order
    Nomados(nomados::Arguments),
    /// Run every test; install what they use first
    Test(test::Arguments),
    /// Run the tests that boot images, all or those of the given names
    E2e(test::E2eArguments),
    /// Measure ours and the peers in one run, all crates or one
    Bench(bench::Arguments),
    /// Run one of the long runs of docs/campaigns.md
    Campaign(campaign::Arguments),
    /// Check that no crate depends on a sibling
    Deps,
    /// Install the programs of the host that the other commands use
    Setup(setup::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Nomados(arguments) => nomados::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::E2e(arguments) => test::e2e(&arguments),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Campaign(arguments) => campaign::run(&arguments),
        Verb::Deps => deps::check(),
        Verb::Setup(arguments) => setup::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
