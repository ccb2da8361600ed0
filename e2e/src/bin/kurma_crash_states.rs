//! Power that goes at any moment while the Kurma-like system replaces itself: what `cargo xtask campaign
//! kurma-crash-states` runs. Prints what docs/campaigns.md has.

use std::fs;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use kiln::Cache;
use kiln::qemu::{Firmware, Uefi};
use kiln_e2e::LONG;
use kiln_e2e::kurma::{API, Life, enrolled, replaced, system};

/// States of the Kurma-like system's disk whose power went, looked at.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many states are looked at, half of them of a life under a BIOS, half under UEFI
    #[arg(long, default_value_t = 2400)]
    states: u64,
    /// What the choice follows from
    #[arg(long, default_value_t = 1)]
    seed: u64,
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
    let began = Instant::now();
    let system = system()?;
    let uefi = Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    for (firmware, name) in [(Firmware::Bios, "BIOS"), (uefi, "UEFI")] {
        let directory = tempfile::tempdir()?;
        let place = directory.path();
        let oem = place.join("oem");
        fs::create_dir(&oem)?;
        fs::write(oem.join("kurma_oem.json"), r#"{"hostname": "by-oem"}"#)?;
        let life = Life::new(system, &oem, place)?;
        let mut vm = life.start(firmware, &[API])?;
        let lived =
            enrolled(&mut vm, system, place).and_then(|cli| replaced(&mut vm, system, &cli, place));
        lived.with_context(|| vm.console().tail(80))?;
        vm.power_button()?;
        vm.wait_exit(LONG).with_context(|| vm.console().tail(40))?;
        drop(vm);
        let recorded = life.recorded()?;
        let (stretches, bytes) = (recorded.log.stretches(), recorded.log.written());
        println!("{name}: {bytes} bytes written, {stretches} stretches");
        let tally = recorded.upgrade_crashes(arguments.states / 2, arguments.seed)?;
        tally.iter().for_each(|(state, count)| println!("  {count}: {state}"));
    }
    println!("0 failed, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
