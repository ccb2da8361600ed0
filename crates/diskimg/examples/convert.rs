//! Converts a disk image of any format into another.

use std::fs::File;
use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::Limits;
use kiln_diskimg::container::{self, Format, Options};

/// Converts a disk image of any format into another.
#[derive(Debug, Parser)]
struct Arguments {
    /// The image to read; its format is told by its content.
    image: PathBuf,
    /// The image to write.
    out: PathBuf,
    /// The format to write: raw, raw-zst, qcow2, qcow2-zlib, qcow2-zstd, vmdk, vmdk-stream, vdi, vhd,
    /// vhd-fixed or vhdx.
    #[arg(long, default_value_t = Format::Qcow2)]
    format: Format,
    /// How many threads compress; 0 is as many as the machine runs at once.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut image = container::open_file(&arguments.image, &Limits::default())?;
    let mut options = Options::default();
    options.threads = arguments.threads;
    let out = File::create(&arguments.out)?;
    container::convert_with(&mut image, arguments.format, out, &options)?;
    Ok(())
}
