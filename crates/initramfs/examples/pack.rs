//! Packs a directory into an initramfs.
//!
//! `cargo run -p kiln-initramfs --features zstd --example pack -- rootfs initrd --compress zstd`

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_initramfs::{Compression, write_image};
use kiln_tree::{Tree, host};

#[derive(Parser)]
struct Arguments {
    /// The directory whose content is packed.
    directory: PathBuf,
    /// The image, written beside first and then renamed.
    image: PathBuf,
    /// none, gzip, gzip:0-9, zstd or zstd:1-22.
    #[arg(long, default_value = "none")]
    compress: Compression,
    /// Modification time of everything, in seconds since 1970.
    #[arg(long, env = "SOURCE_DATE_EPOCH")]
    mtime: Option<u32>,
    /// Keep owners, permissions and hard links as they are on this machine.
    #[arg(long)]
    keep: bool,
}

fn pack(arguments: &Arguments) -> Result<(), Box<dyn std::error::Error>> {
    let mut policy = host::Policy::default();
    if arguments.keep {
        (policy.owner, policy.modes, policy.hardlinks) = (None, host::Modes::Keep, true);
    }
    policy.mtime = Some(arguments.mtime.unwrap_or(0));
    let mut tree = Tree::new();
    host::import(&mut tree, &arguments.directory, "", &policy)?;

    let partial = beside(&arguments.image);
    let written =
        File::create(&partial).map_err(|error| format!("create: {error}")).and_then(|file| {
            match arguments.compress {
                // A plain file lets contents be copied by the kernel.
                Compression::None => write_image(&tree, &Compression::None, file).map(drop),
                compress => write_image(&tree, &compress, BufWriter::new(file)).map(drop),
            }
            .map_err(|error| error.to_string())
        });
    let renamed = written.and_then(|()| {
        std::fs::rename(&partial, &arguments.image).map_err(|error| error.to_string())
    });
    if renamed.is_err() {
        // Best effort: the error is the news.
        let _ = std::fs::remove_file(&partial);
    }
    renamed.map_err(|error| format!("{}: {error}", arguments.image.display()).into())
}

fn beside(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    name.into()
}

fn main() -> ExitCode {
    match pack(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pack: {error}");
            ExitCode::FAILURE
        }
    }
}
