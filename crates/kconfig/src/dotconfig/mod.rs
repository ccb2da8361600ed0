//! A `.config` file: every byte kept, every option readable by name.
//!
//! The bytes are the truth; what the lines mean is an index beside them. So a file that is read
//! and written again is the same file, whatever stands in it. What a line means is what the
//! kernel's reader makes of it (`conf_read_simple()` in `scripts/kconfig/confdata.c`):
//!
//! | line | meaning |
//! |---|---|
//! | `CONFIG_X=value` | X is set to value |
//! | `# CONFIG_X is not set` | X is `n` |
//! | any other line with `#` in front, an empty line | a comment |
//! | anything else | a [`Problem`], kept and otherwise ignored |

pub(crate) mod file;
pub(crate) mod parse;
mod write;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{Problem, Site};
use crate::value::{Value, printable};

/// How much of a hostile file is looked at.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that [`DotConfig::read`] takes from a file, 64 MiB. Larger files are an error.
    pub max_bytes: u64,
    /// Lines that are understood, 1,048,576. The rest is kept as it is and reported once.
    pub max_lines: usize,
    /// Problems that are listed, 1,000. The rest is counted.
    pub max_problems: usize,
    /// Bytes in an option's name, 1,024. Longer names are problems.
    pub max_name: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 64 << 20, max_lines: 1 << 20, max_problems: 1000, max_name: 1024 }
    }
}

/// A `.config` file or a fragment of one.
///
/// See the [crate documentation](crate) for examples.
#[derive(Clone, Debug)]
pub struct DotConfig {
    origin: Arc<str>,
    bytes: Vec<u8>,
    lines: Vec<Range<usize>>,
    /// For a merged configuration: where each line came from.
    sites: Option<Vec<Option<Site>>>,
    /// In the order of lines.
    settings: Vec<Entry>,
    /// By name, the place in `settings` of the last line that sets it.
    last: HashMap<Box<str>, usize>,
    problems: Vec<Problem>,
    unlisted_problems: usize,
}

/// One line that sets an option.
#[derive(Clone, Debug)]
struct Entry {
    /// Index into `lines`.
    line: usize,
    name: Range<usize>,
    /// Behind the `=`; nothing for `is not set`.
    raw: Option<Range<usize>>,
}

/// One line that sets an option, with the place where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The option, without `CONFIG_`.
    pub name: &'a str,
    /// What the line says; nothing if it is malformed.
    pub value: Option<Value>,
    /// The text behind the `=`, as it stands; `n` for `is not set`.
    pub raw: &'a [u8],
    /// The file and line; in a merged configuration those of the base or fragment.
    pub site: Site,
    /// The line within this very configuration, counted from 1.
    pub line: usize,
}

impl Setting<'_> {
    /// The value for people, also when it is malformed.
    #[must_use]
    pub fn text(&self) -> String {
        printable(self.raw)
    }

    /// Whether both lines mean the same (`=n` and `is not set` do).
    #[must_use]
    pub fn same_value(&self, other: &Setting<'_>) -> bool {
        match (&self.value, &other.value) {
            (Some(a), Some(b)) => a == b,
            (None, None) => self.raw == other.raw,
            _ => false,
        }
    }
}

impl DotConfig {
    /// The name that the caller gave to the bytes, mostly a path.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The bytes, exactly as they were given.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What `option` is set to (`"VIRTIO"` or `"CONFIG_VIRTIO"`): by the last line that sets it,
    /// as in the kernel. Nothing when no line does, or when that line is malformed.
    #[must_use]
    pub fn get(&self, option: &str) -> Option<Value> {
        self.setting(option)?.value
    }

    /// The last line that sets `option`, with its place.
    #[must_use]
    pub fn setting(&self, option: &str) -> Option<Setting<'_>> {
        // An option may itself be called CONFIG_SOMETHING; its bare name comes first.
        let bare = || self.by_name(option.strip_prefix("CONFIG_")?);
        self.by_name(option).or_else(bare)
    }

    /// The last line that sets the option called exactly `name`, without `CONFIG_`.
    pub(crate) fn by_name(&self, name: &str) -> Option<Setting<'_>> {
        self.settings.get(*self.last.get(name)?).and_then(|entry| self.resolve(entry))
    }

    /// Every line that sets an option, in their order, overridden ones too.
    pub fn settings(&self) -> impl Iterator<Item = Setting<'_>> {
        self.settings.iter().filter_map(|entry| self.resolve(entry))
    }

    /// The lines that count: for each option the last line that sets it, in the order of lines.
    pub fn effective(&self) -> impl Iterator<Item = Setting<'_>> {
        self.settings.iter().enumerate().filter_map(|(index, entry)| {
            let setting = self.resolve(entry)?;
            (self.last.get(setting.name) == Some(&index)).then_some(setting)
        })
    }

    /// How many options are set, each counted once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.last.len()
    }

    /// Whether no option is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    /// Malformed lines, and options that are set more than once, in the order of lines.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many problems there are beyond those listed, see [`Limits::max_problems`].
    #[must_use]
    pub fn unlisted_problems(&self) -> usize {
        self.unlisted_problems
    }

    /// Where line `line` (counted from 1) came from.
    #[must_use]
    pub fn site(&self, line: usize) -> Site {
        let known = self.sites.as_ref().and_then(|sites| sites.get(line.checked_sub(1)?)?.clone());
        known.unwrap_or_else(|| Site { file: Arc::clone(&self.origin), line })
    }

    /// What the line (counted from 0) sets, if anything.
    pub(crate) fn setting_on(&self, index: usize) -> Option<Setting<'_>> {
        let place = self.settings.binary_search_by_key(&index, |entry| entry.line).ok()?;
        self.resolve(self.settings.get(place)?)
    }

    /// How many lines there are; text behind the last line break is one.
    pub(crate) fn line_count(&self) -> usize {
        self.lines.len()
    }

    /// The bytes of a line (counted from 0), without its line break.
    pub(crate) fn line(&self, index: usize) -> &[u8] {
        self.lines.get(index).and_then(|range| self.bytes.get(range.clone())).unwrap_or_default()
    }

    /// Whether a line break stands behind the line (counted from 0).
    pub(crate) fn line_is_ended(&self, index: usize) -> bool {
        self.lines.get(index).is_some_and(|range| self.bytes.get(range.end) == Some(&b'\n'))
    }

    fn resolve(&self, entry: &Entry) -> Option<Setting<'_>> {
        let name = std::str::from_utf8(self.bytes.get(entry.name.clone())?).ok()?;
        let line = entry.line + 1;
        let site = self.site(line);
        let (raw, value) = match &entry.raw {
            None => (&b"n"[..], Some(Value::NO)),
            Some(range) => {
                let raw = self.bytes.get(range.clone())?;
                (raw, Value::read(raw).ok().map(|(value, _)| value))
            }
        };
        Some(Setting { name, value, raw, site, line })
    }
}
