//! What a campaign says: a table for the terminal, the same for docs/fuzzing.md.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::done::Done;

/// What became of a target.
pub(super) struct Row {
    pub(super) target: String,
    /// Executions, with those of earlier runs.
    pub(super) done: Done,
    pub(super) crash: Option<PathBuf>,
}

impl Row {
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
