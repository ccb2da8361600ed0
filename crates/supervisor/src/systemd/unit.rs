//! The assignments of a unit: its file and its drop-ins together, each with its place; and what is
//! to be said about them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kiln_unit_file::{Specifiers, Unit, value};

use super::keys::{self, Class};
use super::{Options, Unsupported, finding};
use crate::service_file::{Finding, Place, Source, file_name, hint, quoted};

/// One assignment.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) value: String,
    pub(super) place: Place,
}

/// A unit with its drop-ins.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) settings: Vec<Setting>,
}

impl Text {
    /// The assignments to a key that count: an empty one takes back those before.
    pub(super) fn list(&self, section: &str, key: &str) -> Vec<&Setting> {
        let all = self.settings.iter().filter(|it| it.section == section && it.key == key);
        let mut found = Vec::new();
        for setting in all {
            match setting.value.is_empty() {
                true => found.clear(),
                false => found.push(setting),
            }
        }
        found
    }

    /// The last assignment to one of some keys, which counts if it is not empty.
    pub(super) fn last(&self, section: &str, keys: &[&str]) -> Option<&Setting> {
        let mut all = self.settings.iter().rev();
        all.find(|it| it.section == section && keys.contains(&it.key.as_str()))
            .filter(|setting| !setting.value.is_empty())
    }

    /// The same in `[Service]`.
    pub(super) fn of(&self, key: &str) -> Option<&Setting> {
        self.last("Service", &[key])
    }

    /// What stands for `%n` and its like.
    pub(super) fn specifiers(&self) -> Specifiers<'_> {
        let stem = self.name.rsplit_once('.').map_or(self.name.as_str(), |(stem, _)| stem);
        let instance = stem.split_once('@').map(|(_, instance)| instance);
        Specifiers { name: &self.name, instance }
    }
}

/// What is to be said.
#[derive(Debug)]
pub(super) struct Notes<'a> {
    options: &'a Options,
    pub(super) findings: Vec<Finding>,
    pub(super) unsupported: Vec<Unsupported>,
    /// The unit that is being read, with which something is wrong if there is a finding.
    about: Option<String>,
    spoiled: BTreeSet<String>,
}

impl<'a> Notes<'a> {
    /// Some units are known not to be understood.
    pub(super) fn new(
        options: &'a Options,
        findings: Vec<Finding>,
        spoiled: BTreeSet<String>,
    ) -> Self {
        Self { options, findings, unsupported: Vec::new(), about: None, spoiled }
    }

    /// What comes is about this unit, or about none.
    pub(super) fn about<'n>(&mut self, unit: impl Into<Option<&'n str>>) {
        self.about = unit.into().map(str::to_owned);
    }

    /// Whether not all that is said of a unit is understood, or of its template.
    pub(super) fn is_spoiled(&self, unit: &str) -> bool {
        self.spoiled.contains(unit)
            || template(unit).is_some_and(|template| self.spoiled.contains(&template))
    }

    /// Sockets and timers of which not everything is understood.
    pub(super) fn spoiled_triggers(&self) -> impl Iterator<Item = &str> {
        let all = self.spoiled.iter().map(String::as_str);
        all.filter(|unit| unit.ends_with(".socket") || unit.ends_with(".timer"))
    }

    fn find(&mut self, place: &Place, what: impl Into<String>) {
        self.spoiled.extend(self.about.clone());
        self.findings.push(finding(place.clone(), what));
    }

    /// It is lost.
    pub(super) fn list(&mut self, setting: &Setting, why: impl Into<String>) {
        let plain = |text: &str| text.replace(char::is_control, " ");
        self.unsupported.push(Unsupported {
            place: setting.place.clone(),
            key: plain(&setting.key),
            value: plain(&setting.value),
            why: plain(&why.into()),
        });
    }

    /// The unit is not run with it.
    pub(super) fn refuse(&mut self, setting: &Setting, why: &str) {
        let text = format!("{}={}: {why}", setting.key, setting.value);
        self.find(&setting.place, text);
    }

    /// It is lost, or the unit is not run.
    pub(super) fn confine(&mut self, setting: &Setting, why: &str) {
        match self.options.allow_less_confinement {
            true => self.list(setting, format!("less confined: {why}")),
            false => self.refuse(setting, &format!("it confines the unit: {why}")),
        }
    }

    pub(super) fn at(&mut self, place: &Place, what: impl Into<String>) {
        self.find(place, what);
    }

    /// A value with its specifiers replaced.
    pub(super) fn text(&mut self, unit: &Text, setting: &Setting) -> Option<String> {
        let text = unit.specifiers().expand_text(&setting.value);
        text.map_err(|why| self.refuse(setting, &why)).ok()
    }

    pub(super) fn boolean(&mut self, setting: &Setting) -> Option<bool> {
        let found = value::boolean(&setting.value);
        if found.is_none() {
            self.refuse(setting, "expected yes or no");
        }
        found
    }

    /// The boolean of a key of `[Service]`; without it `false`.
    pub(super) fn switch(&mut self, unit: &Text, key: &str) -> bool {
        unit.of(key).and_then(|setting| self.boolean(setting)).unwrap_or_default()
    }

    /// Keys of `[Unit]` that mean something of services, or of services and targets, alone.
    fn elsewhere(&mut self, kind: &str, setting: &Setting) {
        let targets = setting.value.split_whitespace().all(|name| name.ends_with(".target"));
        match setting.key.as_str() {
            _ if kind == "Service" => {}
            "ConditionPathExists" => self.refuse(setting, "conditions are asked of services alone"),
            // what targets pull in and their order are expanded into the edges between services
            "Wants" | "Requires" | "After" | "Before" | "DefaultDependencies"
                if kind == "Target" => {}
            "After" | "Before" if targets => {}
            "DefaultDependencies" => {}
            _ => self.list(setting, "sockets and timers have no order, and pull nothing in"),
        }
    }

    /// What becomes of keys whatever their values are.
    pub(super) fn classes(&mut self, unit: &Text) {
        let section = match unit.name.rsplit_once('.').map(|(_, kind)| kind) {
            Some("service") => "Service",
            Some("socket") => "Socket",
            Some("timer") => "Timer",
            _ => "Target",
        };
        for setting in &unit.settings {
            if setting.section.starts_with("X-") || setting.key.starts_with("X-") {
                continue;
            }
            if ![section, "Unit", "Install"].contains(&setting.section.as_str()) {
                let text = format!("a section [{}] is not for this kind of unit", setting.section);
                self.at(&setting.place, text);
                continue;
            }
            let Some(group) = keys::find(&setting.section, &setting.key) else {
                let hint = hint(&setting.key, keys::of(&setting.section));
                let text =
                    format!("unknown key {} in [{}]{hint}", quoted(&setting.key), setting.section);
                self.at(&setting.place, text);
                continue;
            };
            let counts = unit.list(&setting.section, &setting.key);
            if !counts.iter().any(|it| std::ptr::eq(*it, setting)) || is_nothing(&counts) {
                continue;
            }
            match group.class {
                Class::Listed if is_void(setting) => {}
                Class::Listed => self.list(setting, group.note),
                Class::Confines => self.confine(setting, group.note),
                Class::Refused => self.refuse(setting, group.note),
                Class::Supported if setting.section == "Unit" => self.elsewhere(section, setting),
                Class::Supported | Class::Accepted => {}
            }
        }
    }
}

/// Whether assignments come to nothing: the last one says so.
fn is_nothing(settings: &[&Setting]) -> bool {
    let Some(last) = settings.last() else { return true };
    let defaults = [
        ("SendSIGKILL", "yes"),
        ("SendSIGKILL", "true"),
        ("ProtectProc", "default"),
        ("ProcSubset", "all"),
        ("KeyringMode", "inherit"),
        ("DevicePolicy", "auto"),
        ("FailureAction", "none"),
        ("SuccessAction", "none"),
        ("StartLimitAction", "none"),
        ("WatchdogSec", "infinity"),
        ("RuntimeMaxSec", "infinity"),
        ("BindIPv6Only", "default"),
    ];
    if last.key == "SendSIGKILL" {
        return value::boolean(&last.value) == Some(true);
    }
    value::boolean(&last.value) == Some(false)
        || defaults.contains(&(last.key.as_str(), last.value.as_str()))
}

/// Whether there is nothing to lose in it: everybody conflicts with the end.
fn is_void(setting: &Setting) -> bool {
    setting.key == "Conflicts"
        && setting.value.split_whitespace().all(|name| name == "shutdown.target")
}

/// Kinds of units that are not read.
pub(super) const OTHERS: [&str; 7] =
    ["mount", "automount", "swap", "path", "slice", "device", "scope"];

/// Whether a source is a unit or a part of one; all others are service files, whatever their names.
pub(super) fn is_unit(path: &Path) -> bool {
    match role(path) {
        Role::Unit(name) => {
            is_read(&name) || name.rsplit_once('.').is_some_and(|(_, kind)| OTHERS.contains(&kind))
        }
        Role::DropIn(_) | Role::Pull(..) => true,
    }
}

/// Whether a unit is of a kind that is read.
pub(super) fn is_read(name: &str) -> bool {
    [".service", ".socket", ".timer", ".target"].iter().any(|kind| name.ends_with(kind))
}

/// The unit that a file is one of, or belongs to.
pub(super) fn unit_of(path: &Path) -> String {
    role(path).unit().to_owned()
}

/// What a source is, by its path.
enum Role {
    Unit(String),
    /// Of this unit.
    DropIn(String),
    /// This unit pulls in that one, with the word of `[Unit]` for it.
    Pull(String, &'static str, String),
}

impl Role {
    fn unit(&self) -> &str {
        match self {
            Self::Unit(name) | Self::DropIn(name) | Self::Pull(name, ..) => name,
        }
    }
}

fn role(path: &Path) -> Role {
    let name = file_name(path);
    let parent = path.parent().map(file_name).unwrap_or_default();
    if let Some(unit) = parent.strip_suffix(".d").filter(|_| name.ends_with(".conf")) {
        return Role::DropIn(unit.to_owned());
    }
    for (suffix, key) in [(".wants", "Wants"), (".requires", "Requires")] {
        if let Some(unit) = parent.strip_suffix(suffix) {
            return Role::Pull(unit.to_owned(), key, name);
        }
    }
    Role::Unit(name)
}

/// The template of an instance: `a@.service` for `a@b.service`.
pub(super) fn template(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (prefix, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{prefix}@.{kind}"))
}

/// All units that can be run by name, instances of templates that others name among them.
pub(super) fn gather(
    sources: &[&Source],
    options: &Options,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, Text> {
    let mut units: BTreeMap<String, Text> = BTreeMap::new();
    let mut more: BTreeMap<String, Vec<Setting>> = BTreeMap::new();
    for source in sources {
        let place = Place::file(&source.path);
        let role = role(&source.path);
        notes.about(role.unit());
        match role {
            Role::Unit(name) if !is_read(&name) => {
                notes.at(&place, "only services, sockets, timers and targets are read");
            }
            Role::Unit(name) => {
                let first = units.get(&name).map(|first: &Text| first.place.clone());
                if first.is_some() {
                    // nothing is wrong with the first
                    notes.about(None);
                }
                let settings = settings(&name, source, notes);
                match first {
                    Some(first) => notes.at(&place, format!("it is there twice, first as {first}")),
                    None => _ = units.insert(name.clone(), Text { name, place, settings }),
                }
            }
            Role::DropIn(name) => {
                let settings = settings(&name, source, notes);
                more.entry(name).or_default().extend(settings);
            }
            Role::Pull(name, key, value) => {
                let (section, key) = ("Unit".into(), key.to_owned());
                more.entry(name).or_default().push(Setting { section, key, value, place });
            }
        }
    }
    let (templates, mut units): (BTreeMap<_, _>, BTreeMap<_, _>) =
        units.into_iter().partition(|(name, _)| name.contains("@."));
    for (name, settings) in &more {
        if units.contains_key(name) || templates.contains_key(name) {
            continue;
        }
        // a target needs no file of its own
        if name.ends_with(".target")
            && let Some(first) = settings.first()
        {
            let place = Place { line: None, ..first.place.clone() };
            let text = Text { name: name.clone(), place, settings: Vec::new() };
            units.insert(name.clone(), text);
        }
    }
    for (name, text) in &mut units {
        let of_template = template(name).and_then(|template| more.get(&template));
        for settings in of_template.into_iter().chain(more.get(name)) {
            text.settings.extend(settings.iter().cloned());
        }
    }
    instances(&templates, &more, options, &mut units);
    units
}

/// Makes the instances of templates that are named.
fn instances(
    templates: &BTreeMap<String, Text>,
    more: &BTreeMap<String, Vec<Setting>>,
    options: &Options,
    units: &mut BTreeMap<String, Text>,
) {
    const NAMES: [&str; 10] = [
        "Wants",
        "Requires",
        "BindsTo",
        "Requisite",
        "Upholds",
        "Sockets",
        "Service",
        "Unit",
        "Also",
        "OnFailure",
    ];
    let mut names: Vec<String> = options.start.clone();
    let mut seen = BTreeSet::new();
    let named = |text: &Text| -> Vec<String> {
        let settings = text.settings.iter().filter(|it| NAMES.contains(&it.key.as_str()));
        let texts = settings.filter_map(|it| text.specifiers().expand_text(&it.value).ok());
        texts.flat_map(|it| it.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
    };
    names.extend(units.values().flat_map(named));
    // a template that is to be installed without an instance has one of its own
    for (name, text) in templates {
        if let (Some(setting), true) = (
            text.last("Install", &["DefaultInstance"]),
            !text.list("Install", "WantedBy").is_empty(),
        ) {
            names.push(name.replacen("@.", &format!("@{}.", setting.value), 1));
        }
    }
    while let Some(name) = names.pop() {
        let name = options.aliases.get(&name).cloned().unwrap_or(name);
        if units.contains_key(&name) || !seen.insert(name.clone()) || seen.len() > 65_536 {
            continue;
        }
        let Some(text) = template(&name).and_then(|template| templates.get(&template)) else {
            continue;
        };
        let mut text = Text { name: name.clone(), ..text.clone() };
        let of_template = template(&name).and_then(|template| more.get(&template));
        for settings in of_template.into_iter().chain(more.get(&name)) {
            text.settings.extend(settings.iter().cloned());
        }
        names.extend(named(&text));
        units.insert(name, text);
    }
}

fn settings(name: &str, source: &Source, notes: &mut Notes<'_>) -> Vec<Setting> {
    let file: Arc<Path> = source.path.as_path().into();
    let at = |line: usize| Place { file: Arc::clone(&file), line: u32::try_from(line).ok() };
    let unit = match Unit::parse(name, &source.bytes) {
        Ok(unit) => unit,
        Err(kiln_unit_file::Error::NotUtf8 { line, .. }) => {
            notes.at(&at(line), "not UTF-8, which unit files are");
            return Vec::new();
        }
        Err(error) => {
            notes.at(&Place::file(&source.path), error.to_string());
            return Vec::new();
        }
    };
    for (line, text) in &unit.ignored {
        let text = format!("{} is no assignment in a section", quoted(text));
        notes.at(&at(*line), text);
    }
    let settings = unit.assignments.into_iter();
    settings
        .map(|it| Setting { section: it.section, key: it.key, value: it.value, place: at(it.line) })
        .collect()
}
