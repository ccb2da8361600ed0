//! What is kept of a corpus in the repository: few inputs, which reach most.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use super::{Kind, Places, command};
use crate::program;

/// Bytes that are kept of a target, inputs that once crashed left out.
const MOST: u64 = 24 << 10;
/// So many at most, the shortest ones.
const MOST_INPUTS: usize = 200;

/// Makes `fuzz/corpus/TARGET` anew: of the inputs that reach everything, the shortest.
pub(super) fn keep(places: &Places, target: &str) -> Result<()> {
    let minimal = places.work.join("minimal").join(target);
    if minimal.exists() {
        fs::remove_dir_all(&minimal)?;
    }
    let minimal = places.directory("minimal", target)?;
    let committed = places.committed.join(target);
    fs::create_dir_all(&committed)?;
    let mut merge = command(places, Kind::Fast, target);
    merge.arg("-merge=1").arg(&minimal).arg(&committed);
    merge.arg(places.directory("found", target)?).arg(places.directory("seeds", target)?);
    program::run(merge.stdout(Stdio::null()).stderr(Stdio::null()))?;
    let mut inputs = files(&minimal)?;
    inputs.sort();
    let mut left = MOST;
    let mut wanted = BTreeSet::new();
    for (len, path) in inputs.into_iter().take(MOST_INPUTS) {
        if len > left {
            break;
        }
        left -= len;
        wanted.extend(path.file_name().map(ToOwned::to_owned));
    }
    for (_, path) in files(&committed)? {
        let Some(name) = path.file_name() else { continue };
        if !wanted.contains(name) && !name.to_string_lossy().starts_with("crash-") {
            fs::remove_file(&path)?;
        }
    }
    for name in wanted {
        fs::copy(minimal.join(&name), committed.join(&name)).context("copy an input")?;
    }
    Ok(())
}

/// The files of a directory, with their lengths.
fn files(directory: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        found.push((entry.metadata()?.len(), entry.path()));
    }
    Ok(found)
}
