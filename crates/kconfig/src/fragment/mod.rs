//! Merging fragments into a base, with a record of who set what.
//!
//! The bytes that come out are those of the kernel's `scripts/kconfig/merge_config.sh -m`, in its
//! form of Linux 2.6.39 to 6.x (`grep` and `sed` for each option). For every fragment in turn:
//! for each option that it sets, each line so far that contains the option's name with a blank or
//! a `=` behind it is removed, *provided that* the name occurs somewhere as a whole word; then
//! comes a line break (an empty line, if the last line was complete), then the fragment.
//!
//! So more goes than the lines that set the option: a comment that names it, and a string value
//! that holds `CONFIG_X=`. Such lines are in [`Merged::lost`]. The script's newer form (one `awk`
//! program, Linux 7) keeps them; that is the only difference in the bytes that ordinary fragments
//! can tell, beside an empty line more when the base ends within a line.

mod index;
mod provenance;

use std::sync::Arc;

pub use provenance::{Assignment, LostLine, Merged, Override, Provenance};

use crate::dotconfig::{DotConfig, Limits};
use crate::error::Site;
use index::{Hit, Index, listed_options};

/// Merges `fragments` into `base` as `merge_config.sh -m` does.
///
/// Never fails; whether something was overridden is in the result.
#[must_use]
pub fn merge(base: &DotConfig, fragments: &[DotConfig]) -> Merged {
    MergeOptions::default().merge(base, fragments)
}

/// How to merge.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct MergeOptions {
    /// A fragment's `m` does not replace a `y` (the script's `-y`). Off by default.
    pub builtin_wins: bool,
    /// The merged configuration's own name, `(merged)` by default. Its lines nevertheless know
    /// the files that they came from.
    pub origin: String,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self { builtin_wins: false, origin: "(merged)".to_owned() }
    }
}

impl MergeOptions {
    /// Merges `fragments` into `base`.
    #[must_use]
    pub fn merge(&self, base: &DotConfig, fragments: &[DotConfig]) -> Merged {
        let names = fragments.iter().flat_map(listed_options).map(|(_, token)| token).collect();
        let mut stack = Stack { files: vec![base], lines: Vec::new(), index: Index::default() };
        stack.append(0, &Index::of(base, &names), &[]);
        let mut outcome = Outcome::default();
        for (number, fragment) in fragments.iter().enumerate() {
            stack.files.push(fragment);
            let index = Index::of(fragment, &names);
            let dropped = stack.clear(number + 1, &index, self, &mut outcome);
            stack.end_line();
            stack.append(number + 1, &index, &dropped);
            outcome.dropped.push(dropped);
        }
        let (bytes, sites) = stack.render();
        let config =
            DotConfig::build(bytes, Arc::from(&*self.origin), Some(sites), &Limits::default());
        provenance::assemble(config, base, fragments, outcome)
    }
}

/// A line of one of the inputs: which file (0 is the base), and which line of it, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LineRef {
    pub(crate) file: usize,
    pub(crate) line: usize,
}

/// What the script says of one option of one fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Redefined,
    Redundant,
    KeptBuiltIn,
}

/// One message of the script, with the lines that it quotes.
#[derive(Clone, Debug)]
pub(crate) struct ScriptNote {
    pub(crate) token: String,
    pub(crate) fragment: usize,
    pub(crate) verdict: Verdict,
    pub(crate) previous: Vec<LineRef>,
    pub(crate) new: Vec<LineRef>,
}

/// What happened, in terms of lines.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) notes: Vec<ScriptNote>,
    /// A removed line, the option it was removed for, and the fragment's line that sets that.
    pub(crate) removed: Vec<(LineRef, String, LineRef)>,
    /// For each fragment its lines that were not taken over.
    pub(crate) dropped: Vec<Vec<usize>>,
}

/// A line of the configuration in the making.
#[derive(Debug)]
struct StackLine {
    /// Nothing for an empty line that the merge put in.
    source: Option<LineRef>,
    alive: bool,
    ended: bool,
}

/// The configuration in the making: what the script keeps in its temporary file.
#[derive(Debug)]
struct Stack<'a> {
    files: Vec<&'a DotConfig>,
    lines: Vec<StackLine>,
    index: Index<'a>,
}

impl<'a> Stack<'a> {
    fn text(&self, at: LineRef) -> &'a [u8] {
        self.files.get(at.file).map_or(&[], |file| file.line(at.line))
    }

    /// Removes the lines for all options that fragment `number` sets; returns the lines of the
    /// fragment that must not be taken over.
    fn clear(
        &mut self,
        number: usize,
        own: &Index<'a>,
        options: &MergeOptions,
        outcome: &mut Outcome,
    ) -> Vec<usize> {
        let mut dropped: Vec<usize> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let Some(fragment) = self.files.get(number).copied() else { return dropped };
        for (line, token) in listed_options(fragment) {
            // A second look finds nothing more to remove.
            if !seen.insert(token) {
                continue;
            }
            let hits = self.index.hits(token);
            let alive = |hit: &&Hit| self.lines.get(hit.line).is_some_and(|line| line.alive);
            let source = |hit: &Hit| self.lines.get(hit.line).and_then(|line| line.source);
            let previous: Vec<LineRef> =
                hits.iter().filter(alive).filter(|hit| hit.word).filter_map(source).collect();
            if previous.is_empty() {
                continue;
            }
            let new: Vec<LineRef> = own
                .hits(token)
                .iter()
                .filter(|hit| hit.word && dropped.binary_search(&hit.line).is_err())
                .map(|hit| LineRef { file: number, line: hit.line })
                .collect();
            let keep = options.builtin_wins
                && self.shows(&new) == Some(b"m")
                && self.shows(&previous) == Some(b"y");
            let same = previous.len() == new.len()
                && previous.iter().zip(&new).all(|(a, b)| self.text(*a) == self.text(*b));
            let doomed: Vec<usize> =
                hits.iter().filter(alive).filter(|hit| hit.removable).map(|hit| hit.line).collect();
            let name = String::from_utf8_lossy(token).into_owned();
            outcome.notes.push(ScriptNote {
                token: name.clone(),
                fragment: number,
                verdict: match (keep, same) {
                    (true, _) => Verdict::KeptBuiltIn,
                    (false, true) => Verdict::Redundant,
                    (false, false) => Verdict::Redefined,
                },
                previous,
                new,
            });
            if keep {
                dropped.extend(own.hits(token).iter().filter(|h| h.removable).map(|h| h.line));
                dropped.sort_unstable();
                dropped.dedup();
                continue;
            }
            for place in doomed {
                if let Some(doomed) = self.lines.get_mut(place) {
                    doomed.alive = false;
                    if let Some(source) = doomed.source {
                        let by = LineRef { file: number, line };
                        outcome.removed.push((source, name.clone(), by));
                    }
                }
            }
        }
        dropped
    }

    /// The value that the lines show to the script: `${LINES#CONFIG_*=}`, which is a value only
    /// if there is a single line.
    fn shows(&self, lines: &[LineRef]) -> Option<&'a [u8]> {
        let [only] = lines else { return None };
        let text = self.text(*only);
        let equals = text.iter().position(|&b| b == b'=')?;
        (text.starts_with(b"CONFIG_")).then(|| text.get(equals + 1..).unwrap_or_default())
    }

    /// The script's `echo >> file`.
    fn end_line(&mut self) {
        match self.lines.last_mut() {
            Some(last) if last.alive && !last.ended => last.ended = true,
            _ => self.lines.push(StackLine { source: None, alive: true, ended: true }),
        }
    }

    fn append(&mut self, number: usize, own: &Index<'a>, dropped: &[usize]) {
        let Some(file) = self.files.get(number).copied() else { return };
        let mut places = Vec::with_capacity(file.line_count());
        for line in 0..file.line_count() {
            if dropped.binary_search(&line).is_ok() {
                places.push(None);
                continue;
            }
            places.push(Some(self.lines.len()));
            let source = Some(LineRef { file: number, line });
            self.lines.push(StackLine { source, alive: true, ended: file.line_is_ended(line) });
        }
        self.index.absorb(own, &places);
    }

    fn render(&self) -> (Vec<u8>, Vec<Option<Site>>) {
        let mut bytes = Vec::new();
        let mut sites = Vec::new();
        for line in self.lines.iter().filter(|line| line.alive) {
            if let Some(at) = line.source {
                bytes.extend_from_slice(self.text(at));
                sites.push(self.files.get(at.file).map(|file| file.site(at.line + 1)));
            } else {
                sites.push(None);
            }
            if line.ended {
                bytes.push(b'\n');
            }
        }
        (bytes, sites)
    }
}
