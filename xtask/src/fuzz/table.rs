//! What a campaign says: a table for the terminal, the same for docs/fuzzing.md.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::done::Done;
use super::seconds;

/// What became of a target.
pub(super) struct Row {
    pub(super) target: String,
    /// Executions, with those of earlier runs.
    pub(super) done: Done,
    pub(super) crash: Option<PathBuf>,
}

impl Row {
    /// From what libFuzzer said, and what was done before.
    pub(super) fn new(
        target: &str,
        said: &str,
        time: Duration,
        earlier: &Done,
        crash: Option<PathBuf>,
    ) -> Self {
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
        let mut done = Done {
            executions: executions.unwrap_or(0) + earlier.executions,
            seconds: seconds(time) + earlier.seconds,
            coverage: (first, covered.max().unwrap_or(first)),
        };
        if earlier.executions > 0 {
            done.coverage.0 = earlier.coverage.0;
        }
        Self { target: target.to_owned(), done, crash }
    }

    fn cells(&self) -> [String; 6] {
        let Done { executions, seconds, coverage: (from, to) } = self.done;
        [
            self.target.clone(),
            executions.to_string(),
            seconds.to_string(),
            (executions / seconds.max(1)).to_string(),
            format!("{from} to {to}"),
            u8::from(self.crash.is_some()).to_string(),
        ]
    }
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [target, executions, seconds, speed, coverage, crashes] = self.cells();
        write!(
            out,
            "{target:14} {executions:>10} executions {seconds:>6} s {speed:>7}/s  \
             {coverage:>14} edges  {crashes} crashes"
        )
    }
}

/// Writes the table as Markdown beside the other things of the campaign.
pub(super) fn report(rows: &[Row], work: &Path) -> Result<()> {
    let mut text = String::from(
        "| target | executions | seconds | executions/s | edges, seeds to end | crashes |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        text += &format!("| {} |\n", row.cells().join(" | "));
    }
    let path = work.join("table.md");
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    println!("{} targets; the table is in {}", rows.len(), path.display());
    Ok(())
}
