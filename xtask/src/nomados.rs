//! The main job: NomadOS built, booted, and a job run on its Nomad.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::program;
use crate::setup::{self, Purpose};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave the machine running, with 4646–4648 of 127.0.0.1 leading into it
    #[arg(long)]
    stay: bool,
    /// A Nomad to take in place of the one built from the Go module registry
    #[arg(long, value_name = "PATH")]
    nomad: Option<PathBuf>,
    /// The disk's format
    #[arg(long, default_value = "raw", value_parser = ["raw", "qcow2", "vmdk", "initramfs"])]
    format: String,
    /// Print one JSON object in place of the text
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure_with(Purpose::Nomados, arguments.nomad.is_none())?;
    let mut build = program::cargo();
    build.args(["build", "--release", "--locked", "--package", "nomados"]);
    if arguments.json {
        build.arg("--quiet");
    }
    program::run(&mut build)?;
    let out = program::target().join("nomados");
    let mut up = std::process::Command::new(program::target().join("release/nomados"));
    up.arg("up").arg("--out").arg(&out).args(["--format", &arguments.format]);
    if let Some(nomad) = &arguments.nomad {
        up.arg("--nomad").arg(nomad);
    }
    if arguments.stay {
        up.arg("--stay");
    }
    if arguments.json {
        up.arg("--json");
    }
    // In our place, so that Ctrl-C reaches the one who stops the guest in order.
    let error = std::os::unix::process::CommandExt::exec(&mut up);
    Err(error).context("start nomados")
}
