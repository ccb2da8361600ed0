//! Disk images: ours beside mkfs.vfat + mcopy, the fatfs crate, qemu-img and sfdisk + dd.
//!
//! Figures are wall time, that of the tools with their start.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::noise::fill;
use kiln_benches::report::Report;
use kiln_benches::turns::Contender;
use kiln_benches::{Result, machine};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::fat::{Options, Volume, VolumeSize};
use kiln_diskimg::gpt::PartitionType;
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, Seed, Table};
use kiln_tree::{Tree, host};

/// Disk images beside mkfs.vfat + mcopy, the fatfs crate, qemu-img and sfdisk + dd
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Runs of the fatfs crate with many files, which takes most of a minute each; 0 leaves it out
    #[arg(long, default_value_t = 1)]
    slow_rounds: u32,
    /// Where to work, about 1 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("diskimg", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let mut report = Report::new();

    let (big, many) = (dir.join("big"), dir.join("many"));
    fill(&big, 1, 4, 25_000_000)?;
    fill(&many, 80, 100, 16_000)?;
    let has_mtools = machine::are_installed(&["mkfs.vfat", "mcopy"]);
    for (what, from, slow) in [
        ("FAT32 256 MiB, 4 files of 25 MB", &big, n),
        ("FAT32 256 MiB, 8000 files of 16 kB", &many, arguments.slow_rounds),
    ] {
        let out = |name: &str| dir.join(name);
        let mut turns = vec![Contender::timed("kiln-diskimg", || ours_fat(from, &out("ours")))];
        if has_mtools {
            turns.push(Contender::timed("mkfs.vfat + mcopy", || {
                mtools_fat(from, &out("mtools"), 256)
            }));
        }
        report.timed(what, n, turns)?;
        // The fatfs crate on its own: it takes so long that its rounds would outweigh the others.
        if slow > 0 {
            let alone = Contender::timed("fatfs 0.3.6", || fatfs_fat(from, &out("fatfs")));
            report.timed(what, slow, vec![alone])?;
        }
        for leftover in ["ours", "mtools", "fatfs"] {
            let _ = fs::remove_file(out(leftover));
        }
    }

    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    let raw = dir.join("disk.raw");
    container::write_file(Format::Raw, &disk(&big)?, &raw)?;
    let has_qemu = machine::are_installed(&["qemu-img"]);
    for (what, format) in [
        ("qcow2 of a 1 GiB disk with 100 MB", Format::Qcow2),
        ("vmdk of a 1 GiB disk with 100 MB", Format::Vmdk),
    ] {
        let mut turns = vec![
            Contender::timed("kiln-diskimg, from the tree", || {
                Ok(container::write_file(format, &disk(&big)?, &ours)?)
            }),
            Contender::timed("kiln-diskimg, from raw", || convert(&raw, format, &ours)),
        ];
        if has_qemu {
            turns.push(Contender::timed("qemu-img convert", || {
                tool("qemu-img", |it| {
                    it.args(["convert", "-f", "raw", "-O", format.name()]).arg(&raw).arg(&theirs)
                })
            }));
        }
        report.timed(what, n, turns)?;
        for leftover in [&ours, &theirs] {
            let _ = fs::remove_file(leftover);
        }
    }

    let mut turns = vec![Contender::timed("kiln-diskimg", || {
        Ok(container::write_file(Format::Raw, &disk(&big)?, &ours)?)
    })];
    if machine::are_installed(&["sfdisk"]) && has_mtools {
        turns.push(Contender::timed("sfdisk + mkfs.vfat + mcopy + dd", || {
            plain_disk(&big, dir, &theirs)
        }));
    }
    report.timed("GPT + FAT32 of 256 MiB in a 1 GiB raw disk, 100 MB", n, turns)?;
    Ok(report)
}

fn volume(from: &Path) -> Result<Volume> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    let mut options = Options::default();
    options.size = VolumeSize::Fixed(ByteLen::mib(256));
    options.cluster = Some(512);
    Ok(Volume::plan(&tree, &options)?)
}

fn disk(from: &Path) -> Result<Layout> {
    let partition = Partition::new("esp", PartitionType::EFI_SYSTEM, volume(from)?);
    let mut plan = DiskPlan::new(Table::Gpt, Seed::new("bench")).with(partition);
    plan.size = Some(ByteLen::gib(1));
    Ok(plan.layout()?)
}

fn ours_fat(from: &Path, out: &Path) -> Result<()> {
    Ok(container::write_file(Format::Raw, &volume(from)?, out)?)
}

fn convert(raw: &Path, format: Format, out: &Path) -> Result<()> {
    let mut image = container::open_file(raw, &Limits::default())?;
    container::convert(&mut image, format, File::create(out)?)?;
    Ok(())
}

fn mtools_fat(from: &Path, out: &Path, mib: u64) -> Result<()> {
    let _ = fs::remove_file(out);
    File::create(out)?.set_len(mib << 20)?;
    tool("mkfs.vfat", |it| it.args(["-F", "32", "-s", "1", "-h", "2048"]).arg(out))?;
    let mut names: Vec<PathBuf> =
        fs::read_dir(from)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    names.sort();
    tool("mcopy", |it| it.args(["-s", "-Q", "-i"]).arg(out).args(names).arg("::"))
}

fn fatfs_fat(from: &Path, out: &Path) -> Result<()> {
    let _ = fs::remove_file(out);
    let mut file = File::options().read(true).write(true).create_new(true).open(out)?;
    file.set_len(256 << 20)?;
    let format =
        fatfs::FormatVolumeOptions::new().fat_type(fatfs::FatType::Fat32).bytes_per_cluster(512);
    fatfs::format_volume(&mut file, format)?;
    let disk = fatfs::FileSystem::new(file, fatfs::FsOptions::new())?;
    for directory in fs::read_dir(from)? {
        let directory = directory?;
        let name = directory.file_name().to_string_lossy().into_owned();
        let target = disk.root_dir().create_dir(&name)?;
        for file in fs::read_dir(directory.path())? {
            let file = file?;
            let bytes = fs::read(file.path())?;
            target.create_file(&file.file_name().to_string_lossy())?.write_all(&bytes)?;
        }
    }
    disk.unmount()?;
    Ok(())
}

fn plain_disk(from: &Path, dir: &Path, out: &Path) -> Result<()> {
    let _ = fs::remove_file(out);
    File::create(out)?.set_len(1 << 30)?;
    let table = "label: gpt\nstart=2048, size=524288, type=U, name=esp\n";
    machine::run_with_input("sfdisk", table, |it| it.arg("-q").arg(out))?;
    let esp = dir.join("esp.img");
    mtools_fat(from, &esp, 256)?;
    tool("dd", |it| {
        it.arg(format!("if={}", esp.display())).arg(format!("of={}", out.display())).args([
            "bs=1M",
            "seek=1",
            "conv=notrunc,sparse",
        ])
    })?;
    fs::remove_file(esp)?;
    Ok(())
}

fn tool(name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    machine::run(name, |it| arguments(it.env("MTOOLS_SKIP_CHECK", "1")))
}
