//! Who set what, what it overrode, and what was said twice.

use std::collections::BTreeMap;
use std::fmt;

use super::{LineRef, Outcome, ScriptNote, Verdict};
use crate::dotconfig::{DotConfig, Setting};
use crate::error::Site;
use crate::value::printable;

/// A value and the line that gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Assignment {
    /// As written behind the `=`; `n` for `is not set`.
    pub value: String,
    /// The file and line.
    pub site: Site,
}

impl Assignment {
    pub(crate) fn of(setting: &Setting<'_>) -> Self {
        Self { value: setting.text(), site: setting.site.clone() }
    }
}

impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.value, self.site)
    }
}

/// An option that was set before and is set again.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Override {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// What it was.
    pub previous: Assignment,
    /// What came after it.
    pub new: Assignment,
}

impl fmt::Display for Override {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONFIG_{}: {} after {}", self.option, self.new, self.previous)
    }
}

/// How an option got its value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Provenance {
    /// The line that counts.
    pub set_by: Assignment,
    /// The lines before it that do not count any more, oldest first.
    pub overrode: Vec<Assignment>,
}

/// A line that the merge removed although it does not set the option it was removed for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct LostLine {
    /// Where it stood.
    pub site: Site,
    /// What it said.
    pub text: String,
    /// The option it set and that is now not set by it; nothing for a comment.
    pub setting: Option<String>,
    /// The option it was removed for, without `CONFIG_`.
    pub option: String,
    /// The fragment's line that sets that option.
    pub removed_by: Site,
}

impl fmt::Display for LostLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: removed because it names CONFIG_{}, which {} sets: '{}'",
            self.site, self.option, self.removed_by, self.text
        )
    }
}

/// A merged configuration, and how it came to be.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Merged {
    /// The configuration. Its lines know the base or fragment that they came from.
    pub config: DotConfig,
    /// Options whose value a fragment changed, in the order of the merge; also within one file.
    pub overrides: Vec<Override>,
    /// Options that a fragment set to what they were already.
    pub redundant: Vec<Override>,
    /// An `m` that [`MergeOptions::builtin_wins`](super::MergeOptions::builtin_wins) refused:
    /// `previous` is what stays.
    pub kept_builtin: Vec<Override>,
    /// Lines that went although they set something else, or nothing.
    pub lost: Vec<LostLine>,
    /// For each option in the result how it got its value.
    pub provenance: BTreeMap<String, Provenance>,
    notes: Vec<ScriptNote>,
}

impl Merged {
    /// Whether no value was changed: what strict merging asks for (the script's `-s`).
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.overrides.is_empty()
    }

    /// What `merge_config.sh -m` prints for this merge of `base` and `fragments` (which must be
    /// the inputs), up to its last lines on where it wrote the file; with `list_redundant` as
    /// with `-r`.
    ///
    /// The script lets its shell split and glob the lines that it quotes; here they are verbatim.
    #[must_use]
    pub fn script_log(
        &self,
        base: &DotConfig,
        fragments: &[DotConfig],
        list_redundant: bool,
    ) -> Vec<u8> {
        let text = |lines: &[LineRef]| {
            let lines: Vec<&[u8]> = lines
                .iter()
                .filter_map(|at| match at.file.checked_sub(1) {
                    None => Some(base.line(at.line)),
                    Some(number) => fragments.get(number).map(|file| file.line(at.line)),
                })
                .collect();
            lines.join(&b' ')
        };
        let mut out = format!("Using {} as base\n", base.origin()).into_bytes();
        let mut notes = self.notes.iter().peekable();
        for (number, fragment) in fragments.iter().enumerate() {
            let name = fragment.origin();
            out.extend_from_slice(format!("Merging {name}\n").as_bytes());
            while let Some(note) = notes.next_if(|note| note.fragment == number + 1) {
                let token = &note.token;
                match note.verdict {
                    Verdict::Redundant if !list_redundant => continue,
                    Verdict::Redundant => {
                        let line = format!("Value of {token} is redundant by fragment {name}:\n");
                        out.extend_from_slice(line.as_bytes());
                        continue;
                    }
                    Verdict::Redefined => {
                        let line = format!("Value of {token} is redefined by fragment {name}:\n");
                        out.extend_from_slice(line.as_bytes());
                    }
                    Verdict::KeptBuiltIn => {}
                }
                for (label, lines) in
                    [("Previous value: ", &note.previous), ("New value: ", &note.new)]
                {
                    out.extend_from_slice(label.as_bytes());
                    out.extend_from_slice(&text(lines));
                    out.push(b'\n');
                }
                if note.verdict == Verdict::KeptBuiltIn {
                    out.extend_from_slice(b"-y passed, will not demote y to m\n");
                }
                out.push(b'\n');
            }
        }
        out
    }
}

/// From what happened to lines to what happened to options.
pub(crate) fn assemble(
    config: DotConfig,
    base: &DotConfig,
    fragments: &[DotConfig],
    outcome: Outcome,
) -> Merged {
    let mut history: BTreeMap<&str, Vec<Setting<'_>>> = BTreeMap::new();
    let mut merged = Merged {
        config: config.clone(),
        overrides: Vec::new(),
        redundant: Vec::new(),
        kept_builtin: Vec::new(),
        lost: Vec::new(),
        provenance: BTreeMap::new(),
        notes: outcome.notes,
    };
    let nothing = Vec::new();
    for (number, file) in std::iter::once(base).chain(fragments).enumerate() {
        let dropped =
            number.checked_sub(1).and_then(|n| outcome.dropped.get(n)).unwrap_or(&nothing);
        for setting in file.settings() {
            let known = history.entry(setting.name).or_default();
            if let Some(previous) = known.last() {
                let change = Override {
                    option: setting.name.to_owned(),
                    previous: Assignment::of(previous),
                    new: Assignment::of(&setting),
                };
                if dropped.binary_search(&(setting.line - 1)).is_ok() {
                    merged.kept_builtin.push(change);
                    continue;
                }
                // What the base says twice is the base's own problem.
                if number > 0 && setting.same_value(previous) {
                    merged.redundant.push(change);
                } else if number > 0 {
                    merged.overrides.push(change);
                }
            }
            known.push(setting);
        }
    }
    for setting in config.effective() {
        let set_by = Assignment::of(&setting);
        let overrode = history
            .get(setting.name)
            .into_iter()
            .flatten()
            .map(Assignment::of)
            .filter(|assignment| assignment.site != set_by.site)
            .collect();
        merged.provenance.insert(setting.name.to_owned(), Provenance { set_by, overrode });
    }
    merged.lost = lost_lines(base, fragments, &outcome.removed);
    merged
}

fn lost_lines(
    base: &DotConfig,
    fragments: &[DotConfig],
    removed: &[(LineRef, String, LineRef)],
) -> Vec<LostLine> {
    let file = |at: &LineRef| match at.file.checked_sub(1) {
        None => Some(base),
        Some(number) => fragments.get(number),
    };
    let mut lost = Vec::new();
    for (at, token, by) in removed {
        let (Some(from), Some(to)) = (file(at), file(by)) else { continue };
        let option = token.strip_prefix("CONFIG_").unwrap_or(token);
        let setting = from.setting_on(at.line).map(|setting| setting.name.to_owned());
        if setting.as_deref() != Some(option) {
            lost.push(LostLine {
                site: from.site(at.line + 1),
                text: printable(from.line(at.line)),
                setting,
                option: option.to_owned(),
                removed_by: to.site(by.line + 1),
            });
        }
    }
    lost
}
