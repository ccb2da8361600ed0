//! `ros install`.

use clap::{Args, ValueEnum};

use super::{Result, carried};
use crate::laydown::{Options, Type};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Table {
    /// A GUID partition table
    #[value(aliases = ["gptsyslinux", "gpt-syslinux"])]
    Gpt,
    /// An MBR
    #[value(aliases = ["generic", "syslinux"])]
    Mbr,
}

/// Both are started by a BIOS and by UEFI.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    #[command(flatten)]
    image: carried::From,
    /// The partition table
    #[arg(short = 't', long = "install-type", value_enum, default_value = "gpt")]
    table: Table,
    /// Goes on with this system, where else the machine starts anew
    #[arg(long)]
    no_reboot: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result {
    let kind = match arguments.table {
        Table::Gpt => Type::Gpt,
        Table::Mbr => Type::Generic,
    };
    if arguments.options.cloud_config.is_none() {
        eprintln!(
            "ros: without --cloud-config nobody can log in to the new system before a medium says who"
        );
    }
    carried::lay_down(&arguments.image, kind, &arguments.options)?;
    if arguments.no_reboot { Ok(()) } else { super::power::reboot() }
}
