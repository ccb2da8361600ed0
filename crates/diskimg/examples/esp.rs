//! Makes a bootable disk of a directory: a FAT volume in a partition table, optionally with SYSLINUX.

use std::path::PathBuf;

use clap::Parser;
use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Partition, Seed, Table, fat};
use kiln_tree::{Tree, host};

/// Makes a disk image with one FAT partition that holds a directory.
#[derive(Debug, Parser)]
struct Arguments {
    /// What goes into the partition.
    directory: PathBuf,
    /// The image to write.
    out: PathBuf,
    /// Size of the volume (64M, 1G); just large enough by default.
    #[arg(long)]
    size: Option<ByteLen>,
    /// Label of the volume.
    #[arg(long)]
    label: Option<String>,
    /// Install SYSLINUX from Debian's packages unpacked there (`/` where they are installed).
    #[arg(long)]
    syslinux: Option<PathBuf>,
    /// raw, qcow2 or vmdk.
    #[arg(long, default_value_t = Format::Raw)]
    format: Format,
    /// Make an MBR table instead of GPT.
    #[arg(long)]
    mbr: bool,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut tree = Tree::new();
    host::import(&mut tree, &arguments.directory, "", &host::Policy::default())?;

    let seed = Seed::new(arguments.label.as_deref().unwrap_or("esp"));
    let mut options = fat::Options::default();
    options.label = arguments.label;
    options.volume_id = seed.number("volume");
    if let Some(size) = arguments.size {
        options.size = fat::VolumeSize::Fixed(size);
    }
    let mut volume = fat::Volume::plan(&tree, &options)?;

    let table = if arguments.mbr { Table::Mbr } else { Table::Gpt };
    let mut plan = DiskPlan::new(table, seed);
    let mut kind = PartitionType::EFI_SYSTEM;
    if let Some(root) = arguments.syslinux {
        let loader = Loader::from_package(root)?;
        volume = loader.install(volume, "syslinux")?;
        plan.boot_code = Some(loader.mbr_code(table));
        if arguments.mbr {
            kind = PartitionType::BASIC_DATA;
        }
    }
    let partition = Partition::new("boot", kind, volume).bootable();
    let layout = plan.with(partition).layout()?;
    container::write_file(arguments.format, &layout, &arguments.out)?;
    Ok(())
}
