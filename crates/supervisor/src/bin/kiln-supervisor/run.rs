//! `kiln-supervisor run FILE.toml|UNIT|DIR/…`: the services of files and of systemd's units, as any
//! user. Of a directory, its files `*.toml`, its services, sockets, timers and targets, with drop-ins.
//!
//! ```toml
//! [[service]]
//! name = "network"
//! kind = "one-shot"
//! command = ["/bin/sh", "-c", "ip link set lo up"]
//!
//! [[service]]
//! name = "web"
//! command = ["busybox", "httpd", "-f", "-p", "8080"]
//! requires = ["network"]
//! stop-timeout = "5s"
//! backoff = { initial = "200ms", max = "10s" }
//! ```
//!
//! What is not done of a unit is listed on standard error, and by `--check`; `docs/systemd-units.md` has
//! all keys. A unit that is named is started; of a directory's, those are that a target pulls in.
//!
//! With `--keep-going`, what is sound starts although something is not: tables and units that are not
//! understood, what is in a ring or names what is not there, and what requires any of these, are left
//! out, each with a line that says so.
//!
//! `SIGHUP`, and `svc reload`, read the files again and go over to what they say: what is not sound
//! changes nothing, with `--keep-going` too. It leaves when nothing is left to run (with `--control`:
//! not by itself), or on `SIGTERM` or `SIGINT` after an orderly stop.
//!
//! Exit codes: 0 all well, 1 a service has failed for good, 2 a file is unsound or unreadable (with
//! `--keep-going` when the rest has ended, unless a reload has made it good), 3 supervision itself
//! failed.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use kiln_supervisor::service_file::{Finding, Findings};
use kiln_supervisor::systemd::{self, Units, Unsupported};
use kiln_supervisor::unix::{self, Options, Reexec, SpecSource};
use kiln_supervisor::{Event, Graph, ServiceSpec};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Files with services as `[[service]]` tables (*.toml), units (*.service, *.socket, *.timer,
    /// *.target), or directories of both
    #[arg(required = true, value_name = "FILE|DIR")]
    files: Vec<PathBuf>,
    /// Reach this target of units instead of those of a machine that has started (repeatable)
    #[arg(long, value_name = "TARGET")]
    target: Vec<String>,
    /// Run units although keys of theirs that confine them cannot be followed
    #[arg(long)]
    allow_less_confinement: bool,
    /// Start what is sound although something is not: leave out what is wrong, with what requires it,
    /// and say so; exits with 2 in the end
    #[arg(long, short)]
    keep_going: bool,
    /// Where their output goes (default: to ours)
    #[arg(long, value_name = "DIR")]
    log_dir: Option<PathBuf>,
    /// Bytes after which a log file there is rotated
    #[arg(long, value_name = "BYTES")]
    log_max_bytes: Option<u64>,
    /// How many rotated files are kept of each
    #[arg(long, value_name = "N")]
    log_keep: Option<u32>,
    /// Serve the control socket here, for `svc --socket PATH`
    #[arg(long, value_name = "PATH")]
    control: Option<PathBuf>,
    /// Only say whether the files are sound, and in which order services would start
    #[arg(long)]
    check: bool,
    /// With --check: say it as JSON, to standard output
    #[arg(long, requires = "check")]
    json: bool,
    /// Give each service a control group of its own below this directory of a mounted cgroup2, which
    /// is made if it is not there
    #[arg(long, value_name = "DIR")]
    cgroup: Option<PathBuf>,
    /// Also reap what others leave behind (PID 1 does so anyway)
    #[arg(long)]
    subreaper: bool,
    /// Answer and restart before others on a busy machine: the niceness of the supervisor alone, not
    /// of its services (PID 1 has -15 anyway)
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-20..=19))]
    nice: Option<i32>,
    /// Tell of problems only, on standard error
    #[arg(long, short)]
    quiet: bool,
}

/// Where services are read from, and read again.
#[derive(Debug, Clone)]
struct Files {
    paths: Vec<PathBuf>,
    options: systemd::Options,
}

impl Files {
    fn read(&self) -> Result<Units, Findings> {
        systemd::read(&self.paths, &self.options)
    }

    fn specs(&self) -> Result<Vec<ServiceSpec>, String> {
        self.read().map(|units| units.specs).map_err(|findings| findings.to_string())
    }
}

impl SpecSource for Files {
    fn load(&mut self) -> Result<Vec<ServiceSpec>, String> {
        self.specs()
    }
}

/// What `--check --json` prints.
#[derive(serde::Serialize)]
struct Report<'a> {
    /// The services as they would start.
    order: Vec<&'a str>,
    problems: &'a [Finding],
    /// What is not done of units.
    unsupported: &'a [Unsupported],
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let resumed = unix::resumed();
    let mut options = systemd::Options::default();
    options.allow_less_confinement = arguments.allow_less_confinement;
    if !arguments.target.is_empty() {
        options.targets = arguments.target;
    }
    let keep_going = arguments.keep_going;
    let mut files = Files { paths: arguments.files, options };
    let (units, findings) = match keep_going {
        true => systemd::read_sound(&files.paths, &files.options),
        false => match files.read() {
            Ok(units) => (units, Findings(Vec::new())),
            Err(findings) => (Units::default(), findings),
        },
    };
    if arguments.check {
        return check(&units, &findings, arguments.json);
    }
    let is_sound = findings.0.is_empty();
    for lost in &units.unsupported {
        unix::console_line(format_args!("{lost}"));
    }
    // else those that run are taken over as they were read last
    if keep_going || !resumed {
        tell(&findings);
    }
    if !is_sound && !keep_going && !resumed {
        return ExitCode::from(2);
    }
    for path in &mut files.paths {
        *path = std::path::absolute(&path).unwrap_or_else(|_| path.clone());
    }
    let mut options = Options::default();
    options.log_dir = arguments.log_dir;
    options.log_max_bytes = arguments.log_max_bytes.unwrap_or(options.log_max_bytes);
    options.log_keep = arguments.log_keep.unwrap_or(options.log_keep);
    options.cgroup = arguments.cgroup;
    options.exit_when_ended = true;
    // what is left of the files is sound
    options.incomplete = keep_going && !is_sound;
    if let Some(path) = arguments.control {
        options.control = Some(kiln_supervisor::control::ControlOptions::new(path));
        // What has ended may be started again by request.
        options.exit_when_ended = false;
    }
    options.nice = arguments.nice;
    options.reap_orphans = arguments.subreaper.then_some(true);
    // By its path, at which a newer version may be by then. It reads the files again, which must
    // not be what ends it.
    options.reexec = std::env::current_exe().ok().map(|program| {
        let files = files.clone();
        let mut reexec = Reexec::new(program);
        reexec.check = Box::new(move || match (unix::is_memory_short(), keep_going) {
            (true, _) => Err("memory is short".to_owned()),
            (false, true) => Ok(()),
            (false, false) => files.specs().map(drop),
        });
        reexec
    });
    options.spec_source = Some(Box::new(files));
    let quiet = arguments.quiet;
    let (mut failed, mut left_out) = (false, !is_sound);
    let result = unix::run(units.specs, options, &mut |event| {
        failed |= matches!(event, Event::Failed { .. });
        // nothing is, of what is gone over to
        left_out &= !matches!(event, Event::Reloaded { .. });
        match quiet {
            false => say(event),
            true if event.is_problem() => {
                unix::console_line(format_args!("kiln-supervisor: {event}"));
            }
            true => {}
        }
    });
    match result {
        Ok(_) if failed => ExitCode::from(1),
        Ok(_) if left_out && keep_going => ExitCode::from(2),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            unix::console_line(format_args!("kiln-supervisor: {error}"));
            ExitCode::from(3)
        }
    }
}

/// What is wrong, a line each, to standard error.
fn tell(findings: &Findings) {
    for finding in &findings.0 {
        unix::console_line(format_args!("{finding}"));
    }
}

/// Says what would start.
fn check(units: &Units, findings: &Findings, json: bool) -> ExitCode {
    let Units { specs, unsupported, .. } = units;
    let graph = Graph::new(specs).unwrap_or_default();
    let ids = graph.order().iter();
    let order: Vec<&str> =
        ids.filter_map(|id| specs.get(id.index())).map(|spec| spec.name.as_str()).collect();
    if json {
        let report = serde_json::to_string(&Report { order, problems: &findings.0, unsupported });
        say(&report.unwrap_or_default());
    } else {
        for lost in unsupported {
            unix::console_line(format_args!("{lost}"));
        }
        tell(findings);
        order.iter().for_each(|name| say(name));
    }
    if findings.0.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// A line to standard output. That nobody reads any more is no reason to leave services alone.
fn say(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{what}");
}
