//! What a check found: text for people, data for programs.

use std::fmt;

use super::Severity;
use crate::error::{Error, Result, Site};

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Report {
    /// The configuration's origin.
    pub config: String,
    /// The requirement set's origin; empty for a bare list.
    pub requirements: String,
    /// How many requirements were checked.
    pub checked: usize,
    /// The requirements that are not met, in their order.
    pub findings: Vec<Finding>,
    /// The options that are met by a module, which must then be in the image.
    pub modules: Vec<ModuleWanted>,
}

/// A requirement that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// The options of which one would do, and what the configuration says of each.
    pub options: Vec<OptionState>,
    /// Whether this is an error.
    pub severity: Severity,
    /// What it belongs to.
    pub group: Option<String>,
    /// What does not work without it.
    pub reason: String,
    /// What to do.
    pub remedy: String,
    /// Where the requirement is declared.
    pub declared: Option<Site>,
}

/// What is needed of an option and what is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct OptionState {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// What is needed, such as "y or m".
    pub needed: String,
    /// What is.
    pub state: State,
}

/// What a configuration says of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(tag = "is", rename_all = "lowercase")
)]
pub enum State {
    /// No line sets it: this kernel does not know it, or a dependency of it is off.
    Absent,
    /// A line sets it to something else.
    Set {
        /// The value as it stands there; `n` for `is not set`.
        value: String,
        /// Which line.
        site: Site,
    },
    /// The line that sets it is malformed.
    Malformed {
        /// The text behind the `=`.
        text: String,
        /// Which line.
        site: Site,
    },
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("not in the configuration"),
            Self::Set { value, site } if value == "n" => write!(f, "not set ({site})"),
            Self::Set { value, site } => write!(f, "{value} ({site})"),
            Self::Malformed { text, site } => write!(f, "malformed, '{text}' ({site})"),
        }
    }
}

/// A module that an image must carry, because the kernel has the option as `m`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ModuleWanted {
    /// The option, without `CONFIG_`.
    pub option: String,
    /// The module's name without `.ko`, if the requirement tells it.
    pub module: Option<String>,
    /// What does not work without it.
    pub reason: String,
    /// Whether the image needs it.
    pub severity: Severity,
    /// What it belongs to.
    pub group: Option<String>,
    /// The configuration's line.
    pub site: Option<Site>,
}

impl Report {
    /// Whether nothing that is required is missing.
    #[must_use]
    pub fn is_satisfied(&self) -> bool {
        self.missing().next().is_none()
    }

    /// The findings that are errors.
    pub fn missing(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Required)
    }

    /// The findings that are no errors.
    pub fn recommended(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Recommended)
    }

    /// The modules that the image must carry for the met requirements to be true in it.
    #[must_use]
    pub fn modules(&self) -> &[ModuleWanted] {
        &self.modules
    }

    /// The report itself when it [is satisfied](Self::is_satisfied).
    ///
    /// # Errors
    ///
    /// [`Error::Unsatisfied`] with the whole report as its message.
    pub fn into_result(self) -> Result<Self> {
        if self.is_satisfied() { Ok(self) } else { Err(Error::Unsatisfied(Box::new(self))) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> =
            self.options.iter().map(|state| format!("CONFIG_{}", state.option)).collect();
        let label = match self.severity {
            Severity::Required => "error",
            Severity::Recommended => "recommended",
        };
        write!(f, "{label}: {} is not as needed", names.join(" or "))?;
        if let Some(group) = &self.group {
            write!(f, " ({group})")?;
        }
        for OptionState { option, needed, state } in &self.options {
            if self.options.len() > 1 {
                write!(f, "\n  CONFIG_{option}: needed {needed}, is {state}")?;
            } else {
                write!(f, "\n  needed: {needed}\n  is:     {state}")?;
            }
        }
        write!(f, "\n  reason: {}\n  remedy: {}", self.reason, self.remedy)?;
        if let Some(declared) = &self.declared {
            write!(f, "\n  asked:  {declared}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ModuleWanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CONFIG_{}=m", self.option)?;
        if let Some(module) = &self.module {
            write!(f, " ({module}.ko)")?;
        }
        write!(f, ": {}", self.reason)
    }
}

impl fmt::Display for Report {
    /// Several lines, without a line break at the end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, recommended) = (self.missing().count(), self.recommended().count());
        write!(f, "{}: {} requirements", self.config, self.checked)?;
        if !self.requirements.is_empty() {
            write!(f, " of {}", self.requirements)?;
        }
        write!(f, ", {missing} missing")?;
        if recommended > 0 {
            write!(f, ", {recommended} recommended ones too")?;
        }
        for finding in self.missing().chain(self.recommended()) {
            write!(f, "\n{finding}")?;
        }
        if !self.modules.is_empty() {
            write!(f, "\nmodules that the image must carry:")?;
            for module in &self.modules {
                write!(f, "\n  {module}")?;
            }
        }
        Ok(())
    }
}
