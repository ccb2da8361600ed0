//! NomadOS on a kernel from source: built, booted from disk and initramfs with virtio and e1000,
//! put through every kind of job, and built once more elsewhere to the same bytes. What
//! `cargo xtask campaign kernel` runs; it takes some 25 minutes of two processors from an empty
//! cache.

use std::num::NonZero;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use kiln::definition::{Format, KernelSource};
use kiln::kernel::Kernel;
use kiln::linux::{self, Source};
use kiln::qemu::{Bus, Nic};
use kiln::{Cache, Progress, cache, command, debian, digest};
use kiln_e2e::{jobs, with_raw_exec};
use nomados::build;
use nomados::run::{self, Options};

const SOURCE: &str = "linux-source-6.1";

/// NomadOS on a kernel from source.
#[derive(Debug, Parser)]
struct Arguments {
    /// Leave out the second build, which shows that the first can be had again
    #[arg(long)]
    build_once: bool,
    /// How many compilers run at once; as many as there are processors without
    #[arg(long, value_name = "N")]
    jobs: Option<NonZero<usize>>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut tally = (0, 0);
    let mut step = |name: &str, done: &mut dyn FnMut() -> Result<String>| {
        let started = Instant::now();
        let outcome = done();
        let seconds = started.elapsed().as_secs_f64();
        match outcome {
            Ok(said) => {
                tally.0 += 1;
                println!("ok      {name} ({seconds:.1} s){said}");
            }
            Err(error) => {
                tally.1 += 1;
                println!("FAILED  {name} ({seconds:.1} s): {error:#}");
            }
        }
    };
    let out = cache::workspace_root().join("target/campaign/kernel");
    step("build kernel and images", &mut || images(&out, arguments.jobs));
    for (image, nic, bus) in [
        ("nomados.raw", Nic::Virtio, Bus::Virtio),
        ("nomados.raw", Nic::E1000, Bus::Ide),
        ("nomados.initramfs", Nic::Virtio, Bus::Virtio),
        ("nomados.initramfs", Nic::E1000, Bus::Virtio),
    ] {
        step(&format!("all jobs: {image}, {nic:?}, {bus:?}"), &mut || {
            let mut options = Options::new(out.join(image));
            (options.nic, options.bus) = (nic, bus);
            Ok(format!("\n{}", run::chart(&jobs::all_of(&options)?).trim_end()))
        });
    }
    if !arguments.build_once {
        step("the same bytes elsewhere", &mut || again(&out, arguments.jobs));
    }
    let (passed, failed) = tally;
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn kernel(cache: &Cache, source: Source, jobs: Option<NonZero<usize>>) -> Result<Kernel> {
    let mut recipe = nomados::linux::recipe(source)?;
    recipe.jobs = jobs;
    Ok(linux::build(cache, &recipe, &Progress::on_stderr())?)
}

fn images(out: &Path, jobs: Option<NonZero<usize>>) -> Result<String> {
    let cache = Cache::of_workspace();
    let kernel = kernel(&cache, debian::kernel_source(&cache, SOURCE)?, jobs)?;
    let mut options = with_raw_exec(out)?;
    options.formats = vec![Format::Raw, Format::Initramfs];
    options.kernel = Some(KernelSource::Source(SOURCE.into()));
    let report = build::build(&options, &Progress::on_stderr())?;
    let size = std::fs::metadata(&kernel.image).context("stat the kernel")?.len();
    Ok(format!(": Linux {}, {size} bytes\n{report}", kernel.release))
}

/// Builds from a copy of the source, in another cache: no path is the same.
fn again(out: &Path, jobs: Option<NonZero<usize>>) -> Result<String> {
    let cache = Cache::of_workspace();
    let source = debian::kernel_source(&cache, SOURCE)?;
    let first = kernel(&cache, source.clone(), jobs)?;
    let source = source.unpack(&cache, &Progress::quiet())?.path;
    let elsewhere = tempfile::tempdir_in(out).context("make a directory")?;
    let tree = elsewhere.path().join("another-tree");
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&source).arg(&tree);
    command::run(&mut copy, std::time::Duration::from_secs(900))?;
    let other = Cache::at(elsewhere.path().join("another-cache"));
    let second = kernel(&other, Source::tree(&tree), jobs)?;
    for (one, two) in [(&first.image, &second.image), (&first.config, &second.config)] {
        let (a, b) = (digest::of_file(one)?, digest::of_file(two)?);
        ensure!(a == b, "{} is {a}, {} is {b}", one.display(), two.display());
    }
    Ok(format!(": sha256 {}", digest::of_file(&second.image)?))
}
