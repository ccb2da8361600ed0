//! `ros service`.

use std::io::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;

use clap::{Args, Subcommand};
use kiln_supervisor::control::{ActionResult, Client, ClientError, Request, socket_path};
use serde::Serialize;

use super::{Failure, Result, config, go_over, succeeded};
use crate::configuration;
use crate::units;

/// How long a service is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Services of the configuration, and whether they are there
    List(Json),
    /// What runs
    Ps(Json),
    /// Has a service be there from now on, and starts it
    Enable(Name),
    /// Has a service not be there from now on, and stops it
    Disable(Name),
    /// Starts a service
    Up(Name),
    /// Stops a service until the next boot
    Stop(Name),
    /// Stops a service and starts it again
    Restart(Name),
    /// What a service has said
    Logs {
        #[command(flatten)]
        name: Name,
        /// Goes on with what it says
        #[arg(short, long)]
        follow: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Name {
    /// The service
    service: String,
}

#[derive(Debug, Args)]
pub(crate) struct Json {
    /// For programs
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    image: String,
    system: bool,
    enabled: bool,
}

fn client() -> Result<Client> {
    Client::connect(socket_path()).map_err(Failure::about("process 1"))
}

pub(crate) fn run(command: Command) -> Result {
    match command {
        Command::List(Json { json }) => list(json),
        Command::Ps(Json { json }) => ps(json),
        Command::Enable(name) => switch(&name.service, true),
        Command::Disable(name) => switch(&name.service, false),
        Command::Up(name) => done(client()?.start(&name.service, PATIENCE)),
        Command::Stop(name) => done(client()?.stop(&name.service, PATIENCE)),
        Command::Restart(name) => done(client()?.restart(&name.service, PATIENCE)),
        Command::Logs { name, follow } => logs(name.service, follow),
    }
}

fn done(answer: std::result::Result<ActionResult, ClientError>) -> Result {
    succeeded(answer.map_err(Failure::new)?)
}

fn say(text: &str) -> Result {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(Failure::about("write"))
}

fn json(value: &impl Serialize) -> Result {
    let text = serde_json::to_string_pretty(value).map_err(Failure::new)?;
    say(&format!("{text}\n"))
}

fn list(as_json: bool) -> Result {
    let rancher = configuration::load().rancher;
    let there: Vec<Listed> = rancher
        .services
        .values()
        .filter(|service| !units::is_volumes_only(service))
        .map(|service| Listed {
            name: service.name.clone(),
            image: service.image.clone(),
            system: units::is_system(service),
            enabled: units::is_there(&rancher, service),
        })
        .collect();
    if as_json {
        return json(&there);
    }
    let line = |service: &Listed| {
        let state = if service.enabled { "enabled" } else { "disabled" };
        let whose = if service.system { "system" } else { "user" };
        format!("{state:9} {whose:7} {:20} {}\n", service.name, service.image)
    };
    say(&there.iter().map(line).collect::<String>())
}

fn ps(as_json: bool) -> Result {
    let all = client()?.status(None).map_err(Failure::new)?;
    if as_json {
        return json(&all);
    }
    let line = |status: &kiln_supervisor::control::ServiceStatus| {
        let pid = status.pid.map(|pid| pid.to_string()).unwrap_or_default();
        let detail = status.detail.as_deref().unwrap_or_default();
        format!("{:20} {:10} {pid:>7} {detail}\n", status.name, status.state)
    };
    say(&all.iter().map(line).collect::<String>())
}

fn switch(service: &str, yes: bool) -> Result {
    let rancher = configuration::load().rancher;
    if !rancher.services.contains_key(service) {
        let known: Vec<&str> = rancher.services.keys().map(String::as_str).collect();
        let text = format!("there is no service {service:?}; there are {}", known.join(", "));
        return Err(Failure::new(text));
    }
    config::change(
        &format!("rancher.services_include.{service}"),
        if yes { "true" } else { "false" },
    )?;
    go_over()
}

fn logs(service: String, follow: bool) -> Result {
    let request = Request::Logs { service, lines: None, bytes: None, follow };
    let mut out = std::io::stdout().lock();
    let mut take = |bytes: Option<&[u8]>| {
        let bytes = bytes.unwrap_or(b"[some was lost]\n");
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    };
    client()?.logs(&request, &mut take).map_err(Failure::new)
}
