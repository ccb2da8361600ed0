//! `kiln-netboot`: machines of a lab boot from here.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use clap::{Parser, Subcommand};
use kiln_netboot::definition::{Definition, Mode};
use kiln_netboot::serve::{Dhcp, End, Event, Files, Http, Sink, Tftp};
use kiln_netboot::{Server, tftp};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Lets machines of a lab boot over the network: DHCP or proxyDHCP, TFTP, HTTP, iPXE scripts
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Serve until a signal (SIGINT, SIGTERM) comes
    Run {
        /// The lab's definition
        lab: PathBuf,
    },
    /// See whether a definition can be served, and show what its machines start
    Check {
        /// The lab's definition
        lab: PathBuf,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Run { lab } => read(&lab).and_then(|lab| run(&lab)),
        What::Check { lab } => read(&lab).map(|lab| show(&lab)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("kiln-netboot: {problem}");
            ExitCode::FAILURE
        }
    }
}

fn read(path: &PathBuf) -> Result<Definition, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lab = Definition::parse(&text).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        format!("{}:{}", path.display(), lines.concat())
    })?;
    let missing = lab.files.iter().find(|directory| !directory.is_dir());
    match missing {
        Some(directory) => {
            Err(format!("{}: files: {} is no directory", path.display(), directory.display()))
        }
        None => Ok(lab),
    }
}

fn show(lab: &Definition) {
    let machines = lab.machine.keys().map(|mac| (mac.clone(), mac.parse().ok()));
    for (name, mac) in [("all other machines".to_owned(), None)].into_iter().chain(machines) {
        let text = lab.script(mac).and_then(|script| script.text().ok());
        println!("# {name}\n{}", text.unwrap_or_else(|| "nothing\n".into()));
    }
}

fn run(lab: &Definition) -> Result<(), String> {
    let told = |error: kiln_netboot::serve::Error| error.to_string();
    let boot = lab.boots();
    let files = Files::new(lab.files.clone());
    let tftp =
        Tftp::bind((lab.address.addr(), tftp::PORT).into(), Some(&lab.interface), files.clone());
    let tftp = tftp.map_err(told)?;
    let own = lab.clone();
    let scripts = move |mac| own.script(Some(mac)).and_then(|script| script.text().ok());
    let http = Http::bind((lab.address.addr(), lab.port).into(), files, scripts).map_err(told)?;
    let dhcp = match (lab.mode, lab.network()) {
        (Mode::Dhcp, Some(network)) => {
            let server = Server::new(network, Some(boot)).map_err(|errors| {
                errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
            })?;
            Some(Dhcp::server(&lab.interface, server).map_err(told)?)
        }
        (Mode::Proxy, _) => Some(Dhcp::proxy(&lab.interface, boot).map_err(told)?),
        _ => None,
    };

    let end = End::new();
    let mut signals = Signals::new([SIGINT, SIGTERM]).map_err(|error| error.to_string())?;
    let sink: Sink = Arc::new(|event: &Event| eprintln!("{event}"));
    eprintln!("ready on {} ({})", lab.interface, lab.address);
    // one that fails ends the others
    let each = |done: Result<(), kiln_netboot::serve::Error>| {
        end.ask();
        done.map_err(told)
    };
    let handle = signals.handle();
    let done = thread::scope(|scope| {
        scope.spawn(|| {
            if signals.forever().next().is_some() {
                end.ask();
            }
        });
        let mut parts = vec![
            scope.spawn(|| each(tftp.serve(&end, &sink))),
            scope.spawn(|| each(http.serve(&end, &sink))),
        ];
        if let Some(mut dhcp) = dhcp {
            let (each, end, sink) = (&each, &end, &sink);
            parts.push(scope.spawn(move || each(dhcp.serve(end, sink))));
        }
        let done: Vec<_> = parts.into_iter().map(thread::ScopedJoinHandle::join).collect();
        handle.close();
        done
    });
    for part in done {
        part.map_err(|_| "a server has panicked".to_owned())??;
    }
    Ok(())
}
