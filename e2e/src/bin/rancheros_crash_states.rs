//! Power that goes at any moment while the RancherOS-like system is installed, upgraded and taken back: what
//! `cargo xtask campaign rancheros-crash-states` runs. Prints what docs/campaigns.md has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use kiln::Cache;
use kiln::qemu::{Firmware, Uefi};
use kiln_e2e::rancheros::{Life, live};

/// States of the RancherOS-like system's disk whose power went, looked at.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many states are looked at, as many of each life
    #[arg(long, default_value_t = 2400)]
    states: u64,
    /// Under which firmware the system lives, each time from its installation on (both without)
    #[arg(long, value_enum)]
    firmware: Option<By>,
    /// Where the disks and their logs of writes are left
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Looks again at lives that were kept, of those firmwares that there are
    #[arg(long, requires = "keep")]
    again: bool,
    /// What the choice follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    Bios,
    Uefi,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let temporary = tempfile::tempdir()?;
    let directory = arguments.keep.as_deref().unwrap_or_else(|| temporary.path());
    let began = Instant::now();
    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let mut lives = vec![(By::Bios, Firmware::Bios, "BIOS"), (By::Uefi, uefi, "UEFI")];
    lives.retain(|(by, ..)| arguments.firmware.is_none_or(|only| only == *by));
    // of each life the installation and what follows
    let states = arguments.states / (2 * lives.len() as u64);
    for (_, firmware, name) in lives {
        let place = directory.join(name);
        let life = if arguments.again {
            if !place.join("upgrades").exists() {
                continue;
            }
            Life::read(&place)?
        } else {
            std::fs::create_dir_all(&place)?;
            live(&place, &firmware, true)?
        };
        for (what, recorded) in [("installation", &life.installation), ("upgrades", &life.upgrades)]
        {
            let (stretches, bytes) = (recorded.log.stretches(), recorded.log.written());
            println!("{name}, {what}: {bytes} bytes written, {stretches} stretches");
        }
        for tally in [
            life.installation_crashes(states, arguments.seed)?,
            life.upgrades.upgrade_crashes(states, arguments.seed)?,
        ] {
            tally.iter().for_each(|(state, count)| println!("  {count}: {state}"));
        }
    }
    println!("0 failed, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
