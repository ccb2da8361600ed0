//! The tables of a file as services.

use std::path::Path;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::place::{Finding, Place, hint, quoted};
use super::{Found, Lines, MAX_FILE_BYTES, Source, decode};
use crate::spec::ServiceSpec;

/// Finds lines by bytes.
struct Text<'a> {
    file: Arc<Path>,
    /// Where each line ends.
    ends: Vec<usize>,
    text: &'a str,
}

impl<'a> Text<'a> {
    fn new(file: Arc<Path>, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { file, ends: ends.map(|(at, _)| at).collect(), text }
    }

    fn line(&self, offset: usize) -> u32 {
        let line = self.ends.partition_point(|end| *end < offset).saturating_add(1);
        u32::try_from(line).unwrap_or(u32::MAX)
    }

    fn place(&self, offset: usize) -> Place {
        Place { file: Arc::clone(&self.file), line: Some(self.line(offset)) }
    }
}

/// The services of a file, as far as they are understood.
pub(crate) fn services(source: &Source, found: &mut Vec<Found>, findings: &mut Vec<Finding>) {
    let file: Arc<Path> = source.path.as_path().into();
    let whole = || Place { file: Arc::clone(&file), line: None };
    if source.bytes.len() > MAX_FILE_BYTES {
        let text = format!("longer than {MAX_FILE_BYTES} bytes, which no service file needs");
        return findings.push(Finding::new(whole(), text));
    }
    let text = match std::str::from_utf8(&source.bytes) {
        Ok(text) => text,
        Err(error) => {
            let good = source.bytes.get(..error.valid_up_to()).unwrap_or_default();
            let good = std::str::from_utf8(good).unwrap_or_default();
            let place = Text::new(Arc::clone(&file), good).place(good.len());
            return findings.push(Finding::new(place, "not UTF-8, which TOML is"));
        }
    };
    let text = Text::new(file, text);
    let (table, errors) = DeTable::parse_recoverable(text.text);
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        findings.push(Finding::new(text.place(at), error.message()));
    }
    // What stands behind a syntax error is not judged: it may belong elsewhere.
    if !errors.is_empty() {
        return;
    }
    for (key, value) in table.get_ref() {
        let name: &str = key.get_ref();
        let place = text.place(key.span().start);
        match (name, value.get_ref()) {
            ("service", DeValue::Array(tables)) => {
                for table in tables.iter() {
                    service(table, &text, found, findings);
                }
            }
            ("service", _) => {
                findings.push(Finding::new(place, "write [[service]]: there may be several"));
            }
            _ => {
                let hint = hint(name, ["service"]);
                let what = format!("unknown key {} at the top{hint}", quoted(name));
                findings.push(Finding::new(place, what));
            }
        }
    }
}

fn service(
    value: &Spanned<DeValue<'_>>,
    text: &Text<'_>,
    found: &mut Vec<Found>,
    findings: &mut Vec<Finding>,
) {
    let (spec, faults) = decode::table::<ServiceSpec>(value);
    let broken = !faults.is_empty();
    for (span, what) in faults {
        findings.push(Finding::new(text.place(span.start), what));
    }
    let place = text.place(value.span().start);
    let (Some(spec), Some(table)) = (spec, value.get_ref().as_table()) else { return };
    if table.get("name").is_none() {
        findings.push(Finding::new(place, "a service without a name"));
        return;
    }
    let mut lines = Lines::default();
    for (key, value) in table {
        let name = key.get_ref().to_string();
        if let Some(items) = value.get_ref().as_array() {
            for item in items {
                if let Some(word) = item.get_ref().as_str() {
                    lines.add_element(&name, word, text.line(item.span().start));
                }
            }
        }
        lines.keys.push((name, text.line(key.span().start)));
    }
    // Its own name where that could not be read is told already.
    if !(broken && spec.name.is_empty()) {
        found.push(Found { spec, place, lines, broken, refused: broken });
    }
}
