//! What a step was made of, and whether that is so still.
//!
//! Files are known by their digests. A file that has the length, the time and the number that it had when
//! its digest was taken has that digest still, unless it was written in the second before: then it is
//! read again.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::Step;
use crate::{Error, Result, cache, digest};

/// Below the output directory.
pub(super) const DIRECTORY: &str = ".steps";
/// No record is larger.
const LARGEST: u64 = 64 << 20;

/// A file as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Seen {
    digest: String,
    len: u64,
    /// Nanoseconds since 1970.
    time: i128,
    inode: u64,
}

/// What a step was made of, and what it made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// By what people call it: `text version`, `file PATH`, `kernel's vmlinuz`.
    pub(super) of: BTreeMap<String, Seen>,
    /// By name.
    pub(super) made: BTreeMap<String, Seen>,
    /// Whether its outputs were supplied.
    pub(super) supplied: bool,
    /// How long it took, in milliseconds.
    pub(super) took_ms: u64,
}

impl Record {
    fn path(out: &Path, step: &str) -> PathBuf {
        out.join(DIRECTORY).join(format!("{step}.json"))
    }

    /// The record of the last run; one that is not understood is none.
    pub(super) fn read(out: &Path, step: &str) -> Option<Self> {
        let path = Self::path(out, step);
        if fs::metadata(&path).ok()?.len() > LARGEST {
            return None;
        }
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    pub(super) fn write(&self, out: &Path, step: &str) -> Result<()> {
        let path = Self::path(out, step);
        let parent = out.join(DIRECTORY);
        fs::create_dir_all(&parent).map_err(Error::io("create directory", &parent))?;
        let text = serde_json::to_vec_pretty(self)
            .map_err(|error| Error::input(path.display().to_string(), error.to_string()))?;
        cache::write_file(&path, &text)
    }

    /// Nothing is known of the step from now on: what it writes may be half there.
    pub(super) fn forget(out: &Path, step: &str) -> Result<()> {
        let path = Self::path(out, step);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }

    /// What it was seen as before, under whatever name.
    fn of_file(&self, name: &str) -> Option<&Seen> {
        self.of.get(name).or_else(|| self.made.get(name))
    }
}

/// What a step would be made of now. `outputs` are those of the steps that it needs.
pub(super) fn now(
    step: &Step,
    out: &Path,
    outputs: &[(String, String)],
    before: &Record,
) -> Result<BTreeMap<String, Seen>> {
    let mut of = BTreeMap::new();
    for (what, text) in &step.texts {
        of.insert(format!("text {what}"), text_seen(text));
    }
    for path in step.files.iter().chain(&step.kept) {
        let mut files = Vec::new();
        walk(path, &mut files)?;
        if files.is_empty() {
            of.insert(format!("file {}", path.display()), text_seen("not there"));
        }
        for file in files {
            let name = format!("file {}", file.display());
            let seen = seen(&file, before.of_file(&name))?;
            of.insert(name, seen);
        }
    }
    for (other, output) in outputs {
        let name = format!("{other}'s {output}");
        let seen = seen(&out.join(output), before.of_file(&name))?;
        of.insert(name, seen);
    }
    Ok(of)
}

/// Files that the step may have written itself, as it has left them.
pub(super) fn kept(step: &Step, of: &mut BTreeMap<String, Seen>) -> Result<()> {
    for path in &step.kept {
        let now = if path.is_file() { seen(path, None)? } else { text_seen("not there") };
        of.insert(format!("file {}", path.display()), now);
    }
    Ok(())
}

/// A text in place of a file.
fn text_seen(text: &str) -> Seen {
    let digest = digest::of_bytes(text.as_bytes());
    Seen { digest, len: text.len() as u64, time: 0, inode: 0 }
}

/// A file as it is.
pub(super) fn seen(path: &Path, before: Option<&Seen>) -> Result<Seen> {
    let found = fs::metadata(path).map_err(Error::io("stat", path))?;
    let time = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    let (len, inode) = (found.len(), found.ino());
    if let Some(before) = before
        && (before.len, before.time, before.inode) == (len, time, inode)
        && is_old(time)
    {
        return Ok(before.clone());
    }
    Ok(Seen { digest: digest::of_file(path)?, len, time, inode })
}

/// Whether a file with this time cannot have been written again in the same tick of the clock.
fn is_old(time: i128) -> bool {
    const SECOND: i128 = 1_000_000_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(now.as_nanos()).unwrap_or(0) - time > SECOND
}

/// All files of a path, sorted; a file is itself.
fn walk(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let Ok(found) = fs::metadata(path) else { return Ok(()) };
    if !found.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(Error::io("read directory", path))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.map_err(Error::io("read directory", path))?.path());
    }
    names.sort();
    names.iter().try_for_each(|name| walk(name, files))
}

/// What is different, in words; the first few of it.
pub(super) fn difference(
    old: &BTreeMap<String, Seen>,
    new: &BTreeMap<String, Seen>,
) -> Vec<String> {
    let mut said = Vec::new();
    for (name, seen) in new {
        match old.get(name) {
            None => said.push(format!("{name} is new")),
            Some(before) if before.digest != seen.digest => said.push(format!("{name} is another")),
            Some(_) => {}
        }
    }
    said.extend(
        old.keys().filter(|name| !new.contains_key(*name)).map(|name| format!("{name} is gone")),
    );
    said
}

impl Seen {
    /// Whether it is something else by now.
    pub(super) fn digest_differs(&self, other: &Self) -> bool {
        self.digest != other.digest
    }
}
