//! What an image needs of its kernel, each need with its reason.

mod check;
mod report;
#[cfg(feature = "requirements-toml")]
mod toml;

use std::fmt;

pub use check::check;
pub use report::{Finding, ModuleWanted, OptionState, Report, State};

use crate::dotconfig::DotConfig;
use crate::error::Site;
use crate::value::{Tristate, Value};

/// Whether an image works without it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
pub enum Severity {
    /// The image does not work without it: a missing one is an error.
    #[default]
    Required,
    /// The image works, with something missing: reported, no error.
    Recommended,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Recommended => "recommended",
        })
    }
}

/// Which values of an option will do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// One of these, in any order. An option that is not set is `n`.
    Tristate(Vec<Tristate>),
    /// One of these numbers or strings. Numbers are the same however they are spelled.
    OneOf(Vec<Value>),
    /// A string that is a list with commas, and has this among its entries.
    Contains(String),
    /// A number within bounds, both included.
    Range {
        /// The smallest number that will do.
        min: Option<i64>,
        /// The largest number that will do.
        max: Option<i64>,
    },
}

impl Need {
    /// Built in.
    #[must_use]
    pub fn built_in() -> Self {
        Self::Tristate(vec![Tristate::Yes])
    }

    /// Built in or a module.
    #[must_use]
    pub fn present() -> Self {
        Self::Tristate(vec![Tristate::Yes, Tristate::Module])
    }

    /// Off, or unknown to the kernel.
    #[must_use]
    pub fn absent() -> Self {
        Self::Tristate(vec![Tristate::No])
    }

    /// Whether `value` will do; nothing stands for an option that no line sets.
    #[must_use]
    pub fn accepts(&self, value: Option<&Value>) -> bool {
        match self {
            Self::Tristate(wanted) => {
                let is = value.map_or(Some(Tristate::No), Value::tristate);
                is.is_some_and(|is| wanted.contains(&is))
            }
            Self::OneOf(wanted) => value.is_some_and(|value| {
                let number = value.number();
                wanted.iter().any(|w| w == value || (number.is_some() && w.number() == number))
            }),
            Self::Contains(entry) => value
                .and_then(Value::as_str)
                .is_some_and(|list| list.split(',').any(|part| part.trim() == entry)),
            Self::Range { min, max } => value.and_then(Value::number).is_some_and(|number| {
                min.is_none_or(|min| min <= number) && max.is_none_or(|max| number <= max)
            }),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or = |words: Vec<String>| words.join(" or ");
        match self {
            Self::Tristate(wanted) => {
                f.write_str(&or(wanted.iter().map(ToString::to_string).collect()))
            }
            Self::OneOf(wanted) => {
                f.write_str(&or(wanted.iter().map(ToString::to_string).collect()))
            }
            Self::Contains(entry) => write!(f, "a list with {entry}"),
            Self::Range { min: Some(min), max: Some(max) } => write!(f, "{min} to {max}"),
            Self::Range { min: Some(min), max: None } => write!(f, "{min} or more"),
            Self::Range { min: None, max: Some(max) } => write!(f, "{max} or less"),
            Self::Range { min: None, max: None } => f.write_str("a number"),
        }
    }
}

/// An option and the values of it that will do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Want {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// Which values will do.
    pub need: Need,
    /// The module that the option builds when it is `m`, without `.ko`, if known.
    pub module: Option<String>,
}

impl Want {
    /// Wants `option` (with or without `CONFIG_`) as `need` says.
    #[must_use]
    pub fn new(option: &str, need: Need) -> Self {
        let option = option.strip_prefix("CONFIG_").unwrap_or(option).to_owned();
        Self { option, need, module: None }
    }
}

/// Something that an image needs of its kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirement {
    /// The options that serve it; one of them is enough. Mostly there is only one.
    pub any_of: Vec<Want>,
    /// What it is needed for: what would not work without it.
    pub reason: String,
    /// What to do about it; without one the report makes its own suggestion.
    pub remedy: Option<String>,
    /// Required by default.
    pub severity: Severity,
    /// What it belongs to, such as "virtio" or "exec driver".
    pub group: Option<String>,
    /// Where it makes sense at all: without this it is neither met nor missing.
    pub when: Option<Want>,
    /// Where it is declared, if in a file.
    pub declared: Option<Site>,
}

impl Requirement {
    /// A required option.
    #[must_use]
    pub fn new(option: &str, need: Need, reason: impl Into<String>) -> Self {
        Self::any_of(vec![Want::new(option, need)], reason)
    }

    /// One of several options is required.
    #[must_use]
    pub fn any_of(any_of: Vec<Want>, reason: impl Into<String>) -> Self {
        Self {
            any_of,
            reason: reason.into(),
            remedy: None,
            severity: Severity::Required,
            group: None,
            when: None,
            declared: None,
        }
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// Recommended, not required.
    #[must_use]
    pub fn recommended(mut self) -> Self {
        self.severity = Severity::Recommended;
        self
    }

    /// Only where a kernel has `condition`: what modules need makes no sense without modules.
    #[must_use]
    pub fn when(mut self, condition: Want) -> Self {
        self.when = Some(condition);
        self
    }

    /// As a part of `group`.
    #[must_use]
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = Some(group.into());
        self
    }
}

/// A set of requirements.
#[derive(Clone, Debug)]
pub struct Requirements {
    origin: String,
    list: Vec<Requirement>,
}

impl Requirements {
    /// A set made in code; `origin` names it in reports.
    #[must_use]
    pub fn new(list: Vec<Requirement>, origin: impl Into<String>) -> Self {
        Self { origin: origin.into(), list }
    }

    /// The name that its maker gave to the set, mostly a path.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The requirements, in their order.
    #[must_use]
    pub fn as_slice(&self) -> &[Requirement] {
        &self.list
    }

    /// Adds the requirements of another set; each still knows where it was declared.
    pub fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    /// Checks `config` against all of them.
    #[must_use]
    pub fn check(&self, config: &DotConfig) -> Report {
        let mut report = check(config, &self.list);
        report.requirements.clone_from(&self.origin);
        report
    }
}
