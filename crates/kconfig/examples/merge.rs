//! Merges fragments into a kernel configuration, as the kernel's `merge_config.sh -m` does.
//!
//! `merge BASE FRAGMENT… [-o OUT] [--strict] [--provenance]`: exit code 0 when merged, 1 when
//! `--strict` found a conflict (nothing is written then), 2 for unreadable input or wrong usage.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use kiln_kconfig::{DotConfig, MergeOptions, Merged};

/// Merge fragments into a kernel configuration.
#[derive(Debug, Parser)]
struct Arguments {
    /// The configuration to start from.
    base: PathBuf,
    /// The fragments, later ones over earlier ones.
    fragments: Vec<PathBuf>,
    /// Where to write the result; without it, standard output.
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// A value that is changed is an error.
    #[arg(long)]
    strict: bool,
    /// A fragment's m does not replace a y.
    #[arg(long)]
    builtin_wins: bool,
    /// Tell on standard error which line set each option, and what it overrode.
    #[arg(long)]
    provenance: bool,
    /// Tell nothing but errors.
    #[arg(short, long)]
    quiet: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("merge: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let base = DotConfig::read(&arguments.base)?;
    let fragments =
        arguments.fragments.iter().map(DotConfig::read).collect::<Result<Vec<_>, _>>()?;
    let mut options = MergeOptions::default();
    options.builtin_wins = arguments.builtin_wins;
    let merged = options.merge(&base, &fragments);
    tell(arguments, &base, &fragments, &merged)?;
    if arguments.strict && !merged.is_strict() {
        eprintln!(
            "merge: {} values were changed, and --strict asks for none",
            merged.overrides.len()
        );
        return Ok(ExitCode::from(1));
    }
    match &arguments.output {
        Some(path) => merged.config.save(path)?,
        None => merged.config.write_to(io::stdout().lock())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(
    arguments: &Arguments,
    base: &DotConfig,
    fragments: &[DotConfig],
    merged: &Merged,
) -> io::Result<()> {
    let mut out = io::BufWriter::new(io::stderr().lock());
    if !arguments.quiet {
        for problem in std::iter::once(base).chain(fragments).flat_map(DotConfig::problems) {
            writeln!(out, "{problem}")?;
        }
        for (label, list) in [
            ("changed", &merged.overrides),
            ("redundant", &merged.redundant),
            ("kept", &merged.kept_builtin),
        ] {
            for entry in list {
                writeln!(out, "{label}: {entry}")?;
            }
        }
        for line in &merged.lost {
            writeln!(out, "lost: {line}")?;
        }
    }
    if arguments.provenance {
        for (option, provenance) in &merged.provenance {
            write!(out, "CONFIG_{option}: {}", provenance.set_by)?;
            for earlier in provenance.overrode.iter().rev() {
                write!(out, ", after {earlier}")?;
            }
            writeln!(out)?;
        }
    }
    out.flush()
}
