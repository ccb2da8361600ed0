//! What differs between two configurations.

use std::collections::BTreeMap;
use std::fmt;

use crate::dotconfig::DotConfig;
use crate::fragment::Assignment;

/// One option that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Change {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// What the left configuration says, if anything.
    pub left: Option<Assignment>,
    /// What the right configuration says, if anything.
    pub right: Option<Assignment>,
}

/// What differs between two configurations.
///
/// As text it is what the kernel's `scripts/diffconfig` prints: `-OPTION value` for options that
/// only the left one has, ` OPTION left -> right` for those that differ, `+OPTION value` for those
/// that only the right one has, each part sorted by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Diff {
    /// Options that only the left one has.
    pub removed: Vec<Change>,
    /// Options that both have, with different values.
    pub changed: Vec<Change>,
    /// Options that only the right one has.
    pub added: Vec<Change>,
}

impl Diff {
    /// Whether both say the same of every option.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.changed.is_empty() && self.added.is_empty()
    }
}

/// Compares two configurations by the lines that count in them. Order and comments play no part;
/// `# CONFIG_X is not set` is the same as `CONFIG_X=n`, and not the same as no line at all.
#[must_use]
pub fn diff(left: &DotConfig, right: &DotConfig) -> Diff {
    let by_name = |config: &'_ DotConfig| -> BTreeMap<String, Assignment> {
        config
            .effective()
            .map(|setting| (setting.name.to_owned(), Assignment::of(&setting)))
            .collect()
    };
    // By the bytes: `0x10` and `0x010` are a change that somebody made.
    let differs = |option: &str| match (left.by_name(option), right.by_name(option)) {
        (Some(a), Some(b)) => a.raw != b.raw,
        _ => true,
    };
    let (lefts, mut rights) = (by_name(left), by_name(right));
    let mut diff = Diff::default();
    for (option, left) in lefts {
        match rights.remove(&option) {
            None => diff.removed.push(Change { option, left: Some(left), right: None }),
            Some(right) if differs(&option) => {
                diff.changed.push(Change { option, left: Some(left), right: Some(right) });
            }
            Some(_) => {}
        }
    }
    for (option, right) in rights {
        diff.added.push(Change { option, left: None, right: Some(right) });
    }
    diff
}

impl fmt::Display for Diff {
    /// One line per option, each ended by a line break.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in self.removed.iter().chain(&self.changed).chain(&self.added) {
            writeln!(f, "{change}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.left, &self.right) {
            (Some(left), None) => write!(f, "-{} {}", self.option, left.value),
            (None, Some(right)) => write!(f, "+{} {}", self.option, right.value),
            (Some(left), Some(right)) => {
                write!(f, " {} {} -> {}", self.option, left.value, right.value)
            }
            (None, None) => f.write_str(&self.option),
        }
    }
}
