//! Alias patterns, found by the text before their first special character.

use crate::glob;

/// Longest pattern and longest query that are looked at, in bytes (the kernel's `PATH_MAX`).
pub(crate) const MAX_ALIAS: usize = 4096;

/// Patterns of all modules in one string, and a row for each.
#[derive(Debug, Clone, Default)]
pub(crate) struct AliasTable {
    /// The patterns one after the other, in the order in which they were added.
    text: String,
    /// The same with `-` as `_`, to be compared as it is.
    folded: Vec<u8>,
    /// After `seal`: by folded literal prefix, then by order of addition.
    rows: Vec<Row>,
}

#[derive(Debug, Clone, Copy)]
struct Row {
    start: u32,
    len: u16,
    /// Bytes before the first special character.
    literal: u16,
    target: u32,
}

/// A pattern that matched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hit<'a> {
    pub(crate) pattern: &'a str,
    pub(crate) target: u32,
    order: u32,
}

impl AliasTable {
    /// Adds a pattern; `false` where it is too long or the table is full.
    pub(crate) fn push(&mut self, pattern: &str, target: u32) -> bool {
        if pattern.len() > MAX_ALIAS {
            return false;
        }
        let literal = pattern.bytes().position(glob::is_special).unwrap_or(pattern.len());
        let (Ok(start), Ok(len), Ok(literal)) =
            (u32::try_from(self.text.len()), u16::try_from(pattern.len()), u16::try_from(literal))
        else {
            return false;
        };
        self.text.push_str(pattern);
        self.folded.extend(pattern.bytes().map(glob::fold));
        self.rows.push(Row { start, len, literal, target });
        true
    }

    /// Makes the table ready for `find`.
    pub(crate) fn seal(&mut self) {
        let Self { text, folded, rows } = self;
        let literal = |row: &Row| {
            let start = offset(row.start);
            folded.get(start..start.saturating_add(usize::from(row.literal))).unwrap_or_default()
        };
        rows.sort_unstable_by(|a, b| {
            literal(a).cmp(literal(b)).then_with(|| a.start.cmp(&b.start))
        });
        rows.shrink_to_fit();
        text.shrink_to_fit();
        folded.shrink_to_fit();
    }

    fn pattern(&self, row: Row) -> &str {
        let start = offset(row.start);
        self.text.get(start..start.saturating_add(usize::from(row.len))).unwrap_or_default()
    }

    /// The byte of a row's literal prefix at `depth`, which is within it.
    fn literal_at(&self, row: Row, depth: usize) -> u8 {
        let at = offset(row.start).saturating_add(depth);
        self.folded.get(at).copied().unwrap_or(0)
    }

    /// What matches `query`, in the order in which the patterns were added.
    ///
    /// Walks down the sorted rows one byte of the query at a time, as in a trie: at each depth,
    /// those rows whose literal prefix ends there are tried as patterns, and those that go on with
    /// the query's next byte stay.
    pub(crate) fn find(&self, query: &str) -> Vec<Hit<'_>> {
        let mut hits = Vec::new();
        if query.len() > MAX_ALIAS {
            return hits;
        }
        let query: Vec<u8> = query.bytes().map(glob::fold).collect();
        let mut range = self.rows.as_slice();
        for depth in 0..=query.len() {
            let ending = range.partition_point(|row| usize::from(row.literal) <= depth);
            let (here, rest) = range.split_at(ending);
            for &row in here {
                let pattern = self.pattern(row);
                let tail = pattern.as_bytes().get(depth..).unwrap_or_default();
                if glob::matches(tail, query.get(depth..).unwrap_or_default()) {
                    hits.push(Hit { pattern, target: row.target, order: row.start });
                }
            }
            let Some(&next) = query.get(depth) else { break };
            let low = rest.partition_point(|&row| self.literal_at(row, depth) < next);
            let rest = rest.get(low..).unwrap_or_default();
            let high = rest.partition_point(|&row| self.literal_at(row, depth) == next);
            range = rest.get(..high).unwrap_or_default();
            if range.is_empty() {
                break;
            }
        }
        hits.sort_unstable_by_key(|hit| hit.order);
        hits
    }

    /// All patterns with their targets, in the order in which they were added.
    pub(crate) fn in_order(&self) -> Vec<(&str, u32)> {
        let mut rows = self.rows.clone();
        rows.sort_unstable_by_key(|row| row.start);
        rows.into_iter().map(|row| (self.pattern(row), row.target)).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }
}

/// A position in memory; offsets come from lengths of strings in memory, so they fit.
const fn offset(value: u32) -> usize {
    value as usize
}
