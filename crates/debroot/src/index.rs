//! The packages that archives have: `Packages` files, read fast and kept small.

use std::collections::{BTreeSet, HashMap};

use crate::dependency::{self, Relation};
use crate::{Error, Result, digest, version};

/// The fields that are kept.
#[derive(Debug, Clone, Copy)]
enum Field {
    Package,
    Version,
    Architecture,
    Source,
    Priority,
    Essential,
    PreDepends,
    Depends,
    Recommends,
    Provides,
    Conflicts,
    Breaks,
    Filename,
    Size,
    Sha256,
}

const FIELDS: usize = 15;

impl Field {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "Package" => Self::Package,
            "Version" => Self::Version,
            "Architecture" => Self::Architecture,
            "Source" => Self::Source,
            "Priority" => Self::Priority,
            "Essential" => Self::Essential,
            "Pre-Depends" => Self::PreDepends,
            "Depends" => Self::Depends,
            "Recommends" => Self::Recommends,
            "Provides" => Self::Provides,
            "Conflicts" => Self::Conflicts,
            "Breaks" => Self::Breaks,
            "Filename" => Self::Filename,
            "Size" => Self::Size,
            "SHA256" => Self::Sha256,
            _ => return None,
        })
    }
}

/// Where the value of a field is in [`Index::text`]; empty for a field that is not there.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    length: u32,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Which of [`Index::uris`].
    archive: u32,
    fields: [Span; FIELDS],
}

/// The packages of several archives for one architecture.
#[derive(Debug, Clone)]
pub struct Index {
    architecture: String,
    uris: Vec<String>,
    /// The values of all kept fields, one after the other.
    text: String,
    entries: Vec<Entry>,
    /// Never iterated over: the order of a hash map must not decide anything.
    by_name: HashMap<Box<str>, Vec<u32>>,
    /// Who provides a name, as written in `Provides`.
    providers: HashMap<Box<str>, Vec<u32>>,
}

/// One package in one version.
#[derive(Debug, Clone, Copy)]
pub struct Package<'index> {
    index: &'index Index,
    number: u32,
}

impl Index {
    /// Without any package yet, for one architecture (`amd64`).
    #[must_use]
    pub fn new(architecture: impl Into<String>) -> Self {
        Self {
            architecture: architecture.into(),
            uris: Vec::new(),
            text: String::new(),
            entries: Vec::new(),
            by_name: HashMap::new(),
            providers: HashMap::new(),
        }
    }

    /// The architecture of the packages.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// How many packages there are, each version counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no package.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds what a `Packages` file lists for the architecture and for `all`. `uri` is where the
    /// archive is (what `Filename` is below), `origin` names the file in errors. Of two equal
    /// versions the one added first counts.
    ///
    /// # Errors
    /// [`Error::Syntax`] with the line at which a paragraph lacks what it must have, or has it in
    /// no form that we understand.
    pub fn add(&mut self, uri: &str, packages: &str, origin: &str) -> Result<()> {
        let count = |length: usize| u32::try_from(length).ok();
        let archive = match self.uris.iter().position(|known| known == uri) {
            Some(known) => count(known),
            None => {
                self.uris.push(uri.to_owned());
                count(self.uris.len() - 1)
            }
        };
        let within = self.text.len().checked_add(packages.len()).and_then(count);
        let (Some(archive), Some(_)) = (archive, within) else {
            return Err(Error::syntax(origin, 1, "the indexes are longer than 4 GiB together"));
        };
        let mut paragraph: [&str; FIELDS] = [""; FIELDS];
        let mut started = 0;
        let mut line_number = 0;
        let mut last: Option<(Field, usize)> = None;
        let mut at = 0;
        while at < packages.len() {
            line_number += 1;
            let start = at;
            let rest = packages.get(start..).unwrap_or_default();
            // memchr is most of what reading an index comes to.
            let length = memchr::memchr(b'\n', rest.as_bytes()).unwrap_or(rest.len());
            let line = rest.get(..length).unwrap_or_default();
            at += length + 1;
            match line.as_bytes().first() {
                None => {
                    if started != 0 {
                        self.push(archive, &paragraph, origin, started)?;
                        paragraph = [""; FIELDS];
                        started = 0;
                    }
                    last = None;
                }
                Some(b' ' | b'\t') => {
                    if started == 0 {
                        let reason = "a line that continues a field stands at the start";
                        return Err(Error::syntax(origin, line_number, reason));
                    }
                    if let Some((field, begin)) = last
                        && let Some(slot) = paragraph.get_mut(field as usize)
                    {
                        *slot = packages.get(begin..start + line.len()).unwrap_or_default();
                    }
                }
                Some(_) => {
                    let colon = memchr::memchr(b':', line.as_bytes());
                    let Some((name, value)) =
                        colon.and_then(|colon| Some((line.get(..colon)?, line.get(colon + 1..)?)))
                    else {
                        let reason = "a field has the form 'Name: value'";
                        return Err(Error::syntax(origin, line_number, reason));
                    };
                    if started == 0 {
                        started = line_number;
                    }
                    last = Field::of(name).map(|field| (field, start + name.len() + 1));
                    if let Some((field, _)) = last
                        && let Some(slot) = paragraph.get_mut(field as usize)
                    {
                        *slot = value;
                    }
                }
            }
        }
        if started != 0 {
            self.push(archive, &paragraph, origin, started)?;
        }
        Ok(())
    }

    fn push(
        &mut self,
        archive: u32,
        paragraph: &[&str; FIELDS],
        origin: &str,
        line: usize,
    ) -> Result<()> {
        let value = |field: Field| paragraph.get(field as usize).map_or("", |value| value.trim());
        let architecture = value(Field::Architecture);
        if architecture != "all" && architecture != self.architecture {
            return Ok(());
        }
        let name = value(Field::Package);
        let wrong =
            |reason: &str| Err(Error::syntax(origin, line, format!("package {name:?}: {reason}")));
        if !dependency::is_name(name) {
            return wrong("that is no name of a package");
        }
        if let Err(reason) = version::check(value(Field::Version)) {
            return wrong(reason);
        }
        if !digest::is_digest(value(Field::Sha256)) {
            return wrong("it has no SHA256 of 64 lower-case hexadecimal digits");
        }
        if value(Field::Size).parse::<u64>().is_err() {
            return wrong("its Size is no number");
        }
        if !is_pool_path(value(Field::Filename)) {
            return wrong("its Filename is no path below the archive");
        }
        let mut fields = [Span::default(); FIELDS];
        for (span, value) in fields.iter_mut().zip(paragraph) {
            let value = value.trim();
            // Checked by the caller: all of it together stays below 4 GiB.
            let start = u32::try_from(self.text.len()).unwrap_or(u32::MAX);
            *span = Span { start, length: u32::try_from(value.len()).unwrap_or(0) };
            self.text.push_str(value);
        }
        let number = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        self.entries.push(Entry { archive, fields });
        push_to(&mut self.by_name, name, number);
        let provides = value(Field::Provides);
        if !provides.is_empty() {
            match dependency::parse(provides) {
                Ok(groups) => {
                    for relation in groups.iter().flatten() {
                        push_to(&mut self.providers, relation.name, number);
                    }
                }
                Err(reason) => return wrong(&format!("Provides: {reason}")),
            }
        }
        Ok(())
    }

    fn package(&self, number: u32) -> Package<'_> {
        Package { index: self, number }
    }

    /// All versions of a package, in the order in which they were added.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = Package<'_>> {
        self.by_name.get(name).into_iter().flatten().map(|number| self.package(*number))
    }

    /// The highest version of a package; the first that was added of equal ones.
    #[must_use]
    pub fn newest(&self, name: &str) -> Option<Package<'_>> {
        self.versions(name).reduce(|best, other| {
            if version::compare(other.version(), best.version()).is_gt() { other } else { best }
        })
    }

    /// The packages that provide a name, in the order in which they were added.
    pub fn providers(&self, name: &str) -> impl Iterator<Item = Package<'_>> {
        self.providers.get(name).into_iter().flatten().map(|number| self.package(*number))
    }

    /// Every package in every version, in the order in which they were added.
    pub fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        (0..u32::try_from(self.entries.len()).unwrap_or(u32::MAX))
            .map(|number| self.package(number))
    }

    /// Names of packages that look like this one, the nearest first; at most three.
    #[must_use]
    pub fn near(&self, name: &str) -> Vec<String> {
        let names: BTreeSet<&str> = self.packages().map(|package| package.name()).collect();
        let mut found: Vec<(usize, &str)> = names
            .into_iter()
            .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2)
            .map(|candidate| (strsim::osa_distance(candidate, name), candidate))
            .filter(|(distance, _)| *distance <= 2 && *distance < name.len().div_ceil(2))
            .collect();
        found.sort_unstable();
        found.into_iter().take(3).map(|(_, name)| name.to_owned()).collect()
    }
}

fn push_to(map: &mut HashMap<Box<str>, Vec<u32>>, name: &str, number: u32) {
    match map.get_mut(name) {
        Some(numbers) => numbers.push(number),
        None => {
            map.insert(name.into(), vec![number]);
        }
    }
}

/// Whether this is a path below an archive: relative, without `..`, visible ASCII.
pub(crate) fn is_pool_path(path: &str) -> bool {
    !path.is_empty()
        && path.bytes().all(|byte| byte.is_ascii_graphic())
        && path.split('/').all(|component| !matches!(component, "" | "." | ".."))
}

impl<'index> Package<'index> {
    fn value(&self, field: Field) -> &'index str {
        self.index
            .entries
            .get(self.number as usize)
            .and_then(|entry| entry.fields.get(field as usize))
            .and_then(|span| {
                let start = span.start as usize;
                self.index.text.get(start..start + span.length as usize)
            })
            .unwrap_or_default()
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'index str {
        self.value(Field::Package)
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> &'index str {
        self.value(Field::Version)
    }

    /// Its architecture: that of the index, or `all`.
    #[must_use]
    pub fn architecture(&self) -> &'index str {
        self.value(Field::Architecture)
    }

    /// The source package that it was built from, and its version.
    #[must_use]
    pub fn source(&self) -> (&'index str, &'index str) {
        match self.value(Field::Source) {
            "" => (self.name(), self.version()),
            source => match source.split_once('(') {
                Some((name, version)) => (name.trim(), version.trim_end_matches(')').trim()),
                None => (source, self.version()),
            },
        }
    }

    /// `required`, `important`, `standard`, `optional` or `extra`, as a number from 0.
    #[must_use]
    pub fn priority(&self) -> u8 {
        match self.value(Field::Priority) {
            "required" => 0,
            "important" => 1,
            "standard" => 2,
            "optional" => 3,
            _ => 4,
        }
    }

    /// Whether every system is taken to have it.
    #[must_use]
    pub fn is_essential(&self) -> bool {
        self.value(Field::Essential) == "yes"
    }

    /// Where the archive is.
    #[must_use]
    pub fn archive(&self) -> &'index str {
        self.index
            .entries
            .get(self.number as usize)
            .and_then(|entry| self.index.uris.get(entry.archive as usize))
            .map_or("", String::as_str)
    }

    /// The path of its file below the archive.
    #[must_use]
    pub fn path(&self) -> &'index str {
        self.value(Field::Filename)
    }

    /// The size of its file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.value(Field::Size).parse().unwrap_or(0)
    }

    /// The SHA-256 of its file, in hexadecimal digits.
    #[must_use]
    pub fn sha256(&self) -> &'index str {
        self.value(Field::Sha256)
    }

    /// The text of the field in which a kind of relation stands.
    pub(crate) fn relations(&self, kind: Kind) -> &'index str {
        self.value(match kind {
            Kind::PreDepends => Field::PreDepends,
            Kind::Depends => Field::Depends,
            Kind::Recommends => Field::Recommends,
            Kind::Conflicts => Field::Conflicts,
            Kind::Breaks => Field::Breaks,
        })
    }

    /// What it needs to work: groups of relations, one of each of which must be met.
    #[must_use]
    pub fn depends(&self) -> Vec<Vec<Relation<'index>>> {
        dependency::parse(self.relations(Kind::Depends)).unwrap_or_default()
    }

    /// What it provides: names, perhaps with a version.
    #[must_use]
    pub fn provides(&self) -> Vec<Relation<'index>> {
        // Read without an error when it was added.
        dependency::parse(self.value(Field::Provides)).unwrap_or_default().concat()
    }

    /// Whether it is what a relation asks for, by its own name or by what it provides.
    #[must_use]
    pub fn meets(&self, relation: &Relation<'_>) -> bool {
        if let Some(qualifier) = relation.qualifier
            && qualifier != "any"
            && qualifier != self.index.architecture
        {
            return false;
        }
        (self.name() == relation.name && relation.admits(self.version()))
            || self.provides().iter().any(|provided| {
                provided.name == relation.name
                    && match (relation.version, provided.version) {
                        (None, _) => true,
                        // What is provided without a version meets no relation that has one.
                        (Some(_), None) => false,
                        (Some(_), Some((_, version))) => relation.admits(version),
                    }
            })
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

/// A kind of relation between packages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    PreDepends,
    Depends,
    Recommends,
    Conflicts,
    Breaks,
}

impl Kind {
    pub(crate) const fn field(self) -> &'static str {
        match self {
            Self::PreDepends => "Pre-Depends",
            Self::Depends => "Depends",
            Self::Recommends => "Recommends",
            Self::Conflicts => "Conflicts",
            Self::Breaks => "Breaks",
        }
    }
}
