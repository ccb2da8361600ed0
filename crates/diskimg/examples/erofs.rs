//! Makes an EROFS volume of a directory.

use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::{ByteLen, Seed, erofs};
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
    /// Compress with LZ4.
    #[arg(long)]
    lz4: bool,
    /// Bytes of a physical cluster.
    #[arg(long, default_value_t = ByteLen::kib(4), requires = "lz4")]
    cluster: ByteLen,
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
    if arguments.lz4 {
        let mut compression = erofs::Compression::new(erofs::Algorithm::Lz4);
        compression.cluster = usize::try_from(arguments.cluster.0)?;
        let mut file = std::fs::File::options();
        let spool = file.read(true).write(true).create(true).truncate(true).open(&arguments.out)?;
        // The spool becomes the image.
        erofs::Compressed::plan(&tree, &options, compression, spool)?.into_image()?;
        return Ok(());
    }
    let volume = erofs::Volume::plan(&tree, &options)?;
    container::write_file(Format::Raw, &volume, &arguments.out)?;
    Ok(())
}
