//! The readers of hostile bytes under libFuzzer, on the stable compiler: the instrumentation is
//! LLVM's, which rustc hands the same options that cargo-fuzz gives it.

mod corpus;
mod done;
mod table;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Parser;

use crate::program;
use done::Done;
use table::Row;

/// What makes rustc count branches and tell libFuzzer about comparisons.
const INSTRUMENTATION: [&str; 6] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

#[derive(Parser)]
#[command(name = "cargo xtask campaign fuzz", about = "Fuzz the readers of hostile bytes")]
struct Arguments {
    /// Executions of each target; earlier ones of the very same program count
    #[arg(long, default_value_t = 10_000_000)]
    runs: u64,
    /// The longest that a target runs, in minutes
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    minutes: u64,
    /// How many run at once: as many as there are processors when absent
    #[arg(long)]
    jobs: Option<usize>,
    /// Afterwards, keep the inputs that matter of what was found in fuzz/corpus
    #[arg(long)]
    keep: bool,
    /// Which targets (files of fuzz/targets); all when absent
    targets: Vec<String>,
}

/// Where things are.
struct Places {
    programs: PathBuf,
    work: PathBuf,
    committed: PathBuf,
}

impl Places {
    fn program(&self, target: &str) -> PathBuf {
        self.programs.join(target)
    }

    /// What was found, what it began with, and what made it fail.
    fn directory(&self, what: &str, target: &str) -> Result<PathBuf> {
        let path = self.work.join(what).join(target);
        std::fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(path)
    }
}

pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let name = String::from("fuzz");
    let arguments = Arguments::parse_from([&name].into_iter().chain(arguments));
    let targets = targets(&arguments.targets)?;
    let places = build()?;
    let queue: Mutex<VecDeque<&String>> = Mutex::new(targets.iter().collect());
    let next = || queue.lock().map_or(None, |mut queue| queue.pop_front());
    let processors = || std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = arguments.jobs.unwrap_or_else(processors).max(1);
    let mut rows = std::thread::scope(|scope| {
        let work = || -> Result<Vec<Row>> {
            let mut rows = Vec::new();
            while let Some(target) = next() {
                rows.push(fuzz(&places, target, &arguments)?);
            }
            Ok(rows)
        };
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let mut rows = Vec::new();
        for worker in workers {
            let found = worker.join().map_err(|_| anyhow::anyhow!("a worker panicked"))?;
            rows.extend(found?);
        }
        Ok::<_, anyhow::Error>(rows)
    })?;
    rows.sort_by(|one, other| one.target.cmp(&other.target));
    if arguments.keep {
        for target in &targets {
            corpus::keep(&places, target)?;
        }
    }
    table::report(&rows, &places.work)?;
    let failed: Vec<&Row> = rows.iter().filter(|row| row.crash.is_some()).collect();
    for row in &failed {
        if let Some(crash) = &row.crash {
            let program = places.program(&row.target);
            println!("{}: {}", row.target, crash.display());
            println!("  again: {} {}", program.display(), crash.display());
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} targets failed", failed.len(), rows.len());
    }
    Ok(())
}

/// The names of all targets, or those that were asked for, which must exist.
fn targets(wanted: &[String]) -> Result<Vec<String>> {
    let directory = program::workspace().join("fuzz/targets");
    let mut all = Vec::new();
    for entry in std::fs::read_dir(&directory).context("read fuzz/targets")? {
        let path = entry?.path();
        all.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
    }
    all.sort();
    if let Some(unknown) = wanted.iter().find(|name| !all.contains(name)) {
        bail!("no target {unknown}; there are {}", all.join(", "));
    }
    Ok(if wanted.is_empty() { all } else { wanted.to_vec() })
}

/// Builds the targets with instrumentation, and the seeds without.
fn build() -> Result<Places> {
    let work = program::target().join("fuzz");
    let version = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    let cargo = |verb: &[&str]| {
        let mut command = program::cargo();
        command.current_dir(program::workspace().join("fuzz")).args(verb);
        command.arg("--locked").arg("--target-dir").arg(&work);
        command
    };
    // A target of its own keeps build scripts and macros free of instrumentation.
    let mut targets = cargo(&["build", "--quiet", "--release", "--bins", "--target", host]);
    program::run(targets.env("RUSTFLAGS", INSTRUMENTATION.join(" ")))?;
    let mut seeds = cargo(&["run", "--quiet", "--bin", "seeds"]);
    program::run(seeds.arg("--").arg(work.join("seeds")))?;
    let committed = program::workspace().join("fuzz/corpus");
    Ok(Places { programs: work.join(host).join("release"), work, committed })
}

/// libFuzzer on a target, with what is the same for all runs.
fn command(places: &Places, target: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(places.program(target));
    // The targets bound their memory themselves. Seconds are the clock's, also of a process that
    // was stopped.
    command.args(["-rss_limit_mb=512", "-timeout=600", "-print_final_stats=1"]);
    command.arg(format!("-max_len={}", longest(target)));
    command
}

/// The longest input: what the seeds of the format need, and some room.
fn longest(target: &str) -> u32 {
    match target {
        "erofs" | "ext4" | "inspect" => 12_288,
        "dhcp" => 1500,
        "bls" | "dotconfig" | "kconfig" => 2048,
        _ => 8192,
    }
}

fn fuzz(places: &Places, target: &str, arguments: &Arguments) -> Result<Row> {
    let started = Instant::now();
    let program = done::digest(places, target)?;
    let earlier = Done::read(places, target, program)?;
    let runs = arguments.runs.saturating_sub(earlier.executions);
    if runs == 0 {
        let row = Row { target: target.to_owned(), done: earlier, crash: None };
        println!("{row}");
        return Ok(row);
    }
    let crashes = places.directory("crashes", target)?;
    for old in std::fs::read_dir(&crashes)? {
        std::fs::remove_file(old?.path())?;
    }
    let log = places.directory("logs", target)?.join("log");
    let mut command = command(places, target);
    command
        .arg(format!("-runs={runs}"))
        .arg(format!("-max_total_time={}", arguments.minutes * 60))
        .arg(format!("-artifact_prefix={}/", crashes.display()))
        .arg(places.directory("found", target)?)
        .arg(places.directory("seeds", target)?);
    let committed = places.committed.join(target);
    if committed.is_dir() {
        command.arg(committed);
    }
    let file = std::fs::File::create(&log).context("create a log")?;
    command.stdout(Stdio::null()).stdin(Stdio::null()).stderr(file);
    let status = command.status().with_context(|| format!("run {target}"))?;
    let crash = first(&crashes)?;
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    if !status.success() && crash.is_none() {
        bail!("{target} ended with {status}; see {}", log.display());
    }
    let row = Row::new(target, &said, started.elapsed(), &earlier, crash);
    if row.crash.is_none() {
        row.done.keep(places, target, program)?;
    }
    println!("{row}");
    Ok(row)
}

/// An input that failed; not one that was only slow, maybe because the process was stopped.
fn first(directory: &Path) -> Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with("slow-unit-") {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

/// Shorter than a debug form, and exact enough.
fn seconds(time: Duration) -> u64 {
    time.as_secs().max(1)
}
