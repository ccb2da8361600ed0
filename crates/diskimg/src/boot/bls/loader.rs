//! `loader/loader.conf`: how systemd-boot shows its menu.

use std::fmt;

use super::entry::{pairs, text_of};
use crate::error::Problems;
use crate::{Limits, Result};

/// How long the menu is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Timeout {
    /// So many seconds; 0 starts at once, unless a key is held.
    Seconds(u32),
    /// Until something is chosen.
    Force,
    /// Not at all, unless a key is held; entries that are counted are tried all the same.
    Hidden,
}

impl fmt::Display for Timeout {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seconds(seconds) => write!(out, "{seconds}"),
            Self::Force => out.write_str("menu-force"),
            Self::Hidden => out.write_str("menu-hidden"),
        }
    }
}

/// Which entry is started when nothing is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum Default {
    /// The one that was started last.
    Saved,
    /// The first in the menu whose file's name, boot counting left out, is matched by a pattern
    /// (`kiln-*`).
    Pattern(String),
}

/// The settings of systemd-boot, as loader.conf(5) describes them. What is absent is left to it.
#[derive(Debug, Clone, PartialEq, Eq, std::default::Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LoaderConf {
    /// How long the menu is shown.
    pub timeout: Option<Timeout>,
    /// What is started.
    pub default: Option<Default>,
    /// Whether the command line can be changed in the menu. With Secure Boot it never can be.
    pub editor: Option<bool>,
    /// The console's mode: a number, `auto`, `max` or `keep`.
    pub console_mode: Option<String>,
    /// When keys in `loader/keys` are enrolled: `off`, `manual`, `if-safe` or `force`.
    pub secure_boot_enroll: Option<String>,
    /// Other settings by key.
    pub other: Vec<(String, String)>,
}

impl LoaderConf {
    fn lines(&self) -> Vec<(&str, String)> {
        let mut lines = Vec::new();
        lines.extend(self.timeout.map(|timeout| ("timeout", timeout.to_string())));
        lines.extend(self.default.as_ref().map(|default| match default {
            Default::Saved => ("default", "@saved".to_owned()),
            Default::Pattern(pattern) => ("default", pattern.clone()),
        }));
        let yes = |value| if value { "yes" } else { "no" }.to_owned();
        lines.extend(self.editor.map(|editor| ("editor", yes(editor))));
        lines.extend(self.console_mode.clone().map(|mode| ("console-mode", mode)));
        lines.extend(self.secure_boot_enroll.clone().map(|it| ("secure-boot-enroll", it)));
        lines.extend(self.other.iter().map(|(key, value)| (key.as_str(), value.clone())));
        lines
    }

    /// The text of the file.
    ///
    /// # Errors
    /// [`Error::Plan`](crate::Error::Plan) with what would be read differently.
    pub fn to_text(&self) -> Result<String> {
        let mut problems = Problems(Vec::new());
        self.check(&mut problems);
        problems.check("loader.conf")?;
        Ok(self.lines().iter().map(|(key, value)| format!("{key} {value}\n")).collect())
    }

    pub(crate) fn check(&self, problems: &mut Problems) {
        for (key, value) in self.lines() {
            if key.is_empty()
                || key.contains(char::is_whitespace)
                || value.trim() != value
                || value.is_empty()
                || value.chars().any(char::is_control)
            {
                problems.0.push(format!("loader.conf: {key:?} with {value:?} is no setting"));
            }
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// As [`Entry::parse`](super::Entry::parse).
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let mut conf = Self::default();
        for (key, value) in pairs(text_of(bytes, limits)?) {
            match (key, value) {
                ("timeout", "menu-force") => conf.timeout = Some(Timeout::Force),
                ("timeout", "menu-hidden") => conf.timeout = Some(Timeout::Hidden),
                ("timeout", seconds) if seconds.parse::<u32>().is_ok() => {
                    conf.timeout = seconds.parse().ok().map(Timeout::Seconds);
                }
                ("default", "@saved") => conf.default = Some(Default::Saved),
                ("default", pattern) => {
                    conf.default = Some(Default::Pattern(pattern.to_owned()));
                }
                ("editor", "yes" | "y" | "true" | "t" | "on" | "1") => conf.editor = Some(true),
                ("editor", "no" | "n" | "false" | "f" | "off" | "0") => conf.editor = Some(false),
                ("console-mode", mode) => conf.console_mode = Some(mode.to_owned()),
                ("secure-boot-enroll", when) => conf.secure_boot_enroll = Some(when.to_owned()),
                (key, value) => conf.other.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(conf)
    }
}
