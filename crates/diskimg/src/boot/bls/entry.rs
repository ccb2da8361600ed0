//! Entries of type 1.

use crate::error::Problems;
use crate::{Error, Limits, Result};

/// An entry of a boot menu. Paths are those on the partition with the entry, with `/` in front.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Entry {
    /// What a menu shows.
    pub title: Option<String>,
    /// The version of the system, shown when titles are alike.
    pub version: Option<String>,
    /// The machine it is for: 32 hexadecimal digits in lower case.
    pub machine_id: Option<String>,
    /// What entries are sorted by before their version.
    pub sort_key: Option<String>,
    /// The kernel.
    pub linux: Option<String>,
    /// Initial file systems in the order in which they are loaded.
    pub initrds: Vec<String>,
    /// A program to start instead of a kernel.
    pub efi: Option<String>,
    /// A unified kernel image to start instead of a kernel.
    pub uki: Option<String>,
    /// The kernel's or program's command line.
    pub options: String,
    /// A device tree.
    pub device_tree: Option<String>,
    /// The architecture it is for (`x64`).
    pub architecture: Option<String>,
    /// Lines with other keys, in their order.
    pub other: Vec<(String, String)>,
}

impl Entry {
    /// An entry with a title and nothing to start yet.
    #[must_use]
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: Some(title.into()), ..Self::default() }
    }

    fn lines(&self) -> Vec<(&str, &str)> {
        let mut lines: Vec<(&str, &str)> = [
            ("title", &self.title),
            ("version", &self.version),
            ("machine-id", &self.machine_id),
            ("sort-key", &self.sort_key),
            ("architecture", &self.architecture),
            ("linux", &self.linux),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value.as_deref()?)))
        .collect();
        lines.extend(self.initrds.iter().map(|initrd| ("initrd", initrd.as_str())));
        let more = [("efi", &self.efi), ("uki", &self.uki), ("devicetree", &self.device_tree)];
        lines.extend(more.into_iter().filter_map(|(key, value)| Some((key, value.as_deref()?))));
        if !self.options.is_empty() {
            lines.push(("options", &self.options));
        }
        lines.extend(self.other.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        lines
    }

    /// The paths that it names.
    pub(crate) fn paths(&self) -> Vec<&str> {
        let single = [&self.linux, &self.efi, &self.uki, &self.device_tree];
        let single = single.into_iter().flatten();
        single.chain(&self.initrds).map(String::as_str).collect()
    }

    /// The text of its file.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that a loader would read differently or not at all.
    pub fn to_text(&self) -> Result<String> {
        let mut problems = Problems(Vec::new());
        self.check(&mut problems);
        problems.check("boot entry")?;
        let lines = self.lines();
        Ok(lines.iter().map(|(key, value)| format!("{key} {value}\n")).collect())
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        let started = [&self.linux, &self.efi, &self.uki].into_iter().flatten().count();
        if started != 1 {
            problems.0.push(format!(
                "an entry starts one of linux, efi and uki, but this one has {started} of them"
            ));
        }
        for (key, value) in self.lines() {
            if value.is_empty() || value.trim() != value || value.chars().any(char::is_control) {
                problems.0.push(format!(
                    "{key}: {value:?} is empty, has a control character, or space around it"
                ));
            }
            if key.is_empty() || key.starts_with('#') || key.contains(char::is_whitespace) {
                problems.0.push(format!("{key:?} is no key"));
            }
        }
        for path in self.paths() {
            if !path.starts_with('/') {
                problems.0.push(format!("the path {path:?} does not begin with /"));
            }
        }
        if let Some(id) = &self.machine_id
            && (id.len() != 32 || !id.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f')))
        {
            problems.0.push(format!("machine-id: {id:?} is not 32 hexadecimal digits"));
        }
    }

    /// Reads an entry's file. Unknown keys are kept, as loaders ignore them.
    ///
    /// # Errors
    /// [`Error::Malformed`] when it is no text; [`Error::Limit`] when it is longer than the limits
    /// allow.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let text = text_of(bytes, limits)?;
        let mut entry = Self::default();
        for (key, value) in pairs(text) {
            let value = value.to_owned();
            match key {
                "title" => entry.title = Some(value),
                "version" => entry.version = Some(value),
                "machine-id" => entry.machine_id = Some(value),
                "sort-key" => entry.sort_key = Some(value),
                "linux" => entry.linux = Some(value),
                "initrd" => entry.initrds.push(value),
                "efi" => entry.efi = Some(value),
                "uki" => entry.uki = Some(value),
                "devicetree" => entry.device_tree = Some(value),
                "architecture" => entry.architecture = Some(value),
                "options" => {
                    // Several lines are one command line.
                    if !entry.options.is_empty() {
                        entry.options.push(' ');
                    }
                    entry.options.push_str(&value);
                }
                _ => entry.other.push((key.to_owned(), value)),
            }
        }
        Ok(entry)
    }
}

/// The text of a file of keys and values.
pub(super) fn text_of<'file>(bytes: &'file [u8], limits: &Limits) -> Result<&'file str> {
    let (found, limit) = (bytes.len() as u64, limits.tables);
    if found > limit {
        return Err(Error::Limit { format: "boot entry", what: "its length", found, limit });
    }
    std::str::from_utf8(bytes).map_err(|error| {
        Error::malformed("boot entry", error.valid_up_to() as u64, "this is no UTF-8")
    })
}

/// Its lines: a key, white space, a value. Comments begin with `#`.
pub(super) fn pairs(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(
        |line| match line.split_once([' ', '\t']) {
            Some((key, value)) => (key, value.trim()),
            None => (line, ""),
        },
    )
}
