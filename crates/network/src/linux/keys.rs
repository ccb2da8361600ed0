//! The keys of tunnels, from their files.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::{Config, Keys, Problem, Secret};

/// A key is 44 characters; a longer file is something else.
const LONGEST: u64 = 4096;

/// Reads the keys that a configuration names. One that cannot be read is left out and told, and so is
/// one that others than its owner may read.
#[must_use]
pub fn read_keys(config: &Config) -> (Keys, Vec<Problem>) {
    let mut keys = Keys::new();
    let mut problems = Vec::new();
    for path in config.key_files() {
        match read(&path) {
            Ok(key) => {
                keys.insert(path, key);
            }
            Err(what) => problems.push(Problem::new(path.display(), what)),
        }
    }
    (keys, problems)
}

fn read(path: &Path) -> Result<Secret, String> {
    let found = fs::metadata(path).map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("no file".into());
    }
    if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o777;
        return Err(format!("others may read this key (mode {mode:o}): chmod 600 it"));
    }
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LONGEST).read_to_string(&mut text).map_err(|error| error.to_string())?;
    text.parse().map_err(|error: crate::ParseError| error.to_string())
}
