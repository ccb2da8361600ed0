//! Services as files say them: strict TOML, every problem with its line, all of them at once.
//!
//! A file has one `[[service]]` table for each service, fields of [`ServiceSpec`] in kebab case,
//! durations as `"500ms"`, `"5s"`, `"2m"`, `"1h"` or a number of seconds. Of a directory, all files
//! `*.toml` count as one, in the order of their names.
//!
//! # Example: everything that is wrong, with its place
//! ```
//! use kiln_supervisor::service_file::{self, Source};
//!
//! let text = r#"
//! [[service]]
//! name = "web"
//! command = ["/bin/web"]
//! restrat = "always"
//! stop-timeout = "5 parsecs"
//! requires = ["databse"]
//!
//! [[service]]
//! name = "database"
//! command = ["/bin/database"]
//! "#;
//! let findings = service_file::parse(&[Source::new("web.toml", text)]).unwrap_err();
//! assert_eq!(
//!     findings.to_string(),
//!     "web.toml:5: unknown key \"restrat\", did you mean \"restart\"?\n\
//!      web.toml:6: stop-timeout: bad duration \"5 parsecs\", expected a unit of ms, s, m or h\n\
//!      web.toml:7: web requires \"databse\", which does not exist, did you mean \"database\"?"
//! );
//! ```
//!
//! # Example: what is sound, although something is not
//! ```
//! use kiln_supervisor::service_file::{self, Context, Source};
//!
//! let text = r#"
//! [[service]]
//! name = "web"
//! comand = ["/bin/web"]
//!
//! [[service]]
//! name = "front"
//! command = ["/bin/front"]
//! requires = ["web"]
//!
//! [[service]]
//! name = "log"
//! command = ["/bin/log"]
//! after = ["web"]
//! "#;
//! let (sound, findings) =
//!     service_file::parse_sound(&[Source::new("all.toml", text)], Context::default());
//! assert_eq!(sound.specs[0].name, "log");
//! assert_eq!(
//!     findings.to_string(),
//!     "all.toml:2: left out: service web: not all that is said of it is understood\n\
//!      all.toml:4: unknown key \"comand\", did you mean \"command\"?\n\
//!      all.toml:9: left out: service front: requires web, which is left out\n\
//!      all.toml:14: dropped: service log: after web, which is left out"
//! );
//! ```

mod check;
mod decode;
mod place;
mod read;
mod tables;

use std::path::{Path, PathBuf};

pub use place::{Finding, Findings, Place};
pub use read::{read, read_sound};
#[cfg(feature = "systemd")]
pub(crate) use {
    check::{leave_out, together},
    place::{hint, quoted, settle, settled},
    read::{MAX_FILES, content, unread},
    tables::services,
};

use crate::spec::ServiceSpec;

/// The longest file that is read, in bytes: 16,384 services of 512 bytes.
pub const MAX_FILE_BYTES: usize = 8 << 20;
/// So many problems of one file are told; the rest is counted.
pub const MAX_FINDINGS: usize = 100;

/// A file that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How it is called in messages.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

impl Source {
    /// A file's name and its content.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into() }
    }
}

/// Sound services, each with its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Definitions {
    /// The services, in the order of files and tables.
    pub specs: Vec<ServiceSpec>,
    /// Where each is defined, in the same order.
    pub places: Vec<Place>,
}

/// Services that are there besides those of files, and that these may name: those of a program.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Context<'a> {
    /// The other services.
    pub others: &'a [ServiceSpec],
}

impl<'a> Context<'a> {
    /// With these services besides.
    #[must_use]
    pub fn with(others: &'a [ServiceSpec]) -> Self {
        Self { others }
    }
}

/// What the sources say together.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse(sources: &[Source]) -> Result<Definitions, Findings> {
    parse_with(sources, Context::default())
}

/// What the sources say together, beside services that are there anyway. Only the sources' own ones
/// are given back.
///
/// # Errors
/// Everything that is wrong with them.
pub fn parse_with(sources: &[Source], context: Context<'_>) -> Result<Definitions, Findings> {
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for source in sources {
        tables::services(source, &mut found, &mut findings);
    }
    check::together(&found, context, &mut findings);
    place::settle(sources, findings)?;
    Ok(definitions(found))
}

/// What of the sources can start, and everything that is wrong with the rest. Services of which not
/// everything is understood are left out, with what cannot do without them, as
/// [`Sound`](crate::Sound) says; a source that is no TOML at all is left out whole. Each has a finding
/// that says so: without findings nothing is left out.
///
/// The context's services are judged as well, and are the caller's to leave out
/// ([`Unsound::LeaveOut`](crate::unix::Unsound::LeaveOut)).
#[must_use]
pub fn parse_sound(sources: &[Source], context: Context<'_>) -> (Definitions, Findings) {
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for source in sources {
        tables::services(source, &mut found, &mut findings);
    }
    let found = check::leave_out(found, context, &mut findings);
    (definitions(found), place::settled(sources, findings))
}

fn definitions(found: Vec<Found>) -> Definitions {
    let (specs, places) = found.into_iter().map(|it| (it.spec, it.place)).unzip();
    Definitions { specs, places }
}

/// A service with where its parts stand.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) spec: ServiceSpec,
    pub(crate) place: Place,
    /// The lines of its keys, and of the names in its lists of services.
    pub(crate) lines: Lines,
    /// Whether something in it was not understood: what follows from that is not told.
    pub(crate) broken: bool,
    /// Whether it must not start although others do, since something that belongs to it was not
    /// understood.
    pub(crate) refused: bool,
}

/// Lines by key; and by key and element, of those that name other services.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines {
    keys: Vec<(String, u32)>,
    elements: Vec<(&'static str, String, u32)>,
}

/// The keys whose elements are names of services.
const RELATIONS: [&str; 3] = ["requires", "wants", "after"];

impl Lines {
    fn key(&self, key: &str) -> Option<u32> {
        self.keys.iter().find(|(known, _)| known == key).map(|(_, line)| *line)
    }

    /// Where an element stands; at first, if it is there twice.
    pub(crate) fn add_element(&mut self, key: &str, name: &str, line: u32) {
        if let Some(key) = RELATIONS.into_iter().find(|relation| *relation == key) {
            self.elements.push((key, name.to_owned(), line));
        }
    }

    fn element(&self, key: &str, name: &str) -> Option<u32> {
        let mut all = self.elements.iter();
        all.find(|(relation, known, _)| *relation == key && known == name).map(|(.., line)| *line)
    }
}

impl Found {
    fn at(&self, line: Option<u32>) -> Place {
        Place { line: line.or(self.place.line), ..self.place.clone() }
    }

    /// Where a key stands, or else the service.
    fn key(&self, key: &str) -> Place {
        self.at(self.lines.key(key))
    }

    /// Where a name in one of its lists stands.
    fn element(&self, key: &str, name: &str) -> Place {
        self.at(self.lines.element(key, name).or_else(|| self.lines.key(key)))
    }
}

pub(crate) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
