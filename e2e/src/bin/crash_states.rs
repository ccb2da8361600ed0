//! Power that goes at any moment in the life of a disk with slots: what `cargo xtask campaign
//! crash-states` runs. Prints what docs/campaigns.md has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use kiln_e2e::slots::{Disks, crashes, live};

/// States of a disk with slots whose power went, looked at and booted.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many states are looked at, half of them of a life under a BIOS, half under UEFI
    #[arg(long, default_value_t = 4000)]
    states: u64,
    /// How many of them are booted
    #[arg(long, default_value_t = 60)]
    boots: u64,
    /// Where the disks and the last log of writes are left
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
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
    let temporary = tempfile::tempdir()?;
    let directory = arguments.keep.as_deref().unwrap_or_else(|| temporary.path());
    std::fs::create_dir_all(directory)?;
    let disks = Disks::build(directory)?;
    let began = Instant::now();
    for (uefi, name) in [(false, "BIOS"), (true, "UEFI")] {
        let life = live(&disks, uefi, directory)?;
        let (stretches, bytes) = (life.log.stretches(), life.log.written());
        println!("{name}: {bytes} bytes written, {stretches} stretches between flushes");
        let (states, boots) = (arguments.states / 2, arguments.boots / 2);
        let tally = crashes(&life, states, boots, uefi, arguments.seed)?;
        for (state, count) in &tally.found {
            println!(
                "  {count}: a BIOS starts {} (else {}), UEFI {} (else {})",
                state.bios.0, state.bios.1, state.uefi.0, state.uefi.1
            );
        }
        println!("{name}: {} states sound, {} of them booted", tally.states, tally.boots);
    }
    println!("0 failed, {:.0} s", began.elapsed().as_secs_f64());
    Ok(())
}
