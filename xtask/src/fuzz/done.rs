//! What runs of the very same program have done: in the repository, so that a campaign can take
//! several sittings, and machines.

use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Kind, Places};

/// The work of one program, from its first run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) executions: u64,
    pub(super) seconds: u64,
    /// Edges that were reached: by what the first run began with, and at the end.
    pub(super) coverage: (u64, u64),
}

impl Done {
    /// By one run, from what libFuzzer said.
    pub(super) fn of_log(said: &str, time: Duration) -> Self {
        let number = |line: &str, key: &str| -> Option<u64> {
            line.split_once(key)?.1.split_whitespace().next()?.parse().ok()
        };
        let mut covered = said.lines().filter_map(|line| number(line, " cov: "));
        let first = covered.next().unwrap_or(0);
        let counted = |line: &str| number(line, "stat::number_of_executed_units:");
        // After a crash the last number of a line is all there is.
        let numbered = |line: &str| number(line, "#");
        let executions = said.lines().filter_map(counted).next_back();
        let executions = executions.or_else(|| said.lines().filter_map(numbered).max());
        Self {
            executions: executions.unwrap_or(0),
            seconds: time.as_secs().max(1),
            coverage: (first, covered.max().unwrap_or(first)),
        }
    }

    /// A run after these.
    pub(super) fn add(&mut self, later: &Self) {
        if self.executions == 0 {
            self.coverage.0 = later.coverage.0;
        }
        self.executions += later.executions;
        self.seconds += later.seconds;
        self.coverage.1 = self.coverage.1.max(later.coverage.1);
    }

    /// By earlier runs; nothing when the program was another one then.
    pub(super) fn read(places: &Places, target: &str, program: u64) -> Result<Self> {
        let path = file(places, target);
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Self::default()) };
        Ok(Self::parse(&text, program).unwrap_or_default())
    }

    pub(super) fn keep(&self, places: &Places, target: &str, program: u64) -> Result<()> {
        let path = file(places, target);
        std::fs::create_dir_all(&places.done)
            .and_then(|()| std::fs::write(&path, self.emit(program) + "\n"))
            .with_context(|| format!("write {}", path.display()))
    }

    fn emit(&self, program: u64) -> String {
        let (from, to) = self.coverage;
        json!({
            "program": program,
            "executions": self.executions,
            "seconds": self.seconds,
            "from": from,
            "to": to,
        })
        .to_string()
    }

    fn parse(text: &str, program: u64) -> Option<Self> {
        let value: Value = serde_json::from_str(text).ok()?;
        let number = |key: &str| value.get(key)?.as_u64();
        (number("program")? == program).then_some(Self {
            executions: number("executions")?,
            seconds: number("seconds")?,
            coverage: (number("from")?, number("to")?),
        })
    }
}

fn file(places: &Places, target: &str) -> PathBuf {
    places.done.join(format!("{target}.json"))
}

/// What tells the programs of a target from other ones.
pub(super) fn digest(places: &Places, target: &str) -> Result<u64> {
    let mut hasher = DefaultHasher::new();
    for kind in Kind::ALL {
        let path = places.program(kind, target);
        hasher.write(&std::fs::read(&path).with_context(|| format!("read {}", path.display()))?);
    }
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_says_what_was_done() {
        let log = "#2\tINITED cov: 10 ft: 12\n#90\tNEW    cov: 14 ft: 20\n#120\tDONE   cov: 14\n\
                   stat::number_of_executed_units: 121\n";
        let mut done = Done::of_log(log, Duration::from_secs(3));
        assert_eq!(done, Done { executions: 121, seconds: 3, coverage: (10, 14) });
        done.add(&Done::of_log("#7\tNEW cov: 13 ft: 2\n", Duration::ZERO));
        assert_eq!(done, Done { executions: 128, seconds: 4, coverage: (10, 14) });
    }

    #[test]
    fn only_the_same_program_goes_on() {
        let done = Done { executions: 7, seconds: 2, coverage: (3, 5) };
        let text = done.emit(42);
        assert_eq!(Done::parse(&text, 42), Some(done));
        assert_eq!(Done::parse(&text, 43), None);
        assert_eq!(Done::parse("{", 42), None);
    }
}
