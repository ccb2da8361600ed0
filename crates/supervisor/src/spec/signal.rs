//! Signals by name and number.

use std::fmt;

/// A signal by its Linux number (signal(7), x86 and ARM column).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(i32);

const SIGNALS: [(&str, i32); 31] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
];

impl Signal {
    /// `SIGHUP`.
    pub const HUP: Self = Self(1);
    /// `SIGINT`.
    pub const INT: Self = Self(2);
    /// `SIGQUIT`.
    pub const QUIT: Self = Self(3);
    /// `SIGKILL`.
    pub const KILL: Self = Self(9);
    /// `SIGTERM`.
    pub const TERM: Self = Self(15);
    /// `SIGCONT`.
    pub const CONT: Self = Self(18);

    /// A signal by number, 1 to 64.
    #[must_use]
    pub fn from_raw(number: i32) -> Option<Self> {
        (1..=64).contains(&number).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Signal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(number) = text.parse() {
            return Self::from_raw(number).ok_or_else(|| format!("no signal has number {text}"));
        }
        let name = text.strip_prefix("SIG").unwrap_or(text);
        SIGNALS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, number)| Self(*number))
            .ok_or_else(|| format!("unknown signal {text:?}, expected a name such as TERM"))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Signal {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match SIGNALS.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => serializer.serialize_str(name),
            None => serializer.collect_str(&self.0),
        }
    }
}

#[cfg(feature = "serde")]
super::text::parsed!(Signal);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_by_name_and_number() {
        assert_eq!("TERM".parse(), Ok(Signal::TERM));
        assert_eq!("SIGKILL".parse(), Ok(Signal::KILL));
        assert_eq!("2".parse(), Ok(Signal::INT));
        assert_eq!("37".parse::<Signal>().map(|s| s.to_string()), Ok("signal 37".into()));
        assert!("SIGNOPE".parse::<Signal>().is_err());
        assert!("0".parse::<Signal>().is_err());
        assert!("65".parse::<Signal>().is_err());
        for (name, number) in SIGNALS {
            assert_eq!(name.parse::<Signal>().map(Signal::as_raw), Ok(number));
        }
    }
}
