//! Gets a DHCP lease for an interface, configures it, and prints the lease as JSON.
//!
//! ```text
//! lease INTERFACE [--once] [--no-apply] [--deadline S] [--resolv-conf PATH] [--verbose]
//! ```
//! Stays and renews unless `--once`; SIGTERM or SIGINT gives the address back and leaves.

use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kiln_dhcp::linux::{self, Notice, Outcome, RunOptions};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Get a DHCP lease, configure the interface, print the lease as JSON.
#[derive(Parser)]
struct Arguments {
    /// The interface, such as eth0.
    interface: String,
    /// Leave with the first lease; the kernel removes the address when the lease ends.
    #[arg(long)]
    once: bool,
    /// Change nothing on the machine but the interface's "up".
    #[arg(long)]
    no_apply: bool,
    /// Give up after this many seconds with carrier.
    #[arg(long, value_name = "S")]
    deadline: Option<f64>,
    /// Write name servers and search domains here.
    #[arg(long, value_name = "PATH")]
    resolv_conf: Option<PathBuf>,
    /// Host name to send to the server.
    #[arg(long, value_name = "NAME")]
    host_name: Option<String>,
    /// Believe leases as short as this many seconds.
    #[arg(long, value_name = "S", default_value_t = 30)]
    shortest_lease: u64,
    /// Tell on standard error what goes on.
    #[arg(short, long)]
    verbose: bool,
}

fn run() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();

    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let stop: OwnedFd = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC)?.into();

    let mut options = RunOptions::default();
    options.once = arguments.once;
    options.apply = !arguments.no_apply;
    options.deadline = arguments.deadline.map(Duration::try_from_secs_f64).transpose()?;
    options.resolv_conf = arguments.resolv_conf;
    options.config.host_name = arguments.host_name;
    options.config.shortest_lease = Duration::from_secs(arguments.shortest_lease);
    options.stop = Some(Arc::new(stop));

    let verbose = arguments.verbose;
    let outcome = linux::run(&arguments.interface, &options, &mut |notice| {
        if verbose || matches!(notice, Notice::StillTrying { .. } | Notice::Problem(_)) {
            eprintln!("{}: {notice}", arguments.interface);
        }
        if let Notice::Bound(lease) | Notice::Renewed(lease) = notice
            && let Ok(json) = serde_json::to_string(lease)
        {
            // A reader that has gone away is no reason to lose the lease.
            let _ = writeln!(std::io::stdout(), "{json}");
        }
    })?;
    Ok(match outcome {
        Outcome::Bound(_) | Outcome::Stopped => ExitCode::SUCCESS,
        Outcome::TimedOut => {
            eprintln!("{}: no lease in time", arguments.interface);
            ExitCode::from(2)
        }
    })
}

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("lease: {error}");
        ExitCode::FAILURE
    })
}
