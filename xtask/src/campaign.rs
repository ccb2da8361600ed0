//! The long runs, whose last figures are kept in docs/campaigns.md.

use anyhow::Result;
use clap::ValueEnum;

use crate::program;
use crate::setup::{self, Purpose};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Campaign {
    /// NomadOS on a kernel from source: built twice, booted, all jobs (25 minutes)
    Kernel,
    /// NomadOS in every format under every firmware, to /init (10 minutes)
    BootMatrix,
}

impl Campaign {
    /// The program of e2e/src/bin.
    fn program(self) -> &'static str {
        match self {
            Self::Kernel => "kernel_campaign",
            Self::BootMatrix => "boot_matrix",
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which one
    #[arg(value_enum)]
    name: Campaign,
    /// Arguments for it, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let mut campaign = program::cargo();
    campaign.args(["run", "--release", "--locked", "--quiet", "--package", "kiln-e2e", "--bin"]);
    campaign.arg(arguments.name.program()).arg("--").args(&arguments.arguments);
    program::run(&mut campaign)
}
