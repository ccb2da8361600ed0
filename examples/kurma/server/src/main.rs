//! `kurma-server`: pods and images of this machine, and the sockets to ask for them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use kurma_server::configuration::{Configuration, Layers, own_file};
use kurma_server::{PodOptions, Server};

/// Runs pods on this machine, and answers at a socket.
///
/// Pods go on when it ends, and are found again when it is started again.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration, if it is there [default: /etc/kurma.yml or /etc/kurma.json]
    #[arg(long)]
    config: Option<PathBuf>,
    /// Where pods and images are kept; overlayfs has to take it
    #[arg(long, default_value = "/var/kurma")]
    directory: PathBuf,
    /// Where what goes with the kernel is: sockets, namespaces
    #[arg(long, default_value = "/run/kurma")]
    runtime: PathBuf,
    /// The control group of all pods, made where control groups of version 2 are mounted [default:
    /// /sys/fs/cgroup/ and what the configuration says, or kurma]
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Directories of this machine that pods from elsewhere may have as volumes
    #[arg(long = "volume")]
    volumes: Vec<PathBuf>,
    /// The most pods
    #[arg(long, default_value_t = 1024)]
    most: usize,
    /// Seconds that apps have to end in before they are killed
    #[arg(long, default_value_t = 10)]
    patience: u64,
    /// A program that replaces this machine's system: it is called with `upgrade`, options and `-`, and has another
    /// version at its standard input; with `restart` it starts the machine anew
    #[arg(long, value_name = "PROGRAM")]
    upgrades: Option<PathBuf>,
    /// The most bytes of an image
    #[arg(long, default_value_t = 8 << 30)]
    image: u64,
}

fn main() -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    if let Some(code) = kurma_server::part(&words) {
        return code;
    }
    let arguments = Arguments::parse();
    let done = configuration(&arguments).and_then(|configuration| {
        let server = server(&arguments, &configuration)?;
        let sockets = server.listeners.clone();
        server.run(move || {
            for socket in sockets {
                eprintln!("kurma-server: {}", socket.path.display());
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("kurma-server: {problem}");
            ExitCode::FAILURE
        }
    }
}

/// What the machine's file says. What is wrong with it is told, all at once, before anything is done.
fn configuration(arguments: &Arguments) -> Result<Configuration, String> {
    let path = arguments.config.clone().unwrap_or_else(own_file);
    if arguments.config.is_some() && !path.exists() {
        return Err(format!("{} is not there", path.display()));
    }
    let mut layers = Layers::new();
    layers.file(&path);
    let loaded = layers.load();
    match loaded.findings.is_empty() {
        true => Ok(loaded.configuration),
        false => Err(format!("the configuration\n{}", loaded.findings)),
    }
}

fn server(arguments: &Arguments, configuration: &Configuration) -> Result<Server, String> {
    let mut options = PodOptions::default();
    options.directory.clone_from(&arguments.directory);
    options.runtime.clone_from(&arguments.runtime);
    options.sockets = arguments.runtime.join("remote");
    options.volumes.clone_from(&arguments.volumes);
    options.most = arguments.most;
    options.patience = Duration::from_secs(arguments.patience);
    options.program = std::env::current_exe().map_err(|error| format!("find myself: {error}"))?;
    let mut server = Server::of(options, configuration);
    if let Some(cgroup) = &arguments.cgroup {
        server.pods.cgroup = Some(cgroup.clone());
    }
    server.api.image = arguments.image;
    server.api.upgrades.clone_from(&arguments.upgrades);
    Ok(server)
}
