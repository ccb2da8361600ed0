//! ext4 volumes: ours beside `mke2fs -d`, genext2fs and a plain copy of the files.
//!
//! Figures are wall time from a directory of the host to a raw volume, that of the tools with their
//! start. genext2fs makes ext2, so it has no journal and no checksums to write; the copy is what
//! moving the bytes costs at least.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::noise::fill;
use kiln_benches::report::Report;
use kiln_benches::turns::Contender;
use kiln_benches::{Result, machine};
use kiln_diskimg::ByteLen;
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::ext4::{Options, Volume, VolumeSize};
use kiln_tree::{Tree, host};

/// ext4 volumes beside mke2fs -d and genext2fs
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Where to work, about 1.5 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("ext4", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let mut report = Report::new();
    // (what, directories, files of each, bytes of a file)
    for (what, directories, files, len) in [
        ("600 MiB, 10,000 files with 335 MB", 100, 100, 33_500),
        ("600 MiB, 4 files of 80 MB", 1, 4, 80_000_000),
        ("600 MiB, 30,000 files of 300 bytes", 100, 300, 300),
    ] {
        let from = dir.join("from");
        fill(&from, directories, files, len)?;
        let out = |name: &str| dir.join(name);
        let mut turns = vec![Contender::timed("kiln-diskimg", || ours(&from, &out("ours")))];
        if machine::are_installed(&["mke2fs"]) {
            turns.push(Contender::timed("mke2fs -d", || {
                let _ = fs::remove_file(out("theirs"));
                machine::run("mke2fs", |it| {
                    it.args(["-q", "-t", "ext4", "-m", "0", "-d"])
                        .arg(&from)
                        .arg(out("theirs"))
                        .arg("600M")
                })
            }));
        }
        if machine::are_installed(&["genext2fs"]) {
            turns.push(Contender::timed("genext2fs", || {
                let _ = fs::remove_file(out("genext2fs"));
                machine::run("genext2fs", |it| {
                    it.args(["-B", "4096", "-b", "153600", "-N", "38400", "-d"])
                        .arg(&from)
                        .arg(out("genext2fs"))
                })
            }));
        }
        turns.push(Contender::timed("cp -a", || {
            let _ = fs::remove_dir_all(out("copy"));
            machine::run("cp", |it| it.arg("-a").arg(&from).arg(out("copy")))
        }));
        report.timed(what, n, turns)?;
        for leftover in ["ours", "theirs", "genext2fs"] {
            let _ = fs::remove_file(out(leftover));
        }
        let _ = fs::remove_dir_all(out("copy"));
        fs::remove_dir_all(&from)?;
    }
    Ok(report)
}

fn ours(from: &Path, out: &Path) -> Result<()> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    let mut options = Options::default();
    options.size = VolumeSize::Fixed(ByteLen::mib(600));
    let volume = Volume::plan(&tree, &options)?;
    Ok(container::write_file(Format::Raw, &volume, out)?)
}
