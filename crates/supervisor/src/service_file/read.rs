//! Service files from the file system.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::{
    Context, Definitions, Finding, Findings, MAX_FILE_BYTES, Place, Source, file_name, parse,
    parse_sound,
};

/// The most files of one directory.
pub(crate) const MAX_FILES: usize = 16_384;

/// Reads service files, and all files `*.toml` of directories (not of those below, and none whose
/// name begins with a dot), in the order of their names.
///
/// # Errors
/// Everything that is wrong with them: files that cannot be read, and what they say.
pub fn read(paths: &[PathBuf]) -> Result<Definitions, Findings> {
    let (sources, mut findings) = sources(paths);
    match parse(&sources) {
        Ok(definitions) if findings.is_empty() => Ok(definitions),
        Ok(_) => Err(Findings(findings)),
        Err(more) => {
            findings.extend(more.0);
            Err(Findings(findings))
        }
    }
}

/// The same, of what can start, and everything that is wrong with the rest: see [`parse_sound`]. Files
/// that cannot be read are left out.
#[must_use]
pub fn read_sound(paths: &[PathBuf]) -> (Definitions, Findings) {
    let (sources, mut findings) = sources(paths);
    let (definitions, more) = parse_sound(&sources, Context::default());
    findings.extend(more.0);
    (definitions, Findings(findings))
}

/// What is in files, and which of them cannot be read.
fn sources(paths: &[PathBuf]) -> (Vec<Source>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut sources = Vec::new();
    for path in paths {
        let files = files(path).unwrap_or_else(|error| {
            findings.push(unread(path, &error));
            Vec::new()
        });
        for file in files {
            match content(&file) {
                Ok(bytes) => sources.push(Source { path: file, bytes }),
                Err(error) => findings.push(unread(&file, &error)),
            }
        }
    }
    (sources, findings)
}

pub(crate) fn unread(path: &Path, error: &io::Error) -> Finding {
    Finding::new(Place::file(path), error.to_string())
}

fn files(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        let name = file_name(&file);
        if !name.starts_with('.') && file.extension().is_some_and(|it| it == "toml") {
            files.push(file);
        }
        if files.len() > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} service files")));
        }
    }
    files.sort();
    Ok(files)
}

/// A file's bytes, one more than are taken at most: what is longer is refused with its place.
pub(crate) fn content(path: &Path) -> io::Result<Vec<u8>> {
    // a pipe would be waited for
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    let most = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
