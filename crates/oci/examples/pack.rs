//! Makes an image of one layer of a directory, and adds it to a layout.
//!
//! `cargo run --release -p kiln-oci --all-features --example pack -- rootfs layout app:1 --cmd /bin/sh`

use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use kiln_oci::{Compression, Image, Layout, Limits, Settings};
use kiln_tree::{Tree, host};

#[derive(Parser)]
struct Arguments {
    /// The directory that becomes the image's root; everything in it will be root's
    from: PathBuf,
    /// A layout, which is made if it is not there
    to: PathBuf,
    /// The image's name
    name: String,
    /// What it runs
    #[arg(long)]
    cmd: Vec<String>,
    /// zstd in place of gzip
    #[arg(long)]
    zstd: bool,
    /// When it was made, in seconds since 1970
    #[arg(long)]
    created: Option<u64>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut tree = Tree::new();
    host::import(&mut tree, &arguments.from, "", &host::Policy::default())?;
    let compression = if arguments.zstd { Compression::Zstd } else { Compression::Gzip };
    let mut layout = Layout::create(&arguments.to, Limits::default())?;
    let layer = layout.pack(&tree, compression)?;
    let mut settings = Settings::default();
    settings.cmd = arguments.cmd;
    settings.created = arguments.created;
    let image = Image::build(vec![layer], &settings)?;
    layout.add(&image, Some(&arguments.name))?;
    println!("{}", image.digest());
    Ok(())
}
