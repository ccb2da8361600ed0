//! Merging fragments: our `merge` example beside the kernel's `merge_config.sh -m`, on the same
//! files, interleaved, in one run; and that both write the same bytes.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use kiln_benches::arguments::Common;
use kiln_benches::report::{Report, Unit};
use kiln_benches::turns::{Contender, seconds, take_turns};
use kiln_benches::{Result, machine};
use kiln_kconfig::{DotConfig, merge};

/// Our merge beside merge_config.sh -m
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    common: Common<7>,
    /// Kernel source, or as much of it as the tests keep [default: target/cache/linux-source-6.1]
    #[arg(long, value_name = "DIR")]
    source: Option<PathBuf>,
    /// A further base, such as Debian's /boot/config-…
    #[arg(long, value_name = "CONFIG")]
    base: Option<PathBuf>,
    /// The example `merge` [default: examples/merge beside this program]
    #[arg(long, value_name = "PROGRAM")]
    ours: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    kiln_benches::run("kconfig_merge", &arguments.common, || measure(&arguments))
}

struct Input {
    name: String,
    base: PathBuf,
    fragments: Vec<PathBuf>,
}

fn inputs(source: &Path, base: Option<&Path>) -> Vec<Input> {
    let at = |path: &str| source.join(path);
    let guest = || vec![at("kernel/configs/kvm_guest.config")];
    let several = || {
        ["kvm_guest", "xen", "android-base", "android-recommended", "debug"]
            .map(|name| at(&format!("kernel/configs/{name}.config")))
            .to_vec()
    };
    let defconfig = at("arch/x86/configs/x86_64_defconfig");
    let mut bases = vec![("x86_64_defconfig", defconfig)];
    bases.extend(base.map(|base| ("--base", base.to_owned())));
    let mut inputs = Vec::new();
    for (name, base) in bases {
        for (label, fragments) in [("kvm_guest", guest()), ("5 fragments", several())] {
            inputs.push(Input { name: format!("{name} + {label}"), base: base.clone(), fragments });
        }
    }
    inputs
}

fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new();
    // Where the tests of kiln-kconfig keep it.
    let kept = || machine::cache().join("linux-source-6.1");
    let source = arguments.source.clone().unwrap_or_else(kept);
    let script = source.join("scripts/kconfig/merge_config.sh");
    if arguments.source.is_none() && !script.is_file() {
        println!(
            "skipped: linux-source-6.1 ({} is not there: `cargo test -p kiln-kconfig` fetches it, \
             or name a kernel source with --source)",
            script.display()
        );
        return Ok(report);
    }
    let absolute =
        |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let script = absolute(&script)?;
    let ours = match &arguments.ours {
        Some(path) => absolute(path)?,
        None => machine::example("kiln-kconfig", "merge")?,
    };
    for input in inputs(&source, arguments.base.as_deref()) {
        compare(&mut report, arguments.common.n, &script, &ours, &input)?;
    }
    Ok(report)
}

fn compare(report: &mut Report, n: u32, script: &Path, ours: &Path, input: &Input) -> Result<()> {
    let work = tempfile::tempdir()?;
    let base = input.base.canonicalize()?;
    let fragments: Vec<PathBuf> =
        input.fragments.iter().map(|path| path.canonicalize()).collect::<std::io::Result<_>>()?;
    let read = |name: &str| std::fs::read(work.path().join(name));
    let theirs = RefCell::new(Vec::new());
    let same = |config: &[u8]| {
        if *theirs.borrow() == config { Ok(()) } else { Err("the result is not the script's") }
    };
    // The script is first in each round: what the others write is compared with what it wrote.
    let mut script_first = [
        Contender::new("merge_config.sh -m", || {
            let mut peer = Command::new("sh");
            peer.arg(script).arg("-m").arg(&base).args(&fragments);
            peer.env("LC_ALL", "C").env("KCONFIG_CONFIG", "theirs");
            let took = timed(&mut peer, work.path())?;
            theirs.replace(read("theirs")?);
            Ok(took)
        }),
        Contender::new("kiln merge", || {
            let mut own = Command::new(ours);
            own.arg(&base).args(&fragments).args(["-o", "ours"]);
            let took = timed(&mut own, work.path())?;
            same(&read("ours")?)?;
            Ok(took)
        }),
        Contender::new("kiln-kconfig, in this process", || {
            let mut merged = None;
            let took = seconds(|| {
                let parsed = fragments
                    .iter()
                    .map(DotConfig::read)
                    .collect::<std::result::Result<Vec<_>, _>>()?;
                merged = Some(merge(&DotConfig::read(&base)?, &parsed));
                Ok(())
            })?;
            same(merged.ok_or("nothing was merged")?.config.as_bytes())?;
            Ok(took)
        }),
    ];
    let samples =
        take_turns(n, &mut script_first).map_err(|error| format!("{}: {error}", input.name))?;
    let mut rows: Vec<_> = script_first.iter().zip(samples).collect();
    // Ours first: the ratios refer to it.
    rows.rotate_left(1);
    rows.swap(1, 2);
    for (contender, samples) in rows {
        report.add(&input.name, contender.who(), Unit::Milliseconds, samples);
    }
    Ok(())
}

/// The wall time of a program in `folder`, which must succeed.
fn timed(command: &mut Command, folder: &Path) -> Result<f64> {
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut status = None;
    let took = seconds(|| {
        status = Some(command.status()?);
        Ok(())
    })?;
    match status {
        Some(status) if status.success() => Ok(took),
        status => Err(format!("{command:?}: {status:?}").into()),
    }
}
