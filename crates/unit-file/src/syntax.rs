//! The syntax of unit files (systemd.syntax(7)): sections, assignments, comments, lines that are
//! continued. What the keys mean is not known here.

use crate::Error;

/// The longest unit file that is read, in bytes (systemd's own limit on one line).
const LONGEST: usize = 1 << 20;

/// A line `KEY=VALUE`, continued ones joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Its first line, counted from 1.
    pub line: usize,
    /// The section that it stands in, without brackets.
    pub section: String,
    /// What is assigned to.
    pub key: String,
    /// What is assigned, without white space around it; may be empty.
    pub value: String,
}

/// A unit file as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unit {
    /// The unit's name (`nginx.service`, `getty@tty1.service`).
    pub name: String,
    /// All assignments, in order; keys may come more than once.
    pub assignments: Vec<Assignment>,
    /// Lines that are none of what the syntax has, with their numbers. systemd ignores them too.
    pub ignored: Vec<(usize, String)>,
}

impl Unit {
    /// Reads a unit file.
    ///
    /// # Errors
    /// When it is longer than 1 MiB or no UTF-8.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > LONGEST {
            return Err(Error::TooLong { name: name.to_owned(), limit: LONGEST });
        }
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let valid = bytes.get(..error.valid_up_to()).unwrap_or_default();
                let lines = valid.iter().filter(|byte| **byte == b'\n').count();
                let (name, line) = (name.to_owned(), lines.saturating_add(1));
                return Err(Error::NotUtf8 { name, line });
            }
        };
        let mut unit = Self { name: name.into(), assignments: Vec::new(), ignored: Vec::new() };
        let mut section = None;
        // The line being continued: its number and what there is of it.
        let mut open: Option<(usize, String)> = None;
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim_start_matches([' ', '\t', '\r']);
            // A comment between two lines of one assignment does not end it.
            if line.starts_with(['#', ';']) {
                continue;
            }
            let (first, mut whole) = open.take().unwrap_or((number, String::new()));
            whole += line;
            if ends_escaped(&whole) {
                whole.pop();
                whole.push(' ');
                open = Some((first, whole));
            } else {
                unit.take(first, &whole, &mut section);
            }
        }
        if let Some((first, whole)) = open {
            unit.take(first, &whole, &mut section);
        }
        Ok(unit)
    }

    fn take(&mut self, line: usize, text: &str, section: &mut Option<String>) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        if let Some(name) = text.strip_prefix('[') {
            match name.strip_suffix(']') {
                Some(name) => *section = Some(name.to_owned()),
                None => self.ignored.push((line, text.to_owned())),
            }
            return;
        }
        match (section, text.split_once('=')) {
            (Some(section), Some((key, value))) if !key.trim().is_empty() => {
                self.assignments.push(Assignment {
                    line,
                    section: section.clone(),
                    key: key.trim_end().into(),
                    value: value.trim_start().into(),
                });
            }
            _ => self.ignored.push((line, text.to_owned())),
        }
    }

    /// The name without the suffix of its kind (`.service`, `.socket` and so on).
    #[must_use]
    pub fn stem(&self) -> &str {
        stem(&self.name)
    }

    /// The name in front of `@` and what stands after it: empty for a template.
    #[must_use]
    pub fn instance(&self) -> (&str, Option<&str>) {
        match self.stem().split_once('@') {
            Some((prefix, instance)) => (prefix, Some(instance)),
            None => (self.stem(), None),
        }
    }
}

/// The kinds of units, by their suffix (systemd.unit(5)).
const KINDS: [&str; 11] = [
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// A unit's name without the suffix of its kind.
pub(crate) fn stem(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, kind)) if KINDS.contains(&kind) => stem,
        _ => name,
    }
}

/// Whether the last backslash is not itself escaped.
fn ends_escaped(text: &str) -> bool {
    text.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn values(text: &str) -> Vec<(usize, String, String)> {
        let unit = Unit::parse("x.service", text.as_bytes()).unwrap();
        unit.assignments.into_iter().map(|found| (found.line, found.key, found.value)).collect()
    }

    #[test]
    fn continued_lines_swallow_comments_and_keep_their_first_number() {
        // The example of systemd.syntax(7).
        let text = "[Section C]\nKeyThree=value 3\\\n# this line is ignored\n; this one too\n       value 3 continued\n";
        assert_eq!(values(text), [(2, "KeyThree".into(), "value 3 value 3 continued".into())]);
        let found = values("[S]\na=one\\\\\nb = two \\\n\nc=three\\");
        let expected = [(2, "a", "one\\\\"), (3, "b", "two"), (5, "c", "three")];
        let expected = expected.map(|(line, key, value)| (line, key.to_owned(), value.to_owned()));
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_no_assignment_is_kept_with_its_line() {
        let unit = Unit::parse("x@y.service", b"\xef\xbb\xbfa=1\n[S\n[S]\nwords\n=x\nb=").unwrap();
        let lines: Vec<usize> = unit.ignored.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 4, 5]);
        assert_eq!(unit.assignments.len(), 1);
        assert_eq!(unit.instance(), ("x", Some("y")));
        let error = Unit::parse("x", b"[S]\na=\xff").unwrap_err().to_string();
        assert!(error.starts_with("x:2: "), "{error}");
    }

    proptest! {
        /// Every line that says something comes out once.
        #[test]
        fn nothing_is_lost(text in "([ab\\[\\]=#;\\\\ ]{0,6}\n){0,12}") {
            let unit = Unit::parse("x", text.as_bytes()).unwrap();
            let mut lines: Vec<usize> = unit.assignments.iter().map(|found| found.line).collect();
            lines.extend(unit.ignored.iter().map(|(line, _)| *line));
            lines.sort_unstable();
            let mut once = lines.clone();
            once.dedup();
            prop_assert_eq!(lines, once);
        }
    }
}
