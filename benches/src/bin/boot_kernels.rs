//! NomadOS on three kernels: built from source for it, Debian's generic one and Debian's for clouds.
//!
//! Everything else of the three images is the same. Measured is a user's wait, from QEMU's start to
//! the output of a finished job, in phases that the console and Nomad's API show; the kernels take
//! turns. Beside the figures stand the sizes of the kernel and of the disk's content. Guests are
//! emulated where there is no usable KVM, so compare the kernels with each other, not with metal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;
use kiln::definition::{Format, KernelSource};
use kiln::{Progress, cache};
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use nomados::build;
use nomados::run::{self, Options, Phase};

/// NomadOS on a kernel from source, and on Debian's.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<5>,
}

/// One kernel under NomadOS.
struct Contender {
    who: &'static str,
    image: PathBuf,
    sizes: String,
    runs: Vec<Vec<Phase>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("boot_kernels", &arguments.common, || Ok(measure(&arguments)?))
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let source = KernelSource::Source("linux-source-6.1".into());
    let package = |name: &str| KernelSource::Package(name.into());
    let mut contenders = [
        contender("from source", "source", source)?,
        contender("generic", "generic", package("linux-image-amd64"))?,
        contender("cloud", "cloud", package("linux-image-cloud-amd64"))?,
    ];
    for round in 0..arguments.common.n as usize {
        // Who is first changes too.
        let first = round % contenders.len();
        contenders.rotate_left(first);
        for contender in &mut contenders {
            let phases = boot(&contender.image)
                .with_context(|| format!("round {round}, {}", contender.who))?;
            let total: f64 = phases.iter().map(|phase| phase.seconds).sum();
            eprintln!("{} {total:.2} s", contender.who);
            contender.runs.push(phases);
        }
        contenders.rotate_right(first);
    }
    Ok(report(&contenders))
}

fn contender(who: &'static str, name: &str, kernel: KernelSource) -> Result<Contender> {
    let out = cache::workspace_root().join("target/bench/boot_kernels").join(name);
    let mut options = build::Options::new(&out);
    options.formats = vec![Format::Initramfs, Format::Raw];
    options.kernel = Some(kernel);
    // The cloud kernel has no drivers for other machines than those with virtio, as is booted here.
    options.virtio_only = who == "cloud";
    build::build(&options, &Progress::on_stderr())?;
    let size = |file: &str| {
        let path = out.join(file);
        let found = std::fs::metadata(&path).with_context(|| format!("stat {}", path.display()))?;
        Ok::<_, anyhow::Error>(found.len())
    };
    let (kernel, initramfs, disk) =
        (size("nomados.vmlinuz")?, size("nomados.initramfs")?, size("nomados.raw")?);
    let sizes = format!("bytes: kernel {kernel}, initramfs {initramfs}, raw disk {disk}");
    eprintln!("{who}: {sizes}");
    Ok(Contender { who, image: out.join("nomados.raw"), sizes, runs: Vec::new() })
}

fn boot(image: &Path) -> Result<Vec<Phase>> {
    let quiet = Progress::quiet();
    let mut running = run::start(&Options::new(image))?;
    running.wait_ready(&quiet)?;
    let output = running.run_job(&run::hello(), &quiet)?;
    if !output.starts_with("hello from nomados") {
        bail!("the job said {output:?}");
    }
    Ok(running.phases())
}

fn report(contenders: &[Contender]) -> Report {
    let first = contenders.iter().find_map(|contender| contender.runs.first());
    let names = first.into_iter().flatten().map(|phase| Some(phase.name.as_str()));
    let mut report = Report::new();
    // `None` stands for all phases together.
    for name in names.chain([None]) {
        for contender in contenders {
            let seconds = |phases: &Vec<Phase>| {
                let phases = phases.iter();
                phases
                    .filter(|phase| name.is_none_or(|name| phase.name == name))
                    .map(|phase| phase.seconds)
                    .sum()
            };
            let samples = contender.runs.iter().map(seconds).collect();
            report.add(name.unwrap_or("together"), contender.who, Unit::Seconds, samples);
            if name.is_none() {
                report.note(contender.sizes.clone());
            }
        }
    }
    report
}
