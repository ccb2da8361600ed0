//! Image formats: ours beside `qemu-img convert`, from the same raw disk.
//!
//! Figures are wall time, that of the tools with their start, and the length of what they wrote.
//!
//! The encoders of deflate that a crate could use are compared by themselves, on one thread: the
//! same blocks through ours, and through flate2 with zlib-rs, which limits its window as zlib does.

use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, take_turns};
use kiln_benches::{Result, machine};
use kiln_diskimg::Limits;
use kiln_diskimg::container::{self, BlockSource, Format, Options};

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
    /// Only these formats, separated by commas
    #[arg(long, value_delimiter = ',')]
    only: Vec<Format>,
    /// Compare deflate encoders too, which takes a minute a run
    #[arg(long)]
    encoders: bool,
}

/// Format and what qemu-img is to be told for the same.
const CONTESTS: [(Format, &[&str]); 9] = [
    (Format::Qcow2, &["-O", "qcow2", "-W", "-m", "16"]),
    (Format::Qcow2Zlib, &["-c", "-O", "qcow2", "-W", "-m", "16"]),
    (Format::Qcow2Zstd, &["-c", "-O", "qcow2", "-o", "compression_type=zstd", "-W", "-m", "16"]),
    (Format::Vmdk, &["-O", "vmdk"]),
    (Format::VmdkStream, &["-O", "vmdk", "-o", "subformat=streamOptimized"]),
    (Format::Vdi, &["-O", "vdi"]),
    (Format::Vhd, &["-O", "vpc", "-o", "force_size=on"]),
    (Format::VhdFixed, &["-O", "vpc", "-o", "subformat=fixed,force_size=on"]),
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
    let wanted = |format| arguments.only.is_empty() || arguments.only.contains(&format);
    for (format, options) in CONTESTS.into_iter().filter(|(format, _)| wanted(*format)) {
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
    if arguments.encoders {
        encoders(&mut report, n, &raw)?;
    }
    Ok(report)
}

/// qcow2's window is 4 KiB, a VMDK grain's 32 KiB.
fn encoders(report: &mut Report, n: u32, raw: &Path) -> Result<()> {
    for (format, window_bits, levels) in
        [(Format::Qcow2Zlib, 12, [3, 4, 5, 6, 7]), (Format::VmdkStream, 15, [3, 4, 5, 6, 7])]
    {
        let mut lengths = vec![0; levels.len() + 1];
        let (own, others) = lengths.split_at_mut(1);
        let mut turns = vec![Contender::timed("kiln-diskimg", || {
            let mut options = Options::default();
            options.threads = 1;
            let mut image = container::open_file(raw, &Limits::default())?;
            let nowhere =
                container::convert_with(&mut image, format, Nowhere::default(), &options)?;
            own.fill(nowhere.len);
            Ok(())
        })];
        for (level, len) in levels.into_iter().zip(others) {
            turns.push(Contender::timed(
                format!("flate2 with zlib-rs, level {level}"),
                move || {
                    *len = deflate(raw, level, window_bits)?;
                    Ok(())
                },
            ));
        }
        let samples = take_turns(n, &mut turns)?;
        let names: Vec<String> = turns.iter().map(|turn| turn.who().to_owned()).collect();
        drop(turns);
        let what = format!("{format}: deflate on one thread, window of {window_bits} bits");
        for ((who, samples), len) in names.iter().zip(samples).zip(lengths) {
            report.add(&what, who, Unit::Seconds, samples);
            report.note(format!("{len} bytes"));
        }
    }
    Ok(())
}

const BLOCK: usize = 64 << 10;

/// Compresses each block that is not zero; gives how long they are together.
fn deflate(raw: &Path, level: u32, window_bits: u8) -> Result<u64> {
    let mut image = container::open_file(raw, &Limits::default())?;
    let level = flate2::Compression::new(level);
    let has_header = window_bits == 15;
    let mut encoder = flate2::Compress::new_with_window_bits(level, has_header, window_bits);
    let (mut block, mut packed) = (vec![0; BLOCK], vec![0; BLOCK]);
    let (mut at, mut len) = (0, 0);
    while let Some((from, count)) = image.next_data(at)? {
        at = from / BLOCK as u64 * BLOCK as u64;
        while at < from + count {
            image.read_at(at, &mut block)?;
            at += BLOCK as u64;
            if block.iter().all(|byte| *byte == 0) {
                continue;
            }
            encoder.reset();
            encoder.compress(&block, &mut packed, flate2::FlushCompress::Finish)?;
            // What does not fit is stored as it is.
            len += encoder.total_out().min(BLOCK as u64);
        }
    }
    Ok(len)
}

/// Takes an image and keeps its length.
#[derive(Default)]
struct Nowhere {
    at: u64,
    len: u64,
}

impl Write for Nowhere {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.at += bytes.len() as u64;
        self.len = self.len.max(self.at);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Nowhere {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match to {
            SeekFrom::Start(at) => self.at = at,
            _ => return Err(io::ErrorKind::Unsupported.into()),
        }
        Ok(self.at)
    }
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
