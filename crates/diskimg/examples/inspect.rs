//! Shows what is in a disk image of any format.

use std::fs::File;
use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::{Limits, dump};

/// Shows container, partitions, file systems and files of a disk image.
#[derive(Debug, Parser)]
struct Arguments {
    /// The image: raw, qcow2 or vmdk.
    image: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Print a map of the disk as SVG.
    #[arg(long, conflicts_with = "json")]
    svg: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let file = File::open(&arguments.image)
        .map_err(|error| format!("{}: {error}", arguments.image.display()))?;
    let report = dump::inspect(file, &Limits::default())
        .map_err(|error| format!("{}: {error}", arguments.image.display()))?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else if arguments.svg {
        print!("{}", report.svg());
    } else {
        print!("{report}");
    }
    Ok(())
}
