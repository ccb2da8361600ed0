//! Makes a unified kernel image, signs it, and makes an OVMF variable store that trusts the signer.
//!
//! `cargo run -p kiln-diskimg --features sign --example uki -- --help`

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser;
use kiln_diskimg::boot::esp::{Architecture, Esp};
use kiln_diskimg::boot::secure_boot::{Enrollment, Signature};
use kiln_diskimg::boot::sign::{Certificate, PrivateKey, Profile, Signer, sign};
use kiln_diskimg::boot::uki::{Uki, kernel_release};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::fat::{Options, Volume};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{DiskPlan, Partition, Seed, Table};
use kiln_tree::Source;

#[derive(Parser)]
struct Arguments {
    /// Systemd's stub (`linuxx64.efi.stub`)
    #[arg(long)]
    stub: PathBuf,
    #[arg(long)]
    kernel: PathBuf,
    #[arg(long)]
    initrd: Vec<PathBuf>,
    #[arg(long)]
    command_line: Option<String>,
    /// Private key in PEM to sign with
    #[arg(long)]
    key: Option<PathBuf>,
    /// The firmware's variable store, to which the key's certificate is added
    #[arg(long, requires = "key")]
    vars: Option<PathBuf>,
    /// Directory for `kiln.efi`, `disk.raw` and `vars.fd`
    #[arg(long)]
    out: PathBuf,
}

fn source(path: &Path) -> std::io::Result<Source> {
    Ok(Source::File { path: path.to_owned(), len: fs::metadata(path)?.len() })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();
    let mut uki = Uki::new(fs::read(&arguments.stub)?, source(&arguments.kernel)?);
    uki.uname = kernel_release(&fs::read(&arguments.kernel)?);
    for initrd in &arguments.initrd {
        uki.initrds.push(source(initrd)?);
    }
    uki.command_line = arguments.command_line;
    let mut image = uki.plan()?;
    if let Some(key) = &arguments.key {
        let key = PrivateKey::parse(&fs::read(key)?)?;
        let certificate = Certificate::self_signed(&key, &Profile::new("Kiln example"))?;
        let signer = Signer::new(key, certificate)?;
        image = sign(image, &signer)?;
        if let Some(vars) = &arguments.vars {
            let owner = Seed::new("example").guid("owner");
            let trusted = Signature::certificate(owner, signer.certificate().to_der());
            let mut keys = Enrollment::new(trusted.clone());
            keys.key_exchange.push(trusted.clone());
            keys.allowed.push(trusted);
            fs::write(arguments.out.join("vars.fd"), keys.enroll(&fs::read(vars)?)?)?;
        }
    }
    let image = image.checksummed()?;
    for section in &image.headers().sections {
        println!("{:8} {:9} at {:#x}", section.name, section.virtual_size, section.virtual_address);
    }
    container::write_file(Format::Raw, &image, arguments.out.join("kiln.efi"))?;
    let mut esp = Esp::new(Architecture::X64);
    esp.start(image.source());
    let volume = Volume::plan(&esp.tree()?, &Options::default())?;
    let layout = DiskPlan::new(Table::Gpt, Seed::new("example"))
        .with(Partition::new("esp", PartitionType::EFI_SYSTEM, volume))
        .layout()?;
    container::write_file(Format::Raw, &layout, arguments.out.join("disk.raw"))?;
    Ok(())
}
