//! Where options are named, so that a merge looks at each line once and not once per option.

use std::collections::{HashMap, HashSet};

use crate::dotconfig::DotConfig;
use crate::dotconfig::parse::{PREFIX, is_word};

/// Names longer than this are taken for no option; it bounds the work on a line that consists of
/// nothing but `CONFIG_CONFIG_…`.
const LONGEST: usize = 1024;

/// The options that the script finds in a fragment, with the lines (from 0) that set them, in
/// order. The name is with `CONFIG_`, and may be nothing but that.
///
/// Stricter than the kernel's reader: `is not set` must end the line, so not in a file with CRLF.
pub(crate) fn listed_options(config: &DotConfig) -> impl Iterator<Item = (usize, &[u8])> {
    (0..config.line_count()).filter_map(|index| {
        let line = config.line(index);
        let (text, unset) = match line.strip_prefix(b"# ") {
            Some(rest) => (rest, true),
            None => (line, false),
        };
        let token = token_at(text, 0)?;
        let rest = text.get(token.len()..)?;
        let sets = if unset { rest == b" is not set" } else { rest.first() == Some(&b'=') };
        (sets && token.len() <= LONGEST).then_some((index, token))
    })
}

/// The name that starts at `start`, if `CONFIG_` stands there.
fn token_at(text: &[u8], start: usize) -> Option<&[u8]> {
    let rest = text.get(start..).filter(|rest| rest.starts_with(PREFIX))?;
    rest.get(..word_length(rest))
}

fn word_length(text: &[u8]) -> usize {
    text.iter().position(|&b| !is_word(b)).unwrap_or(text.len())
}

/// One line that names an option.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hit {
    /// From 0.
    pub(crate) line: usize,
    /// As a whole word (`grep -w`).
    pub(crate) word: bool,
    /// With a blank or `=` behind it (`sed '/CONFIG_X[ =]/d'`).
    pub(crate) removable: bool,
}

/// For each option the lines that name it, in order.
#[derive(Debug, Default)]
pub(crate) struct Index<'a> {
    hits: HashMap<&'a [u8], Vec<Hit>>,
}

impl<'a> Index<'a> {
    /// Indexes the lines of `config` that name one of `names`.
    pub(crate) fn of(config: &'a DotConfig, names: &HashSet<&'a [u8]>) -> Self {
        let mut index = Self::default();
        for line in 0..config.line_count() {
            let text = config.line(line);
            let (mut from, mut end) = (0, 0);
            while let Some(start) = find_prefix(text, from) {
                from = start + PREFIX.len();
                if end < from {
                    end = from + word_length(text.get(from..).unwrap_or_default());
                }
                let Some(token) = text.get(start..end) else { continue };
                if token.len() <= LONGEST && names.contains(token) {
                    let before = start.checked_sub(1).and_then(|place| text.get(place));
                    index.add(
                        token,
                        Hit {
                            line,
                            word: !before.is_some_and(|&b| is_word(b)),
                            removable: matches!(text.get(start + token.len()), Some(b' ' | b'=')),
                        },
                    );
                }
            }
        }
        index
    }

    fn add(&mut self, token: &'a [u8], hit: Hit) {
        let hits = self.hits.entry(token).or_default();
        match hits.last_mut() {
            Some(last) if last.line == hit.line => {
                last.word |= hit.word;
                last.removable |= hit.removable;
            }
            _ => hits.push(hit),
        }
    }

    pub(crate) fn hits(&self, token: &[u8]) -> &[Hit] {
        self.hits.get(token).map_or(&[], Vec::as_slice)
    }

    /// Takes over another index, whose lines are now elsewhere or (nothing) nowhere.
    pub(crate) fn absorb(&mut self, other: &Self, places: &[Option<usize>]) {
        for (token, hits) in &other.hits {
            for hit in hits {
                if let Some(Some(line)) = places.get(hit.line) {
                    self.add(token, Hit { line: *line, ..*hit });
                }
            }
        }
    }
}

fn find_prefix(text: &[u8], from: usize) -> Option<usize> {
    let rest = text.get(from..)?;
    rest.windows(PREFIX.len()).position(|window| window == PREFIX).map(|at| from + at)
}
