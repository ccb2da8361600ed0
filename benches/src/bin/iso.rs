//! ISO images: ours beside xorriso and genisoimage, of the same tree.
//!
//! Figures are wall time, that of the tools with their start; ours reads the directory too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::Report;
use kiln_benches::turns::Contender;
use kiln_benches::{Result, machine, noise};
use kiln_diskimg::container::{self, Format};
use kiln_diskimg::iso::{Joliet, Options, Volume};
use kiln_tree::{Tree, host};

/// ISO images beside xorriso and genisoimage
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
    /// Where to work, about 1.5 GiB; best a tmpfs
    #[arg(long, default_value = "/dev/shm")]
    dir: PathBuf,
    /// The directory that goes into the images; 10,000 files of 338 MB are made by default
    #[arg(long)]
    tree: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("iso", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let dir = tempfile::tempdir_in(&arguments.dir)?;
    let dir = dir.path();
    let tree = &noise::root(arguments.tree.as_deref(), dir)?;
    let out = |name: &str| dir.join(name);
    let mut turns = vec![Contender::timed("kiln-diskimg", || ours(tree, &out("ours.iso")))];
    if machine::are_installed(&["xorriso"]) {
        turns.push(Contender::timed("xorriso -as mkisofs", || {
            theirs("xorriso", &["-as", "mkisofs"], tree, &out("xorriso.iso"))
        }));
    }
    if machine::are_installed(&["genisoimage"]) {
        turns.push(Contender::timed("genisoimage", || {
            theirs("genisoimage", &["-quiet"], tree, &out("genisoimage.iso"))
        }));
    }
    let mut report = Report::new();
    let what = "ISO 9660 with Rock Ridge and Joliet, 338 MB in 10,000 files";
    report.timed(what, arguments.common.n, turns)?;
    Ok(report)
}

fn ours(tree: &Path, out: &Path) -> Result<()> {
    let mut imported = Tree::new();
    host::import(&mut imported, tree, "", &host::Policy::default())?;
    let mut options = Options::default();
    options.joliet = Some(Joliet::Long);
    Ok(container::write_file(Format::Raw, &Volume::plan(&imported, &options)?, out)?)
}

fn theirs(tool: &str, arguments: &[&str], tree: &Path, out: &Path) -> Result<()> {
    let _ = fs::remove_file(out);
    machine::run(tool, |it| {
        it.args(arguments).args(["-R", "-J", "-joliet-long", "-o"]).arg(out).arg(tree)
    })
}
