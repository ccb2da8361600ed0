//! What the command line says.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use kurma_client::{Code, Endpoint, PORT, Role, SOCKET};

use crate::access;
use crate::problem::Problem;

/// Pods and images of a machine that runs kurma-server.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Arguments {
    /// The server: a socket's path, https://HOST or https://HOST:PORT, or http:// the same, which nothing protects
    #[arg(long, short = 'H', global = true, env = "KURMA_HOST", default_value = SOCKET)]
    pub(crate) host: String,
    /// Answers as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Builds the system: images, programs, disks
    #[cfg(feature = "build")]
    Build(kurma::build::Build),
    /// Makes a pod, and waits until its apps have been started
    Create(Create),
    /// Starts a process beside an app: a shell, or a command
    Enter(Enter),
    /// Lists pods
    #[command(visible_alias = "ls")]
    List,
    /// Shows a pod
    Show {
        /// Its name, its UUID, or a beginning of that
        pod: String,
    },
    /// Ends pods, and keeps what is known of them
    Stop {
        /// Names or UUIDs
        #[arg(required = true)]
        pods: Vec<String>,
    },
    /// Ends pods, and removes all of them
    #[command(visible_alias = "rm")]
    Destroy {
        /// Names or UUIDs
        #[arg(required = true)]
        pods: Vec<String>,
    },
    /// Shows what an app has said
    Logs {
        /// The pod
        pod: String,
        /// The app, where there are several
        app: Option<String>,
        /// Only the last lines
        #[arg(long, short = 'n')]
        lines: Option<u64>,
        /// Goes on until the pod ends
        #[arg(long, short)]
        follow: bool,
    },
    /// Images
    Image {
        #[command(subcommand)]
        image: Image,
    },
    /// Puts another version of the machine's system beside the one that runs, and starts it
    Upgrade(Upgrade),
    /// Has a server that is reached over the network know this program
    Enroll(Enroll),
    /// Who is known to a server that is reached over the network
    Access {
        #[command(subcommand)]
        access: Access,
    },
    /// Shows what machine it is
    Info,
    /// Shows the versions of this program and of the server
    Version,
    /// Writes what a shell completes commands with
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
pub(crate) struct Create {
    /// A file of an image, which is sent first, one of a pod's manifest (.json), or the name of an image
    /// that the server has
    pub(crate) what: String,
    /// What the pod is called
    #[arg(long, short)]
    pub(crate) name: Option<String>,
    /// Takes the file for a pod's manifest, whatever it is called
    #[arg(long)]
    pub(crate) manifest: bool,
    /// A network to be on, in place of the usual one; may be repeated; "" for none
    #[arg(long = "net")]
    pub(crate) networks: Vec<String>,
    /// A port of the machine that leads to the pod: 8080:80, 127.0.0.1:53:53/udp
    #[arg(long = "port", short)]
    pub(crate) ports: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Enter {
    /// The pod
    pub(crate) pod: String,
    /// The app, where there are several
    #[arg(long, short)]
    pub(crate) app: Option<String>,
    /// As whom: UID or UID:GID
    #[arg(long, short)]
    pub(crate) user: Option<String>,
    /// Without a terminal, even where there is one
    #[arg(long, short = 'T')]
    pub(crate) no_terminal: bool,
    /// The command (a shell without)
    #[arg(last = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Args)]
pub(crate) struct Upgrade {
    /// The version: an archive of kernel and initramfs, signed, as `kurma build init --key` makes it
    pub(crate) file: PathBuf,
    /// Even if it is older than what runs (at the machine itself alone)
    #[arg(long)]
    pub(crate) force: bool,
    /// Words that the kernel's command line has besides (at the machine itself alone)
    #[arg(long, value_name = "WORDS")]
    pub(crate) append: Option<String>,
    /// Starts it without the firmware in between, the first time
    #[arg(long)]
    pub(crate) kexec: bool,
    /// Leaves the machine as it is until somebody starts it anew
    #[arg(long)]
    pub(crate) no_restart: bool,
}

#[derive(Args)]
pub(crate) struct Enroll {
    /// `https://HOST` or `https://HOST:PORT`
    #[arg(value_name = "HOST")]
    pub(crate) host: String,
    /// The code that the server shows, or that an operator has asked for
    #[arg(long)]
    pub(crate) code: Code,
    /// What this program is to be called there (default: USER@HOST of this machine)
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Even where the server knows it already
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Subcommand)]
pub(crate) enum Access {
    /// Lists who is known
    #[command(visible_alias = "ls")]
    List,
    /// Asks for a code for somebody else
    Code {
        /// What may be done with it: operator or read-only
        #[arg(long, value_parser = role)]
        role: Role,
    },
    /// Has somebody refused from now on
    Revoke {
        /// Names
        #[arg(required = true)]
        names: Vec<String>,
    },
}

fn role(text: &str) -> Result<Role, String> {
    Role::of(text).ok_or_else(|| "a role is operator or read-only".to_owned())
}

#[derive(Subcommand)]
pub(crate) enum Image {
    /// Lists images
    #[command(visible_alias = "ls")]
    List,
    /// Shows an image
    Show {
        /// Its name, with or without :VERSION, or a beginning of its digest
        image: String,
    },
    /// Sends an image: an ACI, or an archive of an OCI image or of `docker save`
    Upload {
        /// The file
        file: PathBuf,
    },
    /// Removes images that no pod is made of
    #[command(visible_alias = "rm")]
    Delete {
        /// Names or digests
        #[arg(required = true)]
        images: Vec<String>,
    },
}

impl Arguments {
    /// Where the server is.
    pub(crate) fn endpoint(&self) -> Result<Endpoint, Problem> {
        let host = self.host.strip_prefix("unix:").unwrap_or(&self.host);
        if host.starts_with('/') {
            return Ok(Endpoint::unix(host));
        }
        match address(host) {
            Some(("http", address)) => Ok(Endpoint::Plain(address)),
            Some((_, address)) => access::endpoint(&address),
            None => Err(Problem::Host(self.host.clone())),
        }
    }
}

/// How a server is asked, `http` or `https`, and its `HOST:PORT`.
pub(crate) fn address(host: &str) -> Option<(&'static str, String)> {
    let schemes = ["http", "https"].into_iter();
    let (scheme, rest) = schemes
        .filter_map(|scheme| Some((scheme, host.strip_prefix(scheme)?.strip_prefix("://")?)))
        .next()?;
    let rest = rest.trim_end_matches('/');
    let is_plain = |one: char| one.is_ascii_alphanumeric() || "-.:[]_%".contains(one);
    if rest.is_empty() || rest.starts_with('.') || !rest.chars().all(is_plain) {
        return None;
    }
    let has_port = rest.rsplit_once(':').is_some_and(|(host, port)| {
        port.parse::<u16>().is_ok() && (!host.contains(':') || host.ends_with(']'))
    });
    let rest = if rest.matches(':').count() > 1 && !rest.starts_with('[') {
        format!("[{rest}]")
    } else {
        rest.to_owned()
    };
    Some((scheme, if has_port { rest } else { format!("{rest}:{PORT}") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(host: &str) -> Result<String, Problem> {
        let arguments = Arguments::parse_from(["kurma", "--host", host, "list"]);
        arguments.endpoint().map(|endpoint| endpoint.to_string())
    }

    #[test]
    fn hosts() {
        for (host, shown) in [
            ("/run/kurma/kurma.sock", "/run/kurma/kurma.sock"),
            ("unix:/s", "/s"),
            ("http://h", "http://h:12312"),
            ("http://h:7/", "http://h:7"),
            ("http://[::1]", "http://[::1]:12312"),
        ] {
            assert_eq!(endpoint(host).unwrap(), shown);
        }
        for bad in ["h", "ftp://h", "", "http://", "http://../x", "http://h/x"] {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert_eq!(address("https://h"), Some(("https", "h:12312".into())));
        assert_eq!(address("https://::1"), Some(("https", "[::1]:12312".into())));
    }

    #[test]
    fn where_it_is_kept_who_one_is() {
        let end = |address: &str| {
            let directory = access::directory(address).unwrap();
            directory.file_name().unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(end("h:12312"), "h_12312");
        assert_eq!(end("[::1]:7"), "::1_7");
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;

        Arguments::command().debug_assert();
    }
}
