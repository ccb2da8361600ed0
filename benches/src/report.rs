//! Figures: medians and ratios, as a table for people and as JSON.
//!
//! Rows that measure the same thing (`what`) stand together, ours first. A row's ratio is its
//! median over ours: 2 means that the peer takes twice our time. In JSON a row is
//! `{what, who, n, median, min, max, unit, ratio}`; a figure that could not be had is `null`.

use std::fmt;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::Result;
use crate::turns::{Contender, Spent, take_turns};

/// What the figures of a row are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Seconds
    Seconds,
    /// Thousandths of a second
    Milliseconds,
    /// Of memory, 2²⁰ bytes; samples are given in it
    Mebibytes,
    /// So many; samples are given as they are
    Count,
}

impl Unit {
    const fn symbol(self) -> &'static str {
        match self {
            Self::Seconds => "s",
            Self::Milliseconds => "ms",
            Self::Mebibytes => "MiB",
            Self::Count => "n",
        }
    }

    fn of_seconds(self, seconds: f64) -> f64 {
        match self {
            Self::Seconds | Self::Mebibytes | Self::Count => seconds,
            Self::Milliseconds => seconds * 1e3,
        }
    }
}

/// One contender at one thing.
#[derive(Debug, Clone)]
struct Row {
    what: String,
    who: String,
    unit: Unit,
    /// In `unit`, sorted.
    values: Vec<f64>,
    /// Over the median of the first row of the same thing.
    ratio: f64,
    /// For the table.
    note: String,
}

/// The figures of a bench.
#[derive(Debug, Clone, Default)]
pub struct Report {
    rows: Vec<Row>,
}

impl Report {
    /// Without a row, which is also what a bench gives that could not measure anything here.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: Vec::new() }
    }

    /// Adds what [`take_turns`] gave: `samples` in seconds, those of ours
    /// first.
    pub fn contest<T>(
        &mut self,
        what: &str,
        unit: Unit,
        contenders: &[Contender<'_, T>],
        samples: Vec<Vec<f64>>,
    ) {
        for (contender, samples) in contenders.iter().zip(samples) {
            self.add(what, contender.who(), unit, samples);
        }
    }

    /// Lets contenders take turns, ours first, and adds their wall times.
    ///
    /// # Errors
    /// Those of [`take_turns`].
    pub fn timed(
        &mut self,
        what: &str,
        rounds: u32,
        mut contenders: Vec<Contender<'_>>,
    ) -> Result<()> {
        let samples = take_turns(rounds, &mut contenders)?;
        self.contest(what, Unit::Seconds, &contenders, samples);
        Ok(())
    }

    /// Lets contenders take turns, ours first, and adds their wall and CPU times.
    ///
    /// # Errors
    /// Those of [`take_turns`].
    pub fn spent(
        &mut self,
        what: &str,
        rounds: u32,
        mut contenders: Vec<Contender<'_, Spent>>,
    ) -> Result<()> {
        let samples = take_turns(rounds, &mut contenders)?;
        let figures = |figure: fn(&Spent) -> f64| {
            samples.iter().map(|samples| samples.iter().map(figure).collect()).collect()
        };
        let (wall, cpu) = (figures(|it| it.wall), figures(|it| it.cpu));
        self.contest(&format!("{what}: wall time"), Unit::Seconds, &contenders, wall);
        self.contest(&format!("{what}: CPU time"), Unit::Seconds, &contenders, cpu);
        Ok(())
    }

    /// Adds a row of `samples` in seconds. The first row of a `what` is ours, which the ratios of
    /// the others refer to.
    pub fn add(&mut self, what: &str, who: &str, unit: Unit, samples: Vec<f64>) {
        let mut values: Vec<f64> =
            samples.into_iter().map(|seconds| unit.of_seconds(seconds)).collect();
        values.sort_by(f64::total_cmp);
        let own = median(&values);
        let ours = self.rows.iter().find(|row| row.what == what);
        let ratio = own / ours.map_or(own, |ours| median(&ours.values));
        let (what, who) = (what.to_owned(), who.to_owned());
        self.rows.push(Row { what, who, unit, values, ratio, note: String::new() });
    }

    /// Says something more of the last row in the table, such as what the contender came to.
    pub fn note(&mut self, note: impl Into<String>) {
        if let Some(row) = self.rows.last_mut() {
            row.note = note.into();
        }
    }

    /// The rows as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let row = |row: &Row| {
            json!({
                "what": row.what, "who": row.who, "n": row.values.len(),
                "median": median(&row.values), "min": row.values.first(),
                "max": row.values.last(), "unit": row.unit.symbol(), "ratio": row.ratio,
            })
        };
        self.rows.iter().map(row).collect()
    }

    /// Writes the rows as JSON: beside `path`, then renamed to it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(format!(".{}.part", std::process::id()));
        let text = format!("{:#}\n", self.json());
        let written = fs::write(&beside, text).and_then(|()| fs::rename(&beside, path));
        written.map_err(|error| {
            // It may not even exist; what matters is the error before.
            let _ = fs::remove_file(&beside);
            format!("write {}: {error}", path.display()).into()
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|row| row.who.chars().count()).max().unwrap_or(0);
        let mut what = None;
        for row in &self.rows {
            if what != Some(&row.what) {
                what = Some(&row.what);
                let unit = row.unit.symbol();
                writeln!(f, "\n{}, {unit}", row.what)?;
                writeln!(
                    f,
                    "  {:width$}  {:>10} {:>10} {:>10} {:>7}  {:>3}",
                    "", "median", "min", "max", "ratio", "n"
                )?;
            }
            let end = |value: Option<&f64>| value.copied().unwrap_or(f64::NAN);
            let line = format!(
                "  {:width$}  {:>10.3} {:>10.3} {:>10.3} {:>7.2}  {:>3}  {}",
                row.who,
                median(&row.values),
                end(row.values.first()),
                end(row.values.last()),
                row.ratio,
                row.values.len(),
                row.note
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The middle of sorted values, or the mean of the two in the middle; not a number for none.
#[must_use]
pub fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (Some(upper), 0) => {
            let lower = sorted.get(middle.wrapping_sub(1)).unwrap_or(upper);
            f64::midpoint(*lower, *upper)
        }
        (Some(value), _) => *value,
        (None, _) => f64::NAN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::new();
        report.add("pack", "ours", Unit::Milliseconds, vec![0.25, 0.0625, 0.125]);
        report.note("3 files");
        report.add("pack", "theirs", Unit::Milliseconds, vec![0.25, 0.5]);
        report.add("list", "ours", Unit::Seconds, Vec::new());
        report
    }

    #[test]
    fn rows_in_json() {
        assert_eq!(
            report().json(),
            json!([
                {"what": "pack", "who": "ours", "n": 3, "median": 125.0, "min": 62.5,
                    "max": 250.0, "unit": "ms", "ratio": 1.0},
                {"what": "pack", "who": "theirs", "n": 2, "median": 375.0, "min": 250.0,
                    "max": 500.0, "unit": "ms", "ratio": 3.0},
                {"what": "list", "who": "ours", "n": 0, "median": null, "min": null,
                    "max": null, "unit": "s", "ratio": null},
            ])
        );
    }

    #[test]
    fn table_groups_rows_by_what() {
        let table = report().to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[1], "pack, ms");
        assert_eq!(lines[3], "  ours       125.000     62.500    250.000    1.00    3  3 files");
        assert_eq!(lines[4], "  theirs     375.000    250.000    500.000    3.00    2");
        assert_eq!(lines[6], "list, s");
    }

    #[test]
    fn file_is_whole_and_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.json");
        fs::write(&path, "old").unwrap();
        report().write(&path).unwrap();
        let read: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(read, report().json());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(report().write(&dir.path().join("missing/x.json")).is_err());
    }
}
