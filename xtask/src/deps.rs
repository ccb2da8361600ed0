//! Independence: no crate in `crates/` depends on a sibling, leaf crates aside.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::program;

/// The leaf crates. A further one takes a paragraph in ARCHITECTURE.md.
const LEAVES: &[&str] = &["kiln-tree", "kiln-kmod", "kiln-unit-file", "kiln-dhcp-wire"];

pub(crate) fn check() -> Result<()> {
    let output = program::cargo()
        .args(["metadata", "--format-version", "1", "--no-deps", "--locked"])
        .output()
        .context("`cargo metadata` could not be started")?;
    if !output.status.success() {
        bail!("`cargo metadata`: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value = serde_json::from_slice(&output.stdout)?;
    let crates = program::workspace().join("crates");
    let mut edges = Vec::new();
    let mut count = 0;
    for package in metadata["packages"].as_array().context("packages in cargo's metadata")? {
        let name = package["name"].as_str().unwrap_or_default();
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        if !std::path::Path::new(manifest).starts_with(&crates) {
            continue;
        }
        count += 1;
        // Normal, build and dev dependencies alike, whatever feature they hide behind.
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            let sibling = dependency["path"].is_string();
            if sibling && (!LEAVES.contains(&on) || LEAVES.contains(&name)) {
                edges.push(format!("{name} depends on {on}"));
            }
        }
    }
    if count == 0 {
        bail!("no package found in {}", crates.display());
    }
    if !edges.is_empty() {
        bail!(
            "crates must be independent (ARCHITECTURE.md, \"Independence\"):\n  {}",
            edges.join("\n  ")
        );
    }
    println!("{count} crates, {} of them leaves: no edge between siblings", LEAVES.len());
    Ok(())
}
