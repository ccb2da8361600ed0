//! Read-only root file systems: EROFS, SquashFS and hash trees, ours beside mkfs.erofs, mksquashfs
//! and veritysetup.
//!
//! Figures are wall time, that of the tools with their start. The lengths of the images are
//! printed as well, because a faster compressor that compresses less is no faster.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::Report;
use kiln_benches::turns::Contender;
use kiln_benches::{Result, machine, noise};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::erofs::{Algorithm, Compressed, Compression, Options, Volume};
use kiln_diskimg::verity::{self, Verity};
use kiln_tree::{Source, Tree, host};

/// EROFS and hash trees beside mkfs.erofs, mksquashfs and veritysetup
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Pack this directory instead of 338 MB in 10,000 files that are made up
    #[arg(long)]
    tree: Option<PathBuf>,
    /// Runs of mksquashfs with zstd, which takes half a minute each; 0 leaves it out
    #[arg(long, default_value_t = 1)]
    slow_rounds: u32,
    /// Where to work, about 2 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("erofs", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let n = arguments.common.n;
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let mut report = Report::new();
    let from = noise::root(arguments.tree.as_deref(), dir)?;
    let (ours, theirs) = (dir.join("ours"), dir.join("theirs"));
    let has_mkfs = machine::are_installed(&["mkfs.erofs"]);

    let mut turns = vec![Contender::timed("kiln-diskimg", || plain(&from, &ours))];
    if has_mkfs {
        turns.push(Contender::timed("mkfs.erofs", || mkfs(&from, &theirs, &[])));
    }
    report.timed("EROFS, uncompressed", n, turns)?;
    lengths("EROFS, uncompressed", &[&ours, &theirs])?;

    for (what, cluster) in [("clusters of 4 KiB", 4096), ("clusters of 64 KiB", 65_536)] {
        let what = format!("EROFS, LZ4, {what}");
        let size = format!("-C{cluster}");
        let mut turns = vec![
            Contender::timed("kiln-diskimg, the spool becomes the image", || {
                in_place(&from, &ours, cluster)
            }),
            Contender::timed("kiln-diskimg, spool copied", || spooled(&from, dir, &ours, cluster)),
        ];
        if has_mkfs {
            turns.push(Contender::timed("mkfs.erofs", || mkfs(&from, &theirs, &["-zlz4", &size])));
        }
        report.timed(&what, n, turns)?;
        lengths(&what, &[&ours, &theirs])?;
    }

    if arguments.slow_rounds > 0 && machine::are_installed(&["mksquashfs"]) {
        let mut turns =
            vec![Contender::timed("mksquashfs -comp lz4", || mksquashfs(&from, &theirs, "lz4"))];
        turns
            .push(Contender::timed("mksquashfs -comp zstd", || mksquashfs(&from, &theirs, "zstd")));
        report.timed("SquashFS", arguments.slow_rounds, turns)?;
        lengths("SquashFS, zstd", &[&theirs])?;
    }

    plain(&from, &ours)?;
    let tree = dir.join("hashes");
    let mut turns = vec![Contender::timed("kiln-diskimg, root hash only", || {
        Verity::plan(source(&ours)?, &verity::Options::default())?.root_hash()?;
        Ok(())
    })];
    turns.push(Contender::timed("kiln-diskimg, tree written", || {
        let verity = Verity::plan(source(&ours)?, &verity::Options::default())?;
        Ok(container::write_file(Format::Raw, &verity.tree(), &tree)?)
    }));
    if machine::are_installed(&["veritysetup"]) {
        turns.push(Contender::timed("veritysetup format", || {
            let _ = fs::remove_file(&theirs);
            machine::run("veritysetup", |it| it.arg("format").arg(&ours).arg(&theirs))
        }));
    }
    report.timed("hash tree of the uncompressed volume", n, turns)?;
    Ok(report)
}

fn lengths(what: &str, images: &[&Path]) -> Result<()> {
    for image in images.iter().filter(|image| image.exists()) {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        println!("{what}: {name}: {} bytes", fs::metadata(image)?.len());
    }
    Ok(())
}

fn import(from: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    host::import(&mut tree, from, "", &host::Policy::default())?;
    Ok(tree)
}

fn plain(from: &Path, out: &Path) -> Result<()> {
    let volume = Volume::plan(&import(from)?, &Options::default())?;
    Ok(container::write_file(Format::Raw, &volume, out)?)
}

fn compression(cluster: usize) -> Compression {
    let mut compression = Compression::new(Algorithm::Lz4);
    compression.cluster = cluster;
    compression
}

fn create(path: &Path) -> Result<File> {
    Ok(File::options().read(true).write(true).create(true).truncate(true).open(path)?)
}

fn in_place(from: &Path, out: &Path, cluster: usize) -> Result<()> {
    let spool = create(out)?;
    let options = Options::default();
    Compressed::plan(&import(from)?, &options, compression(cluster), spool)?.into_image()?;
    Ok(())
}

fn spooled(from: &Path, dir: &Path, out: &Path, cluster: usize) -> Result<()> {
    let spool = tempfile::tempfile_in(dir)?;
    let options = Options::default();
    let volume = Compressed::plan(&import(from)?, &options, compression(cluster), spool)?;
    Ok(container::write_file(Format::Raw, &volume, out)?)
}

fn mkfs(from: &Path, out: &Path, extra: &[&str]) -> Result<()> {
    let _ = fs::remove_file(out);
    machine::run("mkfs.erofs", |it| {
        it.args(["--quiet", "-T0", "--all-root"]).args(extra).arg(out).arg(from)
    })
}

fn mksquashfs(from: &Path, out: &Path, compressor: &str) -> Result<()> {
    let _ = fs::remove_file(out);
    let arguments = ["-comp", compressor, "-noappend", "-all-root", "-quiet", "-no-progress"];
    machine::run("mksquashfs", |it| it.arg(from).arg(out).args(arguments))
}

fn source(path: &Path) -> Result<Source> {
    Ok(Source::File { path: path.to_owned(), len: fs::metadata(path)?.len() })
}
