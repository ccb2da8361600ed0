//! What is said about a build: bills of materials and a size map beside its manifest, or what
//! differs between two builds.
//!
//! ```text
//! cargo run -p kiln --example report -- DIR              writes NAME.spdx.json, NAME.cdx.json, NAME.svg
//! cargo run -p kiln --example report -- OLD NEW [--all]  prints what differs; 1 if anything does
//! ```

use std::path::Path;
use std::process::ExitCode;

use kiln::manifest::Manifest;
use kiln::sbom::{self, Context};
use kiln::{Result, cache, diff, picture};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let all = words.iter().any(|word| word == "--all");
    let paths: Vec<&Path> =
        words.iter().filter(|word| !word.starts_with("--")).map(Path::new).collect();
    let done = match paths[..] {
        [directory] => write(directory),
        [old, new] => compare(old, new, all),
        _ => {
            eprintln!("usage: report DIR | report OLD NEW [--all]");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

fn write(directory: &Path) -> Result<ExitCode> {
    let manifest = Manifest::read(directory)?;
    let mut context = Context::default();
    let epoch = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|time| time.parse().ok());
    context.created = epoch.unwrap_or(sbom::EPOCH);
    for (ending, text) in [
        ("spdx.json", sbom::spdx(&manifest, &context)?),
        ("cdx.json", sbom::cyclonedx(&manifest, &context)?),
        ("svg", picture::size_map(&manifest)),
    ] {
        let path = directory.join(format!("{}.{ending}", manifest.name));
        cache::write_file(&path, text.as_bytes())?;
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn compare(old: &Path, new: &Path, all: bool) -> Result<ExitCode> {
    let difference = diff::manifests(&Manifest::read(old)?, &Manifest::read(new)?);
    if all {
        println!("{}", difference.in_full());
    } else {
        println!("{difference}");
    }
    Ok(if difference.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
