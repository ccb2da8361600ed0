//! NomadOS in every format, started by every firmware that can, up to its `/init`: what
//! `cargo xtask campaign boot-matrix` runs. Prints the table that docs/campaigns.md has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::definition::{Format, SecureBoot};
use kiln::qemu::{self, Bus, DirectKernel, Disk, Machine, Nic, Uefi, format_of};
use kiln::{Cache, Progress, cache};
use kiln_diskimg::fat::{self, Volume};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{DiskPlan, Partition, Seed, Table, container};
use kiln_e2e::rooted;
use kiln_tree::{Node, Source, Tree};
use nomados::build;

/// What `/init` says first.
const INIT: &str = "/init started";
const LONG: Duration = Duration::from_secs(300);

/// NomadOS in every format, started by every firmware that can.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only cells whose name contains this (`VHDX`, `OVMF`)
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
}

/// One image in one machine.
struct Cell {
    what: &'static str,
    file: &'static str,
    bus: Bus,
}

const CELLS: &[Cell] = &[
    Cell { what: "raw, virtio", file: "nomados.raw", bus: Bus::Virtio },
    Cell { what: "raw, IDE or SATA", file: "nomados.raw", bus: Bus::Ide },
    Cell { what: "raw, USB stick", file: "nomados.raw", bus: Bus::Usb },
    Cell { what: "qcow2", file: "nomados.qcow2", bus: Bus::Virtio },
    Cell { what: "qcow2, zstd", file: "nomados.zstd.qcow2", bus: Bus::Virtio },
    Cell { what: "VMDK", file: "nomados.vmdk", bus: Bus::Virtio },
    Cell { what: "VMDK, stream", file: "nomados.stream.vmdk", bus: Bus::Virtio },
    Cell { what: "VDI", file: "nomados.vdi", bus: Bus::Virtio },
    Cell { what: "VHD", file: "nomados.vhd", bus: Bus::Virtio },
    Cell { what: "VHD, fixed", file: "nomados.fixed.vhd", bus: Bus::Virtio },
    Cell { what: "VHDX", file: "nomados.vhdx", bus: Bus::Virtio },
];

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("boot_matrix: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What starts a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Bios,
    Uefi,
    /// UEFI that trusts Microsoft's key, and nobody else.
    SecureUefi,
}

impl By {
    const ALL: [Self; 3] = [Self::Bios, Self::Uefi, Self::SecureUefi];

    fn name(self) -> &'static str {
        match self {
            Self::Bios => "SeaBIOS",
            Self::Uefi => "OVMF",
            Self::SecureUefi => "OVMF, Secure Boot",
        }
    }

    fn firmware(self) -> Result<qemu::Firmware> {
        let cache = Cache::of_workspace();
        Ok(match self {
            Self::Bios => qemu::Firmware::Bios,
            Self::Uefi => qemu::Firmware::Uefi(Uefi::find(&cache)?),
            Self::SecureUefi => qemu::Firmware::Uefi(Uefi::secure(&cache, None)?),
        })
    }
}

/// The table as it is printed, line by line.
struct Matrix<'a> {
    only: Option<&'a str>,
    passed: u32,
    failed: u32,
}

impl Matrix<'_> {
    /// Starts an image by all that can, until it says `text`.
    fn row(&mut self, what: &str, by: &[By], text: &str, machine: impl Fn(By) -> Result<Machine>) {
        let mut line = format!("| {what} |");
        for firmware in By::ALL {
            let name = format!("{what} {}", firmware.name());
            let wanted = self.only.is_none_or(|text| name.contains(text));
            if !by.contains(&firmware) || !wanted {
                line += " – |";
                continue;
            }
            match machine(firmware).and_then(|machine| started(machine, text)) {
                Ok(seconds) => {
                    self.passed += 1;
                    line += &format!(" {seconds:.1} s |");
                }
                Err(error) => {
                    self.failed += 1;
                    eprintln!("{name}: {error:#}");
                    line += " **failed** |";
                }
            }
        }
        println!("{line}");
    }
}

fn run(arguments: &Arguments) -> Result<u32> {
    const BOTH: &[By] = &[By::Bios, By::Uefi];
    let out = cache::workspace_root().join("target/campaign/boot-matrix");
    let mut options = build::Options::new(&out);
    let wanted = |format: &Format| format.is_run() || *format == Format::Uki;
    options.formats = Format::ALL.into_iter().filter(wanted).collect();
    print!("{}", build::build(&options, &Progress::on_stderr())?);
    let mut trusted = build::Options::new(out.join("shim"));
    trusted.formats = vec![Format::Raw];
    trusted.secure_boot = Some(SecureBoot::Shim);
    build::build(&trusted, &Progress::on_stderr())?;

    let mut table = Matrix { only: arguments.only.as_deref(), passed: 0, failed: 0 };
    println!("| image | {} |\n|---|---|---|---|", By::ALL.map(By::name).join(" | "));
    for cell in CELLS {
        table.row(cell.what, BOTH, INIT, |by| on_disk(&out.join(cell.file), cell.bus, by));
    }
    for (what, bus) in [("CD", Bus::Cd), ("SATA or IDE disk", Bus::Ide), ("USB stick", Bus::Usb)] {
        let what = format!("ISO as {what}");
        table.row(&what, &By::ALL, INIT, |by| on_disk(&out.join("nomados.iso"), bus, by));
    }
    let image = out.join("shim/nomados.raw");
    table.row("raw, shim and GRUB", &By::ALL, INIT, |by| on_disk(&image, Bus::Virtio, by));
    for (what, root, said) in [
        ("root: ext4", "filesystem = \"ext4\"", "root: ext4"),
        ("root: SquashFS", "filesystem = \"squashfs\"", "root: squashfs"),
        ("root: EROFS, verified", "filesystem = \"erofs\"\nverity = true", "root: verified erofs"),
    ] {
        let image = rooted(&out.join("rooted"), root, None)?;
        table.row(what, BOTH, said, |by| on_disk(&image, Bus::Virtio, by));
    }
    table.row("unified image on a disk", &[By::Uefi], INIT, |by| unified(&out, by));
    table.row("kernel and initramfs by QEMU", &[By::Bios], INIT, |_| direct(&out));
    println!("{} passed, {} failed", table.passed, table.failed);
    Ok(table.failed)
}

/// Seconds from QEMU's start to a text on the console.
fn started(machine: Machine, text: &str) -> Result<f64> {
    let mut vm = machine.start()?;
    let start = vm.started();
    let line = vm.wait_for(text, LONG)?;
    ensure!(line.text.contains(text), "it said {:?}", line.text);
    Ok(line.at.saturating_duration_since(start).as_secs_f64())
}

fn machine(firmware: qemu::Firmware) -> Machine {
    let mut machine = Machine::default();
    (machine.nic, machine.network) = (Some(Nic::Virtio), false);
    machine.firmware = firmware;
    machine
}

fn on_disk(image: &Path, bus: Bus, by: By) -> Result<Machine> {
    let format = format_of(image).context("no disk")?;
    let mut disk = Disk::new(image, format);
    disk.bus = bus;
    let mut machine = machine(by.firmware()?);
    machine.disks.push(disk);
    Ok(machine)
}

/// The unified image alone on an EFI system partition, where firmware looks for it.
fn unified(out: &Path, by: By) -> Result<Machine> {
    let path = out.join("nomados.efi");
    let len = std::fs::metadata(&path)?.len();
    let mut tree = Tree::new();
    tree.insert("EFI/BOOT/BOOTX64.EFI", Node::file(Source::File { path, len }))?;
    let volume = Volume::plan(&tree, &fat::Options::default())?;
    let plan = DiskPlan::new(Table::Gpt, Seed::new("boot-matrix")).with(Partition::new(
        "esp",
        PartitionType::EFI_SYSTEM,
        volume,
    ));
    let disk: PathBuf = out.join("unified.raw");
    container::write_file(container::Format::Raw, &plan.layout()?, &disk)?;
    on_disk(&disk, Bus::Virtio, by)
}

fn direct(out: &Path) -> Result<Machine> {
    let mut machine = machine(qemu::Firmware::Bios);
    machine.kernel = Some(DirectKernel {
        kernel: out.join("nomados.vmlinuz"),
        initramfs: out.join("nomados.initramfs"),
        command_line: "console=ttyS0,115200 quiet panic=5".into(),
    });
    Ok(machine)
}
