//! Makes an ISO image of a directory, optionally one that BIOS and UEFI start from a CD and a disk.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::iso::{Bios, Hybrid, Joliet, Options, Volume};
use kiln_diskimg::{Seed, Table, fat};
use kiln_tree::{Tree, host};

/// Makes an ISO 9660 image with Rock Ridge that holds a directory.
#[derive(Debug, Parser)]
struct Arguments {
    /// What goes into the image.
    directory: PathBuf,
    /// The image to write.
    out: PathBuf,
    /// Label of the volume.
    #[arg(long, default_value = "ISOIMAGE")]
    label: String,
    /// Names for Windows too.
    #[arg(long)]
    joliet: bool,
    /// What BIOS starts: a path in the image (isolinux/isolinux.bin).
    #[arg(long)]
    bios: Option<String>,
    /// What UEFI starts: a directory with EFI/BOOT/BOOTX64.EFI.
    #[arg(long)]
    efi: Option<PathBuf>,
    /// Make it a disk too, with this boot code (Debian's isohdpfx.bin).
    #[arg(long)]
    hybrid: Option<PathBuf>,
    /// Give the disk an MBR table instead of GPT.
    #[arg(long)]
    mbr: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut tree = Tree::new();
    host::import(&mut tree, &arguments.directory, "", &host::Policy::default())?;
    let seed = Seed::new(&arguments.label);
    let mut options = Options::default();
    options.volume_id = arguments.label;
    options.joliet = arguments.joliet.then_some(Joliet::Long);
    if let Some(path) = &arguments.bios {
        options.bios = Some(Bios::try_from(path.as_str())?);
    }
    if let Some(directory) = &arguments.efi {
        let mut tree = Tree::new();
        host::import(&mut tree, directory, "", &host::Policy::default())?;
        let mut fat = fat::Options::default();
        fat.volume_id = seed.number("esp");
        // It is not known before the image is planned where it will be, and UEFI does not care.
        fat.hidden_sectors = 0;
        fat.kind = Some(fat::Kind::Fat16);
        options.efi = Some(Arc::new(fat::Volume::plan(&tree, &fat)?));
    }
    if let Some(code) = &arguments.hybrid {
        let mut hybrid = Hybrid::new(std::fs::read(code)?, seed);
        hybrid.table = if arguments.mbr { Table::Mbr } else { Table::Gpt };
        options.hybrid = Some(hybrid);
    }
    container::write_file(Format::Raw, &Volume::plan(&tree, &options)?, &arguments.out)?;
    Ok(())
}
