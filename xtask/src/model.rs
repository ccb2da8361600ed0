//! Random schedules of the supervisor's machine: the property of `crates/supervisor/tests/model.rs`, in
//! batches that each have a seed of their own, on every processor.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};

use crate::program;

/// Schedules of a batch: some seconds, so that the bar moves and a failure is told early.
const BATCH: u64 = 50_000;
const PROPERTY: &str = "invariants";

#[derive(Parser)]
#[command(name = "cargo xtask campaign model", about = "Random schedules of the supervisor")]
struct Arguments {
    /// How many schedules
    #[arg(long, default_value_t = 10_000_000)]
    schedules: u64,
    /// The first batch's seed; each further batch has the next number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many batches run at once: as many as there are processors when absent
    #[arg(long)]
    jobs: Option<usize>,
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let name = String::from("model");
    let arguments = Arguments::parse_from([&name].into_iter().chain(arguments));
    let test = build()?;
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} {per_sec} {eta}")?;
    let bar = ProgressBar::new(arguments.schedules).with_style(style);
    let (began, next, stop) = (Instant::now(), AtomicU64::new(0), AtomicBool::new(false));
    let batches = arguments.schedules.div_ceil(BATCH);
    let work = || -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let batch = next.fetch_add(1, Ordering::Relaxed);
            if batch >= batches {
                break;
            }
            let count = BATCH.min(arguments.schedules - batch * BATCH);
            let done = explore(&test, arguments.seed + batch, count);
            stop.fetch_or(done.is_err(), Ordering::Relaxed);
            done?;
            bar.inc(count);
        }
        Ok(())
    };
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or_else(processors).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        // All of them end before the first failure is told.
        let ends: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        for end in ends {
            end.map_err(|_| anyhow::anyhow!("a worker panicked"))??;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    bar.finish();
    println!(
        "{} schedules, seeds {} to {}: 0 failed, {:.0} s",
        arguments.schedules,
        arguments.seed,
        arguments.seed + batches.saturating_sub(1),
        began.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Builds the test, optimised, and says where it is.
fn build() -> Result<PathBuf> {
    let mut cargo = program::cargo();
    cargo.args(["test", "--release", "--locked", "--package", "kiln-supervisor"]);
    cargo.args(["--test", "model", "--no-run", "--message-format", "json"]);
    let output = cargo.stderr(Stdio::inherit()).output().context("run cargo")?;
    if !output.status.success() {
        bail!("`{}` ended with {}", program::describe(&cargo), output.status);
    }
    let mut found = None;
    for line in output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: serde_json::Value = serde_json::from_slice(line)?;
        if let Some(path) = message["executable"].as_str() {
            found = Some(PathBuf::from(path));
        }
    }
    found.context("cargo built no test")
}

fn explore(test: &PathBuf, seed: u64, count: u64) -> Result<()> {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(test).args(["--exact", PROPERTY]);
    // Beside its source proptest keeps what fails.
    command.current_dir(program::workspace().join("crates/supervisor"));
    command.env("KILN_MODEL_CASES", count.to_string());
    command.env("PROPTEST_RNG_SEED", seed.to_string());
    let output = command.output().context("run the test")?;
    let said = String::from_utf8_lossy(&output.stdout);
    // A property by another name would pass by not being there.
    if !output.status.success() || !said.contains("1 passed") {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("seed {seed}, {count} schedules: {}\n{said}{errors}", output.status);
    }
    Ok(())
}
