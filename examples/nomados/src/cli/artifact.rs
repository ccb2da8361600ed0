//! `nomados artifact`.

use std::path::PathBuf;

use anyhow::Result;
use kiln::{Cache, Progress};
use nomados::artifact;

/// What is made, and where it will be downloaded from.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The software
    #[arg(value_enum)]
    what: What,
    /// The archive (.tar.gz); the job is written beside it as podman.nomad.json
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where nodes download the archive from
    #[arg(long, value_name = "URL")]
    url: String,
    /// Where Podman's API listens. By TCP it asks nobody who they are, and they are root
    #[arg(long, value_name = "ADDRESS", default_value = "unix:///run/podman/podman.sock")]
    listen: String,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum What {
    /// Podman as a daemon, with all that it needs
    Podman,
}

impl Arguments {
    /// Makes it.
    pub(crate) fn run(&self) -> Result<()> {
        let What::Podman = self.what;
        let cache = Cache::of_workspace();
        let progress = Progress::on_stderr();
        let made = artifact::podman(&cache, &self.out, &self.url, &self.listen, &progress)?;
        println!(
            "{}: {} files, {:.1} MB, {:.1} MB packed\n{}: submit it with `nomad job run -json`, \
             where raw_exec is enabled",
            made.archive.display(),
            made.files,
            megabytes(made.unpacked),
            megabytes(made.len),
            made.job.display(),
        );
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size for people")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
