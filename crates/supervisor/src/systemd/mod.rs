//! Services as systemd's unit files say them: a subset, of which everything that is not done is told.
//!
//! Services, sockets, timers and targets are read, with their drop-ins and, of templates, instances;
//! what becomes of each key stands in one table ([`class`], [`reference()`], `docs/systemd-units.md`).
//! A key is supported, or means nothing here; or it is lost, which is listed; or it confines
//! the unit, and the unit is refused unless less confinement is allowed; or the unit would do something
//! else without it, and is refused. A key that nobody knows is a mistake, with a suggestion.
//!
//! Service files (TOML) may stand beside units, and both may name each other: the unit `web.service`
//! is the service `web`.
//!
//! # Example: what of a unit is lost
//! ```
//! use kiln_supervisor::service_file::Source;
//! use kiln_supervisor::systemd::{self, Options};
//!
//! let text = "[Unit]\nDescription=Front\n[Service]\nExecStart=/bin/front --port 80\nWatchdogSec=5\n";
//! let mut options = Options::default();
//! options.start = vec!["front.service".into()];
//! let units = systemd::parse(&[Source::new("front.service", text)], &options)?;
//! assert_eq!(units.specs[0].command, ["/bin/front", "--port", "80"]);
//! assert_eq!(
//!     units.unsupported[0].to_string(),
//!     "front.service:5: WatchdogSec=5: it is not noticed when it hangs"
//! );
//! # Ok::<(), kiln_supervisor::service_file::Findings>(())
//! ```

mod bounds;
mod command;
mod confine;
mod edges;
mod keys;
mod read;
mod service;
mod trigger;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

pub use keys::{Class, class, reference};
pub use read::{read, read_sound};

use self::unit::{Notes, Text};
use crate::service_file::{self, Context, Finding, Findings, Found, Place, Source};
use crate::spec::ServiceSpec;

/// Targets that are reached by default: those of a machine that has started.
pub const TARGETS: [&str; 10] = [
    "default.target",
    "multi-user.target",
    "graphical.target",
    "basic.target",
    "sysinit.target",
    "sockets.target",
    "timers.target",
    "network.target",
    "network-online.target",
    "local-fs.target",
];

/// How units are read.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Targets that are reached: what they pull in is started (default: [`TARGETS`]).
    pub targets: Vec<String>,
    /// Units that are started besides; a service with a timer or a socket that is started is left
    /// to that.
    pub start: Vec<String>,
    /// Whether units run although keys of theirs that confine cannot be followed (default: no).
    pub allow_less_confinement: bool,
    /// Other names of units.
    pub aliases: BTreeMap<String, String>,
    /// What is in the environment files that units name, for the variables in their commands.
    pub environment_files: BTreeMap<PathBuf, String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            targets: TARGETS.map(String::from).to_vec(),
            start: Vec::new(),
            allow_less_confinement: false,
            aliases: BTreeMap::new(),
            environment_files: BTreeMap::new(),
        }
    }
}

/// Sound services, each with its place, and what of their units is not done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Units {
    /// The services: those of service files, then those of units by name.
    pub specs: Vec<ServiceSpec>,
    /// Where each is defined, in the same order.
    pub places: Vec<Place>,
    /// What is not done, by file and line.
    pub unsupported: Vec<Unsupported>,
}

/// An assignment that is not followed, or not to the letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[non_exhaustive]
pub struct Unsupported {
    /// Where it stands.
    #[serde(flatten)]
    pub place: Place,
    /// The key.
    pub key: String,
    /// What is assigned to it.
    pub value: String,
    /// What is lost.
    pub why: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}={}: {}", self.place, self.key, self.value, self.why)
    }
}

/// What units and service files say together: of the sources, those with the name of a unit are
/// units, `NAME.d/*.conf` are drop-ins, `NAME.wants/UNIT` and `NAME.requires/UNIT` pull units in, and
/// all others are service files.
///
/// # Errors
/// Everything that is wrong with them, what refuses a unit among it.
pub fn parse(sources: &[Source], options: &Options) -> Result<Units, Findings> {
    let Read { found, mut findings, unsupported } = understand(sources, options, BTreeSet::new());
    service_file::together(&found, Context::default(), &mut findings);
    service_file::settle(sources, findings)?;
    Ok(units(found, unsupported))
}

/// What of units and service files can start, and everything that is wrong with the rest: as
/// [`service_file::parse_sound`]. A unit is left out if not all that is said of it is understood or
/// followed: in its file, its template, its drop-ins, its sockets and its timers. Of a target, which
/// runs nothing, just the assignment is lost; of two units of one name, the second.
#[must_use]
pub fn parse_sound(sources: &[Source], options: &Options) -> (Units, Findings) {
    sound(sources, options, BTreeSet::new())
}

/// The same, where some units are known not to be understood.
fn sound(sources: &[Source], options: &Options, spoiled: BTreeSet<String>) -> (Units, Findings) {
    let Read { found, mut findings, unsupported } = understand(sources, options, spoiled);
    let found = service_file::leave_out(found, Context::default(), &mut findings);
    (units(found, unsupported), service_file::settled(sources, findings))
}

/// What has been read, as far as it is understood.
struct Read {
    found: Vec<Found>,
    findings: Vec<Finding>,
    unsupported: Vec<Unsupported>,
}

fn understand(sources: &[Source], options: &Options, spoiled: BTreeSet<String>) -> Read {
    let (rest, files): (Vec<&Source>, Vec<&Source>) =
        sources.iter().partition(|source| unit::is_unit(&source.path));
    let mut findings = Vec::new();
    let mut found = Vec::new();
    for file in files {
        service_file::services(file, &mut found, &mut findings);
    }
    let others: BTreeSet<String> = found.iter().map(|it| it.spec.name.clone()).collect();
    let mut notes = Notes::new(options, findings, spoiled);
    let texts = unit::gather(&rest, options, &mut notes);
    found.extend(convert(&texts, &others, options, &mut notes));
    let Notes { findings, unsupported, .. } = notes;
    Read { found, findings, unsupported }
}

fn units(found: Vec<Found>, mut unsupported: Vec<Unsupported>) -> Units {
    unsupported.sort();
    unsupported.dedup();
    let (specs, places) = found.into_iter().map(|it| (it.spec, it.place)).unzip();
    Units { specs, places, unsupported }
}

/// The services of units, with their relations.
fn convert(
    texts: &BTreeMap<String, Text>,
    others: &BTreeSet<String>,
    options: &Options,
    notes: &mut Notes<'_>,
) -> Vec<Found> {
    let mut services: BTreeMap<String, ServiceSpec> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for (name, text) in texts {
        let before = notes.findings.len();
        notes.about(name.as_str());
        notes.classes(text);
        if let Some(service) = name.strip_suffix(".service") {
            services.insert(name.clone(), service::convert(service, text, options, notes));
        }
        if notes.findings.len() > before {
            broken.insert(name.clone());
        }
    }
    let triggers = trigger::read(texts, notes);
    let lines = edges::settle(texts, &triggers, others, options, &mut services, notes);
    let untriggered = trigger::without(&triggers, notes);
    services
        .into_iter()
        .filter_map(|(name, spec)| {
            let place = texts.get(&name)?.place.clone();
            let lines = lines.get(&name).cloned().unwrap_or_default();
            let refused = notes.is_spoiled(&name) || untriggered.contains(&name);
            Some(Found { spec, place, lines, broken: broken.contains(&name), refused })
        })
        .collect()
}

fn finding(place: Place, text: impl Into<String>) -> Finding {
    Finding::new(place, text)
}

#[cfg(test)]
mod tests;
