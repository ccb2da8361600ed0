//! What runs of the very same program have done, so that a campaign can take several sittings.

use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::Places;

/// The work of one program, from its first run on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) executions: u64,
    pub(super) seconds: u64,
    /// Edges that were reached: by what the first run began with, and at the end.
    pub(super) coverage: (u64, u64),
}

impl Done {
    /// By earlier runs; nothing when the program was another one then.
    pub(super) fn read(places: &Places, target: &str, program: u64) -> Result<Self> {
        let path = file(places, target)?;
        let Ok(text) = std::fs::read_to_string(&path) else { return Ok(Self::default()) };
        Ok(Self::parse(&text, program).unwrap_or_default())
    }

    pub(super) fn keep(&self, places: &Places, target: &str, program: u64) -> Result<()> {
        let path = file(places, target)?;
        std::fs::write(&path, self.emit(program))
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

fn file(places: &Places, target: &str) -> Result<PathBuf> {
    Ok(places.directory("earlier", target)?.join("done.json"))
}

/// What tells a program from another one.
pub(super) fn digest(places: &Places, target: &str) -> Result<u64> {
    let program = places.program(target);
    let bytes = std::fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_program_goes_on() {
        let done = Done { executions: 7, seconds: 2, coverage: (3, 5) };
        let text = done.emit(42);
        assert_eq!(Done::parse(&text, 42), Some(done));
        assert_eq!(Done::parse(&text, 43), None);
        assert_eq!(Done::parse("{", 42), None);
    }
}
