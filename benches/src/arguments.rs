//! The options that every bench has.

use std::path::PathBuf;

/// `-n` and `--json`, for `#[command(flatten)]`. `N` is the number of runs without `-n`.
#[derive(Debug, Clone, clap::Args)]
pub struct Common<const N: u32> {
    /// Runs of each contender
    #[arg(short, default_value_t = N, value_parser = clap::value_parser!(u32).range(1..))]
    pub n: u32,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}
