//! Which steps there are, in an order in which each comes after what it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::{Pipeline, Step};
use crate::definition::hint;
use crate::{Error, Result};

/// Steps by their name.
pub(super) type ByName<'a> = BTreeMap<&'a str, &'a Step>;

impl Pipeline {
    /// The steps that have to be done for these, in an order in which they can be. All that is wrong with
    /// the steps is told at once.
    ///
    /// # Errors
    /// [`Error::Plan`].
    pub fn order(&self, wanted: &[&str]) -> Result<Vec<&Step>> {
        self.order_without(wanted, &BTreeSet::new())
    }

    /// The same, where what some steps need is not needed: their outputs are there.
    pub(super) fn order_without(
        &self,
        wanted: &[&str],
        supplied: &BTreeSet<&str>,
    ) -> Result<Vec<&Step>> {
        let mut problems = Vec::new();
        let steps = self.by_name(&mut problems);
        for name in wanted {
            if !steps.contains_key(name) {
                let hint = hint(name, steps.keys().copied());
                problems.push(format!("there is no step {name:?}{hint}"));
            }
        }
        let mut visit = Visit::new(&steps, supplied);
        wanted.iter().for_each(|name| visit.step(name));
        problems.append(&mut visit.problems);
        let order = visit.order;
        if problems.is_empty() { Ok(order) } else { Err(Error::Plan(problems)) }
    }

    fn by_name(&self, problems: &mut Vec<String>) -> ByName<'_> {
        let mut steps = ByName::new();
        let mut writers: BTreeMap<&str, &str> = BTreeMap::new();
        for step in &self.steps {
            let name = step.name.as_str();
            let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            if name.is_empty() || !name.bytes().all(is_name) {
                problems.push(format!("step {name:?}: a name is letters, digits, - and _"));
            }
            if steps.insert(name, step).is_some() {
                problems.push(format!("there are two steps {name:?}"));
            }
            for output in &step.outputs {
                if !is_plain(output) {
                    problems.push(format!("step {name}: {output:?} is no path below a directory"));
                }
                if let Some(other) = writers.insert(output, name) {
                    problems.push(format!("{output} is written by {other} and by {name}"));
                }
            }
        }
        for step in &self.steps {
            for need in &step.needs {
                if !steps.contains_key(need.as_str()) {
                    let hint = hint(need, steps.keys().copied());
                    let name = &step.name;
                    problems.push(format!("step {name} needs {need:?}, which there is not{hint}"));
                }
            }
        }
        steps
    }
}

/// A path that leads nowhere else; `.steps` is ours.
fn is_plain(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    let first = parts.clone().next();
    first.is_some_and(|part| part.as_os_str() != super::fingerprint::DIRECTORY)
        && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// A walk from steps to what they need.
struct Visit<'walk, 'a> {
    steps: &'walk ByName<'a>,
    supplied: &'walk BTreeSet<&'walk str>,
    above: Vec<&'a str>,
    known: BTreeSet<&'a str>,
    order: Vec<&'a Step>,
    problems: Vec<String>,
}

impl<'walk, 'a> Visit<'walk, 'a> {
    fn new(steps: &'walk ByName<'a>, supplied: &'walk BTreeSet<&'walk str>) -> Self {
        Self {
            steps,
            supplied,
            above: Vec::new(),
            known: BTreeSet::new(),
            order: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn step(&mut self, name: &str) {
        let Some((name, step)) = self.steps.get_key_value(name) else { return };
        if let Some(at) = self.above.iter().position(|other| other == name) {
            let circle = self.above.get(at..).unwrap_or_default().join(" needs ");
            self.problems.push(format!("{circle} needs {name}: none of them can be first"));
            return;
        }
        if !self.known.insert(name) {
            return;
        }
        if !self.supplied.contains(name) {
            self.above.push(name);
            step.needs.iter().for_each(|need| self.step(need));
            self.above.pop();
        }
        self.order.push(step);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str, needs: &[&str]) -> Step {
        let step = Step::new(name, [format!("{name}.out")], |_| Ok(()));
        needs.iter().fold(step, |step, need| step.needs(*need))
    }

    fn pipeline(steps: &[(&str, &[&str])]) -> Pipeline {
        let mut pipeline = Pipeline::new();
        steps.iter().for_each(|(name, needs)| pipeline.add(step(name, needs)));
        pipeline
    }

    #[test]
    fn each_comes_after_what_it_needs_and_nothing_else_is_done() {
        let pipeline = pipeline(&[
            ("disk", &["init"]),
            ("init", &["base", "cli"]),
            ("cli", &["base"]),
            ("base", &[]),
            ("other", &[]),
        ]);
        let names = |wanted: &[&str]| -> Vec<String> {
            pipeline.order(wanted).unwrap().iter().map(|step| step.name.clone()).collect()
        };
        assert_eq!(names(&["disk"]), ["base", "cli", "init", "disk"]);
        assert_eq!(names(&["other", "cli"]), ["other", "base", "cli"]);
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        let mut pipeline = pipeline(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"]), ("d", &["e"])]);
        pipeline.add(Step::new("f", ["a.out", "../g", "/h", ".steps/f"], |_| Ok(())));
        let error = pipeline.order(&["a", "d", "i"]).unwrap_err().to_string();
        for expected in [
            "b needs c needs b: none of them can be first",
            "step d needs \"e\", which there is not",
            "a.out is written by a and by f",
            "\"../g\" is no path below a directory",
            "\"/h\" is no path",
            "\".steps/f\" is no path",
            "there is no step \"i\"",
        ] {
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
