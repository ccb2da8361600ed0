//! Makes an ext4 file system of a directory.
//!
//! `cargo run --release -p kiln-diskimg --example ext4 -- --from DIR --label root root.ext4`

use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::ext4::{Options, Volume, VolumeSize};
use kiln_diskimg::{ByteLen, Content, Seed};
use kiln_tree::{Tree, host};

/// Makes an ext4 file system of a directory
#[derive(Debug, Parser)]
struct Arguments {
    /// The directory
    #[arg(long)]
    from: PathBuf,
    /// The label, at most 16 bytes
    #[arg(long)]
    label: Option<String>,
    /// How large it is; as large as the content and the headroom when absent
    #[arg(long)]
    size: Option<ByteLen>,
    /// What stays free at least
    #[arg(long, default_value = "0")]
    headroom: ByteLen,
    /// What identifiers are derived from
    #[arg(long, default_value = "example")]
    seed: String,
    /// The file to write
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut tree = Tree::new();
    let mut policy = host::Policy::default();
    policy.modes = host::Modes::Keep;
    policy.hardlinks = true;
    host::import(&mut tree, &arguments.from, "", &policy)?;
    let mut options = Options::default();
    options.label = arguments.label;
    options.seed = Seed::new(&arguments.seed);
    options.size = arguments
        .size
        .map_or(VolumeSize::FromContent { headroom: arguments.headroom }, VolumeSize::Fixed);
    let volume = Volume::plan(&tree, &options)?;
    container::write_file(Format::Raw, &volume, &arguments.out)?;
    println!("{}: {}, {} free", arguments.out.display(), ByteLen(volume.len()), volume.free());
    Ok(())
}
