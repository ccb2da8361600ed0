//! `svc`: asks a running supervisor, and has it start and stop things.
//!
//! Exit codes:
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done; for `status NAME`: it is up, or has done its work |
//! | 1 | it did not come about: a service failed; for `status NAME`: it is not up |
//! | 2 | the command line is wrong |
//! | 3 | there is no supervisor to ask, or it went away |
//! | 4 | this user may not |
//! | 5 | not within the time; it goes on |
//! | 6 | there is no such service |
//! | 7 | the supervisor cannot do this |

mod show;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use kiln_supervisor::Outcome;
use kiln_supervisor::control::{
    self, ActionResult, Client, ClientError, Effect, RefusalCode, Request, ServiceStatus,
};

/// Asks a running supervisor, and has it start and stop things.
///
/// Exit codes: 0 done, 1 failed or not up, 2 wrong command line, 3 no supervisor, 4 not permitted,
/// 5 not in time, 6 no such service, 7 not possible.
#[derive(Parser)]
#[command(name = "svc", version)]
struct Arguments {
    /// The control socket [default: $KILN_SUPERVISOR_SOCKET or /run/kiln/supervisor.sock]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Print JSON, a value a line, instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// How services are: all, or these
    Status { services: Vec<String> },
    /// Start services and what they require
    Start(Targets),
    /// Stop services, and before them those that require them
    Stop(Targets),
    /// Stop services and start them again
    Restart(Targets),
    /// Have services read their own configuration again; without a name: the supervisor its own
    Reload {
        services: Vec<String>,
        #[command(flatten)]
        wait: Wait,
    },
    /// What a service has written
    Logs {
        service: String,
        /// Go on with what is written from now on
        #[arg(short, long)]
        follow: bool,
        /// So many lines from the end
        #[arg(short = 'n', long, default_value_t = 10)]
        lines: u64,
        /// So many bytes from the end instead
        #[arg(long, conflicts_with = "lines")]
        bytes: Option<u64>,
    },
    /// Everything that happens from now on
    Events {
        /// Also orphans that are reaped
        #[arg(long)]
        orphans: bool,
    },
    /// Stop everything, and leave or switch the machine off
    Shutdown {
        /// What for
        #[arg(value_enum, default_value_t = Goal::Poweroff)]
        goal: Goal,
        /// Kill what runs instead of asking it to stop
        #[arg(long)]
        force: bool,
        /// How long it may take at most [default: as the supervisor was told]
        #[arg(long, value_name = "SECONDS", value_parser = seconds)]
        timeout: Option<Duration>,
    },
    /// Have the supervisor go on as a new process image, with everything that runs
    Reexec,
    /// What stands on what
    Tree { service: Option<String> },
    /// How long services took to become ready, the slowest first
    Blame,
    /// The start as a chart: SVG on standard output
    Plot,
}

#[derive(clap::Args)]
struct Targets {
    #[arg(required = true)]
    services: Vec<String>,
    #[command(flatten)]
    wait: Wait,
}

#[derive(clap::Args)]
struct Wait {
    /// How long to wait for it
    #[arg(long, value_name = "SECONDS", default_value = "90", value_parser = seconds)]
    wait: Duration,
    /// Only ask for it
    #[arg(long, conflicts_with = "wait")]
    no_wait: bool,
}

impl Wait {
    fn millis(&self) -> Option<u64> {
        let millis = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        (!self.no_wait).then_some(millis)
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Goal {
    Poweroff,
    Reboot,
    Halt,
    /// Leave the supervisor's process
    Exit,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is no number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("svc: {error}");
            ExitCode::from(code(&error))
        }
    }
}

fn code(error: &ClientError) -> u8 {
    match error {
        ClientError::Denied(_) => 4,
        ClientError::TimedOut(_) => 5,
        ClientError::Refused(refusal) => match refusal.code {
            RefusalCode::Forbidden => 4,
            RefusalCode::UnknownService => 6,
            _ => 7,
        },
        _ => 3,
    }
}

fn run(arguments: &Arguments) -> Result<u8, ClientError> {
    let path = arguments.socket.clone().unwrap_or_else(control::socket_path);
    let mut client = Client::connect(path)?;
    let json = arguments.json;
    match &arguments.verb {
        Verb::Status { services } => status(&mut client, services, json),
        Verb::Start(Targets { services, wait }) => each(&mut client, services, json, |service| {
            Request::Start { service, wait_ms: wait.millis() }
        }),
        Verb::Stop(Targets { services, wait }) => each(&mut client, services, json, |service| {
            Request::Stop { service, wait_ms: wait.millis() }
        }),
        Verb::Restart(Targets { services, wait }) => each(&mut client, services, json, |service| {
            Request::Restart { service, wait_ms: wait.millis() }
        }),
        Verb::Reload { services, wait } if services.is_empty() => {
            let request = Request::Reload { service: None, wait_ms: wait.millis() };
            client.act(&request).map(|result| tell(&result, json))
        }
        Verb::Reload { services, wait } => each(&mut client, services, json, |service| {
            Request::Reload { service: Some(service), wait_ms: wait.millis() }
        }),
        Verb::Logs { service, follow, lines, bytes } => {
            let (service, lines) = (service.clone(), Some(*lines));
            logs(&mut client, &Request::Logs { service, lines, bytes: *bytes, follow: *follow })
        }
        Verb::Events { orphans } => {
            client.subscribe(*orphans)?;
            loop {
                let event = client.next_event(None)?;
                let line = if json { show::json(&event) } else { show::event(&event) };
                if put(line.as_bytes()).is_break() {
                    return Ok(0);
                }
            }
        }
        Verb::Shutdown { goal, force, timeout } => {
            let timeout_ms =
                timeout.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
            let outcome = match goal {
                Goal::Poweroff => Outcome::PowerOff,
                Goal::Reboot => Outcome::Reboot,
                Goal::Halt => Outcome::Halt,
                Goal::Exit => Outcome::Exit,
            };
            let request = Request::Shutdown { outcome, force: *force, timeout_ms };
            client.act(&request).map(|result| tell(&result, json))
        }
        Verb::Reexec => client.reexec().map(|result| tell(&result, json)),
        Verb::Tree { service } => {
            let nodes = client.tree()?;
            if let Some(name) = service
                && !nodes.iter().any(|node| node.name == *name)
            {
                eprintln!("svc: there is no service {name:?}");
                return Ok(6);
            }
            Ok(print(&if json {
                nodes.iter().map(show::json).collect()
            } else {
                control::draw(&nodes, service.as_deref())
            }))
        }
        Verb::Blame => {
            let times = client.times()?;
            Ok(print(&if json { show::json(&times) } else { show::blame(&times) }))
        }
        Verb::Plot => {
            let times = client.times()?;
            Ok(print(&if json { show::json(&times) } else { control::svg(&times, &host()) }))
        }
    }
}

fn status(client: &mut Client, names: &[String], json: bool) -> Result<u8, ClientError> {
    let mut list: Vec<ServiceStatus> = Vec::new();
    if names.is_empty() {
        list = client.status(None)?;
    }
    for name in names {
        list.extend(client.status(Some(name))?);
    }
    print(&if json { list.iter().map(show::json).collect() } else { show::table(&list) });
    let well = |status: &ServiceStatus| status.state == "up" || status.state == "done";
    Ok(u8::from(!names.is_empty() && !list.iter().all(well)))
}

/// Asks for the same of several services, one after the other; gives the worst code.
fn each(
    client: &mut Client,
    services: &[String],
    json: bool,
    request: impl Fn(String) -> Request,
) -> Result<u8, ClientError> {
    let mut worst = 0;
    for service in services {
        worst = worst.max(tell(&client.act(&request(service.clone()))?, json));
    }
    Ok(worst)
}

fn tell(result: &ActionResult, json: bool) -> u8 {
    let code = match result.effect {
        Effect::Accepted | Effect::Done => 0,
        Effect::TimedOut => 5,
        _ => 1,
    };
    if json {
        print(&show::json(result));
    } else if code == 0 {
        print(&format!("{}\n", result.text));
    } else {
        eprintln!("svc: {}", result.text);
    }
    code
}

fn logs(client: &mut Client, request: &Request) -> Result<u8, ClientError> {
    client.logs(request, &mut |piece| match piece {
        Some(bytes) => put(bytes),
        None => {
            eprintln!("svc: some output may be missing here: it was rotated away");
            ControlFlow::Continue(())
        }
    })?;
    Ok(0)
}

/// Writes to standard output; a reader that has gone away ends it.
fn put(bytes: &[u8]) -> ControlFlow<()> {
    let mut out = std::io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}

fn print(text: &str) -> u8 {
    let _ = put(text.as_bytes());
    0
}

fn host() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let (name, kernel) = (read("/proc/sys/kernel/hostname"), read("/proc/sys/kernel/osrelease"));
    format!("{}, Linux {}", name.trim(), kernel.trim())
}
