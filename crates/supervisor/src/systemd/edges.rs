//! Who pulls in whom, in which order, and what is started by itself (systemd.unit(5)). Targets are
//! no services: what goes through them is expanded into the edges between services.

use std::collections::{BTreeMap, BTreeSet};

use kiln_unit_file::value;

use super::Options;
use super::trigger::Trigger;
use super::unit::{Notes, Setting, Text};
use crate::service_file::Lines;
use crate::spec::ServiceSpec;

/// One unit pulls in another.
#[derive(Debug, Clone)]
struct Pull<'a> {
    to: String,
    /// It cannot do without.
    strong: bool,
    /// Where it is said.
    setting: &'a Setting,
}

/// All relations between units by name.
#[derive(Debug, Default)]
struct Relations<'a> {
    pulls: BTreeMap<String, Vec<Pull<'a>>>,
    after: BTreeMap<String, BTreeSet<String>>,
}

/// Fills in relations, sockets, timers and what is started. Gives the lines of relations.
pub(super) fn settle(
    texts: &BTreeMap<String, Text>,
    triggers: &BTreeMap<String, Trigger>,
    others: &BTreeSet<String>,
    options: &Options,
    services: &mut BTreeMap<String, ServiceSpec>,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, Lines> {
    let aliases = aliases(texts, options, notes);
    let relations = relations(texts, &aliases, notes);
    notes.about(None);
    let started = started(&relations, triggers, options, &aliases);
    for name in &started {
        if let Some(spec) = services.get_mut(name) {
            spec.enabled = true;
        }
    }
    trigger(triggers, &started, services, notes);
    let is_service = |services: &BTreeMap<String, ServiceSpec>, name: &str| {
        services.contains_key(name)
            || name.strip_suffix(".service").is_some_and(|stem| others.contains(stem))
    };
    let mut lines: BTreeMap<String, Lines> = BTreeMap::new();
    let names: Vec<String> = services.keys().cloned().collect();
    for name in &names {
        let Some(text) = texts.get(name) else { continue };
        let lines = lines.entry(name.clone()).or_default();
        let (mut requires, mut wants) = (Vec::new(), Vec::new());
        for pull in relations.pulled(name) {
            let Pull { to, strong, setting } = &pull;
            if to == name || triggers.contains_key(to) {
                continue;
            }
            let Some(stem) = to.strip_suffix(".service") else {
                notes.list(setting, format!("{to} is no service, so nobody waits for it"));
                continue;
            };
            let known = is_service(services, to);
            if !known && !strong {
                notes.list(setting, format!("{to} is not among the files"));
                continue;
            }
            if relations.is_after(to, name) {
                // what is pulled in comes first here, and this would be a ring
                notes.list(setting, format!("{to} comes later, and nobody waits for it"));
                let enabled = services.get(name).is_some_and(|spec| spec.enabled);
                if let Some(spec) = services.get_mut(to) {
                    spec.enabled |= enabled;
                }
                continue;
            }
            let (relation, list) = match strong {
                true => ("requires", &mut requires),
                false => ("wants", &mut wants),
            };
            if setting.place.file == text.place.file
                && let Some(line) = setting.place.line
            {
                lines.add_element(relation, stem, line);
            }
            list.push(stem.to_owned());
        }
        let after: Vec<String> = relations
            .before(name)
            .into_iter()
            .filter(|other| other != name && is_service(services, other))
            .filter_map(|other| other.strip_suffix(".service").map(str::to_owned))
            .collect();
        if let Some(spec) = services.get_mut(name) {
            for list in [&mut requires, &mut wants] {
                list.sort();
                list.dedup();
            }
            wants.retain(|other| !requires.contains(other));
            spec.after = after;
            spec.after.retain(|other| !requires.contains(other) && !wants.contains(other));
            (spec.requires, spec.wants) = (requires, wants);
        }
    }
    lines
}

/// Other names of units, those of `Alias=` among them.
fn aliases(
    texts: &BTreeMap<String, Text>,
    options: &Options,
    notes: &mut Notes<'_>,
) -> BTreeMap<String, String> {
    let mut aliases = options.aliases.clone();
    for (name, text) in texts {
        notes.about(name.as_str());
        for setting in text.list("Install", "Alias") {
            let Some(words) = notes.text(text, setting) else { continue };
            for alias in words.split_whitespace().filter(|alias| !texts.contains_key(*alias)) {
                aliases.insert(alias.to_owned(), name.clone());
            }
        }
    }
    aliases
}

fn relations<'a>(
    texts: &'a BTreeMap<String, Text>,
    aliases: &BTreeMap<String, String>,
    notes: &mut Notes<'_>,
) -> Relations<'a> {
    let mut relations = Relations::default();
    for (name, text) in texts {
        notes.about(name.as_str());
        for (section, key, strong) in [
            ("Unit", "Requires", true),
            ("Unit", "BindsTo", true),
            ("Unit", "Requisite", true),
            ("Unit", "Wants", false),
            ("Unit", "Upholds", false),
            ("Service", "Sockets", false),
        ] {
            for (to, setting) in names(text, section, key, aliases, notes) {
                relations.pulls.entry(name.clone()).or_default().push(Pull { to, strong, setting });
            }
        }
        for (key, strong) in [("RequiredBy", true), ("WantedBy", false), ("UpheldBy", false)] {
            for (by, setting) in names(text, "Install", key, aliases, notes) {
                let pull = Pull { to: name.clone(), strong, setting };
                relations.pulls.entry(by).or_default().push(pull);
            }
        }
        for (other, _) in names(text, "Unit", "After", aliases, notes) {
            relations.after.entry(name.clone()).or_default().insert(other);
        }
        for (other, setting) in names(text, "Unit", "Before", aliases, notes) {
            let elsewhere = other.ends_with(".service") && !texts.contains_key(&other);
            if elsewhere && !other.starts_with("systemd-") {
                notes.list(setting, format!("{other} is no unit among the files"));
            }
            relations.after.entry(other).or_default().insert(name.clone());
        }
    }
    // A target is after what it pulls in, unless one of the two says that there is nothing by default.
    let plain = |name: &str| {
        let setting = texts.get(name).and_then(|it| it.last("Unit", &["DefaultDependencies"]));
        setting.is_none_or(|setting| value::boolean(&setting.value) != Some(false))
    };
    for (target, pulls) in &relations.pulls {
        if !target.ends_with(".target") || !plain(target) {
            continue;
        }
        for pull in pulls.iter().filter(|pull| plain(&pull.to)) {
            let other_way = relations.after.get(&pull.to).is_some_and(|it| it.contains(target));
            if !other_way {
                relations.after.entry(target.clone()).or_default().insert(pull.to.clone());
            }
        }
    }
    relations
}

/// The units that a key names.
fn names<'a>(
    text: &'a Text,
    section: &str,
    key: &str,
    aliases: &BTreeMap<String, String>,
    notes: &mut Notes<'_>,
) -> Vec<(String, &'a Setting)> {
    let mut found = Vec::new();
    for setting in text.list(section, key) {
        let Some(words) = notes.text(text, setting) else { continue };
        for word in words.split_whitespace() {
            if !word.contains('.') {
                notes.refuse(setting, &format!("{word:?} is no unit's name: its kind is missing"));
                continue;
            }
            found.push((aliases.get(word).map_or(word, String::as_str).to_owned(), setting));
        }
    }
    found
}

impl<'a> Relations<'a> {
    /// What a unit pulls in, through targets: each with the stronger of its relations.
    fn pulled(&self, from: &str) -> Vec<Pull<'a>> {
        let mut found: BTreeMap<String, Pull<'a>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut todo: Vec<(&str, bool)> = vec![(from, true)];
        while let Some((name, strong)) = todo.pop() {
            if !seen.insert((name.to_owned(), strong)) {
                continue;
            }
            for pull in self.pulls.get(name).into_iter().flatten() {
                let strong = strong && pull.strong;
                if pull.to.ends_with(".target") {
                    todo.push((&pull.to, strong));
                } else if found.get(&pull.to).is_none_or(|known| strong && !known.strong) {
                    found.insert(pull.to.clone(), Pull { strong, ..pull.clone() });
                }
            }
        }
        found.into_values().collect()
    }

    /// What a unit comes after, through targets; no targets.
    fn before(&self, from: &str) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let mut todo = vec![from];
        while let Some(name) = todo.pop() {
            if !seen.insert(name) {
                continue;
            }
            for other in self.after.get(name).into_iter().flatten() {
                if other.ends_with(".target") {
                    todo.push(other);
                } else {
                    found.insert(other.clone());
                }
            }
        }
        found
    }

    fn is_after(&self, later: &str, earlier: &str) -> bool {
        self.before(later).contains(earlier)
    }
}

/// The units that are started by themselves.
fn started(
    relations: &Relations<'_>,
    triggers: &BTreeMap<String, Trigger>,
    options: &Options,
    aliases: &BTreeMap<String, String>,
) -> BTreeSet<String> {
    let named = options.start.iter().map(|name| aliases.get(name).unwrap_or(name));
    let (services, others): (Vec<&String>, Vec<&String>) =
        named.partition(|name| name.ends_with(".service"));
    let mut started: BTreeSet<String> = BTreeSet::new();
    for root in options.targets.iter().chain(others) {
        if root.ends_with(".target") {
            started.extend(relations.pulled(root).into_iter().map(|pull| pull.to));
        } else {
            started.insert(root.clone());
        }
    }
    started.extend(pulled_triggers(relations, triggers, &started));
    let left: Vec<String> = services
        .into_iter()
        .filter(|service| {
            let mut of = triggers.iter().filter(|(_, trigger)| trigger.service == **service);
            !of.any(|(name, _)| started.contains(name))
        })
        .cloned()
        .collect();
    started.extend(left);
    started.extend(pulled_triggers(relations, triggers, &started));
    started
}

/// Sockets and timers that services pull in, which are started themselves or with others.
fn pulled_triggers(
    relations: &Relations<'_>,
    triggers: &BTreeMap<String, Trigger>,
    started: &BTreeSet<String>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut todo: Vec<String> = started.iter().cloned().collect();
    while let Some(name) = todo.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if triggers.contains_key(&name) {
            found.push(name.clone());
        }
        todo.extend(relations.pulled(&name).into_iter().map(|pull| pull.to));
    }
    found
}

/// Gives sockets and timers that are started to their services.
fn trigger(
    triggers: &BTreeMap<String, Trigger>,
    started: &BTreeSet<String>,
    services: &mut BTreeMap<String, ServiceSpec>,
    notes: &mut Notes<'_>,
) {
    for (name, trigger) in triggers.iter().filter(|(name, _)| started.contains(*name)) {
        let Some(spec) = services.get_mut(&trigger.service) else {
            let text = format!("{name} starts {}, which is not among the files", trigger.service);
            notes.at(&trigger.place, text);
            continue;
        };
        spec.sockets.extend(trigger.sockets.iter().cloned());
        if !trigger.sockets.is_empty() && !started.contains(&trigger.service) {
            (spec.on_demand, spec.enabled) = (true, true);
        }
        if let Some(timer) = trigger.timer {
            (spec.timer, spec.enabled) = (Some(timer), true);
        }
    }
}
