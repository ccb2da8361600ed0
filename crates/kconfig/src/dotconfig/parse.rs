//! From bytes to lines that mean something.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::{DotConfig, Entry, Limits};
use crate::error::{Problem, Site};
use crate::value::{Trailing, Value, printable};

/// In front of every option's name.
pub(crate) const PREFIX: &[u8] = b"CONFIG_";

impl DotConfig {
    /// Reads a configuration. Never fails: what is no `.config` line is kept, and listed by
    /// [`problems`](Self::problems) under the name `origin`.
    #[must_use]
    pub fn parse(bytes: &[u8], origin: impl Into<String>) -> Self {
        Self::parse_within(bytes, origin, &Limits::default())
    }

    /// As [`parse`](Self::parse), within `limits`.
    #[must_use]
    pub fn parse_within(bytes: &[u8], origin: impl Into<String>, limits: &Limits) -> Self {
        Self::build(bytes.to_vec(), Arc::from(origin.into()), None, limits)
    }

    pub(crate) fn build(
        bytes: Vec<u8>,
        origin: Arc<str>,
        sites: Option<Vec<Option<Site>>>,
        limits: &Limits,
    ) -> Self {
        let mut config = Self {
            origin,
            lines: split_lines(&bytes, limits.max_lines),
            bytes,
            sites,
            settings: Vec::new(),
            last: HashMap::new(),
            problems: Vec::new(),
            unlisted_problems: 0,
        };
        for index in 0..config.lines.len() {
            if index == limits.max_lines {
                let message = format!("more than {index} lines: the rest is kept, but not read");
                config.report(index, limits, message);
                break;
            }
            config.read_line(index, limits);
        }
        config
    }

    fn report(&mut self, index: usize, limits: &Limits, message: String) {
        if self.problems.len() < limits.max_problems {
            self.problems.push(Problem { site: self.site(index + 1), message });
        } else {
            self.unlisted_problems += 1;
        }
    }

    fn read_line(&mut self, index: usize, limits: &Limits) {
        let start = self.lines.get(index).map_or(0, |range| range.start);
        let line = self.line(index);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (parsed, complaint) = read_line(line, limits);
        let complaint = complaint.map(|what| {
            let text = printable(line);
            format!("{what}: '{text}'")
        });
        if let Some((name, raw)) = parsed {
            let shift = |range: Range<usize>| start + range.start..start + range.end;
            self.record(
                Entry { line: index, name: shift(name), raw: raw.map(shift) },
                limits,
                complaint,
            );
        } else if let Some(complaint) = complaint {
            self.report(index, limits, complaint);
        }
    }

    /// Enters a setting, and says if it overrides another one.
    fn record(&mut self, entry: Entry, limits: &Limits, complaint: Option<String>) {
        let place = self.settings.len();
        let index = entry.line;
        let Some(setting) = self.resolve(&entry) else { return };
        let name: Box<str> = setting.name.into();
        let again = self.by_name(&name).map(|earlier| {
            let verb = if earlier.same_value(&setting) { "again, as" } else { "anew, after" };
            format!(
                "CONFIG_{name} is set {verb} {} at {}; the last line counts",
                earlier.text(),
                earlier.site
            )
        });
        self.settings.push(entry);
        self.last.insert(name, place);
        for message in [complaint, again].into_iter().flatten() {
            self.report(index, limits, message);
        }
    }
}

/// The lines without their line breaks; beyond `max` lines the rest is one.
fn split_lines(bytes: &[u8], max: usize) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < bytes.len() {
        let rest = bytes.get(start..).unwrap_or_default();
        let end = match rest.iter().position(|&b| b == b'\n') {
            Some(length) if lines.len() < max => start + length,
            _ => {
                // The last line, or all that is beyond the limit: the line break at its end, if
                // there is one, is kept out of it as from any other line.
                start + rest.strip_suffix(b"\n").unwrap_or(rest).len()
            }
        };
        lines.push(start..end);
        start = end + 1;
    }
    lines
}

/// Name and value as ranges of the line.
type Parsed = (Range<usize>, Option<Range<usize>>);

fn read_line(line: &[u8], limits: &Limits) -> (Option<Parsed>, Option<String>) {
    match line.first() {
        None => (None, None),
        Some(b'#') => read_comment(line, limits),
        Some(_) if line.starts_with(PREFIX) => read_assignment(line, limits),
        Some(_) => (None, Some("expected 'CONFIG_X=value' or '# CONFIG_X is not set'".to_owned())),
    }
}

fn read_comment(line: &[u8], limits: &Limits) -> (Option<Parsed>, Option<String>) {
    const NOT_SET: &[u8] = b"is not set";
    if line.get(1..).is_some_and(|rest| rest.starts_with(PREFIX)) && line.ends_with(NOT_SET) {
        return (None, Some("a comment only: expected a blank behind the '#'".to_owned()));
    }
    // The kernel skips two bytes without looking at the second.
    let Some(rest) = line.get(2..).and_then(|rest| rest.strip_prefix(PREFIX)) else {
        return (None, None);
    };
    let Some(length) = rest.iter().position(|&b| b == b' ') else { return (None, None) };
    let Some(tail) = rest.get(length + 1..).and_then(|tail| tail.strip_prefix(NOT_SET)) else {
        return (None, None);
    };
    let start = 2 + PREFIX.len();
    let name = start..start + length;
    if let Some(complaint) = bad_name(line.get(name.clone()).unwrap_or_default(), limits) {
        return (None, Some(complaint));
    }
    let complaint = if line.get(1) != Some(&b' ') {
        Some(
            "the kernel reads 'is not set', merge_config.sh a comment: expected a blank behind '#'",
        )
    } else if !tail.is_empty() {
        Some("the kernel reads 'is not set', merge_config.sh a comment: text behind it")
    } else {
        None
    };
    (Some((name, None)), complaint.map(str::to_owned))
}

fn read_assignment(line: &[u8], limits: &Limits) -> (Option<Parsed>, Option<String>) {
    let Some(equals) = line.iter().position(|&b| b == b'=') else {
        return (None, Some("expected a '=' behind the option's name".to_owned()));
    };
    let name = PREFIX.len()..equals;
    if let Some(complaint) = bad_name(line.get(name.clone()).unwrap_or_default(), limits) {
        return (None, Some(complaint));
    }
    let raw = equals + 1..line.len();
    let complaint = match Value::read(line.get(raw.clone()).unwrap_or_default()) {
        Ok((_, Trailing::No)) => None,
        Ok((_, Trailing::Yes)) => {
            Some("the kernel ignores what stands behind the value".to_owned())
        }
        Err(malformed) => Some(malformed.to_string()),
    };
    (Some((name, Some(raw))), complaint)
}

fn bad_name(name: &[u8], limits: &Limits) -> Option<String> {
    if name.is_empty() {
        Some("expected a name behind 'CONFIG_'".to_owned())
    } else if name.len() > limits.max_name {
        Some(format!("option name of {} bytes, at most {} are read", name.len(), limits.max_name))
    } else if !name.iter().all(|&b| is_word(b)) {
        Some("expected letters, digits and underscores in the option's name".to_owned())
    } else {
        None
    }
}

/// What an option's name is made of.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}
