//! `nomados artifact`.

use std::path::PathBuf;

use anyhow::Result;
use kiln::{Progress, build};
use nomados::artifact;

/// What is made, and where it will be downloaded from.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The software
    #[arg(value_enum)]
    what: What,
    /// Where the archive (podman.tar.gz), its manifest.json and the job (podman.nomad.json) go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where nodes download the archive from
    #[arg(long, value_name = "URL")]
    url: String,
    /// Where Podman's API listens. By TCP it asks nobody who they are, and they are root
    #[arg(long, value_name = "ADDRESS", default_value = "unix:///run/podman/podman.sock")]
    listen: String,
    /// Take exactly what kiln.lock says, and do not change it
    #[arg(long)]
    locked: bool,
    /// Fetch nothing
    #[arg(long)]
    offline: bool,
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
        let mut how = build::Options::default();
        how.locked = self.locked;
        how.offline = self.offline;
        let progress = Progress::on_stderr();
        let (report, job) = artifact::podman(&how, &self.out, &self.url, &self.listen, &progress)?;
        print!("{report}");
        println!(
            "{}: submit it with `nomad job run -json`, where raw_exec is enabled",
            job.display()
        );
        Ok(())
    }
}
