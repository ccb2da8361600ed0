//! Ours and the peers in one run: the programs of `benches/`, whose results go to
//! `target/bench/NAME.json`.

use anyhow::{Context, Result, bail};

use crate::program;
use crate::setup::{self, Purpose};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// One bench of benches/src/bin (all without)
    name: Option<String>,
    /// Arguments for the bench, after `--`
    #[arg(last = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Bench)?;
    let directory = program::workspace().join("benches/src/bin");
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .with_context(|| format!("read {}", directory.display()))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            name.strip_suffix(".rs").map(str::to_owned)
        })
        .filter(|name| arguments.name.as_ref().is_none_or(|wanted| name.contains(wanted.as_str())))
        .collect();
    names.sort();
    if names.is_empty() {
        bail!("no bench of that name in {}", directory.display());
    }
    let results = program::target().join("bench");
    std::fs::create_dir_all(&results).with_context(|| format!("make {}", results.display()))?;
    // The examples of the crates are what the peers' programs are measured beside.
    program::run(program::cargo().args([
        "build",
        "--release",
        "--locked",
        "--quiet",
        "--examples",
        "-p",
        "kiln-dhcp",
        "-p",
        "kiln-initramfs",
        "-p",
        "kiln-kconfig",
        "-p",
        "kiln-kmod",
        "-p",
        "kiln-diskimg",
        "-p",
        "kiln-oci",
        "-p",
        "kiln-netboot",
        "--bin",
        "kiln-netboot",
        "--all-features",
    ]))?;
    for name in names {
        println!("== {name}");
        let mut bench = program::cargo();
        bench.args([
            "run",
            "--release",
            "--locked",
            "--quiet",
            "-p",
            "kiln-benches",
            "--bin",
            &name,
        ]);
        bench.arg("--").arg("--json").arg(results.join(format!("{name}.json")));
        bench.args(&arguments.arguments);
        program::run(&mut bench)?;
    }
    Ok(())
}
