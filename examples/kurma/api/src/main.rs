//! `kurma-api`: kurma-server over the network, for those who are known.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Parser;
use kurma_api::{Door, Options};
use kurma_client::PORT;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Asks kurma-server on behalf of those who come over the network with a certificate.
///
/// When nobody is known yet, a code is shown by which somebody becomes so.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where keys, certificates and who is known are kept
    #[arg(long, default_value = "/data")]
    directory: PathBuf,
    /// Where to listen; may be repeated [default: [::]:12312, or 0.0.0.0:12312 without IPv6]
    #[arg(long)]
    listen: Vec<SocketAddr>,
    /// The server's socket
    #[arg(long, default_value = "/run/kurma/remote/kurma.sock")]
    server: PathBuf,
    /// A name or address of this machine, beside what it calls itself; may be repeated
    #[arg(long = "name")]
    names: Vec<String>,
    /// Minutes that codes count for
    #[arg(long, default_value_t = 60)]
    minutes: u64,
    /// Shows a code for an operator even though somebody is known
    #[arg(long)]
    code: bool,
    /// Where to listen without TLS, beside the others: whoever comes may do everything; may be repeated
    #[arg(long)]
    plain: Vec<SocketAddr>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let done = match runtime {
        Ok(runtime) => {
            let done = runtime.block_on(run(&arguments));
            // who is in the middle of something is not waited for any longer
            runtime.shutdown_background();
            done
        }
        Err(error) => Err(format!("start threads: {error}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("kurma-api: {problem}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), String> {
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let mut options = Options::default();
    options.directory.clone_from(&arguments.directory);
    options.server.clone_from(&arguments.server);
    options.plain.clone_from(&arguments.plain);
    options.names.clone_from(&arguments.names);
    if kurma_api::is_name(&hostname) {
        options.names.push(hostname.clone());
    }
    options.lasting = Duration::from_secs(arguments.minutes.saturating_mul(60));
    options.listen.clone_from(&arguments.listen);
    if options.listen.is_empty() {
        options.listen.push(SocketAddr::from((any(), PORT)));
    }
    let (end, ending) = watch::channel(false);
    let asked = |kind| signal(kind).map_err(|error| format!("take signals: {error}"));
    let (mut term, mut int) = (asked(SignalKind::terminate())?, asked(SignalKind::interrupt())?);
    let door = Door::open(options).await?;
    for (at, address) in door.addresses().iter().enumerate() {
        if at < door.addresses().len().saturating_sub(arguments.plain.len()) {
            println!("kurma-api: https://{address}");
        } else {
            println!("kurma-api: NO TLS at http://{address}: whoever reaches it may do EVERYTHING");
        }
    }
    if door.is_new() || arguments.code {
        let host = arguments.names.first().cloned();
        let host = host.or_else(|| own().map(|address| address.to_string())).unwrap_or(hostname);
        let code = door.code()?;
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let minutes = code.expires.saturating_sub(now.as_secs()).div_ceil(60);
        println!("kurma-api: to be its operator, type within {minutes} minutes where you are:");
        println!("{}", door.invitation(&host, &code));
    }
    tokio::spawn(async move {
        tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
        let _ = end.send(true);
    });
    door.serve(ending).await;
    Ok(())
}

/// All addresses of this machine.
fn any() -> IpAddr {
    // a kernel may be without IPv6
    match UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// The address from which the machine would speak to others; nothing is sent to find it.
fn own() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // an address that is nobody's (RFC 5737)
    socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}
