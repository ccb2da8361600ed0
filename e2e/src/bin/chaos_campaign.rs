//! A machine whose process 1 is the supervisor, with services of every kind, of which something is
//! killed, stopped or asked to restart many times a second; the guest (`e2e/init/src/chaos`) looks all
//! the while for what must never happen. What `cargo xtask campaign chaos` runs.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use kiln::qemu::Vm;
use kiln::{Cache, Progress, debian, guest};
use kiln_e2e::{LONG, alone, said};
use kiln_tree::{Node, Tree};

/// How long the guest may say nothing, which says something every minute of its own.
const SILENCE: Duration = Duration::from_secs(600);

/// Kill anything but process 1, for a long time.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// What the choices follow from: the clock when absent
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(last) => {
            println!("{last}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<String> {
    let of_clock =
        || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    let seed = arguments.seed.unwrap_or_else(of_clock);
    println!("seed {seed}, {} minutes", arguments.minutes);
    let cache = Cache::of_workspace();
    let kernel = debian::kernel(&cache, "linux-image-amd64")?;
    let init = guest::build("kiln-e2e-init", "chaos", &Progress::on_stderr())?;
    let mut tree = Tree::new();
    tree.insert("init", Node::executable(std::fs::read(init)?))?;
    let directory = tempfile::tempdir()?;
    let mut machine = alone::machine(kernel.image, &tree, directory.path())?;
    (machine.memory, machine.processors) = (768, 2);
    let seconds = arguments.minutes * 60;
    if let Some(kernel) = &mut machine.kernel {
        kernel.command_line += &format!(" chaos.seed={seed} chaos.seconds={seconds}");
    }
    let mut vm = machine.start()?;
    watch(&mut vm).with_context(|| vm.console().tail(40))?;
    let lines = said(&vm, "chaos: ");
    let bad: Vec<&String> =
        lines.iter().filter(|line| line.contains("VIOLATION") || line.contains("FAILED")).collect();
    ensure!(bad.is_empty(), "seed {seed}: {bad:#?}");
    let last = lines.into_iter().rev().find(|line| line.starts_with("all: "));
    let last = last.with_context(|| vm.console().tail(40))?;
    ensure!(last.ends_with("; 0 violations"), "seed {seed}: {last}");
    Ok(last)
}

/// Prints what the guest says until it has powered itself off.
fn watch(vm: &mut Vm) -> Result<()> {
    vm.wait_for("chaos: seed ", LONG)?;
    let (mut printed, mut heard) = (0, Instant::now());
    while !vm.has_ended()? {
        let lines = said(vm, "chaos: ");
        for line in lines.iter().skip(printed) {
            println!("{line}");
            heard = Instant::now();
        }
        printed = lines.len();
        if heard.elapsed() > SILENCE {
            bail!("it has said nothing for {SILENCE:?}");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    Ok(())
}
