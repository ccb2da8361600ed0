//! Unpacks an image of a layout, an `oci-archive` or a `docker-archive` into a directory.
//!
//! `cargo run --release -p kiln-oci --all-features --example unpack -- images.tar app:1 rootfs`

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;
use kiln_oci::host::{self, Unpack};
use kiln_oci::layer::Devices;
use kiln_oci::{Layout, Limits, docker, platform};

#[derive(Parser)]
struct Arguments {
    /// A directory or an archive
    from: PathBuf,
    /// The image's name
    name: String,
    /// A directory that is not there yet, or empty
    to: PathBuf,
    /// os/architecture[/variant]
    #[arg(long, default_value = "linux/amd64")]
    platform: String,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let limits = Limits::default();
    let image = match Layout::open(&arguments.from, limits.clone()) {
        Ok(layout) => layout.image(Some(&arguments.name), &platform(&arguments.platform)?)?,
        Err(no_layout) => docker::Archive::open(&arguments.from, limits)
            .with_context(|| format!("no layout either: {no_layout}"))?
            .image(Some(&arguments.name))?,
    };
    let mut options = Unpack::default();
    options.owners = rustix::process::geteuid().is_root();
    options.xattrs = options.owners;
    options.layers.devices = Devices::Keep;
    let tree = host::unpack(&image, &arguments.to, &options)?;
    println!("{}: {} files, {} bytes", image.digest(), tree.len(), tree.content_len());
    Ok(())
}
