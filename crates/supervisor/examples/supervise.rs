//! `supervise CONFIG.toml [--log-dir DIR] [--control PATH] [--check]`: runs the services of a file.
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
//! It leaves when nothing is left to run (with `--control`: not by itself), or on `SIGTERM` or `SIGINT` after an orderly stop.
//! Exit codes: 0 all well, 1 a service has failed for good, 2 the file is unsound or unreadable,
//! 3 supervision itself failed.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_supervisor::unix::{self, Options};
use kiln_supervisor::{Event, Graph};

#[derive(Parser)]
struct Arguments {
    /// The services, as `[[service]]` tables.
    config: PathBuf,
    /// Where their output goes (default: to ours).
    #[arg(long)]
    log_dir: Option<PathBuf>,
    /// Serve the control socket here (feature `control`), for `svc --socket PATH`.
    #[cfg(feature = "control")]
    #[arg(long)]
    control: Option<PathBuf>,
    /// Only say whether the file is sound, and in which order services would start.
    #[arg(long)]
    check: bool,
    /// Also reap what others leave behind.
    #[arg(long)]
    subreaper: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let refuse = |what: &dyn std::fmt::Display| {
        eprintln!("supervise: {}: {what}", arguments.config.display());
        ExitCode::from(2)
    };
    let text = match std::fs::read_to_string(&arguments.config) {
        Ok(text) => text,
        Err(error) => return refuse(&error),
    };
    let specs = match kiln_supervisor::specs_from_toml(&text) {
        Ok(specs) => specs,
        Err(error) => return refuse(&error),
    };
    let graph = match Graph::new(&specs) {
        Ok(graph) => graph,
        Err(problems) => return refuse(&problems),
    };
    if arguments.check {
        for id in graph.order() {
            println!("{}", specs[id.index()].name);
        }
        return ExitCode::SUCCESS;
    }
    let mut options = Options::default();
    options.log_dir = arguments.log_dir;
    options.exit_when_ended = true;
    #[cfg(feature = "control")]
    if let Some(path) = arguments.control {
        options.control = Some(kiln_supervisor::control::ControlOptions::new(path));
        // what has ended may be started again by request
        options.exit_when_ended = false;
    }
    options.reap_orphans = Some(arguments.subreaper);
    let mut failed = false;
    let result = unix::run(specs, options, &mut |event| {
        failed |= matches!(event, Event::Failed { .. });
        println!("{event}");
    });
    match result {
        Ok(_) if failed => ExitCode::from(1),
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("supervise: {error}");
            ExitCode::from(3)
        }
    }
}
