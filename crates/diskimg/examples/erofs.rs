//! Makes an EROFS volume of a directory.

use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::{Seed, erofs};
use kiln_tree::{Tree, host};

/// Makes an EROFS volume that holds a directory.
#[derive(Debug, Parser)]
struct Arguments {
    /// What goes into the volume.
    directory: PathBuf,
    /// The image to write.
    out: PathBuf,
    /// Label of the volume.
    #[arg(long)]
    label: Option<String>,
    /// Threads that read and compress; as many as the machine runs at once by default.
    #[arg(long)]
    threads: Option<std::num::NonZeroUsize>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut tree = Tree::new();
    host::import(&mut tree, &arguments.directory, "", &host::Policy::default())?;
    let mut options = erofs::Options::default();
    options.seed = Seed::new(arguments.label.as_deref().unwrap_or("erofs"));
    options.label = arguments.label;
    options.threads = arguments.threads;
    let volume = erofs::Volume::plan(&tree, &options)?;
    container::write_file(Format::Raw, &volume, &arguments.out)?;
    Ok(())
}
