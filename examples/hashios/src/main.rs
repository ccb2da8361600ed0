//! `hashios`: builds HashiOS.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use kiln::Progress;
use kiln::build;
use kiln::definition::{Definition, Format};
use kiln::sign::Key;

/// Builds HashiOS, and plans where it runs.
#[derive(Debug, Parser)]
#[command(name = "hashios", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build what machines load over the network: kernel, initramfs, roots with their signed lists, a script for iPXE
    Build(Build),
}

#[derive(Debug, clap::Args)]
struct Build {
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The key (Ed25519, PEM) that roots are signed with, and that machines believe
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Make the key where there is none
    #[arg(long)]
    new_key: bool,
    /// What to make: netboot, root.tar.xz, root.tar.zst, root.erofs, uki
    #[arg(long, value_delimiter = ',')]
    format: Vec<Format>,
    /// A Nomad of your own
    #[arg(long, value_name = "PATH")]
    nomad: Option<PathBuf>,
    /// Another definition
    #[arg(long, value_name = "FILE")]
    definition: Option<PathBuf>,
    /// Take exactly what kiln.lock says, and do not change it
    #[arg(long)]
    locked: bool,
    /// Fetch nothing
    #[arg(long)]
    offline: bool,
    /// Print the manifest
    #[arg(long)]
    json: bool,
}

impl Build {
    fn run(&self) -> Result<()> {
        let own = || Path::new(env!("CARGO_MANIFEST_DIR")).join("image.toml");
        let definition = Definition::read(&self.definition.clone().unwrap_or_else(own))?;
        if self.new_key && !self.key.exists() {
            Key::make(&self.key)?;
        }
        let mut options = build::Options::default();
        options.formats.clone_from(&self.format);
        options.key = Some(self.key.clone());
        options.inputs.extend(self.nomad.iter().map(|path| ("nomad".to_owned(), path.clone())));
        (options.locked, options.offline) = (self.locked, self.offline);
        let progress = if self.json { Progress::quiet() } else { Progress::on_stderr() };
        let report = build::build(&definition, &options, &self.out, &progress)?;
        let text = if self.json { report.manifest.to_json()? } else { report.to_string() };
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

fn main() -> ExitCode {
    let Verb::Build(build) = Arguments::parse().verb;
    match build.run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
