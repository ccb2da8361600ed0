//! What a configuration means for this machine, what it would change, and doing it.
//!
//! `cargo run -p kiln-network --features linux,toml --example network -- diff network.toml`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use kiln_network::linux::{Netlink, read_keys};
use kiln_network::{CommandLine, Config, Plan, State, difference, from_toml, links, plan, target};

/// Declared network links: what a configuration means here, and doing it
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Say what each link should be like
    Plan(Input),
    /// Say what would be changed, as commands
    Diff(Input),
    /// Change it (root)
    Apply(Input),
    /// Say what there is
    Dump {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct Input {
    /// The configuration: a table [network] in TOML
    file: PathBuf,
    /// A kernel's command line, for its ip= and BOOTIF=
    #[arg(long, default_value = "")]
    command_line: String,
}

fn main() -> ExitCode {
    match run(&Arguments::parse().verb) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn read(input: &Input) -> Result<(Config, CommandLine)> {
    let place = |path: &Path| path.display().to_string();
    let text = std::fs::read_to_string(&input.file).with_context(|| place(&input.file))?;
    let config = from_toml(&text).with_context(|| place(&input.file))?;
    let (command_line, problems) = CommandLine::parse(&input.command_line);
    problems.iter().for_each(|problem| eprintln!("{problem}"));
    Ok((config, command_line))
}

fn planned(config: &Config, command_line: &CommandLine, state: &State) -> Plan {
    let plan = plan(config, command_line, &links(config, state));
    plan.problems.iter().for_each(|problem| eprintln!("{problem}"));
    plan.unmatched.iter().for_each(|rule| eprintln!("{rule}: no link fits"));
    plan
}

/// Whether all is well.
fn run(verb: &Verb) -> Result<bool> {
    let mut netlink = Netlink::open()?;
    match verb {
        Verb::Dump { json: false } => print!("{}", netlink.state()?),
        Verb::Dump { json: true } => {
            println!("{}", serde_json::to_string_pretty(&netlink.state()?)?);
        }
        Verb::Plan(input) => {
            let (config, command_line) = read(input)?;
            for link in planned(&config, &command_line, &netlink.state()?).links {
                let mut says = Vec::new();
                says.extend(link.dhcp.map(|_| "DHCP".to_owned()));
                says.extend(link.addresses.iter().map(ToString::to_string));
                says.extend(link.gateways.iter().map(|gateway| format!("via {gateway}")));
                println!("{}: {} ({})", link.link, says.join(", "), link.because);
            }
        }
        Verb::Diff(input) => {
            let (config, command_line) = read(input)?;
            let state = netlink.state()?;
            let plan = planned(&config, &command_line, &state);
            let (keys, problems) = read_keys(&config);
            let desired = target(&config, &plan, &keys, &state);
            for problem in problems.iter().chain(&desired.problems) {
                eprintln!("{problem}");
            }
            difference(&state, &desired).iter().for_each(|change| println!("{change}"));
        }
        Verb::Apply(input) => {
            let (config, command_line) = read(input)?;
            let outcome = netlink.converge(&config, &command_line)?;
            outcome.problems.iter().for_each(|problem| eprintln!("{problem}"));
            outcome.changes.iter().for_each(|change| println!("{change}"));
            outcome.errors.iter().for_each(|error| eprintln!("{error}"));
            return Ok(outcome.errors.is_empty());
        }
    }
    Ok(true)
}
