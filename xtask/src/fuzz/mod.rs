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

/// What makes rustc count branches.
const INSTRUMENTATION: [&str; 5] = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
];
/// What makes it tell libFuzzer about comparisons too.
const COMPARISONS: &str = "-Cllvm-args=-sanitizer-coverage-trace-compares";

/// The longest turn of a program, in seconds.
const TURN: u64 = 180;

/// The two programs of a target. Comparisons tell libFuzzer which bytes would lead further, and
/// take more than half of the time; what they found is then varied without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Guided,
    Fast,
}

impl Kind {
    const ALL: [Self; 2] = [Self::Guided, Self::Fast];

    const fn name(self) -> &'static str {
        match self {
            Self::Guided => "guided",
            Self::Fast => "fast",
        }
    }

    /// How much of what is left to do is this program's: an eighth, then all.
    const fn share(self, left: u64) -> u64 {
        match self {
            Self::Guided => left.div_ceil(8),
            Self::Fast => left,
        }
    }
}

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
    /// The tuple of the host, below which cargo puts a cross build.
    host: String,
    work: PathBuf,
    committed: PathBuf,
    /// What has been done so far, in the repository too.
    done: PathBuf,
}

impl Places {
    fn program(&self, kind: Kind, target: &str) -> PathBuf {
        self.work.join(kind.name()).join(&self.host).join("release").join(target)
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
            let program = places.program(Kind::Fast, &row.target);
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

/// Builds the targets with each instrumentation, and the seeds without.
fn build() -> Result<Places> {
    let work = program::target().join("fuzz");
    let version = Command::new("rustc").arg("-vV").output().context("run rustc")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("`rustc -vV` names no host")?;
    let cargo = |verb: &[&str], directory: &str| {
        let mut command = program::cargo();
        command.current_dir(program::workspace().join("fuzz")).args(verb);
        command.arg("--locked").arg("--target-dir").arg(work.join(directory));
        command
    };
    for kind in Kind::ALL {
        let mut flags = INSTRUMENTATION.map(String::from).to_vec();
        if kind == Kind::Guided {
            flags.push(COMPARISONS.into());
        }
        // The same program wherever the workspace lies, whose executions then add up.
        flags.push(format!("--remap-path-prefix={}=/kiln", program::workspace().display()));
        // A target of its own keeps build scripts and macros free of instrumentation.
        let verb = ["build", "--quiet", "--release", "--bins", "--target", host];
        program::run(cargo(&verb, kind.name()).env("RUSTFLAGS", flags.join(" ")))?;
    }
    let mut seeds = cargo(&["run", "--quiet", "--bin", "seeds"], "");
    program::run(seeds.arg("--").arg(work.join("seeds")))?;
    let fuzz = program::workspace().join("fuzz");
    let (committed, done) = (fuzz.join("corpus"), fuzz.join("done"));
    Ok(Places { host: host.to_owned(), work, committed, done })
}

/// libFuzzer on a target, with what is the same for all runs.
fn command(places: &Places, kind: Kind, target: &str) -> Command {
    let mut command = Command::new("nice");
    command.args(["-n", "19"]).arg(places.program(kind, target));
    // The targets bound their memory themselves. Seconds are the clock's, also of a process that
    // was stopped.
    command.args(["-rss_limit_mb=512", "-timeout=600", "-print_final_stats=1"]);
    command.arg(format!("-max_len={}", longest(target)));
    command
}

/// The longest input: what the seeds of the format need, and some room.
fn longest(target: &str) -> u32 {
    match target {
        "erofs" | "ext4" | "inspect" | "oci_aci" | "oci_archive" => 12_288,
        "oci_layers" => 16_384,
        "dhcp" => 1500,
        "oci_names" => 256,
        "oci_challenge" => 512,
        "bls" | "cloud_command_line" | "dotconfig" | "kconfig" => 2048,
        "cloud_documents" | "cloud_medium" | "cloud_user_data" => 4096,
        _ => 8192,
    }
}

fn fuzz(places: &Places, target: &str, arguments: &Arguments) -> Result<Row> {
    let program = done::digest(places, target)?;
    let done = Done::read(places, target, program)?;
    let mut row = Row { target: target.to_owned(), done, crash: None };
    let crashes = places.directory("crashes", target)?;
    for old in std::fs::read_dir(&crashes)? {
        std::fs::remove_file(old?.path())?;
    }
    let end = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    // In short turns, each of which is kept: who is interrupted loses little.
    let mut kinds = Kind::ALL.iter().chain(std::iter::repeat(&Kind::Fast));
    while row.crash.is_none() {
        let kind = *kinds.next().unwrap_or(&Kind::Fast);
        let runs = kind.share(arguments.runs.saturating_sub(row.done.executions));
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        if runs == 0 || left == 0 {
            break;
        }
        row.done.add(&explore(places, kind, target, runs, kind.share(left).min(TURN))?);
        row.crash = first(&crashes)?;
        if row.crash.is_none() {
            row.done.keep(places, target, program)?;
        }
    }
    println!("{row}");
    Ok(row)
}

/// Runs a program for so many executions or seconds, until it crashes.
fn explore(places: &Places, kind: Kind, target: &str, runs: u64, time: u64) -> Result<Done> {
    let started = Instant::now();
    let crashes = places.directory("crashes", target)?;
    let log = places.directory("logs", target)?.join(kind.name());
    let mut command = command(places, kind, target);
    command
        .arg(format!("-runs={runs}"))
        .arg(format!("-max_total_time={time}"))
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
    if !status.success() && first(&crashes)?.is_none() {
        bail!("{target} ended with {status}; see {}", log.display());
    }
    let said = String::from_utf8_lossy(&std::fs::read(&log)?).into_owned();
    Ok(Done::of_log(&said, started.elapsed()))
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
