//! What is given to others: the artifacts, their checksums, and a signature of those.

use std::path::{Path, PathBuf};

use kiln::pipeline::{Pipeline, Step};
use kiln::sign::{self, Key};
use kiln::{Error, Result, cache};

/// The step.
pub(super) const STEP: &str = "dist";
/// What a release has: steps, of which it takes all outputs.
const OF: [&str; 9] =
    ["cli", "server", "init", "disk", "virtualbox", "vmware", "vmx", "openstack", "aws"];
/// Below the output directory.
const DIRECTORY: &str = "dist";
const SUMS: &str = "SHA256SUMS";
const SIGNATURE: &str = "SHA256SUMS.sig";
const PUBLIC: &str = "release.pub";

/// Adds the step.
pub(super) fn add(pipeline: &mut Pipeline, key: Option<&Path>) -> Result<()> {
    let mut inputs = Vec::new();
    for name in OF {
        let step = pipeline.steps().iter().find(|step| step.name() == name);
        for output in step.into_iter().flat_map(Step::outputs) {
            inputs.push((name, output.clone()));
        }
    }
    let below = |name: &str| format!("{DIRECTORY}/{name}");
    let outputs: Vec<String> = inputs
        .iter()
        .map(|(_, output)| below(output))
        .chain([SUMS, SIGNATURE, PUBLIC].map(below))
        .collect();
    let path = key.map(Path::to_path_buf);
    let mut step = Step::new(STEP, outputs, move |place| {
        let Some(key) = &path else {
            let text = "give the key to sign with: --key FILE, with --new-key to make one";
            return Err(Error::input(STEP, text));
        };
        let key = Key::read(key)?;
        let mut files: Vec<(&str, PathBuf)> = Vec::new();
        for (step, output) in &inputs {
            let to = place.output(&below(output))?;
            same_file(&place.input(step, output)?, &to)?;
            files.push((output, to));
        }
        let sums = sign::sums(files.iter().map(|(name, path)| (*name, path.as_path())))?;
        cache::write_file(&place.output(&below(SUMS))?, sums.as_bytes())?;
        cache::write_file(&place.output(&below(SIGNATURE))?, &key.sign(sums.as_bytes()))?;
        cache::write_file(&place.output(&below(PUBLIC))?, key.public()?.as_bytes())
    })
    .about("everything that is given to others, checksums and their signature");
    for name in OF {
        step = step.needs(name);
    }
    // Which key it is, and not where.
    if let Some(key) = key.filter(|key| key.exists()) {
        step = step.depends_on("key", Key::read(key)?.public()?);
    }
    pipeline.add(step);
    Ok(())
}

/// The same file by another name; where the file system has no such thing, a copy.
fn same_file(from: &Path, to: &Path) -> Result<()> {
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => cache::copy_file(from, to),
    }
}
