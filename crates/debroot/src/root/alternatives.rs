//! Alternatives (`update-alternatives(1)`): links that the scripts of packages would make.

use std::collections::BTreeMap;

use kiln_tree::{Kind, TreePath};

use super::shell::{self, Command};
use super::unpack::Work;
use super::{Note, without_alias};
use crate::Result;

/// Where the links between name and path are.
const DIRECTORY: &str = "etc/alternatives";

/// One of the programs, or whatever else, that a name can stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alternative {
    /// The name: `editor`.
    pub name: String,
    /// The link by which it is used: `/usr/bin/editor`.
    pub link: String,
    /// What it stands for: `/bin/nano`.
    pub path: String,
    /// The higher one wins.
    pub priority: i64,
    /// What goes with it: link, name and path of each.
    pub slaves: Vec<(String, String, String)>,
    /// The package whose script has it.
    pub package: String,
}

/// Reads the scripts (package, name, text), chooses, and makes the links.
pub(super) fn apply(
    work: &mut Work<'_>,
    scripts: &[(String, &'static str, String)],
) -> Result<(Vec<Alternative>, Vec<Note>)> {
    let mut notes = Vec::new();
    let mut by_name: BTreeMap<String, Vec<Alternative>> = BTreeMap::new();
    for (package, script, text) in scripts {
        for command in shell::commands(text) {
            let Some(found) = read(&command) else { continue };
            let mut note = |text: String| {
                let place = format!("{script}:{}", command.line);
                notes.push(Note { package: package.clone(), place, text });
            };
            match found {
                Err(reason) => note(format!("alternative not understood: {reason}")),
                Ok(alternative) if work.tree.resolve(&alternative.path).is_none() => {
                    note(format!("alternative not set: there is no {}", alternative.path));
                }
                Ok(alternative) => {
                    let alternative = Alternative { package: package.clone(), ..alternative };
                    let known = by_name.entry(alternative.name.clone()).or_default();
                    // The script may say it for several occasions; the last word counts.
                    known.retain(|other| other.path != alternative.path);
                    known.push(alternative);
                }
            }
        }
    }
    let mut set = Vec::new();
    for (name, mut candidates) in by_name {
        // Of equal ones the first by path, as update-alternatives has it.
        candidates.sort_by(|a, b| b.priority.cmp(&a.priority).then_with(|| a.path.cmp(&b.path)));
        let wanted = work.options.choices.get(&name);
        let chosen = match wanted {
            None => candidates.into_iter().next(),
            Some(path) => {
                let paths: Vec<String> =
                    candidates.iter().map(|candidate| candidate.path.clone()).collect();
                let found = candidates.into_iter().find(|candidate| candidate.path == *path);
                if found.is_none() {
                    return Err(crate::Error::Root(vec![format!(
                        "alternative {name}: {path} was chosen, and there is only {}",
                        paths.join(" and ")
                    )]));
                }
                found
            }
        };
        if let Some(chosen) = chosen {
            link(work, &chosen, &mut notes)?;
            set.push(chosen);
        }
    }
    Ok((set, notes))
}

fn link(work: &mut Work<'_>, chosen: &Alternative, notes: &mut Vec<Note>) -> Result<()> {
    let master = (chosen.link.clone(), chosen.name.clone(), chosen.path.clone());
    for (number, (link, name, path)) in std::iter::once(&master).chain(&chosen.slaves).enumerate() {
        let mut note = |text: String| {
            notes.push(Note {
                package: chosen.package.clone(),
                place: format!("alternative {name}"),
                text,
            });
        };
        // What goes with it may have been left out, or be in a package that is not there.
        if number > 0 && work.tree.resolve(path).is_none() {
            continue;
        }
        let (Ok(link), Ok(between)) =
            (TreePath::new(link), TreePath::new(format!("{DIRECTORY}/{name}")))
        else {
            note(format!("not set: {link} and {name} make no paths"));
            continue;
        };
        let link = without_alias(&link);
        let in_the_way = link
            .parent()
            .filter(|parent| !parent.is_root())
            .is_some_and(|parent| work.tree.get(&parent).is_some_and(|node| !node.is_directory()));
        if in_the_way {
            note(format!("not set: the directory of {link} is none"));
            continue;
        }
        match work.tree.get(&link).map(|node| &node.kind) {
            None => {}
            Some(Kind::Symlink(_)) => work.remove_link(&link)?,
            Some(kind) => {
                note(format!("not set: {link} is a {} of a package", kind.name()));
                continue;
            }
        }
        if matches!(work.tree.get(&between).map(|node| &node.kind), Some(Kind::Symlink(_))) {
            work.remove_link(&between)?;
        }
        let why = format!("alternative {name} of {}", chosen.package);
        work.add_link(&between, path, why.clone())?;
        work.add_link(&link, &format!("/{between}"), why)?;
    }
    Ok(())
}

/// What a command installs; `None` when it is about something else.
fn read(command: &Command) -> Option<Result<Alternative, String>> {
    let (program, words) = command.words.split_first()?;
    let program = program.as_deref()?;
    if program.rsplit('/').next()? != "update-alternatives" {
        return None;
    }
    if !words.iter().any(|word| word.as_deref() == Some("--install")) {
        return None;
    }
    let Some(words) = words.iter().map(Option::as_deref).collect::<Option<Vec<&str>>>() else {
        let words: Vec<&str> = words.iter().map(|word| word.as_deref().unwrap_or("…")).collect();
        return Some(Err(words.join(" ")));
    };
    Some(arguments(&words).ok_or_else(|| words.join(" ")))
}

fn arguments(words: &[&str]) -> Option<Alternative> {
    let mut rest = words;
    let mut master = None;
    let mut slaves = Vec::new();
    while let Some((first, after)) = rest.split_first() {
        rest = match (*first, after) {
            ("--install", [link, name, path, priority, after @ ..]) => {
                master = Some((*link, *name, *path, priority.parse().ok()?));
                after
            }
            ("--slave", [link, name, path, after @ ..]) => {
                slaves.push(((*link).to_owned(), (*name).to_owned(), (*path).to_owned()));
                after
            }
            ("--quiet" | "--force" | "--verbose", after) => after,
            _ => return None,
        };
    }
    let (link, name, path, priority) = master?;
    let proper = !name.is_empty() && !name.contains('/') && !name.contains(char::is_whitespace);
    (proper && link.starts_with('/') && path.starts_with('/')).then(|| Alternative {
        name: name.into(),
        link: link.into(),
        path: path.into(),
        priority,
        slaves,
        package: String::new(),
    })
}
