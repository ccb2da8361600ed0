//! Checks a kernel configuration against a requirement set.
//!
//! `check CONFIG REQUIREMENTS.toml [--json]`: exit code 0 when all that is required is there, 1
//! when something is missing, 2 for unreadable input or wrong usage.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_kconfig::{DotConfig, Requirements};

/// Check a kernel configuration against what an image needs.
#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration, such as /boot/config-6.1.0-56-amd64.
    config: PathBuf,
    /// The requirement sets (TOML).
    #[arg(required = true)]
    requirements: Vec<PathBuf>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("check: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<bool, Box<dyn std::error::Error>> {
    let config = DotConfig::read(&arguments.config)?;
    for problem in config.problems() {
        eprintln!("{problem}");
    }
    let mut satisfied = true;
    let mut reports = Vec::new();
    for path in &arguments.requirements {
        let report = Requirements::read(path)?.check(&config);
        satisfied &= report.is_satisfied();
        if !arguments.json {
            println!("{report}");
        }
        reports.push(report);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&reports)?);
    }
    Ok(satisfied)
}
