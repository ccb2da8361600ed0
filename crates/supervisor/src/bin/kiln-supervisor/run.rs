//! `kiln-supervisor run FILE.toml`: the services of a file, as any user.
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
//! It leaves when nothing is left to run (with `--control`: not by itself), or on `SIGTERM` or `SIGINT`
//! after an orderly stop.
//! Exit codes: 0 all well, 1 a service has failed for good, 2 the file is unsound or unreadable,
//! 3 supervision itself failed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use kiln_supervisor::unix::{self, Options, Reexec};
use kiln_supervisor::{Event, Graph, ServiceSpec};

/// Bytes of the longest file that is read: 16,384 services of 256 bytes.
const LONGEST: u64 = 4 << 20;
/// Characters of a line of a complaint.
const WIDEST: usize = 200;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The services, as `[[service]]` tables
    config: PathBuf,
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
    /// Only say whether the file is sound, and in which order services would start
    #[arg(long)]
    check: bool,
    /// Also reap what others leave behind (PID 1 does so anyway)
    #[arg(long)]
    subreaper: bool,
    /// Tell of problems only, on standard error
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let refuse = |what: &dyn std::fmt::Display| {
        unix::console_line(format_args!("kiln-supervisor: {}: {what}", arguments.config.display()));
        ExitCode::from(2)
    };
    let specs = match read(&arguments.config) {
        Ok(specs) => specs,
        Err(why) => return refuse(&why),
    };
    if arguments.check {
        let graph = match sound(&specs) {
            Ok(graph) => graph,
            Err(why) => return refuse(&why),
        };
        for id in graph.order() {
            say(&specs.get(id.index()).map_or("", |spec| spec.name.as_str()));
        }
        return ExitCode::SUCCESS;
    }
    let mut options = Options::default();
    options.log_dir = arguments.log_dir;
    options.log_max_bytes = arguments.log_max_bytes.unwrap_or(options.log_max_bytes);
    options.log_keep = arguments.log_keep.unwrap_or(options.log_keep);
    options.exit_when_ended = true;
    if let Some(path) = arguments.control {
        options.control = Some(kiln_supervisor::control::ControlOptions::new(path));
        // What has ended may be started again by request.
        options.exit_when_ended = false;
    }
    // Who may not have it gets none.
    options.nice = rustix::process::geteuid().is_root().then_some(-10);
    options.reap_orphans = arguments.subreaper.then_some(true);
    // By its path, at which a newer version may be by then. It reads the file again, which must not
    // be what ends it.
    options.reexec = std::env::current_exe().ok().map(|program| {
        let config = arguments.config.clone();
        let mut reexec = Reexec::new(program);
        reexec.check = Box::new(move || match read(&config).and_then(|specs| sound(&specs)) {
            Ok(_) => Ok(()),
            Err(why) => Err(format!("{}: {why}", config.display())),
        });
        reexec
    });
    let quiet = arguments.quiet;
    let mut failed = false;
    let result = unix::run(specs, options, &mut |event| {
        failed |= matches!(event, Event::Failed { .. });
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
        Ok(_) => ExitCode::SUCCESS,
        Err(unix::Error::Problems(problems)) => refuse(&problems),
        Err(error) => {
            unix::console_line(format_args!("kiln-supervisor: {error}"));
            ExitCode::from(3)
        }
    }
}

/// The text of a file, which may be a device or a pipe that has no end.
fn text_of(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let limit = LONGEST.saturating_add(1);
    if std::fs::File::open(path)?.take(limit).read_to_string(&mut text)? as u64 >= limit {
        let what = format!("longer than {LONGEST} bytes");
        return Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, what));
    }
    Ok(text)
}

/// A complaint without the middle of lines that are long: it quotes the line that it is about.
fn shortened(complaint: &str) -> String {
    let mut short = String::new();
    for line in complaint.lines() {
        if !short.is_empty() {
            short.push('\n');
        }
        short.extend(line.chars().take(WIDEST));
        if line.chars().nth(WIDEST).is_some() {
            short.push('…');
        }
    }
    short
}

fn read(config: &Path) -> Result<Vec<ServiceSpec>, String> {
    let text = text_of(config).map_err(|error| error.to_string())?;
    kiln_supervisor::specs_from_toml(&text).map_err(|error| shortened(&error.to_string()))
}

fn sound(specs: &[ServiceSpec]) -> Result<Graph, String> {
    Graph::new(specs).map_err(|problems| problems.to_string())
}

/// A line to standard output. That nobody reads any more is no reason to leave services alone.
fn say(what: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{what}");
}
