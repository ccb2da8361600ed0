//! What can go wrong while an image is composed or run, and what to do next.

use std::path::{Path, PathBuf};

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an image could not be built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The host refused something.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program of the host is missing.
    #[error("{tool} is not installed ({purpose}): {remedy}")]
    MissingTool {
        /// The program.
        tool: String,
        /// What it is needed for.
        purpose: &'static str,
        /// What to do.
        remedy: String,
    },
    /// A program of the host failed.
    #[error("`{command}` {outcome}{}", tail(.output))]
    Command {
        /// The command line.
        command: String,
        /// How it ended, in words.
        outcome: String,
        /// The end of what it printed.
        output: String,
    },
    /// A downloaded file is not what its index said.
    #[error("{path}: sha256 is {found}, and {expected} was expected: the download is damaged")]
    Digest {
        /// The file.
        path: PathBuf,
        /// From the index.
        expected: String,
        /// As computed.
        found: String,
    },
    /// An input that cannot be used.
    #[error("{what}: {reason}")]
    Input {
        /// Which one.
        what: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Several things are wrong with the plan, all of them listed.
    #[error("the image cannot be built:{}", list(.0))]
    Plan(Vec<String>),
    /// Steps that failed, among others that may have ended well.
    #[error("{}", .0.failures())]
    Steps(Box<crate::pipeline::Run>),
    /// A port that the guest was to be reached by is taken.
    #[error("127.0.0.1:{port} is in use: end what listens there")]
    PortInUse {
        /// The port of the host.
        port: u16,
    },
    /// The guest or QEMU ended when it should not have.
    #[error("the guest ended ({outcome}){}", tail(.console))]
    GuestDied {
        /// How QEMU ended.
        outcome: String,
        /// The last lines of the console and of QEMU.
        console: String,
    },
    /// Something did not happen in time.
    #[error("{what} did not happen within {seconds} s{}", tail(.console))]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// The last lines of the console.
        console: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// Something of the file tree.
    #[error(transparent)]
    Tree(#[from] kiln_tree::Error),
    /// Something of the packages.
    #[error(transparent)]
    Packages(#[from] kiln_debroot::Error),
    /// Something of the initramfs.
    #[error(transparent)]
    Initramfs(#[from] kiln_initramfs::Error),
    /// Something of a container image.
    #[error(transparent)]
    Container(#[from] kiln_oci::Error),
    /// Something of the disk.
    #[error(transparent)]
    Disk(#[from] kiln_diskimg::Error),
    /// Something of the kernel's configuration.
    #[error(transparent)]
    Config(#[from] kiln_kconfig::Error),
    /// Something of the kernel's modules.
    #[error(transparent)]
    Modules(#[from] kiln_kmod::Error),
}

impl Error {
    /// An error about a path of the host, for `map_err`.
    pub fn io<'path>(
        action: &'static str,
        path: &'path Path,
    ) -> impl FnOnce(std::io::Error) -> Self + use<'path> {
        move |source| Self::Io { action, path: path.into(), source }
    }

    /// An error about an input.
    pub fn input(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Input { what: what.into(), reason: reason.into() }
    }
}

fn tail(output: &str) -> String {
    let output = output.trim_end();
    if output.is_empty() {
        return String::new();
    }
    let lines: Vec<&str> = output.lines().collect();
    let last = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
    format!("; its last lines:\n    {}", last.join("\n    "))
}

fn list(problems: &[String]) -> String {
    problems.iter().map(|problem| format!("\n  - {}", problem.replace('\n', "\n    "))).collect()
}
