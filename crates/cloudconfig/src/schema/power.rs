//! `power_state`.

use std::time::Duration;

use crate::{Cursor, Meaning, Value};

/// What becomes of the machine when everything has been done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Power {
    /// What.
    pub mode: PowerMode,
    /// When, after the end. Default: at once.
    pub delay: Duration,
    /// What users are told.
    pub message: Option<String>,
    /// How long to wait for the end. Default: 30 s.
    pub timeout: Duration,
}

/// A way to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PowerMode {
    /// Off.
    PowerOff,
    /// Start again.
    Reboot,
    /// Stop, with the power on.
    Halt,
}

impl PowerMode {
    /// Its word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::PowerOff => "poweroff",
            Self::Reboot => "reboot",
            Self::Halt => "halt",
        }
    }
}

pub(super) fn power(at: &Cursor<'_>) -> Option<Power> {
    const MODES: [PowerMode; 3] = [PowerMode::PowerOff, PowerMode::Reboot, PowerMode::Halt];
    let mut fields = at.fields()?;
    let mode = fields.required("mode", |at| at.one_of(&MODES.map(|mode| (mode.name(), mode))));
    let delay = fields.get("delay", delay).unwrap_or_default();
    let message = fields.get("message", |at| at.text().map(str::to_owned));
    let timeout = fields.get("timeout", Cursor::integer::<u32>).unwrap_or(30);
    // Whether to do it at all must not be passed over: only the condition that always holds is taken.
    if let Some(at) = fields.field("condition")
        && !matches!(&at.node().value, Value::Scalar(it) if it.meaning() == Meaning::Bool(true))
    {
        at.wrong::<()>("not supported, so nothing is done at the end");
    }
    fields.finish();
    Some(Power { mode: mode?, delay, message, timeout: Duration::from_secs(timeout.into()) })
}

/// `now`, or minutes as `+5` or `5`, as shutdown(8) has it.
fn delay(at: &Cursor<'_>) -> Option<Duration> {
    let text = at.word()?;
    if text == "now" {
        return Some(Duration::ZERO);
    }
    let digits = text.strip_prefix('+').unwrap_or(text);
    match digits.parse::<u32>() {
        Ok(minutes) => Some(Duration::from_secs(u64::from(minutes).saturating_mul(60))),
        Err(_) => at.expected("now, or minutes such as +5"),
    }
}
