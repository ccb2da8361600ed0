//! Merging fragments: our `merge` example beside the kernel's `merge_config.sh -m`, on the same
//! files, interleaved, in one run; and that both write the same bytes.
//!
//! `cargo build --release -p kiln-kconfig --example merge`, then
//! `cargo run --release -p kiln-benches --bin kconfig_merge -- --source LINUX-SOURCE --base CONFIG`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use kiln_kconfig::{DotConfig, merge};

/// Our merge beside merge_config.sh -m.
#[derive(Debug, Parser)]
struct Arguments {
    /// Kernel source, or as much of it as the tests keep.
    #[arg(long, default_value = "target/cache/linux-source-6.1")]
    source: PathBuf,
    /// A further base, such as Debian's /boot/config-….
    #[arg(long)]
    base: Option<PathBuf>,
    /// The release build of the example `merge`; by default beside this program.
    #[arg(long)]
    ours: Option<PathBuf>,
    /// Runs of each program on each input.
    #[arg(short, long, default_value_t = 7)]
    n: usize,
    /// The figures as JSON.
    #[arg(long)]
    json: bool,
}

type AnyError = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kconfig_merge: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Input {
    name: String,
    base: PathBuf,
    fragments: Vec<PathBuf>,
}

fn inputs(arguments: &Arguments) -> Vec<Input> {
    let at = |path: &str| arguments.source.join(path);
    let guest = || vec![at("kernel/configs/kvm_guest.config")];
    let several = || {
        ["kvm_guest", "xen", "android-base", "android-recommended", "debug"]
            .map(|name| at(&format!("kernel/configs/{name}.config")))
            .to_vec()
    };
    let defconfig = at("arch/x86/configs/x86_64_defconfig");
    let mut bases = vec![("x86_64_defconfig", defconfig)];
    bases.extend(arguments.base.clone().map(|base| ("--base", base)));
    let mut inputs = Vec::new();
    for (name, base) in bases {
        for (label, fragments) in [("kvm_guest", guest()), ("5 fragments", several())] {
            inputs.push(Input { name: format!("{name} + {label}"), base: base.clone(), fragments });
        }
    }
    inputs
}

fn run(arguments: &Arguments) -> Result<(), AnyError> {
    let script = arguments.source.join("scripts/kconfig/merge_config.sh").canonicalize()?;
    let ours = match &arguments.ours {
        Some(path) => path.clone(),
        None => {
            let own = std::env::current_exe()?;
            own.parent().ok_or("this program is in no folder")?.join("examples/merge")
        }
    }
    .canonicalize()
    .map_err(|error| format!("{error}: build it first (--release --example merge)"))?;
    let mut rows = Vec::new();
    for input in inputs(arguments) {
        rows.push(compare(arguments.n, &script, &ours, &input)?);
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    println!(
        "median wall time of {} runs each, interleaved; library: in this process",
        arguments.n
    );
    for row in rows {
        let number = |field: &str| row[field].as_f64().unwrap_or(f64::NAN);
        println!(
            "{:<34} merge_config.sh {:>8.1} ms   ours {:>6.2} ms   ratio {:>6.0}   library {:>6.2} ms",
            row["input"].as_str().unwrap_or_default(),
            number("script_ms"),
            number("ours_ms"),
            number("ratio"),
            number("library_ms"),
        );
    }
    Ok(())
}

fn compare(
    n: usize,
    script: &Path,
    ours: &Path,
    input: &Input,
) -> Result<serde_json::Value, AnyError> {
    let work = tempfile::tempdir()?;
    let base = input.base.canonicalize()?;
    let fragments: Vec<PathBuf> =
        input.fragments.iter().map(|path| path.canonicalize()).collect::<Result<_, _>>()?;
    let (mut theirs, mut mine, mut library) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..n {
        let mut peer = Command::new("sh");
        peer.arg(script).arg("-m").arg(&base).args(&fragments);
        theirs.push(timed(peer.env("LC_ALL", "C").env("KCONFIG_CONFIG", "theirs"), work.path())?);
        let mut own = Command::new(ours);
        mine.push(timed(own.arg(&base).args(&fragments).args(["-o", "ours"]), work.path())?);
        let start = Instant::now();
        let parsed = fragments.iter().map(DotConfig::read).collect::<Result<Vec<_>, _>>()?;
        let merged = merge(&DotConfig::read(&base)?, &parsed);
        library.push(start.elapsed());
        let theirs = std::fs::read(work.path().join("theirs"))?;
        if theirs != std::fs::read(work.path().join("ours"))? || theirs != merged.config.as_bytes()
        {
            return Err(format!("{}: the results differ", input.name).into());
        }
    }
    let (script_ms, ours_ms) = (median(theirs), median(mine));
    Ok(serde_json::json!({
        "input": input.name,
        "n": n,
        "script_ms": script_ms,
        "ours_ms": ours_ms,
        "ratio": script_ms / ours_ms,
        "library_ms": median(library),
    }))
}

fn timed(command: &mut Command, folder: &Path) -> Result<Duration, AnyError> {
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let status = command.status()?;
    let elapsed = start.elapsed();
    if status.success() { Ok(elapsed) } else { Err(format!("{command:?}: {status}").into()) }
}

/// In milliseconds.
fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(f64::NAN, |time| time.as_secs_f64() * 1000.0)
}
