//! Memory: the most that a process held while it wrote a disk of 4 GiB, ours beside qemu-img.
//!
//! A quarter of the disk is data, half of which compress; the rest are holes. Ours makes them up on
//! the way, as it would read files, and qemu-img converts the raw image that ours wrote. Each run is
//! a process of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::noise::Noise;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine, peak};
use kiln_diskimg::container::{self, Format, Options};
use kiln_diskimg::{Content, Sink};

/// Peak memory of writing a disk of 4 GiB, beside qemu-img
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<3>,
    /// Where to work, about 3 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// How many threads ours compresses with; 0 is as many as the machine runs at once
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Only these formats, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Format>,
    /// Write the disk in this format to this file and end: what is measured
    #[arg(long, num_args = 2, value_names = ["FORMAT", "FILE"], hide = true)]
    write: Option<Vec<String>>,
}

/// Format and what qemu-img is to be told for the same.
const CONTESTS: [(Format, &[&str]); 9] = [
    (Format::Raw, &["-O", "raw"]),
    (Format::Qcow2, &["-O", "qcow2"]),
    (Format::Qcow2Zlib, &["-c", "-O", "qcow2", "-W", "-m", "16"]),
    (Format::Qcow2Zstd, &["-c", "-O", "qcow2", "-o", "compression_type=zstd", "-W", "-m", "16"]),
    (Format::VmdkStream, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    (Format::Vdi, &["-O", "vdi"]),
    (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
    (Format::Vhdx, &["-O", "vhdx"]),
    (Format::RawZst, &[]),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some([format, file]) = arguments.write.as_deref() {
        return match write(format, file, arguments.threads) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("memory: {error}");
                ExitCode::FAILURE
            }
        };
    }
    kiln_benches::run("memory", &arguments.common, || measure(&arguments))
}

fn write(format: &str, file: &str, threads: usize) -> Result<()> {
    let mut options = Options::default();
    options.threads = threads;
    container::write_with(format.parse()?, &Disk, File::create(file)?, &options)?;
    Ok(())
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let raw = dir.path().join("disk.raw");
    write("raw", &raw.to_string_lossy(), 0)?;
    let own = std::env::current_exe()?;
    let has_qemu = machine::are_installed(&["qemu-img"]);
    let (ours, theirs) = (dir.path().join("ours"), dir.path().join("theirs"));
    let mut report = Report::new();
    let wanted = |format| arguments.only.is_empty() || arguments.only.contains(&format);
    for (format, options) in CONTESTS.into_iter().filter(|(format, _)| wanted(*format)) {
        let mut turns = vec![Contender::new("kiln-diskimg", || {
            let mut command = Command::new(&own);
            let threads = arguments.threads.to_string();
            command.args(["--threads", &threads, "--write", format.name()]).arg(&ours);
            peak(command, &ours)
        })];
        if has_qemu && !options.is_empty() {
            turns.push(Contender::new("qemu-img convert", || {
                let mut command = machine::command("qemu-img");
                command.args(["convert", "-f", "raw"]).args(options).arg(&raw).arg(&theirs);
                peak(command, &theirs)
            }));
        }
        let samples = take_turns(arguments.common.n, &mut turns)?;
        report.contest(&format.to_string(), Unit::Mebibytes, &turns, samples);
    }
    Ok(report)
}

/// The most memory that a program held, in MiB; what it wrote is removed.
fn peak(command: Command, out: &Path) -> Result<f64> {
    let highest = peak::mebibytes(command);
    let _ = fs::remove_file(out);
    highest
}

/// Of each four MiB, one is data.
#[derive(Debug)]
struct Disk;

const GIB: u64 = 1 << 30;

impl Content for Disk {
    fn len(&self) -> u64 {
        4 * GIB
    }

    fn write_to(&self, sink: &mut dyn Sink) -> kiln_diskimg::Result<()> {
        let mut bytes = Noise::default().bytes(512 << 10);
        // What compresses: every fourth byte is arbitrary.
        bytes.extend_from_within(..);
        for at in (512 << 10..1 << 20).filter(|at| at % 4 != 0) {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = b'k';
            }
        }
        for _ in 0..GIB >> 20 {
            sink.data(&bytes)?;
            sink.hole(3 << 20)?;
        }
        Ok(())
    }
}
