//! Codes that count: each once, for a while, and for few wrong tries.

use std::time::{Duration, SystemTime};

use kurma_client::Role;
use subtle::ConstantTimeEq as _;

/// Wrong tries, from wherever, that end all codes.
const TRIES: u32 = 5;
/// Codes at once.
const MOST: usize = 16;

/// Why a secret does not count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wrong {
    /// It is none, and so many tries are left.
    Secret(u32),
    /// There is no code, or none any longer.
    None,
}

impl Wrong {
    pub(crate) fn sentence(&self) -> String {
        let next = "kurma-api shows one when it is started again and knows nobody; else an operator asks for one: kurma access code";
        match self {
            Self::Secret(0) => format!("the code is wrong, and none counts any longer; {next}"),
            Self::Secret(left) => format!("the code is wrong; {left} more tries"),
            Self::None => format!("no code counts, or none any longer; {next}"),
        }
    }
}

struct One {
    secret: String,
    role: Role,
    until: SystemTime,
}

/// Secrets are not for logs.
impl std::fmt::Debug for One {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("One").field("role", &self.role).finish_non_exhaustive()
    }
}

/// Codes that count.
#[derive(Debug, Default)]
pub(crate) struct Codes {
    list: Vec<One>,
    wrong: u32,
}

impl Codes {
    fn clean(&mut self, now: SystemTime) {
        self.list.retain(|one| now < one.until);
        if self.list.is_empty() {
            self.wrong = 0;
        }
    }

    /// Has a secret count, and says until when.
    pub(crate) fn add(
        &mut self,
        secret: String,
        role: Role,
        lasting: Duration,
        now: SystemTime,
    ) -> Result<SystemTime, String> {
        self.clean(now);
        if self.list.len() >= MOST {
            return Err(format!("{MOST} codes count already: wait until one is used or over"));
        }
        let until = now.checked_add(lasting).ok_or("the clock is beyond all calendars")?;
        self.list.push(One { secret, role, until });
        Ok(until)
    }

    /// The role that a secret gives. It takes as long for all secrets.
    pub(crate) fn find(&mut self, secret: &str, now: SystemTime) -> Result<Role, Wrong> {
        self.clean(now);
        if self.list.is_empty() {
            return Err(Wrong::None);
        }
        let mut found = None;
        for one in &self.list {
            if bool::from(one.secret.as_bytes().ct_eq(secret.as_bytes())) {
                found = Some(one.role);
            }
        }
        found.ok_or_else(|| {
            self.wrong = self.wrong.saturating_add(1);
            if self.wrong >= TRIES {
                self.list.clear();
            }
            Wrong::Secret(TRIES.saturating_sub(self.wrong))
        })
    }

    /// Has a secret count no longer.
    pub(crate) fn take(&mut self, secret: &str) {
        self.list.retain(|one| !bool::from(one.secret.as_bytes().ct_eq(secret.as_bytes())));
        if self.list.is_empty() {
            self.wrong = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: SystemTime = SystemTime::UNIX_EPOCH;

    #[test]
    fn a_code_counts_once() {
        let mut codes = Codes::default();
        assert_eq!(codes.find("A", NOW), Err(Wrong::None));
        codes.add("A".into(), Role::Operator, HOUR, NOW).unwrap();
        codes.add("B".into(), Role::ReadOnly, HOUR, NOW).unwrap();
        assert_eq!(codes.find("A", NOW), Ok(Role::Operator));
        codes.take("A");
        assert_eq!(codes.find("A", NOW), Err(Wrong::Secret(4)));
        assert_eq!(codes.find("B", NOW), Ok(Role::ReadOnly));
    }

    #[test]
    fn a_code_counts_for_a_while() {
        let mut codes = Codes::default();
        let until = codes.add("A".into(), Role::Operator, HOUR, NOW).unwrap();
        assert_eq!(until, NOW + HOUR);
        assert!(codes.find("A", NOW + HOUR - Duration::from_secs(1)).is_ok());
        assert_eq!(codes.find("A", NOW + HOUR), Err(Wrong::None));
    }

    #[test]
    fn wrong_tries_end_all_codes() {
        let mut codes = Codes::default();
        codes.add("A".into(), Role::Operator, HOUR, NOW).unwrap();
        for left in [4, 3, 2, 1, 0] {
            assert_eq!(codes.find("", NOW), Err(Wrong::Secret(left)));
        }
        assert_eq!(codes.find("A", NOW), Err(Wrong::None));
        // a new one has all its tries
        codes.add("B".into(), Role::Operator, HOUR, NOW).unwrap();
        assert_eq!(codes.find("", NOW), Err(Wrong::Secret(4)));
    }

    #[test]
    fn there_are_few_at_once() {
        let mut codes = Codes::default();
        for at in 0..MOST {
            codes.add(at.to_string(), Role::Operator, HOUR, NOW).unwrap();
        }
        assert!(codes.add("A".into(), Role::Operator, HOUR, NOW).is_err());
        assert!(codes.add("A".into(), Role::Operator, HOUR, NOW + HOUR).is_ok());
    }
}
