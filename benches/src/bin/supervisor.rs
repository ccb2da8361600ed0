//! kiln-supervisor beside the field's: starting, restarting, doing nothing, reaping, logging.
//!
//! Each contender is process 1 of a namespace of its own, in a root made of the peers' packages, with
//! the same small static program as its services, started by the same words. Times are of
//! `CLOCK_MONOTONIC`, taken by those programs as the first and the last thing that they do. What is
//! left out: what a service manager does at boot, dependencies, and control.
//!
//! The peers do less in places: dinit has no log files that are rotated; runit and s6 start
//! services without a process that knows all of them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::supervision::contender::{Output, Supervisor};
use kiln_benches::supervision::measures::{self, Reaper, quantile};
use kiln_benches::supervision::programs::Programs;
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine};

/// kiln-supervisor beside dinit, s6, runit, tini, dumb-init and catatonit
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<10>,
    /// Only these (all without)
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// How long restarts are watched in each run, in seconds
    #[arg(long, default_value_t = 20)]
    restart_seconds: u64,
    /// How long each is left alone, in seconds
    #[arg(long, default_value_t = 60)]
    idle_seconds: u64,
    /// The dinit to measure (default: the host's)
    #[arg(long, value_name = "PROGRAM")]
    dinit: Option<PathBuf>,
    /// Let contenders and services run before anything else on the machine (SCHED_RR)
    #[arg(long)]
    real_time: bool,
    /// Services that are started
    #[arg(long, default_value_t = 1000)]
    services: u32,
    /// Orphans that end at once
    #[arg(long, default_value_t = 10_000)]
    orphans: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Many services up
    Start,
    /// The same, with a log each
    StartLogged,
    /// From the end of a service to its next `main`
    Restart,
    /// A service that fails at once
    Crash,
    /// Ten services, and nothing to do
    Idle,
    /// Sizes of the programs
    Size,
    /// Many orphans at once
    Orphans,
    /// A service's output
    Logs,
}

/// All supervisors, ours first.
const ALL: [Supervisor; 5] = [
    Supervisor::Kiln,
    Supervisor::Dinit,
    Supervisor::DinitSmooth,
    Supervisor::Runit,
    Supervisor::S6,
];

/// Those of them that are there.
fn present(programs: &Programs, all: &[Supervisor]) -> Vec<Supervisor> {
    let is_dinit = |it: &Supervisor| matches!(it, Supervisor::Dinit | Supervisor::DinitSmooth);
    all.iter().copied().filter(|it| programs.dinit.is_some() || !is_dinit(it)).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("supervisor", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: root, for namespaces");
        return Ok(report);
    }
    if !machine::are_installed(&["unshare", "chroot", "mount", "apt-get"]) {
        return Ok(report);
    }
    let mut programs = Programs::get(arguments.dinit.clone())?;
    programs.real_time = arguments.real_time;
    let done = parts(&mut report, &programs, arguments);
    // What was measured before an error took minutes.
    done.inspect_err(|_| print!("{report}"))?;
    Ok(report)
}

fn parts(report: &mut Report, programs: &Programs, arguments: &Arguments) -> Result<()> {
    let wanted = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    if wanted(Part::Size) {
        sizes(report, programs)?;
    }
    if wanted(Part::Start) {
        let contenders = [
            Supervisor::Kiln,
            Supervisor::KilnGroups,
            Supervisor::Floor,
            Supervisor::FloorGroups,
            Supervisor::Dinit,
            Supervisor::Runit,
            Supervisor::S6,
        ];
        start(report, programs, arguments, &contenders, Output::Null)?;
    }
    if wanted(Part::StartLogged) {
        let contenders = [Supervisor::Kiln, Supervisor::S6];
        start(report, programs, arguments, &contenders, Output::Files(1 << 20))?;
    }
    if wanted(Part::Restart) {
        restart(report, programs, arguments)?;
    }
    if wanted(Part::Crash) {
        crash(report, programs)?;
    }
    if wanted(Part::Idle) {
        idle(report, programs, arguments)?;
    }
    if wanted(Part::Orphans) {
        orphans(report, programs, arguments)?;
    }
    if wanted(Part::Logs) {
        logs(report, programs, arguments)?;
    }
    Ok(())
}

fn start(
    report: &mut Report,
    programs: &Programs,
    arguments: &Arguments,
    supervisors: &[Supervisor],
    output: Output,
) -> Result<()> {
    let number = arguments.services;
    let mut contenders: Vec<_> = present(programs, supervisors)
        .into_iter()
        .map(|it| Contender::new(it.who(), move || measures::start(programs, it, number, output)))
        .collect();
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    let logs = if output == Output::Null { "logs to /dev/null" } else { "a log each" };
    for (contender, samples) in contenders.iter().zip(&samples) {
        let what = format!("{number} services up, {logs}: wall time");
        let wall = samples.iter().map(|it| it.wall).collect();
        report.add(&what, contender.who(), Unit::Seconds, wall);
        let processes = samples.last().map_or(0, |it| it.processes);
        report.note(format!("{processes} process{}", if processes == 1 { "" } else { "es" }));
    }
    for (contender, samples) in contenders.iter().zip(&samples) {
        let what = format!("{number} services up, {logs}: the supervisor's memory (PSS)");
        let pss = samples.iter().map(|it| it.pss).collect();
        report.add(&what, contender.who(), Unit::Mebibytes, pss);
    }
    Ok(())
}

fn restart(report: &mut Report, programs: &Programs, arguments: &Arguments) -> Result<()> {
    let duration = Duration::from_secs(arguments.restart_seconds);
    let mut contenders: Vec<_> = present(programs, &ALL)
        .into_iter()
        .map(|it| Contender::new(it.who(), move || measures::restarts(programs, it, duration)))
        .collect();
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)] {
        for (contender, samples) in contenders.iter().zip(&samples) {
            let mut all: Vec<f64> = samples.iter().flatten().copied().collect();
            all.sort_by(f64::total_cmp);
            let of_runs = samples.iter().map(|sample| quantile(sample, part)).collect();
            let what = format!("restart, end to next main: {name} of a run");
            report.add(&what, contender.who(), Unit::Milliseconds, of_runs);
            report.note(format!("{:.3} of all {}", quantile(&all, part) * 1e3, all.len()));
        }
    }
    Ok(())
}

fn crash(report: &mut Report, programs: &Programs) -> Result<()> {
    let duration = Duration::from_secs(10);
    for supervisor in present(programs, &ALL) {
        let starts = measures::crashes(programs, supervisor, duration)?;
        let least = starts.windows(2).map(|pair| pair[1] - pair[0]).fold(f64::INFINITY, f64::min);
        let count = starts.len() as f64;
        let what = "a service that fails at once: starts in 10 s";
        report.add(what, supervisor.who(), Unit::Count, vec![count]);
        report.note(format!("at least {least:.3} s apart"));
        if supervisor == Supervisor::Kiln {
            follows_its_policy(&starts)?;
        }
    }
    Ok(())
}

/// 200 ms from the first start to the second, and twice as long each time.
fn follows_its_policy(starts: &[f64]) -> Result<()> {
    for (index, pair) in starts.windows(2).enumerate() {
        let least = 0.2 * 2_f64.powi(i32::try_from(index)?);
        // From one `main` to the next, which the time from fork to `main` may shorten.
        if pair[1] - pair[0] < least - 0.1 {
            return Err(
                format!("crash loop: start {} came too early: {starts:?}", index + 2).into()
            );
        }
    }
    Ok(())
}

fn idle(report: &mut Report, programs: &Programs, arguments: &Arguments) -> Result<()> {
    let duration = Duration::from_secs(arguments.idle_seconds);
    let mut samples = Vec::new();
    for supervisor in present(programs, &ALL) {
        // Nothing happens: one run says it.
        samples.push((supervisor, measures::idle(programs, supervisor, duration)?));
    }
    for (supervisor, sample) in &samples {
        let what = format!("idle with 10 services: context switches in {} s", duration.as_secs());
        report.add(&what, supervisor.who(), Unit::Count, vec![sample.switches]);
    }
    for (supervisor, sample) in &samples {
        let what = "idle with 10 services: resident";
        report.add(what, supervisor.who(), Unit::Mebibytes, vec![sample.rss]);
    }
    Ok(())
}

fn sizes(report: &mut Report, programs: &Programs) -> Result<()> {
    let of_peer = |path: &str| programs.sysroot.join("usr").join(path);
    let files = [
        ("kiln-supervisor, all of it, static", programs.supervisor.clone()),
        ("kiln-supervisor, a container's init, static", programs.init.clone()),
        ("an empty Rust program, static", programs.empty.clone()),
        ("s6-svscan", of_peer("bin/s6-svscan")),
        ("s6-supervise", of_peer("bin/s6-supervise")),
        ("runsvdir", of_peer("bin/runsvdir")),
        ("runsv", of_peer("bin/runsv")),
        ("tini", of_peer("bin/tini")),
        ("tini, static", of_peer("bin/tini-static")),
        ("dumb-init", of_peer("bin/dumb-init")),
        ("catatonit, static", of_peer("bin/catatonit")),
    ];
    let dinit = programs.dinit.iter().map(|path| ("dinit", path.clone()));
    for (who, path) in files.into_iter().chain(dinit) {
        match std::fs::metadata(&path) {
            Ok(found) => {
                let mebibytes = found.len() as f64 / f64::from(1 << 20);
                report.add("size of the program", who, Unit::Mebibytes, vec![mebibytes]);
            }
            Err(error) => println!("skipped: {who}: {}: {error}", path.display()),
        }
    }
    Ok(())
}

fn orphans(report: &mut Report, programs: &Programs, arguments: &Arguments) -> Result<()> {
    let reapers = [
        ("kiln-supervisor init", Reaper::Init(&["/work/kiln-init", "init", "--"])),
        ("tini", Reaper::Init(&["tini", "--"])),
        ("dumb-init", Reaper::Init(&["dumb-init", "--"])),
        ("catatonit", Reaper::Init(&["catatonit", "--"])),
        ("kiln-supervisor run", Reaper::Supervisor(Supervisor::Kiln)),
        ("dinit", Reaper::Supervisor(Supervisor::Dinit)),
        ("s6", Reaper::Supervisor(Supervisor::S6)),
    ];
    let number = arguments.orphans;
    let dinit = Reaper::Supervisor(Supervisor::Dinit);
    let mut contenders: Vec<_> = reapers
        .into_iter()
        .filter(|(_, it)| programs.dinit.is_some() || *it != dinit)
        .map(|(who, it)| Contender::new(who, move || measures::orphans(programs, it, number)))
        .collect();
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    for (contender, samples) in contenders.iter().zip(&samples) {
        let what = format!("{number} orphans end at once: all reaped");
        let wall = samples.iter().map(|it| it.wall).collect();
        report.add(&what, contender.who(), Unit::Milliseconds, wall);
        let left = samples.iter().map(|it| it.left).max().unwrap_or(0);
        report.note(format!("{left} left after a second"));
    }
    Ok(())
}

fn logs(report: &mut Report, programs: &Programs, arguments: &Arguments) -> Result<()> {
    const MEBIBYTES: u32 = 256;
    let both = [Supervisor::Kiln, Supervisor::S6];
    let mut contenders: Vec<_> = both
        .iter()
        .map(|&it| {
            Contender::new(it.who(), move || measures::log_throughput(programs, it, MEBIBYTES))
        })
        .collect();
    let samples = take_turns(arguments.common.n, &mut contenders)?;
    let what = format!("{MEBIBYTES} MiB of output, files of 1 MiB, three kept");
    report.contest(&what, Unit::Seconds, &contenders, samples);
    for (disk, room) in [("64m", "with room"), ("1m", "full")] {
        let mut samples = Vec::new();
        for supervisor in both {
            let lag = measures::log_lag(programs, supervisor, disk, Duration::from_secs(5))?;
            samples.push((supervisor, lag));
        }
        for (name, figure) in [
            ("median", (|lag| lag.p50) as fn(&measures::Lag) -> f64),
            ("p99", |lag| lag.p99),
            ("longest", |lag| lag.most),
        ] {
            for (supervisor, lag) in &samples {
                let what = format!("what a line costs the service, disk {room}: {name}");
                report.add(&what, supervisor.who(), Unit::Milliseconds, vec![figure(lag)]);
                report.note(format!("{} lines, {:.1} MiB resident", lag.lines, lag.rss));
            }
        }
    }
    Ok(())
}
