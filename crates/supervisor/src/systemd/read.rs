//! Units and service files from the file system.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use super::unit::{OTHERS, is_read, is_unit, template, unit_of};
use super::{Options, Units, Unsupported, parse, sound};
use crate::service_file::{
    Finding, Findings, MAX_FILES, Place, Source, content, file_name, unread,
};

/// What has been found.
#[derive(Default)]
struct Found {
    sources: Vec<Source>,
    drop_ins: Vec<PathBuf>,
    aliases: BTreeMap<String, String>,
    /// Units that were named.
    named: Vec<String>,
    unsupported: Vec<Unsupported>,
    findings: Vec<Finding>,
    /// Units of which something could not be read.
    spoiled: BTreeSet<String>,
}

/// Reads units and service files, and those of directories (`*.toml`). Of a directory, `NAME.d/*.conf`
/// are drop-ins, what is in `NAME.wants` and `NAME.requires` is pulled in by that unit, a link to
/// another name is an alias, a link to /dev/null masks a unit, and templates stand for their instances.
/// A unit's file that is named itself comes with its drop-ins, and is started ([`Options::start`]); of
/// an instance, its template is read.
///
/// # Errors
/// Everything that is wrong with them: files that cannot be read, and what they say.
pub fn read(paths: &[PathBuf], options: &Options) -> Result<Units, Findings> {
    let (mut found, options) = found(paths, options);
    match parse(&found.sources, &options) {
        Ok(units) if found.findings.is_empty() => Ok(found.with(units)),
        Ok(_) => Err(Findings(found.findings)),
        Err(more) => {
            found.findings.extend(more.0);
            Err(Findings(found.findings))
        }
    }
}

/// The same, of what can start, and everything that is wrong with the rest: see
/// [`parse_sound`](super::parse_sound). Files that cannot be read are left out, and units to which they
/// belong.
#[must_use]
pub fn read_sound(paths: &[PathBuf], options: &Options) -> (Units, Findings) {
    let (mut found, options) = found(paths, options);
    let (units, more) = sound(&found.sources, &options, std::mem::take(&mut found.spoiled));
    let mut findings = std::mem::take(&mut found.findings);
    findings.extend(more.0);
    (found.with(units), Findings(findings))
}

/// What there is to be read, and how.
fn found(paths: &[PathBuf], options: &Options) -> (Found, Options) {
    let mut found = Found::default();
    for path in paths {
        let result = if path.is_dir() { found.directory(path) } else { found.file(path) };
        if let Err(error) = result {
            found.findings.push(unread(path, &error));
        }
    }
    // of all directories by their file's name
    let mut drop_ins = std::mem::take(&mut found.drop_ins);
    drop_ins.sort_by_cached_key(|path| (file_name(path), path.clone()));
    drop_ins.dedup();
    for path in drop_ins {
        found.source(&path, &path);
    }
    let mut options = options.clone();
    options.start.append(&mut found.named);
    options.aliases.append(&mut found.aliases);
    environment_files(&found.sources, &mut options);
    (found, options)
}

impl Found {
    /// Reads a file as another one, or says why not.
    fn source(&mut self, file: &Path, name: &Path) {
        match content(file) {
            Ok(bytes) => self.sources.push(Source { path: name.to_owned(), bytes }),
            Err(error) => self.unread(file, &error),
        }
    }

    /// A file cannot be read, nor so the unit that it belongs to.
    fn unread(&mut self, file: &Path, error: &io::Error) {
        self.findings.push(unread(file, error));
        if is_unit(file) {
            self.spoiled.insert(unit_of(file));
        }
    }

    /// What is lost, with what was not read at all.
    fn with(mut self, mut units: Units) -> Units {
        units.unsupported.append(&mut self.unsupported);
        units.unsupported.sort();
        units
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        if !is_unit(path) {
            self.source(path, path);
            return Ok(());
        }
        let name = file_name(path);
        self.named.push(name.clone());
        self.beside(path);
        match template(&name) {
            Some(template) if !path.exists() => {
                let file = path.with_file_name(&template);
                self.beside(&file);
                if !self.sources.iter().any(|source| source.path == file) {
                    self.source(&file, &file);
                }
            }
            _ => self.source(path, path),
        }
        Ok(())
    }

    /// The drop-ins of a unit.
    fn beside(&mut self, path: &Path) {
        let directory = path.with_file_name(format!("{}.d", file_name(path)));
        if !directory.is_dir() {
            return;
        }
        match entries(&directory) {
            Ok(files) => {
                let drop_ins = files.into_iter().filter(|it| file_name(it).ends_with(".conf"));
                self.drop_ins.extend(drop_ins);
            }
            Err(error) => {
                self.findings.push(unread(&directory, &error));
                self.spoiled.insert(file_name(path));
            }
        }
    }

    fn directory(&mut self, path: &Path) -> io::Result<()> {
        for file in entries(path)? {
            let name = file_name(&file);
            let kind = name.rsplit_once('.').map_or("", |(_, kind)| kind);
            match kind {
                _ if name.starts_with('.') => {}
                "toml" => self.source(&file, &file),
                "d" if file.is_dir() => {
                    let unit = name.trim_end_matches(".d");
                    if is_read(unit) {
                        self.beside(&path.join(unit));
                    }
                }
                "wants" | "requires" if file.is_dir() => match entries(&file) {
                    Ok(units) => {
                        let links = units.into_iter();
                        let links = links.map(|path| Source { path, bytes: Vec::new() });
                        self.sources.extend(links);
                    }
                    Err(error) => self.findings.push(unread(&file, &error)),
                },
                _ if OTHERS.contains(&kind) => self.unsupported.push(Unsupported {
                    place: Place::file(&file),
                    key: "kind".into(),
                    value: kind.into(),
                    why: "only services, sockets, timers and targets are read".into(),
                }),
                _ if is_read(&name) => match std::fs::canonicalize(&file) {
                    Ok(target) if target == Path::new("/dev/null") => {}
                    // an instance, which is made when somebody names it
                    Ok(target) if template(&name) == Some(file_name(&target)) => {}
                    Ok(target) if file.is_symlink() && file_name(&target) != name => {
                        self.aliases.insert(name, file_name(&target));
                    }
                    Ok(_) => self.source(&file, &file),
                    Err(error) => self.unread(&file, &error),
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// What is in a directory, in the order of names.
fn entries(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        found.push(entry?.path());
        if found.len() > MAX_FILES {
            return Err(io::Error::other(format!("more than {MAX_FILES} files")));
        }
    }
    found.sort();
    Ok(found)
}

/// Reads the environment files that units name, for the variables in their commands.
fn environment_files(sources: &[Source], options: &mut Options) {
    for source in sources.iter().filter(|source| is_unit(&source.path)) {
        let Ok(unit) = kiln_unit_file::Unit::parse(&file_name(&source.path), &source.bytes) else {
            continue;
        };
        for setting in unit.assignments.iter().filter(|it| it.key == "EnvironmentFile") {
            let (value, optional) = match setting.value.strip_prefix('-') {
                Some(value) => (value, true),
                None => (setting.value.as_str(), false),
            };
            let path = PathBuf::from(value);
            match content(&path).map(String::from_utf8) {
                Ok(Ok(text)) => _ = options.environment_files.insert(path, text),
                Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {
                    options.environment_files.insert(path, String::new());
                }
                // it may be there when the service starts
                _ => {}
            }
        }
    }
}
