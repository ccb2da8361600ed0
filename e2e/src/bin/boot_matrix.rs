//! NomadOS in every format, started by every firmware that can, up to its `/init`: what
//! `cargo xtask campaign boot-matrix` runs. Prints the table that docs/boot-matrix.md has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::definition::{Firmware, Format};
use kiln::qemu::{self, Bus, DirectKernel, Disk, Machine, Nic, Uefi, format_of};
use kiln::{Cache, Progress, cache};
use kiln_diskimg::fat::{self, Volume};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{DiskPlan, Partition, Seed, Table, container};
use kiln_tree::{Node, Source, Tree};
use nomados::build;

/// What `/init` says first.
const INIT: &str = "/init started";
const LONG: Duration = Duration::from_secs(300);

/// NomadOS in every format, started by every firmware that can.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only cells whose name contains this (`vhdx`, `UEFI`)
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

fn run(arguments: &Arguments) -> Result<u32> {
    let out = cache::workspace_root().join("target/campaign/boot-matrix");
    let mut options = build::Options::new(&out);
    options.formats = Format::ALL
        .into_iter()
        .filter(|format| format.is_run() || *format == Format::Uki)
        .collect();
    options.firmware = Firmware::ALL.to_vec();
    print!("{}", build::build(&options, &Progress::on_stderr())?);
    let uefi = qemu::Firmware::Uefi(Uefi::find(&Cache::of_workspace())?);
    let wanted = |name: &str| arguments.only.as_ref().is_none_or(|text| name.contains(text));
    let (mut passed, mut failed) = (0, 0);
    println!("| image | SeaBIOS | OVMF |\n|---|---|---|");
    let mut row = |what: &str, cells: [Option<Result<Machine>>; 2]| {
        let mut line = format!("| {what} |");
        for (firmware, machine) in ["BIOS", "UEFI"].into_iter().zip(cells) {
            let Some(machine) = machine.filter(|_| wanted(&format!("{what} {firmware}"))) else {
                line += " – |";
                continue;
            };
            match machine.and_then(started) {
                Ok(seconds) => {
                    passed += 1;
                    line += &format!(" {seconds:.1} s |");
                }
                Err(error) => {
                    failed += 1;
                    eprintln!("{what}, {firmware}: {error:#}");
                    line += " **failed** |";
                }
            }
        }
        println!("{line}");
    };
    for cell in CELLS {
        let disk = |firmware: qemu::Firmware| on_disk(&out.join(cell.file), cell.bus, firmware);
        row(cell.what, [Some(disk(qemu::Firmware::Bios)), Some(disk(uefi.clone()))]);
    }
    row("unified image on a disk", [None, Some(unified(&out, uefi.clone()))]);
    row("kernel and initramfs by QEMU", [Some(direct(&out)), None]);
    println!("{passed} passed, {failed} failed");
    Ok(failed)
}

/// Seconds from QEMU's start to `/init`.
fn started(machine: Machine) -> Result<f64> {
    let mut vm = machine.start()?;
    let start = vm.started();
    let line = vm.wait_for(INIT, LONG)?;
    ensure!(line.text.contains(INIT), "it said {:?}", line.text);
    Ok(line.at.saturating_duration_since(start).as_secs_f64())
}

fn machine(firmware: qemu::Firmware) -> Machine {
    let mut machine = Machine::default();
    (machine.nic, machine.network) = (Some(Nic::Virtio), false);
    machine.firmware = firmware;
    machine
}

fn on_disk(image: &Path, bus: Bus, firmware: qemu::Firmware) -> Result<Machine> {
    let format = format_of(image).context("no disk")?;
    let mut disk = Disk::new(image, format);
    disk.bus = bus;
    let mut machine = machine(firmware);
    machine.disks.push(disk);
    Ok(machine)
}

/// The unified image alone on an EFI system partition, where firmware looks for it.
fn unified(out: &Path, firmware: qemu::Firmware) -> Result<Machine> {
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
    on_disk(&disk, Bus::Virtio, firmware)
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
