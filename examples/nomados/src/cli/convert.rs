//! `nomados convert`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use nomados::unit::{self, Driver, Unit};

/// What is converted, and how.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The unit: NAME.service
    unit: PathBuf,
    /// Print the JSON of Nomad's API (the default)
    #[arg(long, conflicts_with = "hcl")]
    json: bool,
    /// Print a job file
    #[arg(long)]
    hcl: bool,
    /// The task driver
    #[arg(long, value_enum, default_value = "exec")]
    driver: Driver,
    /// Which instance of a template (NAME@.service)
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Where the unit's environment files are, at the paths that it names; `/` for this machine's
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// How many MHz one CPU of CPUQuota= is taken for
    #[arg(long, value_name = "MHZ", default_value_t = 2000)]
    core_mhz: u64,
}

impl Arguments {
    /// Prints the job, and on standard error what is lost.
    pub(crate) fn run(&self) -> Result<()> {
        let path = &self.unit;
        let name = path.file_name().and_then(|name| name.to_str());
        let name = name.with_context(|| format!("{}: it has no file name", path.display()))?;
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let unit = Unit::parse(name, &bytes)?;
        let mut options = unit::Options::default();
        options.driver = self.driver;
        options.instance.clone_from(&self.instance);
        options.core_mhz = self.core_mhz;
        if let Some(root) = &self.root {
            options.read_environment_files(&unit, root);
        }
        let converted = unit::convert(&unit, &options)?;
        for note in &converted.notes {
            eprintln!("{note}");
        }
        if self.hcl {
            print!("{}", converted.job.to_hcl());
        } else {
            println!("{}", serde_json::to_string_pretty(&converted.job.to_json())?);
        }
        Ok(())
    }
}
