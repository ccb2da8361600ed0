//! A difference as text for people: what matters most first, and no more than a screen or two of
//! it unless everything was asked for.

use std::collections::BTreeMap;
use std::fmt;

use super::{Aspect, Change, Difference};
use crate::manifest::{Artifact, FileEntry, InputRecord, PackageRecord};
use crate::quantity::{count, delta, size};

/// How many files of a group are named.
const FILES: usize = 5;
/// How many groups of files are told apart.
const GROUPS: usize = 12;
/// How many packages, artifacts and inputs are named.
const ITEMS: usize = 40;

/// A [`Difference`] to be written with `{}`.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a> {
    difference: &'a Difference,
    all: bool,
}

impl<'a> Text<'a> {
    pub(super) fn of(difference: &'a Difference, all: bool) -> Self {
        Self { difference, all }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        Text::of(self, false).fmt(out)
    }
}

impl Difference {
    /// One line about everything.
    #[must_use]
    pub fn summary(&self) -> String {
        let (old, new) = (&self.old, &self.new);
        if self.is_empty() {
            return format!(
                "no difference: {} artifacts, {} packages, {} files",
                count(new.artifacts),
                count(new.packages),
                count(new.files)
            );
        }
        let mut parts: Vec<String> =
            self.settings.iter().map(|setting| setting.name.clone()).collect();
        let mut part = |changed: usize, one: &str, many: &str| {
            if changed > 0 {
                parts.push(format!("{} {}", count(changed), if changed == 1 { one } else { many }));
            }
        };
        part(self.artifacts.len(), "artifact", "artifacts");
        part(self.packages.len(), "package", "packages");
        part(self.inputs.len(), "input", "inputs");
        part(self.files.len(), "file", "files");
        let joined = match parts.split_last() {
            Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
            _ => parts.concat(),
        };
        format!(
            "different: {joined}; content {} → {} ({})",
            size(old.content),
            size(new.content),
            delta(old.content, new.content)
        )
    }
}

impl fmt::Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let difference = self.difference;
        writeln!(out, "{}", difference.summary())?;
        for setting in &difference.settings {
            let shown = |value: &Option<String>| {
                value.as_deref().map_or_else(|| "none".to_owned(), |value| format!("{value:?}"))
            };
            let (old, new) = (shown(&setting.old), shown(&setting.new));
            writeln!(out, "\n{}\n  - {old}\n  + {new}", setting.name)?;
        }
        self.list(out, "artifacts", &difference.artifacts, artifact)?;
        self.list(out, "packages", &difference.packages, package)?;
        self.list(out, "inputs", &difference.inputs, input)?;
        self.files(out)
    }
}

impl Text<'_> {
    fn list<T>(
        &self,
        out: &mut fmt::Formatter<'_>,
        title: &str,
        changes: &[Change<T>],
        describe: impl Fn(&Change<T>) -> (String, String),
    ) -> fmt::Result {
        if changes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\n{title}: {}", tally(changes.iter().map(mark)))?;
        let limit = if self.all { changes.len() } else { ITEMS };
        let lines: Vec<(char, String, String)> = changes
            .iter()
            .take(limit)
            .map(|change| {
                let (name, text) = describe(change);
                (mark(change), plain(&name), plain(&text))
            })
            .collect();
        write_lines(out, "  ", &lines)?;
        more(out, "  ", changes.len().saturating_sub(limit))
    }

    fn files(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let changes = &self.difference.files;
        if changes.is_empty() {
            return Ok(());
        }
        writeln!(out, "\nfiles: {}", tally(changes.iter().map(mark)))?;
        let mut by_origin: BTreeMap<Option<&str>, Vec<&Change<FileEntry>>> = BTreeMap::new();
        for change in changes {
            let file = change.latest();
            let origin = file.package.as_deref().or(file.input.as_deref());
            by_origin.entry(origin).or_default().push(change);
        }
        let mut groups: Vec<(Option<&str>, Vec<&Change<FileEntry>>)> =
            by_origin.into_iter().collect();
        groups.sort_by_key(|(_, changes)| {
            let moved =
                changes.iter().fold(0_u64, |sum, change| sum.saturating_add(weight(change)));
            std::cmp::Reverse((moved, changes.len()))
        });
        let limit = if self.all { groups.len() } else { GROUPS };
        for (origin, changes) in groups.iter().take(limit) {
            self.group(out, *origin, changes)?;
        }
        let rest = groups.get(limit..).unwrap_or_default();
        if !rest.is_empty() {
            let files: usize = rest.iter().map(|(_, changes)| changes.len()).sum();
            let (files, origins) = (count(files), count(rest.len()));
            writeln!(out, "  … {files} more files of {origins} more origins (--all lists them)")?;
        }
        Ok(())
    }

    fn group(
        &self,
        out: &mut fmt::Formatter<'_>,
        origin: Option<&str>,
        changes: &[&Change<FileEntry>],
    ) -> fmt::Result {
        let total = |side: fn(&Change<FileEntry>) -> Option<&FileEntry>| {
            changes
                .iter()
                .filter_map(|change| side(change))
                .fold(0_u64, |sum, file| sum.saturating_add(file.own_size()))
        };
        writeln!(
            out,
            "  {} ({}, {})",
            plain(origin.unwrap_or("of no package")),
            tally(changes.iter().map(|change| mark(change))),
            delta(total(Change::before), total(Change::after))
        )?;
        let mut shown = changes.to_vec();
        if !self.all {
            // What no image shows comes last, what weighs most first.
            shown.sort_by_key(|change| {
                let only_reason = change.aspects() == [Aspect::Reason];
                (only_reason, std::cmp::Reverse(weight(change)))
            });
            shown.truncate(FILES);
        }
        let lines: Vec<(char, String, String)> = shown
            .iter()
            .map(|change| (mark(change), plain(&change.latest().path), plain(&file(change))))
            .collect();
        write_lines(out, "    ", &lines)?;
        more(out, "    ", changes.len().saturating_sub(shown.len()))
    }
}

fn more(out: &mut fmt::Formatter<'_>, indent: &str, count_left: usize) -> fmt::Result {
    if count_left == 0 {
        return Ok(());
    }
    writeln!(out, "{indent}… {} more (--all lists them)", count(count_left))
}

/// Lines with their second column aligned, unless a name is so long that this would not help.
fn write_lines(
    out: &mut fmt::Formatter<'_>,
    indent: &str,
    lines: &[(char, String, String)],
) -> fmt::Result {
    let width = lines.iter().map(|(_, name, _)| name.chars().count()).max().unwrap_or(0).min(56);
    lines.iter().try_for_each(|(mark, name, text)| {
        let line = format!("{indent}{mark} {name:width$}  {text}");
        writeln!(out, "{}", line.trim_end())
    })
}

fn mark<T>(change: &Change<T>) -> char {
    match change {
        Change::Added(_) => '+',
        Change::Removed(_) => '-',
        Change::Changed { .. } => '~',
    }
}

/// `3 added, 12 changed`.
fn tally(marks: impl Iterator<Item = char>) -> String {
    let (mut added, mut removed, mut changed) = (0, 0, 0);
    for mark in marks {
        match mark {
            '+' => added += 1,
            '-' => removed += 1,
            _ => changed += 1,
        }
    }
    let parts = [(added, "added"), (removed, "removed"), (changed, "changed")];
    let parts = parts.iter().filter(|(number, _)| *number > 0);
    parts.map(|(number, word)| format!("{} {word}", count(*number))).collect::<Vec<_>>().join(", ")
}

/// How many bytes a change moves: what people look at first.
fn weight(change: &Change<FileEntry>) -> u64 {
    match change {
        Change::Added(file) | Change::Removed(file) => file.own_size(),
        Change::Changed { old, new } if old.sha256 != new.sha256 => {
            old.own_size().max(new.own_size())
        }
        Change::Changed { .. } => 0,
    }
}

fn artifact(change: &Change<Artifact>) -> (String, String) {
    let text = match change {
        Change::Added(it) | Change::Removed(it) => size(it.size),
        Change::Changed { old, new } => sizes(old.size, new.size),
    };
    (change.latest().path.clone(), text)
}

fn sizes(old: u64, new: u64) -> String {
    if old == new {
        format!("{}, other content of the same size", size(old))
    } else {
        format!("{} → {} ({})", size(old), size(new), delta(old, new))
    }
}

fn package(change: &Change<PackageRecord>) -> (String, String) {
    let text = match change {
        Change::Added(it) => format!("{} ({})", it.version, it.why),
        Change::Removed(it) => it.version.clone(),
        Change::Changed { old, new } => {
            let mut parts = Vec::new();
            if old.version != new.version {
                parts.push(format!("{} → {}", old.version, new.version));
            }
            if old.architecture != new.architecture {
                parts.push(format!("{} → {}", old.architecture, new.architecture));
            }
            if old.version == new.version && old.sha256 != new.sha256 {
                parts.push(format!("{}, another file of this version", new.version));
            }
            let source = |it: &PackageRecord| format!("{} {}", it.source, it.source_version);
            if parts.is_empty() && source(old) != source(new) {
                parts.push(format!("source {} → {}", source(old), source(new)));
            }
            if old.licence != new.licence {
                let shown = |it: &PackageRecord| {
                    it.licence.clone().unwrap_or_else(|| "not known".to_owned())
                };
                parts.push(format!("licence {} → {}", shown(old), shown(new)));
            }
            if parts.is_empty() && old.depends != new.depends {
                parts.push("other dependencies".into());
            }
            if parts.is_empty() {
                parts.push(format!("now because: {}", new.why));
            }
            parts.join("; ")
        }
    };
    (change.latest().name.clone(), text)
}

fn input(change: &Change<InputRecord>) -> (String, String) {
    let version = |it: &InputRecord| it.version.clone().unwrap_or_else(|| "no version".to_owned());
    let text = match change {
        Change::Added(it) | Change::Removed(it) => match &it.version {
            Some(version) => format!("{version} ({})", it.kind),
            None => it.kind.clone(),
        },
        Change::Changed { old, new } if old.version != new.version => {
            format!("{} → {}", version(old), version(new))
        }
        Change::Changed { old, new } if old.sha256 != new.sha256 => "other content".into(),
        Change::Changed { old, new } => format!("{} → {}", old.kind, new.kind),
    };
    (change.latest().name.clone(), text)
}

fn file(change: &Change<FileEntry>) -> String {
    let (old, new) = match change {
        Change::Removed(file) => return what(file),
        Change::Added(file) => {
            let what = what(file);
            let why = file.why.as_ref().map(|why| format!("({why})")).unwrap_or_default();
            return format!("{what}{}{why}", if what.is_empty() { "" } else { " " });
        }
        Change::Changed { old, new } => (old, new),
    };
    let or_none = |text: Option<&str>| text.unwrap_or("none").to_owned();
    let mut aspects = change.aspects();
    if aspects.contains(&Aspect::Kind) {
        // Of something else, size, mode and target are other ones by nature.
        aspects.retain(|aspect| matches!(aspect, Aspect::Kind | Aspect::Owner | Aspect::Origin));
    }
    if aspects.len() > 1 {
        // A new reason explains nothing that is not told already.
        aspects.retain(|aspect| *aspect != Aspect::Reason);
    }
    let parts = aspects.into_iter().map(|aspect| match aspect {
        Aspect::Kind => {
            let target = new.target.as_ref().map(|target| format!(" to {target}"));
            format!("{} → {}{}", old.kind, new.kind, target.unwrap_or_default())
        }
        Aspect::Content => match (old.size, new.size) {
            (Some(old), Some(new)) => sizes(old, new),
            (old, new) => {
                format!("{} → {}", size(old.unwrap_or_default()), size(new.unwrap_or_default()))
            }
        },
        Aspect::Mode => format!("mode {} → {}", old.mode, new.mode),
        Aspect::Owner => format!("owner {}:{} → {}:{}", old.uid, old.gid, new.uid, new.gid),
        Aspect::Target => format!(
            "leads to {} → {}",
            or_none(old.target.as_deref()),
            or_none(new.target.as_deref())
        ),
        Aspect::Device => format!(
            "device {} → {}",
            or_none(old.device.as_deref()),
            or_none(new.device.as_deref())
        ),
        Aspect::Attributes => "extended attributes".into(),
        Aspect::Origin => {
            let origin = |it: &FileEntry| or_none(it.package.as_deref().or(it.input.as_deref()));
            format!("from {} → {}", origin(old), origin(new))
        }
        Aspect::Reason => format!("now because: {}", or_none(new.why.as_deref())),
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// What a file is, in a word or two.
fn what(file: &FileEntry) -> String {
    match (&file.target, file.size) {
        (Some(target), _) => format!("→ {target}"),
        (None, Some(length)) => size(length),
        (None, None) => file.kind.clone(),
    }
}

/// The text without what would change a terminal's state.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}
