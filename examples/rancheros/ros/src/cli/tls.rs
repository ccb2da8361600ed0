//! `ros tls`.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::Subcommand;

use super::{Failure, Result, config};
use crate::configuration;
use crate::tls::{self, Authority, Identity, Purpose};

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Makes certificates: of a client in its directory, or with --server the engine's
    #[command(alias = "gen")]
    Generate {
        /// Makes the engine's, which it has from its next start
        #[arg(short, long)]
        server: bool,
        /// A name or an address of the engine [default: localhost, 127.0.0.1 and the machine's name]
        #[arg(short = 'H', long)]
        hostname: Vec<String>,
        /// Where a client's go [default: .docker in the home of who calls]
        #[arg(short, long)]
        dir: Option<PathBuf>,
    },
}

pub(crate) fn run(command: Command) -> Result {
    let Command::Generate { server, hostname, dir } = command;
    let configuration = configuration::load();
    let docker = &configuration.rancher.docker;
    let now = SystemTime::now();
    let authority = match (&docker.ca_cert, &docker.ca_key) {
        (Some(certificate), Some(key)) => {
            let identity = Identity { certificate: certificate.clone(), key: key.clone() };
            Authority::again(identity).map_err(Failure::new)?
        }
        (None, None) => {
            let made = Authority::new(now).map_err(Failure::new)?;
            config::change_texts(&[
                ("rancher.docker.ca_cert", &made.identity.certificate),
                ("rancher.docker.ca_key", &made.identity.key),
            ])?;
            made
        }
        _ => return Err(Failure::new("of rancher.docker.ca_cert and ca_key only one is there")),
    };
    if server {
        let own = configuration.cloud.hostname.clone();
        let names = match hostname.is_empty() {
            true => {
                ["localhost".to_owned(), "127.0.0.1".to_owned()].into_iter().chain(own).collect()
            }
            false => hostname,
        };
        let made = authority.certify(Purpose::Server, &names, now).map_err(Failure::new)?;
        return config::change_texts(&[
            ("rancher.docker.server_cert", &made.certificate),
            ("rancher.docker.server_key", &made.key),
        ]);
    }
    let caller = caller();
    let directory = match (dir, &caller) {
        (Some(directory), _) => directory,
        (None, Some((name, ..))) => PathBuf::from("/home").join(name).join(".docker"),
        (None, None) => {
            let home = std::env::var_os("HOME").unwrap_or_else(|| "/".into());
            PathBuf::from(home).join(".docker")
        }
    };
    let name = caller.as_ref().map_or("root", |(name, ..)| name).to_owned();
    let made = authority.certify(Purpose::Client, &[name], now).map_err(Failure::new)?;
    let files = [
        ("ca.pem", authority.identity.certificate.as_str(), 0o644),
        ("cert.pem", &made.certificate, 0o644),
        ("key.pem", &made.key, 0o600),
    ];
    let shown = directory.display().to_string();
    let owner = caller.map(|(_, uid, gid)| (uid, gid));
    tls::write(&directory, &files, owner).map_err(Failure::about(&shown))?;
    println!("{shown}: ca.pem, cert.pem, key.pem");
    Ok(())
}

/// Who has called this by sudo(8).
fn caller() -> Option<(String, u32, u32)> {
    let variable = |name| std::env::var(name).ok();
    let name = variable("SUDO_USER").filter(|name| name != "root" && !name.contains('/'))?;
    let number = |name| variable(name)?.parse().ok();
    Some((name, number("SUDO_UID")?, number("SUDO_GID")?))
}
