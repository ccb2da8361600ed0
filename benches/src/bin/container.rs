//! Image formats: ours beside `qemu-img convert`, from the same raw disk.
//!
//! Figures are wall time, that of the tools with their start, and the length of what they wrote.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine};
use kiln_diskimg::Limits;
use kiln_diskimg::container::{self, Format, Options};

/// Image formats beside qemu-img convert
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<3>,
    /// A raw disk; without one, an ext4 volume of 1 GiB with the host's /usr/lib/x86_64-linux-gnu or
    /// as much of it as fits is made by mke2fs
    #[arg(long)]
    raw: Option<PathBuf>,
    /// Where to work, about 3 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

/// Format and what qemu-img is to be told for the same.
const CONTESTS: [(Format, &[&str]); 8] = [
    (Format::Qcow2, &["-O", "qcow2", "-W", "-m", "16"]),
    (Format::Qcow2Zlib, &["-c", "-O", "qcow2", "-W", "-m", "16"]),
    (Format::Qcow2Zstd, &["-c", "-O", "qcow2", "-o", "compression_type=zstd", "-W", "-m", "16"]),
    (Format::Vmdk, &["-O", "vmdk"]),
    (Format::VmdkStream, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    (Format::Vdi, &["-O", "vdi"]),
    (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
    (Format::Vhdx, &["-O", "vhdx"]),
];

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("container", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let raw = match &arguments.raw {
        Some(raw) => raw.clone(),
        None => make_disk(dir)?,
    };
    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    let has_qemu = machine::are_installed(&["qemu-img"]);
    let mut report = Report::new();
    for (format, options) in CONTESTS {
        let mut turns = vec![Contender::timed("kiln-diskimg", || convert(&raw, format, &ours))];
        if has_qemu {
            turns.push(Contender::timed("qemu-img convert", || {
                machine::run("qemu-img", |it| {
                    it.args(["convert", "-f", "raw"]).args(options).arg(&raw).arg(&theirs)
                })
            }));
        }
        let samples = take_turns(n, &mut turns)?;
        let len = |path: &Path| fs::metadata(path).map_or(0, |found| found.len());
        let what = format!("{format}, {} bytes beside {}", len(&ours), len(&theirs));
        report.contest(&what, Unit::Seconds, &turns, samples);
        for leftover in [&ours, &theirs] {
            let _ = fs::remove_file(leftover);
        }
    }
    Ok(report)
}

fn convert(raw: &Path, format: Format, out: &Path) -> Result<()> {
    let mut image = container::open_file(raw, &Limits::default())?;
    container::convert_with(&mut image, format, File::create(out)?, &Options::default())?;
    Ok(())
}

/// A volume with programs in it, which compress as disks do.
fn make_disk(dir: &Path) -> Result<PathBuf> {
    let tree = dir.join("tree");
    fs::create_dir(&tree)?;
    let mut room: u64 = 400 << 20;
    let mut found: Vec<PathBuf> = fs::read_dir("/usr/lib/x86_64-linux-gnu")?
        .map(|entry| Ok(entry?.path()))
        .collect::<std::io::Result<_>>()?;
    found.sort();
    for path in found.into_iter().filter(|path| path.is_file()) {
        let len = fs::metadata(&path)?.len();
        if let (true, Some(name)) = (len < room, path.file_name()) {
            fs::copy(&path, tree.join(name))?;
            room -= len;
        }
    }
    let raw = dir.join("disk.raw");
    machine::run("mke2fs", |it| {
        it.args(["-q", "-t", "ext4", "-d"]).arg(&tree).arg(&raw).arg("1G")
    })?;
    fs::remove_dir_all(tree)?;
    Ok(raw)
}
