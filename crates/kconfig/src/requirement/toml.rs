//! Requirement sets as TOML.
//!
//! ```toml
//! [[requirement]]
//! option = "VIRTIO_NET"          # with or without CONFIG_
//! need = "y|m"                   # y, m, n, and alternatives of them
//! module = "virtio_net"          # what must be in the image if it is m
//! group = "virtio"
//! reason = "the network card that QEMU offers"
//! remedy = "take Debian's linux-image-amd64, or add the option to the fragment"
//! severity = "required"          # or "recommended"
//!
//! [[requirement]]
//! option = "NR_CPUS"
//! min = 2                        # and max; or value = 64, value = "text", value = [1, 2],
//!                                # or contains = "entry of a list with commas"
//! reason = "two CPUs"
//!
//! [[requirement]]
//! any_of = [{ option = "RD_ZSTD", need = "y" }, { option = "RD_GZIP", need = "y" }]
//! reason = "the kernel must unpack the initrd"
//!
//! [[requirement]]
//! option = "MODPROBE_PATH"
//! value = "/sbin/modprobe"
//! when = { option = "MODULES", need = "y" }   # of no other kernel is it asked
//! reason = "the kernel asks for drivers there"
//! ```

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::{Spanned, Value as Toml};

use super::{Need, Requirement, Requirements, Severity, Want};
use crate::dotconfig::file::read_bounded;
use crate::error::{Error, Problem, Result, Site};
use crate::value::{Tristate, Value};

/// A requirement set is written by hand.
const LARGEST: u64 = 4 << 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    requirement: Vec<Spanned<BTreeMap<String, Toml>>>,
}

impl Requirements {
    /// Reads a set from TOML; `origin` names it in reports.
    ///
    /// # Errors
    ///
    /// [`Error::Requirements`] with every problem found.
    pub fn parse(text: &str, origin: impl Into<String>) -> Result<Self> {
        let origin = origin.into();
        let file: Arc<str> = Arc::from(&*origin);
        let line_at = |offset: usize| {
            let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
            before.iter().filter(|&&b| b == b'\n').count() + 1
        };
        let document: Document = match toml::from_str(text) {
            Ok(document) => document,
            Err(error) => {
                let line = line_at(error.span().map_or(0, |span| span.start));
                let message = error.message().to_owned();
                let problems = vec![Problem { site: Site { file, line }, message }];
                return Err(Error::Requirements { origin, problems });
            }
        };
        let mut problems = Vec::new();
        let mut list = Vec::new();
        for spanned in document.requirement {
            let site = Site { file: Arc::clone(&file), line: line_at(spanned.span().start) };
            let mut messages = Vec::new();
            let requirement = Table { fields: spanned.into_inner(), messages: &mut messages }
                .requirement(site.clone());
            if messages.is_empty() {
                list.extend(requirement);
            }
            problems.extend(
                messages.into_iter().map(|message| Problem { site: site.clone(), message }),
            );
        }
        contradictions(&list, &mut problems);
        if problems.is_empty() {
            Ok(Self { origin, list })
        } else {
            Err(Error::Requirements { origin, problems })
        }
    }

    /// Reads a set from the TOML file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::TooLarge`] above 4 MiB, [`Error::Requirements`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = read_bounded(path, LARGEST)?;
        let text = String::from_utf8(bytes).map_err(|error| Error::Read {
            path: path.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::InvalidData, error.utf8_error()),
        })?;
        Self::parse(&text, path.display().to_string())
    }
}

/// Two requirements that no kernel can meet together.
fn contradictions(list: &[Requirement], problems: &mut Vec<Problem>) {
    let mut first: BTreeMap<&str, (&Need, &Requirement)> = BTreeMap::new();
    for requirement in list {
        // A condition may keep the two apart.
        if requirement.when.is_some() {
            continue;
        }
        let [Want { option, need, .. }] = &*requirement.any_of else { continue };
        let Some((other, earlier)) = first.get(&**option) else {
            first.insert(option, (need, requirement));
            continue;
        };
        if let (Need::Tristate(a), Need::Tristate(b)) = (need, other)
            && !a.iter().any(|tristate| b.contains(tristate))
            && let (Some(site), Some(before)) = (&requirement.declared, &earlier.declared)
        {
            let message =
                format!("CONFIG_{option} is needed as {need} here, as {other} at {before}");
            problems.push(Problem { site: site.clone(), message });
        }
    }
}

/// A table whose fields are taken out one by one; what is left at the end is unknown.
struct Table<'a> {
    fields: BTreeMap<String, Toml>,
    messages: &'a mut Vec<String>,
}

impl Table<'_> {
    fn text(&mut self, field: &str) -> Option<String> {
        match self.fields.remove(field)? {
            Toml::String(text) if !text.trim().is_empty() => Some(text),
            _ => {
                self.messages.push(format!("'{field}': expected text"));
                None
            }
        }
    }

    fn number(&mut self, field: &str) -> Option<i64> {
        match self.fields.remove(field)? {
            Toml::Integer(number) => Some(number),
            _ => {
                self.messages.push(format!("'{field}': expected a whole number"));
                None
            }
        }
    }

    fn requirement(mut self, declared: Site) -> Option<Requirement> {
        let alternatives = self.fields.remove("any_of");
        let reason = self.text("reason");
        let remedy = self.text("remedy");
        let group = self.text("group");
        let severity = match self.text("severity").as_deref() {
            None | Some("required") => Severity::Required,
            Some("recommended") => Severity::Recommended,
            Some(other) => {
                let message =
                    format!("'severity': expected 'required' or 'recommended', not '{other}'");
                self.messages.push(message);
                Severity::Required
            }
        };
        if reason.is_none() {
            self.messages.push("expected a 'reason': what does not work without it".to_owned());
        }
        let when = match self.fields.remove("when") {
            None => None,
            Some(Toml::Table(table)) => {
                let fields = table.into_iter().collect();
                Table { fields, messages: &mut *self.messages }.alternative()
            }
            Some(_) => {
                self.messages.push("'when': expected a table with 'option'".to_owned());
                None
            }
        };
        let any_of = match alternatives {
            None => self.want().into_iter().collect(),
            Some(Toml::Array(entries)) if !entries.is_empty() => {
                let messages = &mut *self.messages;
                let wants = entries
                    .into_iter()
                    .filter_map(|entry| match entry {
                        Toml::Table(table) => {
                            Table { fields: table.into_iter().collect(), messages }.alternative()
                        }
                        _ => {
                            messages.push("'any_of': expected tables with 'option'".to_owned());
                            None
                        }
                    })
                    .collect();
                self.rest();
                wants
            }
            Some(_) => {
                self.messages.push("'any_of': expected a list of tables".to_owned());
                Vec::new()
            }
        };
        self.rest();
        Some(Requirement {
            any_of,
            reason: reason?,
            remedy,
            severity,
            group,
            when,
            declared: Some(declared),
        })
    }

    fn alternative(mut self) -> Option<Want> {
        let want = self.want();
        self.rest();
        want
    }

    fn rest(&mut self) {
        for (field, _) in std::mem::take(&mut self.fields) {
            self.messages.push(format!("'{field}': unknown or out of place"));
        }
    }

    fn want(&mut self) -> Option<Want> {
        let option = self.text("option");
        let module = self.text("module");
        let need = self.need();
        let Some(option) = option else {
            self.messages.push("expected an 'option' (or 'any_of')".to_owned());
            return None;
        };
        let mut want = Want::new(&option, need?);
        want.module = module;
        if want.option.is_empty() || !want.option.bytes().all(crate::dotconfig::parse::is_word) {
            self.messages.push(format!("'option': '{option}' is no option name"));
        }
        Some(want)
    }

    fn need(&mut self) -> Option<Need> {
        let letters = self.text("need");
        let value = self.fields.remove("value");
        let entry = self.text("contains");
        let (min, max) = (self.number("min"), self.number("max"));
        match (letters, value, entry, min.or(max)) {
            (Some(letters), None, None, None) => self.letters(&letters),
            (None, Some(value), None, None) => self.values(value),
            (None, None, Some(entry), None) => Some(Need::Contains(entry)),
            (None, None, None, Some(_)) => {
                if min.zip(max).is_some_and(|(min, max)| min > max) {
                    self.messages.push("'min' is larger than 'max'".to_owned());
                }
                Some(Need::Range { min, max })
            }
            _ => {
                let message = "expected one of 'need', 'value', 'contains', or 'min' and 'max'";
                self.messages.push(message.to_owned());
                None
            }
        }
    }

    fn letters(&mut self, letters: &str) -> Option<Need> {
        let mut wanted = Vec::new();
        for letter in letters.split('|').map(str::trim) {
            let tristate = match letter {
                "y" => Tristate::Yes,
                "m" => Tristate::Module,
                "n" => Tristate::No,
                other => {
                    let message = format!(
                        "'need': expected y, m, n or alternatives such as 'y|m', not '{other}' \
                         (numbers and strings go into 'value')"
                    );
                    self.messages.push(message);
                    return None;
                }
            };
            if !wanted.contains(&tristate) {
                wanted.push(tristate);
            }
        }
        Some(Need::Tristate(wanted))
    }

    fn values(&mut self, value: Toml) -> Option<Need> {
        let values = match value {
            Toml::Array(values) if !values.is_empty() => values,
            single => vec![single],
        };
        let mut wanted = Vec::new();
        for value in values {
            match value {
                Toml::Integer(number) => wanted.push(Value::Int(number)),
                Toml::String(text) => wanted.push(Value::string(text)),
                _ => {
                    self.messages.push("'value': expected numbers or strings".to_owned());
                    return None;
                }
            }
        }
        Some(Need::OneOf(wanted))
    }
}
