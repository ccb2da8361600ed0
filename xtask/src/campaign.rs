//! The long runs, whose last figures are kept in docs/campaigns.md.

use anyhow::Result;
use clap::ValueEnum;

use crate::setup::{self, Purpose};
use crate::{fuzz, model, program};

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Campaign {
    /// NomadOS on a kernel from source: built twice, booted, all jobs (25 minutes)
    Kernel,
    /// NomadOS in every format under every firmware, to /init (10 minutes)
    BootMatrix,
    /// The readers of hostile bytes under libFuzzer (hours; see `campaign fuzz -- --help`)
    Fuzz,
    /// The supervisor's machine in 10,000,000 random schedules (10 minutes)
    Model,
    /// A virtual machine whose services and their helpers are killed at random, for an hour
    Chaos,
    /// What is left of a disk with two systems when its power goes: 4,000 states, 60 of them booted (30 minutes)
    CrashStates,
    /// What is left of the RancherOS-like system when its power goes while it is installed or upgraded:
    /// 2,400 states (40 minutes)
    RancherosCrashStates,
    /// What is left of the Kurma-like system when its power goes while it replaces itself: 2,400 states (15 minutes)
    KurmaCrashStates,
    /// 1,000,000 random cloud-configs, or as many as are asked for (10 minutes)
    CloudConfig,
}

impl Campaign {
    /// The program of e2e/src/bin, where it is one.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Kernel => Some("kernel_campaign"),
            Self::BootMatrix => Some("boot_matrix"),
            Self::Chaos => Some("chaos_campaign"),
            Self::CrashStates => Some("crash_states"),
            Self::RancherosCrashStates => Some("rancheros_crash_states"),
            Self::KurmaCrashStates => Some("kurma_crash_states"),
            Self::Fuzz | Self::Model | Self::CloudConfig => None,
        }
    }
}

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which one
    #[arg(value_enum)]
    name: Campaign,
    /// Arguments for it
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let Some(program) = arguments.name.program() else {
        return match arguments.name {
            Campaign::Model => model::run(&arguments.arguments),
            Campaign::CloudConfig => cloud_configs(&arguments.arguments),
            _ => fuzz::run(&arguments.arguments),
        };
    };
    setup::ensure(Purpose::Test)?;
    let mut campaign = program::cargo();
    campaign.args(["run", "--release", "--locked", "--quiet", "--package", "kiln-e2e", "--bin"]);
    campaign.arg(program).arg("--").args(&arguments.arguments);
    program::run(&mut campaign)
}

/// The test of `crates/cloudconfig/tests/properties.rs`, with more of its configs.
fn cloud_configs(arguments: &[String]) -> Result<()> {
    let count = arguments.first().map_or("1000000", String::as_str);
    let mut test = program::cargo();
    test.args(["test", "--release", "--locked", "--package", "kiln-cloudconfig"]);
    test.args(["--test", "properties", "--", "--nocapture", "random_configs"]);
    test.env("KILN_CLOUDCONFIG_CASES", count);
    program::run(&mut test)
}
