//! Runs steps beside each other, and leaves out those of which nothing has changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;

use super::fingerprint::{self, DIRECTORY, Record};
use super::{Options, Pipeline, Place, Step};
use crate::definition::hint;
use crate::{Error, Progress, Result, cache};

/// Why a step ran, or did not.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Nothing that it reads has changed, and what it writes is there.
    Unchanged,
    /// Its outputs were supplied.
    Supplied,
    /// It has never run here, or not to its end.
    First,
    /// It was to run in any case.
    Forced,
    /// What it reads is another, or what it has written.
    Changed(Vec<String>),
}

impl Why {
    /// Whether the step ran.
    #[must_use]
    pub fn ran(&self) -> bool {
        !matches!(self, Self::Unchanged | Self::Supplied)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// More changes than this are counted.
        const MOST: usize = 4;
        match self {
            Self::Unchanged => out.write_str("left out: nothing has changed"),
            Self::Supplied => out.write_str("left out: its outputs were supplied"),
            Self::First => out.write_str("ran: it had not been run to its end"),
            Self::Forced => out.write_str("ran: it was to"),
            Self::Changed(what) => {
                let shown =
                    what.iter().take(MOST).map(String::as_str).collect::<Vec<_>>().join(", ");
                write!(out, "ran: {shown}")?;
                match what.len().saturating_sub(MOST) {
                    0 => Ok(()),
                    more => write!(out, " and {more} more"),
                }
            }
        }
    }
}

/// A step that was dealt with.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Done {
    /// Which.
    pub step: String,
    /// Why it ran, or did not.
    pub why: Why,
    /// When it began, from the start of the run.
    pub began: Duration,
    /// How long it took.
    pub took: Duration,
}

/// A step that failed.
#[derive(Debug)]
#[non_exhaustive]
pub struct Failed {
    /// Which.
    pub step: String,
    /// Why.
    pub error: Error,
}

/// A step that did not run, because one that it needs failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Held {
    /// Which.
    pub step: String,
    /// The steps that failed.
    pub by: Vec<String>,
}

/// What was done.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Run {
    /// Every step that ended well or was left out, in the order in which they ended.
    pub done: Vec<Done>,
    /// Those that failed, likewise.
    pub failed: Vec<Failed>,
    /// Those that could not be begun.
    pub held: Vec<Held>,
    /// How long all of it took.
    pub took: Duration,
}

impl Run {
    /// The steps that ran.
    #[must_use]
    pub fn made(&self) -> Vec<&str> {
        let ran = self.done.iter().filter(|done| done.why.ran());
        ran.map(|done| done.step.as_str()).collect()
    }

    /// What went wrong, one line and more for each step.
    pub(crate) fn failures(&self) -> String {
        let mut lines = Vec::new();
        for Failed { step, error } in &self.failed {
            lines.push(format!("step {step}: {error}"));
        }
        for Held { step, by } in &self.held {
            lines.push(format!("step {step} has not run: it needs {}", by.join(", ")));
        }
        lines.join("\n")
    }

    /// The run as JSON, for programs.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let seconds = |time: Duration| (time.as_secs_f64() * 1000.0).round() / 1000.0;
        let done = self.done.iter().map(|done| {
            serde_json::json!({
                "step": done.step, "ran": done.why.ran(), "why": done.why.to_string(),
                "began": seconds(done.began), "took": seconds(done.took),
            })
        });
        let failed = self.failed.iter();
        let failed =
            failed.map(|it| serde_json::json!({ "step": it.step, "error": it.error.to_string() }));
        let held = self.held.iter();
        let held = held.map(|it| serde_json::json!({ "step": it.step, "needs": it.by }));
        serde_json::json!({
            "done": done.collect::<Vec<_>>(), "failed": failed.collect::<Vec<_>>(),
            "held": held.collect::<Vec<_>>(), "took": seconds(self.took),
        })
    }
}

impl fmt::Display for Run {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Done { step, why, took, .. } in &self.done {
            writeln!(out, "{step}: {why} ({:.1} s)", took.as_secs_f64())?;
        }
        write!(out, "{:.1} s", self.took.as_secs_f64())
    }
}

impl Pipeline {
    /// Runs these steps and what they need, as far as that is necessary.
    ///
    /// # Errors
    /// [`Error::Plan`] with all that is wrong with the steps and options, before anything runs;
    /// [`Error::Steps`] when steps have failed and all that do not need them have ended. What a step had
    /// written before stays until it has ended well.
    pub fn run(
        &self,
        wanted: &[&str],
        out: &Path,
        options: &Options,
        progress: &Progress,
    ) -> Result<Run> {
        let started = Instant::now();
        let mut problems = Vec::new();
        let supplied = self.supplied(options, &mut problems);
        let whole = |step: &&Step| step.outputs.iter().any(|it| supplied.contains_key(it.as_str()));
        let names = self.steps.iter().filter(whole).map(Step::name).collect();
        let order = self.order_without(wanted, &names)?;
        let runner = Runner { pipeline: self, out, options, supplied, progress, wanted, started };
        runner.check(&order, problems)?;
        let _lock = lock(out)?;
        let mut run = runner.all(&order);
        run.took = started.elapsed();
        if run.failed.is_empty() { Ok(run) } else { Err(Error::Steps(Box::new(run))) }
    }

    /// Supplied files by the outputs that they stand for.
    fn supplied<'a>(
        &'a self,
        options: &'a Options,
        problems: &mut Vec<String>,
    ) -> BTreeMap<&'a str, &'a Path> {
        let mut supplied = BTreeMap::new();
        for (name, path) in &options.supplied {
            if !path.is_file() {
                problems.push(format!("{name}: there is no file {}", path.display()));
            }
            let output = match self.steps.iter().find(|step| step.name == *name) {
                Some(step) => match step.outputs.as_slice() {
                    [output] => Some(output.as_str()),
                    more => {
                        let more = more.join(", ");
                        problems.push(format!("{name} has several outputs: name one of {more}"));
                        None
                    }
                },
                None => Some(name.as_str()),
            };
            let Some(output) = output else { continue };
            let outputs = || self.steps.iter().flat_map(|step| &step.outputs);
            if !outputs().any(|it| it == output) {
                let known = outputs().map(String::as_str);
                let hint = hint(output, known.chain(self.steps.iter().map(Step::name)));
                problems.push(format!("{output} is supplied, and no step makes it{hint}"));
            } else if supplied.insert(output, path.as_path()).is_some() {
                problems.push(format!("{output} is supplied twice"));
            }
        }
        supplied
    }
}

/// Keeps others from making the same files at the same time; gone with the process that has it.
struct Lock(std::fs::File);

impl Drop for Lock {
    /// Closing does not do: a process that another thread is just making has the file open too.
    fn drop(&mut self) {
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

fn lock(out: &Path) -> Result<Lock> {
    let place = out.join(DIRECTORY);
    std::fs::create_dir_all(&place).map_err(Error::io("create directory", &place))?;
    let path = place.join("lock");
    let file = std::fs::File::create(&path).map_err(Error::io("create", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock(file)),
        Err(error) if error == rustix::io::Errno::WOULDBLOCK => {
            let text = "another build is at work here: wait until it has ended";
            Err(Error::input(out.display().to_string(), text))
        }
        Err(error) => Err(Error::io("lock", &path)(error.into())),
    }
}

struct Runner<'a> {
    pipeline: &'a Pipeline,
    out: &'a Path,
    options: &'a Options,
    supplied: BTreeMap<&'a str, &'a Path>,
    progress: &'a Progress,
    wanted: &'a [&'a str],
    started: Instant,
}

impl Runner<'_> {
    /// Whether options fit the steps.
    fn check(&self, order: &[&Step], mut problems: Vec<String>) -> Result<()> {
        for step in order {
            let is_supplied = |output: &&String| self.supplied.contains_key(output.as_str());
            let given = step.outputs.iter().filter(is_supplied).count();
            let (name, all) = (&step.name, step.outputs.len());
            if given > 0 && given < all {
                problems
                    .push(format!("{given} of {all} outputs of {name} are supplied: all or none"));
            }
            if self.options.alone && !self.wanted.contains(&name.as_str()) && given == 0 {
                let missing = step.outputs.iter().filter(|it| !self.out.join(it).is_file());
                problems.extend(missing.map(|output| {
                    format!("{output} of {name} is not there, and {name} is not to run")
                }));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Plan(problems)) }
    }

    /// Runs steps as soon as what they need is there. After a failure go on those that do not need it.
    fn all<'s>(&self, order: &[&'s Step]) -> Run {
        let jobs = self
            .options
            .jobs
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, Into::into));
        let mut run = Run::default();
        let mut left: Vec<&'s Step> = order.to_vec();
        let mut ended: BTreeSet<&'s str> = BTreeSet::new();
        thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let mut running = 0_usize;
            loop {
                while running < jobs.max(1) {
                    let ready = |step: &&Step| {
                        self.supplied_to(step)
                            || step.needs.iter().all(|it| ended.contains(it.as_str()))
                    };
                    let Some(at) = left.iter().position(ready) else { break };
                    let (step, tell) = (left.remove(at), tell.clone());
                    running += 1;
                    scope.spawn(move || {
                        // the receiver is there until all have told
                        let _ = tell.send((step, self.one(step)));
                    });
                }
                if running == 0 {
                    break;
                }
                let Ok((step, result)) = told.recv() else { break };
                running -= 1;
                match result {
                    Ok(one) => {
                        ended.insert(&step.name);
                        run.done.push(one);
                    }
                    Err(error) => run.failed.push(Failed { step: step.name.clone(), error }),
                }
            }
        });
        for step in left {
            let is_there = |need: &&String| !ended.contains(need.as_str());
            let by = step.needs.iter().filter(is_there).cloned().collect();
            run.held.push(Held { step: step.name.clone(), by });
        }
        run
    }

    /// Whether a step's outputs are supplied.
    fn supplied_to(&self, step: &Step) -> bool {
        step.outputs.iter().any(|output| self.supplied.contains_key(output.as_str()))
    }

    /// Does what is to be done about a step.
    fn one(&self, step: &Step) -> Result<Done> {
        let (began, since) = (self.started.elapsed(), Instant::now());
        let why = self.why(step)?;
        Ok(Done { step: step.name.clone(), why, began, took: since.elapsed() })
    }

    fn why(&self, step: &Step) -> Result<Why> {
        if self.supplied_to(step) {
            self.supply(step)?;
            return Ok(Why::Supplied);
        }
        let before = Record::read(self.out, &step.name);
        let is_wanted = self.wanted.contains(&step.name.as_str());
        if self.options.alone && !is_wanted {
            return Ok(Why::Unchanged);
        }
        let known = before.clone().unwrap_or_default();
        let of = fingerprint::now(step, self.out, &self.needed(step), &known)?;
        let why = match before {
            _ if self.options.forced && is_wanted => Why::Forced,
            None => Why::First,
            Some(before) => match self.changes(step, &before, &of)? {
                what if what.is_empty() => return Ok(Why::Unchanged),
                what => Why::Changed(what),
            },
        };
        self.make(step, of)?;
        Ok(why)
    }

    /// The outputs that a step reads, with the steps that they are of.
    fn needed(&self, step: &Step) -> Vec<(String, String)> {
        let needs = self.pipeline.steps.iter().filter(|it| step.needs.contains(&it.name));
        needs
            .flat_map(|it| it.outputs.iter().map(|output| (it.name.clone(), output.clone())))
            .collect()
    }

    /// What speaks against leaving a step out.
    fn changes(
        &self,
        step: &Step,
        before: &Record,
        of: &BTreeMap<String, fingerprint::Seen>,
    ) -> Result<Vec<String>> {
        let mut said = fingerprint::difference(&before.of, of);
        if before.supplied {
            said.push("its outputs were supplied".into());
        }
        for output in &step.outputs {
            let path = self.out.join(output);
            match before.made.get(output) {
                Some(made) if path.is_file() => {
                    if fingerprint::seen(&path, Some(made))?.digest_differs(made) {
                        said.push(format!("{output} was changed by somebody else"));
                    }
                }
                _ => said.push(format!("{output} is not there")),
            }
        }
        Ok(said)
    }

    fn make(&self, step: &Step, of: BTreeMap<String, fingerprint::Seen>) -> Result<()> {
        let since = Instant::now();
        let shown = match step.about.as_str() {
            "" => step.name.clone(),
            about => format!("{}: {about}", step.name),
        };
        let shown = self.progress.step(shown);
        let place = self.out.join(DIRECTORY);
        std::fs::create_dir_all(&place).map_err(Error::io("create directory", &place))?;
        let beside =
            tempfile::Builder::new().prefix(&format!(".{}-", step.name)).tempdir_in(&place);
        let beside = beside.map_err(Error::io("create directory in", &place))?;
        let progress = self.progress;
        (step.make)(&Place { step, out: self.out, beside: beside.path(), progress })?;
        for output in &step.outputs {
            if !beside.path().join(output).is_file() {
                let what = format!("step {}", step.name);
                return Err(Error::input(what, format!("it has not written {output}")));
            }
        }
        // Between the first and the last of them nobody can tell which belong together.
        Record::forget(self.out, &step.name)?;
        let mut record = Record { of, ..Record::default() };
        fingerprint::kept(step, &mut record.of)?;
        for output in &step.outputs {
            let to = self.to(output)?;
            std::fs::rename(beside.path().join(output), &to)
                .map_err(Error::io("rename into", &to))?;
            record.made.insert(output.clone(), fingerprint::seen(&to, None)?);
        }
        record.took_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        record.write(self.out, &step.name)?;
        shown.done();
        Ok(())
    }

    /// Puts files in place of a step's outputs.
    fn supply(&self, step: &Step) -> Result<()> {
        Record::forget(self.out, &step.name)?;
        let mut record = Record { supplied: true, ..Record::default() };
        for output in &step.outputs {
            let Some(from) = self.supplied.get(output.as_str()) else { continue };
            let to = self.to(output)?;
            // the file itself may be named
            let is_same = from.canonicalize().ok() == to.canonicalize().ok() && to.exists();
            if !is_same {
                cache::copy_file(from, &to)?;
            }
            record.made.insert(output.clone(), fingerprint::seen(&to, None)?);
        }
        record.write(self.out, &step.name)
    }

    fn to(&self, output: &str) -> Result<PathBuf> {
        let path = self.out.join(output);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        Ok(path)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn write(path: PathBuf, text: impl AsRef<[u8]>) -> Result<()> {
        std::fs::write(&path, text).map_err(Error::io("write", &path))
    }

    fn joined(place: &Place<'_>, parts: &[(&str, &str)], output: &str) -> Result<()> {
        let mut text = String::new();
        for (step, input) in parts {
            text += &std::fs::read_to_string(place.input(step, input)?).unwrap();
        }
        write(place.output(output)?, text)
    }

    /// `a` reads a file; `b` and `c` need it; `d` needs both.
    fn pipeline(source: &Path, version: &str) -> Pipeline {
        let mut pipeline = Pipeline::new();
        let file = source.to_owned();
        pipeline.add(
            Step::new("a", ["a"], move |place| {
                write(place.output("a")?, std::fs::read(&file).unwrap_or_default())
            })
            .reads(source),
        );
        pipeline.add(
            Step::new("b", ["sub/b"], |place| joined(place, &[("a", "a")], "sub/b")).needs("a"),
        );
        let text = version.to_owned();
        let make = move |place: &Place<'_>| write(place.output("c")?, &text);
        pipeline.add(Step::new("c", ["c"], make).needs("a").depends_on("version", version));
        let make = |place: &Place<'_>| joined(place, &[("b", "sub/b"), ("c", "c")], "d");
        pipeline.add(Step::new("d", ["d"], make).needs("b").needs("c"));
        pipeline
    }

    #[test]
    fn what_has_not_changed_is_left_out_and_why_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let (source, out) = (directory.path().join("source"), directory.path().join("out"));
        std::fs::write(&source, "one ").unwrap();
        let run = |version: &str, wanted: &[&str], options: &Options| {
            pipeline(&source, version).run(wanted, &out, options, &Progress::quiet())
        };
        let usual = Options::default();
        let first = run("1", &["d"], &usual).unwrap();
        assert_eq!(first.made().len(), 4);
        assert_eq!(std::fs::read_to_string(out.join("d")).unwrap(), "one 1");
        assert!(run("1", &["d"], &usual).unwrap().made().is_empty());

        let run2 = run("2", &["d"], &usual).unwrap();
        assert_eq!(run2.made(), ["c", "d"]);
        let why: Vec<String> =
            run2.done.iter().map(|done| format!("{}: {}", done.step, done.why)).collect();
        assert!(why.contains(&"c: ran: text version is another".into()), "{why:?}");
        assert!(why.contains(&"d: ran: c's c is another".into()), "{why:?}");

        // The same bytes again are no change, however new the file is.
        std::fs::write(&source, "one ").unwrap();
        assert!(run("2", &["d"], &usual).unwrap().made().is_empty());
        std::fs::write(&source, "two ").unwrap();
        assert_eq!(run("2", &["b"], &usual).unwrap().made(), ["a", "b"]);
        // `c` reads `a` as well, though what it makes of it is the same: `d` sees `b` alone
        assert_eq!(run("2", &["d"], &usual).unwrap().made(), ["c", "d"]);

        std::fs::write(out.join("sub/b"), "mine ").unwrap();
        let mended = run("2", &["d"], &usual).unwrap();
        assert_eq!(mended.made(), ["b"], "{mended}");
        std::fs::remove_file(out.join("c")).unwrap();
        assert_eq!(run("2", &["c"], &usual).unwrap().made(), ["c"]);
        let forced = Options { forced: true, ..Options::default() };
        assert_eq!(run("2", &["d"], &forced).unwrap().made(), ["d"]);
    }

    #[test]
    fn files_can_be_supplied_and_steps_run_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (source, out) = (directory.path().join("source"), directory.path().join("out"));
        std::fs::write(&source, "one ").unwrap();
        let given = directory.path().join("given");
        std::fs::write(&given, "given ").unwrap();
        let pipeline = pipeline(&source, "1");
        let run = |wanted: &[&str], options: &Options| {
            pipeline.run(wanted, &out, options, &Progress::quiet())
        };
        let mut options = Options { alone: true, ..Options::default() };
        let error = run(&["d"], &options).unwrap_err().to_string();
        assert!(error.contains("sub/b of b is not there, and b is not to run"), "{error}");
        options.supplied.insert("sub/b".into(), given.clone());
        options.supplied.insert("c".into(), given.clone());
        options.supplied.insert("a".into(), given);
        assert_eq!(run(&["d"], &options).unwrap().made(), ["d"]);
        assert_eq!(std::fs::read_to_string(out.join("d")).unwrap(), "given given ");
        // Without them the steps are what they were.
        assert_eq!(run(&["d"], &Options::default()).unwrap().made().len(), 4);
        let mut wrong = Options::default();
        wrong.supplied.insert("e".into(), directory.path().join("none"));
        let error = run(&["d"], &wrong).unwrap_err().to_string();
        assert!(
            error.contains("no step makes it") && error.contains("there is no file"),
            "{error}"
        );
    }

    #[test]
    fn a_step_that_fails_leaves_what_was_there_and_holds_only_what_needs_it() {
        let directory = tempfile::tempdir().unwrap();
        let ran = Arc::new(AtomicUsize::new(0));
        let fails = Arc::new(AtomicUsize::new(0));
        let mut pipeline = Pipeline::new();
        let (count, fail) = (Arc::clone(&ran), Arc::clone(&fails));
        pipeline.add(Step::new("a", ["a", "b"], move |place| {
            let number = count.fetch_add(1, Ordering::SeqCst);
            write(place.output("a")?, number.to_string())?;
            match fail.load(Ordering::SeqCst) {
                0 => write(place.output("b")?, "b"),
                1 => Ok(()),
                _ => write(place.output("c")?, "c"),
            }
        }));
        let make = |place: &Place<'_>| joined(place, &[("a", "a")], "z");
        pipeline.add(Step::new("z", ["z"], make).needs("a"));
        let run =
            |options: &Options| pipeline.run(&["z"], directory.path(), options, &Progress::quiet());
        run(&Options::default()).unwrap();
        std::fs::remove_file(directory.path().join("b")).unwrap();
        for (kind, expected) in
            [(1, "it has not written b"), (2, "it writes c, which it does not have")]
        {
            fails.store(kind, Ordering::SeqCst);
            let error = run(&Options::default()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            assert_eq!(std::fs::read_to_string(directory.path().join("a")).unwrap(), "0");
            assert_eq!(std::fs::read_to_string(directory.path().join("z")).unwrap(), "0");
        }
        fails.store(0, Ordering::SeqCst);
        assert_eq!(run(&Options::default()).unwrap().made(), ["a", "z"]);
        let left = std::fs::read_dir(directory.path().join(DIRECTORY)).unwrap().count();
        assert_eq!(left, 3, "only records and the lock are left");
    }

    /// `a` fails; `b` needs it, `c` does not; nobody can build here at the same time.
    #[test]
    fn after_a_failure_go_on_those_that_do_not_need_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut pipeline = Pipeline::new();
        let out = directory.path().to_owned();
        pipeline.add(Step::new("a", ["a"], move |place| {
            write(place.output("a")?, "half")?;
            // One processor or many: it has the lock, so this is refused before anything runs.
            let none = Pipeline::new();
            let error = none.run(&[], &out, &Options::default(), place.progress()).unwrap_err();
            Err(error)
        }));
        let b = Step::new("b", ["b"], |place| joined(place, &[("a", "a")], "b"));
        pipeline.add(b.needs("a"));
        let make = |place: &Place<'_>| {
            write(place.scratch()?.join("x"), "x")?;
            write(place.output("c")?, "c")
        };
        pipeline.add(Step::new("c", ["c"], make));
        let mut options = Options { jobs: Some(1), ..Options::default() };
        let run = |options: &Options| {
            pipeline.run(&["b", "c"], directory.path(), options, &Progress::quiet())
        };
        let Err(Error::Steps(failed)) = run(&options) else { panic!() };
        assert_eq!(failed.made(), ["c"]);
        assert!(!directory.path().join("a").exists());
        let text = Error::Steps(failed).to_string();
        assert!(text.contains("another build is at work here"), "{text}");
        assert!(text.ends_with("step b has not run: it needs a"), "{text}");
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 2, "the output of c and what is known of it");

        // By the name of the step; what it would need is not asked for either.
        let given = directory.path().join("given");
        write(given.clone(), "given").unwrap();
        options.supplied.insert("b".into(), given.clone());
        let run = run(&options).unwrap();
        assert!(run.made().is_empty());
        assert_eq!(std::fs::read_to_string(directory.path().join("b")).unwrap(), "given");
        let done: Vec<&str> = run.done.iter().map(|done| done.step.as_str()).collect();
        assert_eq!(done, ["b", "c"]);
        let picture = pipeline.picture("t", &["b", "c"], Some(&run)).unwrap();
        assert!(picture.contains("its outputs were supplied"), "{picture}");
        let json = run.to_json();
        assert_eq!(
            (&json["done"][0]["ran"], &json["failed"]),
            (&false.into(), &serde_json::json!([]))
        );
    }

    #[test]
    fn what_a_step_may_write_itself_is_no_reason_to_run_again() {
        let directory = tempfile::tempdir().unwrap();
        let lock = directory.path().join("the.lock");
        let pipeline = |version| {
            let mut pipeline = Pipeline::new();
            let path = lock.clone();
            let step = Step::new("a", ["a"], move |place| {
                write(path.clone(), "locked")?;
                write(place.output("a")?, "a")
            });
            pipeline.add(step.keeps(&lock).version(version));
            pipeline
        };
        let out = directory.path().join("out");
        let run = |version| {
            pipeline(version).run(&["a"], &out, &Options::default(), &Progress::quiet()).unwrap()
        };
        assert_eq!(run(1).made(), ["a"]);
        assert!(run(1).made().is_empty());
        std::fs::write(&lock, "by hand").unwrap();
        assert_eq!(run(1).made(), ["a"]);
        let other = run(2);
        assert_eq!(other.done[0].why.to_string(), "ran: text version is another");
    }
}
