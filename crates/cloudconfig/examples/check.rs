//! Says what user-data means: what is wrong with it, where each value is from, and what would be done.
//!
//! `cargo run -p kiln-cloudconfig --example check -- FILE…` takes files as layers, the lowest first.

use std::process::ExitCode;

use kiln_cloudconfig::user_data::{self, PartKind};
use kiln_cloudconfig::{Findings, Limits, decode, document, layer, plan};

fn main() -> ExitCode {
    let limits = Limits::default();
    let (mut layers, mut findings, mut scripts) = (Vec::new(), Findings::default(), 0_usize);
    for file in std::env::args().skip(1) {
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{file}: {error}");
                return ExitCode::from(2);
            }
        };
        let (parts, more) = user_data::read(&file, &bytes, &limits);
        findings.append(more);
        for part in parts {
            if part.kind != PartKind::CloudConfig {
                scripts = scripts.saturating_add(1);
                continue;
            }
            let (root, more) = document::read(&part.name, &part.bytes, &limits);
            findings.append(more);
            layers.push(root);
        }
    }
    let merged = layer::merge(layers, &layer::Rules::default());
    let (config, more) = decode(&merged.root, &limits);
    findings.append(more);
    println!("{}", merged.explain());
    print!("{}", plan::plan(&config, &plan::Options::default()));
    if scripts > 0 {
        println!("and {scripts} scripts");
    }
    if findings.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("\n{findings}");
    ExitCode::FAILURE
}
