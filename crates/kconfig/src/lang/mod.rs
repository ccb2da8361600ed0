//! What a source tree's Kconfig files declare: enough of the language to say why an option came
//! out other than it was asked for. Nothing is solved here; that is `make olddefconfig`'s.

mod expr;
mod reader;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

pub(crate) use expr::{Expr, Values};

use crate::dotconfig::DotConfig;
use crate::dotconfig::file::read_bounded;
use crate::error::{Error, Problem, Result, Site};
use crate::value::{Tristate, Value};

/// The largest Kconfig file of Linux has 120 KiB.
const LARGEST: u64 = 4 << 20;

/// The type that an option is declared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `y` or `n`.
    Bool,
    /// `y`, `m` or `n`.
    Tristate,
    /// Text.
    String,
    /// A decimal number.
    Int,
    /// A hexadecimal number.
    Hex,
}

/// A condition, and the line that makes it.
#[derive(Clone, Debug)]
pub(crate) struct Condition {
    /// `depends on`, `if`, `visible if`: the word in front.
    pub(crate) word: &'static str,
    pub(crate) expr: Expr,
    pub(crate) site: Site,
}

/// One declaration of an option; an option may have several.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    pub(crate) site: Site,
    pub(crate) kind: Option<Kind>,
    /// Whether somebody can be asked for it, and so whether a `.config` can set it.
    pub(crate) prompt: bool,
    /// What must hold for the option to exist: its own `depends on` and those around it.
    pub(crate) depends: Vec<Condition>,
    /// What must hold besides for a `.config` to have a say.
    pub(crate) visible: Vec<Condition>,
    pub(crate) ranges: Vec<(String, String, Site)>,
    /// Of which choice it is a member, by number.
    pub(crate) choice: Option<usize>,
}

/// `select`: an option that turns another on, whatever a `.config` says.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub(crate) by: String,
    pub(crate) condition: Option<Expr>,
    pub(crate) site: Site,
}

/// The options that the Kconfig files of a source tree declare.
///
/// This example shows how to learn what an option is called.
///
/// ```
/// use kiln_kconfig::Declarations;
///
/// let text = "config VIRTIO_NET\n\ttristate \"Network\"\n\tdepends on VIRTIO\n";
/// let tree = Declarations::load("Kconfig", &[], |_| Ok(text.into()));
/// assert!(tree.contains("VIRTIO_NET"));
/// assert_eq!(tree.similar("VIRTIONET"), ["VIRTIO_NET"]);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    pub(crate) options: BTreeMap<String, Vec<Declaration>>,
    pub(crate) selects: BTreeMap<String, Vec<Select>>,
    /// The members of each choice.
    pub(crate) choices: Vec<Vec<String>>,
    problems: Vec<Problem>,
}

impl Declarations {
    /// Reads the Kconfig files of a Linux source tree for an architecture (`x86`, as the folder
    /// below `arch/` is called).
    ///
    /// # Errors
    ///
    /// [`Error::Read`] when there is no `Kconfig` at the top.
    pub fn read(tree: &Path, arch: &str) -> Result<Self> {
        let top = tree.join("Kconfig");
        std::fs::metadata(&top).map_err(|source| Error::Read { path: top, source })?;
        Ok(Self::load("Kconfig", &[("SRCARCH", arch)], |name| {
            read_bounded(&tree.join(name), LARGEST).map_err(|error| match error {
                Error::Read { source, .. } => source,
                other => io::Error::other(other.to_string()),
            })
        }))
    }

    /// Reads Kconfig files, `top` first and then whatever is `source`d, as `open` gives them.
    /// `variables` are put in where a path says `$(NAME)`.
    ///
    /// Never fails: what cannot be opened or understood is in [`problems`](Self::problems).
    pub fn load(
        top: &str,
        variables: &[(&str, &str)],
        open: impl FnMut(&str) -> io::Result<Vec<u8>>,
    ) -> Self {
        reader::read(top, variables, open)
    }

    /// Whether an option of that name (without `CONFIG_`) is declared.
    #[must_use]
    pub fn contains(&self, option: &str) -> bool {
        self.options.contains_key(option)
    }

    /// The names of all options, sorted.
    pub fn options(&self) -> impl Iterator<Item = &str> {
        self.options.keys().map(String::as_str)
    }

    /// How many options are declared.
    #[must_use]
    pub fn len(&self) -> usize {
        self.options.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.options.is_empty()
    }

    /// Where an option is declared.
    pub fn sites(&self, option: &str) -> impl Iterator<Item = &Site> {
        self.options.get(option).into_iter().flatten().map(|declaration| &declaration.site)
    }

    /// Files that could not be opened, and nesting that is too deep.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Up to three declared options whose names are nearest to `option`, the nearest first; none
    /// where nothing is near.
    #[must_use]
    pub fn similar(&self, option: &str) -> Vec<&str> {
        let bound = (option.len() / 4).clamp(1, 4);
        let mut found: Vec<(usize, &str)> = self
            .options
            .keys()
            .filter(|name| name.len().abs_diff(option.len()) <= bound)
            .map(|name| (distance(name.as_bytes(), option.as_bytes()), name.as_str()))
            .filter(|(distance, _)| *distance <= bound)
            .collect();
        found.sort_unstable();
        found.truncate(3);
        found.into_iter().map(|(_, name)| name).collect()
    }
}

impl Values for DotConfig {
    fn value(&self, option: &str) -> Option<Value> {
        self.by_name(option)?.value
    }
}

impl Condition {
    /// The parts of it that keep the option below `wanted`, each with the options that it hangs
    /// on and what they are.
    pub(crate) fn unmet(&self, wanted: Tristate, values: &DotConfig) -> Vec<&Expr> {
        let below = |expr: &&Expr| expr.eval(values).is_some_and(|value| value < wanted);
        self.expr.conjuncts().into_iter().filter(below).collect()
    }

    /// The parts of it that only the host's tools can answer.
    pub(crate) fn unknown(&self, values: &DotConfig) -> Vec<&Expr> {
        let unknown = |expr: &&Expr| expr.eval(values).is_none();
        self.expr.conjuncts().into_iter().filter(unknown).collect()
    }
}

/// How many letters must be put in, taken out or replaced (Levenshtein), in O(a·b).
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(b) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            *cell = replaced.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "abc", 3), ("kitten", "sitting", 3), ("E1000", "E1000E", 1), ("A", "A", 0)]
        {
            assert_eq!(super::distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }
}
