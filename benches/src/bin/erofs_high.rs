//! EROFS that is compressed once and read often: our LZ4 of high compression and mkfs.erofs's.
//!
//! mkfs.erofs compresses on one thread (before 1.8), so ours is measured on one as well as on all.
//! The lengths of the images are printed too: time and length are to be read together.

use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::Report;
use kiln_benches::turns::{Contender, spent};
use kiln_benches::{Result, machine, noise};
use kiln_diskimg::erofs::{Algorithm, Compressed, Compression, Options};
use kiln_tree::{Tree, host};

/// Highly compressed EROFS beside mkfs.erofs -zlz4hc
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<3>,
    /// Pack this directory instead of 338 MB in 10,000 files that are made up
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Bytes of a physical cluster, may be given again
    #[arg(long, default_values_t = [16_384, 65_536])]
    cluster: Vec<usize>,
    /// Where to work, about 2 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("erofs_high", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let from = noise::root(arguments.tree.as_deref(), dir)?;
    let mut report = Report::new();
    for cluster in &arguments.cluster {
        let ours = [
            ("kiln-diskimg, high, a thread", Algorithm::Lz4High, NonZeroUsize::new(1)),
            ("kiln-diskimg, high, all threads", Algorithm::Lz4High, None),
            ("kiln-diskimg, fast, a thread", Algorithm::Lz4, NonZeroUsize::new(1)),
        ];
        let mut theirs = vec!["-zlz4hc,9", "-zlz4hc,12"];
        if !machine::are_installed(&["mkfs.erofs"]) {
            theirs.clear();
        }
        let mut turns = Vec::new();
        for (who, algorithm, threads) in ours {
            let mut compression = Compression::new(algorithm);
            compression.cluster = *cluster;
            let (from, out) = (&from, dir.join(who));
            let run = move || spent(|| plan(from, &out, compression, threads));
            turns.push(Contender::new(who, run));
        }
        for level in &theirs {
            let (from, out) = (&from, dir.join(level));
            let run = move || spent(|| mkfs(from, &out, level, *cluster));
            turns.push(Contender::new(format!("mkfs.erofs {level}"), run));
        }
        let what = format!("EROFS, LZ4, clusters of {} KiB", cluster >> 10);
        report.spent(&what, arguments.common.n, turns)?;
        for who in ours.iter().map(|it| it.0).chain(theirs) {
            println!("{what}: {who}: {} bytes", fs::metadata(dir.join(who))?.len());
        }
    }
    Ok(report)
}

fn plan(
    from: &Path,
    out: &Path,
    compression: Compression,
    threads: Option<NonZeroUsize>,
) -> Result<()> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    let mut options = Options::default();
    options.threads = threads;
    let spool = File::options().read(true).write(true).create(true).truncate(true).open(out)?;
    Compressed::plan(&tree, &options, compression, spool)?.into_image()?;
    Ok(())
}

fn mkfs(from: &Path, out: &Path, level: &str, cluster: usize) -> Result<()> {
    // What is there would be kept where it is longer.
    let _ = fs::remove_file(out);
    machine::run("mkfs.erofs", |it| {
        it.args(["--quiet", "-T0", "--all-root", level, &format!("-C{cluster}")]).arg(out).arg(from)
    })
}
