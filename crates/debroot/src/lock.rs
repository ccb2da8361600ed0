//! `kiln.lock`: the packages, and whatever else goes into an image, to the byte.

use std::collections::BTreeMap;
use std::fmt;

use crate::digest;
use crate::resolve::{Chosen, Request};
#[cfg(feature = "lock")]
use crate::{Error, Result};

/// The form of the file that this version of the crate writes and reads.
#[cfg(feature = "lock")]
const VERSION: u32 = 1;

/// Everything that goes into an image and comes from elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Lock {
    /// The digest of the question that this answers, as [`request_digest`] gives it.
    pub request: String,
    /// The packages, sorted by name.
    pub packages: Vec<LockedPackage>,
    /// The other inputs, sorted by name.
    pub inputs: Vec<Input>,
}

/// One package, to the byte.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "lock", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LockedPackage {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its architecture, or `all`.
    pub architecture: String,
    /// The source package that it was built from.
    pub source: String,
    /// The version of the source package.
    pub source_version: String,
    /// Where its archive is.
    pub archive: String,
    /// Where its file is below the archive.
    pub path: String,
    /// The size of its file in bytes.
    pub size: u64,
    /// The SHA-256 of its file, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The package that made it necessary; `None` for one that was asked for.
    pub needed_by: Option<String>,
    /// Those of the lock's packages that it depends on, sorted.
    pub depends: Vec<String>,
}

impl LockedPackage {
    /// The address of its file.
    #[must_use]
    pub fn uri(&self) -> String {
        format!("{}/{}", self.archive.trim_end_matches('/'), self.path)
    }
}

impl fmt::Display for LockedPackage {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.name, self.version)
    }
}

/// Something else that goes into an image: a source archive, a module of another registry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "lock", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Input {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The SHA-256 of its bytes, in lower-case hexadecimal digits.
    pub sha256: String,
    /// What it is, for people.
    pub what: String,
}

impl Input {
    /// An input.
    pub fn new(
        name: impl Into<String>,
        version: impl Into<String>,
        sha256: impl Into<String>,
        what: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
            sha256: sha256.into(),
            what: what.into(),
        }
    }
}

/// The digest of a question to archives. Neither their keys nor the order of the names are part of
/// it: they do not change the answer.
#[must_use]
pub fn request_digest(archives: &[crate::Archive], request: &Request) -> String {
    let mut text = String::from("kiln.lock 1\n");
    for archive in archives {
        let crate::Archive { uri, suite, components, architecture, .. } = archive;
        text.push_str(&format!("archive {uri} {suite} {components:?} {architecture}\n"));
    }
    let mut wanted = request.wanted.clone();
    wanted.sort_unstable();
    wanted.dedup();
    text.push_str(&format!("wanted {wanted:?}\n"));
    text.push_str(&format!("alone {:?}\n", request.alone));
    text.push_str(&format!("recommends {} essential {}\n", request.recommends, request.essential));
    digest::of_bytes(text.as_bytes())
}

impl Lock {
    /// The lock of what [`resolve`](crate::resolve::resolve) gave.
    #[must_use]
    pub fn new(archives: &[crate::Archive], request: &Request, chosen: &[Chosen<'_>]) -> Self {
        let mut packages: Vec<LockedPackage> = chosen
            .iter()
            .map(|Chosen { package, needed_by, depends }| LockedPackage {
                name: package.name().into(),
                version: package.version().into(),
                architecture: package.architecture().into(),
                source: package.source().0.into(),
                source_version: package.source().1.into(),
                archive: package.archive().into(),
                path: package.path().into(),
                size: package.size(),
                sha256: package.sha256().into(),
                needed_by: needed_by.map(Into::into),
                depends: depends.iter().map(|name| (*name).into()).collect(),
            })
            .collect();
        packages.sort_by(|a, b| a.name.cmp(&b.name));
        Self { request: request_digest(archives, request), packages, inputs: Vec::new() }
    }

    /// Whether this is the answer to a question, or to one of before.
    #[must_use]
    pub fn answers(&self, archives: &[crate::Archive], request: &Request) -> bool {
        self.request == request_digest(archives, request)
    }

    /// A package by its name.
    #[must_use]
    pub fn package(&self, name: &str) -> Option<&LockedPackage> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// What is different in `new`.
    #[must_use]
    pub fn diff(old: &Self, new: &Self) -> Diff {
        let packages = |lock: &Self| {
            let key = |package: &LockedPackage| {
                (package.name.clone(), (package.version.clone(), package.sha256.clone()))
            };
            lock.packages.iter().map(key).collect()
        };
        let inputs = |lock: &Self| {
            let key =
                |input: &Input| (input.name.clone(), (input.version.clone(), input.sha256.clone()));
            lock.inputs.iter().map(key).collect()
        };
        let mut changes = compare(&packages(old), &packages(new));
        changes.extend(compare(&inputs(old), &inputs(new)));
        Diff { changes }
    }
}

type Versions = BTreeMap<String, (String, String)>;

fn compare(old: &Versions, new: &Versions) -> Vec<Change> {
    let mut names: Vec<&String> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    names
        .into_iter()
        .filter_map(|name| {
            let name = name.clone();
            match (old.get(&name), new.get(&name)) {
                (Some(old), Some(new)) if old == new => None,
                (Some((old, _)), Some((new, _))) => {
                    Some(Change::Changed { name, old: old.clone(), new: new.clone() })
                }
                (Some((version, _)), None) => {
                    Some(Change::Removed { name, version: version.clone() })
                }
                (None, Some((version, _))) => {
                    Some(Change::Added { name, version: version.clone() })
                }
                (None, None) => None,
            }
        })
        .collect()
}

/// What is different between two locks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Diff {
    /// The packages by name, then the other inputs by name.
    pub changes: Vec<Change>,
}

impl Diff {
    /// Whether both name the same bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only in the new lock.
    Added {
        /// The name.
        name: String,
        /// Its version.
        version: String,
    },
    /// Only in the old lock.
    Removed {
        /// The name.
        name: String,
        /// Its version.
        version: String,
    },
    /// In both, with other bytes; the versions can be equal.
    Changed {
        /// The name.
        name: String,
        /// The version in the old lock.
        old: String,
        /// The version in the new lock.
        new: String,
    },
}

impl fmt::Display for Change {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { name, version } => write!(out, "{name} {version} added"),
            Self::Removed { name, version } => write!(out, "{name} {version} removed"),
            Self::Changed { name, old, new } if old == new => {
                write!(out, "{name} {old} has other bytes")
            }
            Self::Changed { name, old, new } => write!(out, "{name} {old} → {new}"),
        }
    }
}

/// A line for each change; without a change, one that says so.
impl fmt::Display for Diff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return writeln!(out, "nothing changes");
        }
        self.changes.iter().try_for_each(|change| writeln!(out, "{change}"))
    }
}

#[cfg(feature = "lock")]
mod text {
    use std::collections::BTreeMap;

    use serde::Deserialize;
    use toml::Spanned;

    use super::{Error, Input, Lock, LockedPackage, Result, VERSION, fmt};
    use crate::{dependency, digest, index, version};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        version: Spanned<u32>,
        request: Spanned<String>,
        #[serde(default)]
        package: Vec<Spanned<PackageTable>>,
        #[serde(default)]
        input: Vec<Spanned<InputTable>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct PackageTable {
        name: Spanned<String>,
        version: Spanned<String>,
        architecture: Spanned<String>,
        source: String,
        source_version: String,
        archive: Spanned<String>,
        path: Spanned<String>,
        size: u64,
        sha256: Spanned<String>,
        needed_by: Option<String>,
        #[serde(default)]
        depends: Vec<String>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct InputTable {
        name: Spanned<String>,
        version: String,
        sha256: Spanned<String>,
        what: String,
    }

    impl Lock {
        /// Reads a lock. `origin` names the file in errors.
        ///
        /// # Errors
        /// [`Error::Syntax`] with the line: no TOML, an unknown or missing key, a name that is
        /// there twice, a digest or path that is none, another version of the format.
        pub fn parse(text: &str, origin: &str) -> Result<Self> {
            let line = |at: usize| text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
            let wrong = |at: usize, reason: String| Error::syntax(origin, line(at), reason);
            let file: File = toml::from_str(text).map_err(|error| {
                let at = error.span().map_or(0, |span| span.start);
                wrong(at, error.message().replace('\n', " "))
            })?;
            if *file.version.get_ref() != VERSION {
                let reason = format!(
                    "this lock is of version {}, and version {VERSION} is understood here",
                    file.version.get_ref()
                );
                return Err(wrong(file.version.span().start, reason));
            }
            let sha256 = |value: &Spanned<String>| match value.get_ref() {
                text if digest::is_digest(text) => Ok(text.clone()),
                text => Err(wrong(
                    value.span().start,
                    format!("{text:?} is no SHA-256 of 64 lower-case hexadecimal digits"),
                )),
            };
            let named = |value: &Spanned<String>, good: bool, what: &str| match good {
                true => Ok(value.get_ref().clone()),
                false => {
                    Err(wrong(value.span().start, format!("{:?} is no {what}", value.get_ref())))
                }
            };
            let mut seen: BTreeMap<(bool, String), usize> = BTreeMap::new();
            let mut once = |package: bool, name: &Spanned<String>| {
                let key = (package, name.get_ref().clone());
                match seen.insert(key, line(name.span().start)) {
                    None => Ok(()),
                    Some(first) => Err(wrong(
                        name.span().start,
                        format!("{:?} is in the lock already, at line {first}", name.get_ref()),
                    )),
                }
            };
            let mut lock = Self { request: sha256(&file.request)?, ..Self::default() };
            for table in &file.package {
                let table = table.get_ref();
                once(true, &table.name)?;
                let PackageTable { name, version, architecture, archive, path, .. } = table;
                lock.packages.push(LockedPackage {
                    name: named(name, dependency::is_name(name.get_ref()), "name of a package")?,
                    version: named(
                        version,
                        version::check(version.get_ref()).is_ok(),
                        "version of a package",
                    )?,
                    architecture: named(
                        architecture,
                        dependency::is_name(architecture.get_ref()),
                        "architecture",
                    )?,
                    source: table.source.clone(),
                    source_version: table.source_version.clone(),
                    archive: named(
                        archive,
                        archive.get_ref().contains("://")
                            && archive.get_ref().bytes().all(|byte| byte.is_ascii_graphic()),
                        "address of an archive",
                    )?,
                    path: named(
                        path,
                        index::is_pool_path(path.get_ref()),
                        "path below an archive",
                    )?,
                    size: table.size,
                    sha256: sha256(&table.sha256)?,
                    needed_by: table.needed_by.clone(),
                    depends: table.depends.clone(),
                });
            }
            for table in &file.input {
                let table = table.get_ref();
                once(false, &table.name)?;
                lock.inputs.push(Input {
                    name: table.name.get_ref().clone(),
                    version: table.version.clone(),
                    sha256: sha256(&table.sha256)?,
                    what: table.what.clone(),
                });
            }
            lock.packages.sort_by(|a, b| a.name.cmp(&b.name));
            lock.inputs.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(lock)
        }
    }

    /// The file: sorted, one key a line, so that version control shows what changed.
    impl fmt::Display for Lock {
        fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            writeln!(out, "# What goes into the image, to the byte. Made by kiln, not by hand.")?;
            writeln!(out, "version = {VERSION}")?;
            writeln!(out, "request = {}", quoted(&self.request))?;
            let mut packages: Vec<_> = self.packages.iter().collect();
            packages.sort_by(|a, b| a.name.cmp(&b.name));
            for package in packages {
                writeln!(out, "\n[[package]]")?;
                let mut text = |key: &str, value: &str| writeln!(out, "{key} = {}", quoted(value));
                text("name", &package.name)?;
                text("version", &package.version)?;
                text("architecture", &package.architecture)?;
                text("source", &package.source)?;
                text("source_version", &package.source_version)?;
                text("archive", &package.archive)?;
                text("path", &package.path)?;
                writeln!(out, "size = {}", package.size)?;
                writeln!(out, "sha256 = {}", quoted(&package.sha256))?;
                if let Some(name) = &package.needed_by {
                    writeln!(out, "needed_by = {}", quoted(name))?;
                }
                if !package.depends.is_empty() {
                    let names: Vec<_> = package.depends.iter().map(|name| quoted(name)).collect();
                    writeln!(out, "depends = [{}]", names.join(", "))?;
                }
            }
            let mut inputs: Vec<_> = self.inputs.iter().collect();
            inputs.sort_by(|a, b| a.name.cmp(&b.name));
            for input in inputs {
                writeln!(out, "\n[[input]]")?;
                let mut text = |key: &str, value: &str| writeln!(out, "{key} = {}", quoted(value));
                text("name", &input.name)?;
                text("version", &input.version)?;
                text("sha256", &input.sha256)?;
                text("what", &input.what)?;
            }
            Ok(())
        }
    }

    /// A basic string of TOML.
    fn quoted(text: &str) -> String {
        toml::Value::from(text).to_string()
    }
}
