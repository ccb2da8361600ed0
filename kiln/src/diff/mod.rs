//! What differs between two builds, by their manifests.

mod text;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::manifest::{Artifact, FileEntry, InputRecord, Manifest, PackageRecord};

pub use self::text::Text;

/// What differs between an old and a new build. With `{}` it is text for people, with the most
/// important of each group; [`in_full`](Self::in_full) lists everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Difference {
    /// The old build as a whole.
    pub old: Whole,
    /// The new build as a whole.
    pub new: Whole,
    /// Name, version, kernel and command line, where they changed.
    pub settings: Vec<Setting>,
    /// Artifacts, by name.
    pub artifacts: Vec<Change<Artifact>>,
    /// Packages, by name.
    pub packages: Vec<Change<PackageRecord>>,
    /// Inputs, by name.
    pub inputs: Vec<Change<InputRecord>>,
    /// Files, by path.
    pub files: Vec<Change<FileEntry>>,
}

/// A build as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Whole {
    /// The system's name.
    pub name: String,
    /// How many artifacts there are.
    pub artifacts: usize,
    /// How many packages there are.
    pub packages: usize,
    /// How many paths there are in the image.
    pub files: usize,
    /// What its files take together, in bytes.
    pub content: u64,
}

impl Whole {
    fn of(manifest: &Manifest) -> Self {
        Self {
            name: manifest.name.clone(),
            artifacts: manifest.artifacts.len(),
            packages: manifest.packages.len(),
            files: manifest.files.len(),
            content: manifest.content_size(),
        }
    }
}

/// Something about the system that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Setting {
    /// Which one: `name`, `version`, `kernel`, `command line`.
    pub name: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// What became of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change<T> {
    /// It was not there before.
    Added(T),
    /// It is no longer there.
    Removed(T),
    /// It is there as something else.
    Changed {
        /// As it was.
        old: T,
        /// As it is.
        new: T,
    },
}

impl<T> Change<T> {
    /// As it was, if it was there.
    pub fn before(&self) -> Option<&T> {
        match self {
            Self::Added(_) => None,
            Self::Removed(old) | Self::Changed { old, .. } => Some(old),
        }
    }

    /// As it is, if it is there.
    pub fn after(&self) -> Option<&T> {
        match self {
            Self::Removed(_) => None,
            Self::Added(new) | Self::Changed { new, .. } => Some(new),
        }
    }

    /// As it is, or was.
    pub fn latest(&self) -> &T {
        match self {
            Self::Added(it) | Self::Removed(it) | Self::Changed { new: it, .. } => it,
        }
    }
}

/// In what respect a file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Aspect {
    /// It is something else: a link in place of a file.
    Kind,
    /// Its bytes.
    Content,
    /// Its permission bits.
    Mode,
    /// Its owner or group.
    Owner,
    /// Where it leads.
    Target,
    /// Its device number.
    Device,
    /// Its extended attributes.
    Attributes,
    /// The package or input it comes from.
    Origin,
    /// Why it is there, which no image shows.
    Reason,
}

impl Change<FileEntry> {
    /// In what respects it changed; none for what was added or removed.
    #[must_use]
    pub fn aspects(&self) -> Vec<Aspect> {
        let Self::Changed { old, new } = self else { return Vec::new() };
        let content = |file: &FileEntry| (file.size, file.sha256.clone(), file.sha1.clone());
        let origin = |file: &FileEntry| (file.package.clone(), file.input.clone());
        let differs = [
            (Aspect::Kind, old.kind != new.kind),
            (Aspect::Content, content(old) != content(new)),
            (Aspect::Mode, old.mode != new.mode),
            (Aspect::Owner, (old.uid, old.gid) != (new.uid, new.gid)),
            (Aspect::Target, old.target != new.target),
            (Aspect::Device, old.device != new.device),
            (Aspect::Attributes, old.xattrs != new.xattrs),
            (Aspect::Origin, origin(old) != origin(new)),
            (Aspect::Reason, old.why != new.why),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
    }
}

/// Compares two builds. Two manifests that say the same in another order do not differ.
#[must_use]
pub fn manifests(old: &Manifest, new: &Manifest) -> Difference {
    let some = |text: &String| Some(text.clone());
    let settings = [
        ("name", some(&old.name), some(&new.name)),
        ("version", old.version.clone(), new.version.clone()),
        ("kernel", old.kernel.clone(), new.kernel.clone()),
        ("command line", some(&old.command_line), some(&new.command_line)),
        ("slots", old.slots.map(|it| it.to_string()), new.slots.map(|it| it.to_string())),
    ];
    Difference {
        old: Whole::of(old),
        new: Whole::of(new),
        settings: settings
            .into_iter()
            .filter(|(_, old, new)| old != new)
            .map(|(name, old, new)| Setting { name: name.into(), old, new })
            .collect(),
        artifacts: changes(&old.artifacts, &new.artifacts, |artifact| &artifact.path),
        packages: changes(&old.packages, &new.packages, |package| &package.name),
        inputs: changes(&old.inputs, &new.inputs, |input| &input.name),
        files: changes(&old.files, &new.files, |file| &file.path),
    }
}

/// What differs between two lists whose items have a name each.
fn changes<T: Clone + PartialEq>(
    old: &[T],
    new: &[T],
    name: impl Fn(&T) -> &String,
) -> Vec<Change<T>> {
    let mut by_name: BTreeMap<&str, (Option<&T>, Option<&T>)> = BTreeMap::new();
    for item in old {
        by_name.entry(name(item)).or_default().0 = Some(item);
    }
    for item in new {
        by_name.entry(name(item)).or_default().1 = Some(item);
    }
    by_name
        .into_values()
        .filter_map(|pair| match pair {
            (Some(old), Some(new)) if old == new => None,
            (Some(old), Some(new)) => Some(Change::Changed { old: old.clone(), new: new.clone() }),
            (Some(old), None) => Some(Change::Removed(old.clone())),
            (None, Some(new)) => Some(Change::Added(new.clone())),
            (None, None) => None,
        })
        .collect()
}

impl Difference {
    /// Whether the two manifests say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty()
            && self.artifacts.is_empty()
            && self.packages.is_empty()
            && self.inputs.is_empty()
            && self.files.is_empty()
    }

    /// The text for people with everything in it, however long that gets.
    #[must_use]
    pub fn in_full(&self) -> Text<'_> {
        Text::of(self, true)
    }
}
