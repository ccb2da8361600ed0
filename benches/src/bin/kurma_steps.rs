//! Kurma's steps `init`, `disk` and `virtualbox`, from Debian packages and compiled programs to a zip for
//! VirtualBox, beside others who make a zip of the same content: a root directory by mmdebstrap or mkosi,
//! then a script with cpio, zstd, genimage, syslinux, qemu-img and zip.
//!
//! - *nothing kept*: programs are compiled and packages downloaded, nothing else is there. The images of the
//!   console and the others are given, as KurmaOS' were; *with all that they need* they are made too, by
//!   us alone.
//! - *kurma-init changed*: a text of its source is another one, in a copy of the workspace. That it is compiled
//!   (and linked, with optimisation over all of it) is part of the figure for all, and stands alone in the
//!   last row. The script keeps its root directory.
//! - *nothing changed*: the same command once more. The script knows nothing of changes.
//!
//! The script is spared work: it is given the list of files that our build found out and those of them that
//! are in no package, the places of the partitions, and the OVF. It fills one slot of a plain file system
//! where ours makes places for a second system, and writes no manifest. It may use the archive's lists without
//! asking for them again. mkosi installs packages (with their scripts), where we and mmdebstrap unpack them.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::steps::{Image, Mkosi, Ours, Source};
use kiln_benches::turns::{Contender, seconds, take_turns};
use kiln_benches::{Result, machine};

/// Who is compared.
const OURS: &str = "kurma build";
const THEIRS: &str = "mmdebstrap, cpio, genimage, qemu-img";
const COMPILER: &str = "(the compiler alone)";

/// Kurma's chained steps beside mmdebstrap, mkosi and genimage
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<3>,
    /// Where the copy of the workspace is compiled and images are made, about 10 GiB
    /// [default: kurma-steps in the target directory]
    #[arg(long)]
    dir: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("kurma_steps", &arguments.common, || measure(&arguments))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    println!(
        "KurmaOS says 60-65 s of its own three steps, on a laptop of 2016; not measured here."
    );
    let directory = match &arguments.dir {
        Some(directory) => directory.clone(),
        None => target()?.join("kurma-steps"),
    };
    std::fs::create_dir_all(&directory)?;
    let work = tempfile::tempdir_in(&directory)?;
    let source = RefCell::new(Source::copy(&directory.join("source"))?);
    let ours = Ours::new(&source.borrow(), work.path())?;
    let image = match machine::are_installed(&Image::PROGRAMS) {
        true => Some(Image::like(&ours.out(), &work.path().join("peer"))?),
        false => None,
    };
    let mkosi = image.as_ref().and_then(Mkosi::find);

    let n = arguments.common.n;
    let mut contest = |what: &str, mut contenders: Vec<Contender<'_>>| -> Result<()> {
        let samples = take_turns(n, &mut contenders)?;
        report.contest(what, Unit::Seconds, &contenders, samples);
        Ok(())
    };
    let forgotten = |steps: fn(&Ours, &Source) -> Result<()>| {
        let (ours, source) = (&ours, &source);
        Contender::new(OURS, move || {
            ours.forget()?;
            seconds(|| steps(ours, &source.borrow()))
        })
    };
    let mut all = vec![forgotten(Ours::alone)];
    if let (Some(mkosi), Some(image)) = (&mkosi, &image) {
        let run = move || mkosi.root(image).and_then(|()| image.pack());
        all.push(Contender::timed(Mkosi::name(), run));
    }
    // Last, because what is changed later is packed with its root.
    if let Some(image) = &image {
        all.push(Contender::timed(THEIRS, || image.root().and_then(|()| image.pack())));
    }
    contest("nothing kept", all)?;
    contest("nothing kept, with all that they need", vec![forgotten(Ours::with_all)])?;

    // What was forgotten is kept from now on.
    ours.again(&source.borrow())?;
    let compiled = || {
        source.borrow_mut().change()?;
        source.borrow().init()
    };
    let mut all = vec![Contender::timed(OURS, || {
        source.borrow_mut().change()?;
        ours.again(&source.borrow())
    })];
    if let Some(image) = &image {
        let run = || image.set_init(&compiled()?).and_then(|()| image.pack());
        all.push(Contender::timed(THEIRS, run));
    }
    all.push(Contender::timed(COMPILER, || compiled().map(drop)));
    contest("kurma-init changed", all)?;

    // The compiler alone came last.
    ours.again(&source.borrow())?;
    let mut all = vec![Contender::timed(OURS, || ours.again(&source.borrow()))];
    if let Some(image) = &image {
        all.push(Contender::timed(THEIRS, || image.pack()));
    }
    contest("nothing changed", all)?;
    Ok(report)
}

/// Where cargo has put this program, in a directory for its profile.
fn target() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let target = own.ancestors().nth(2).ok_or("this program is in no target directory")?;
    Ok(target.to_owned())
}
