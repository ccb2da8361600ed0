//! Every test with its own set-up, quick checks first; what CI runs.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Purpose};
use crate::{deps, program};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Leave out the tests that boot images
    #[arg(long)]
    no_boot: bool,
}

#[derive(clap::Args)]
pub(crate) struct E2eArguments {
    /// Names of files in e2e/tests, without `.rs` (all without)
    names: Vec<String>,
}

/// What test programs said about themselves.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: BTreeSet<String>,
    /// Commands that failed, whatever they printed.
    broken: Vec<String>,
    /// What failed tests said, to be read again at the end.
    failures: Vec<String>,
    /// Whether the lines that are read now are of those.
    in_failures: bool,
}

/// More lines of failed tests than this are not shown again.
const FAILURE_LINES: usize = 400;

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let mut tally = Tally::default();
    tally.step("format", program::cargo_of_tests().args(["fmt", "--all", "--check"]));
    tally.check("independence", deps::check());
    tally.step(
        "lints",
        program::cargo_of_tests().args([
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ]),
    );
    for package in packages_with_features()? {
        // Each crate also stands without its features and with the default ones.
        for features in [&["--no-default-features"][..], &[]] {
            let mut check = program::cargo_of_tests();
            check.args(["check", "--quiet", "--locked", "--package", &package]).args(features);
            tally.step(&format!("{package} {}", features.join(" ")), &mut check);
        }
    }
    tally.step(
        "documentation",
        program::cargo_of_tests()
            .args(["doc", "--quiet", "--locked", "--workspace", "--no-deps", "--all-features"])
            .env("RUSTDOCFLAGS", "-D warnings"),
    );
    tally.tests(
        "tests",
        program::cargo_of_tests().args([
            "test",
            "--locked",
            "--workspace",
            "--exclude",
            "kiln-e2e",
            "--all-features",
            "--no-fail-fast",
            "--",
            "--show-output",
        ]),
    )?;
    if !arguments.no_boot {
        boots(&mut tally, &[])?;
    }
    tally.close()
}

pub(crate) fn e2e(arguments: &E2eArguments) -> Result<()> {
    setup::ensure(Purpose::Test)?;
    let known = files_of_e2e()?;
    if let Some(name) = arguments.names.iter().find(|name| !known.contains(name)) {
        bail!("there is no e2e/tests/{name}.rs; there are {}", known.join(", "));
    }
    let mut tally = Tally::default();
    boots(&mut tally, &arguments.names)?;
    tally.close()
}

/// The names in e2e/tests.
fn files_of_e2e() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in
        std::fs::read_dir(program::workspace().join("e2e/tests")).context("read e2e/tests")?
    {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names
            .extend(name.strip_suffix(".rs").filter(|name| *name != "main").map(ToOwned::to_owned));
    }
    names.sort();
    Ok(names)
}

fn boots(tally: &mut Tally, names: &[String]) -> Result<()> {
    let mut tests = program::cargo_of_tests();
    // As the other tests are compiled, which has most of it compiled; what runs in guests is compiled apart.
    tests.args(["test", "--locked", "--package", "kiln-e2e", "--no-fail-fast"]);
    // One machine at a time: two guests on two processors only make both late.
    tests.args(["--", "--test-threads=1", "--show-output"]);
    for name in names {
        tests.arg(format!("{name}::"));
    }
    tally.tests("boots", &mut tests)
}

/// The packages in crates/.
fn packages_with_features() -> Result<Vec<String>> {
    let directory = program::workspace().join("crates");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).context("read crates/")? {
        names.push(format!("kiln-{}", entry?.file_name().to_string_lossy()));
    }
    names.sort();
    Ok(names)
}

impl Tally {
    fn check(&mut self, name: &str, done: Result<()>) {
        if let Err(error) = done {
            eprintln!("FAILED: {name}: {error:#}");
            self.broken.push(name.into());
        }
    }

    fn step(&mut self, name: &str, command: &mut Command) {
        let started = Instant::now();
        println!("== {name}");
        let done = program::run(command);
        println!("   {:.1} s", started.elapsed().as_secs_f64());
        self.check(name, done);
    }

    /// Runs test programs, shows what they print and counts what they say.
    fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let started = Instant::now();
        println!("== {name}: {}", program::describe(command));
        let mut child = command
            .env("INSTA_UPDATE", "no")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {}", program::describe(command)))?;
        let output = child.stdout.take().context("the tests' output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("read the tests' output")?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            self.read(&line);
        }
        let status = child.wait().context("wait for the tests")?;
        println!("   {name}: {:.1} s", started.elapsed().as_secs_f64());
        if !status.success() {
            self.broken.push(name.into());
        }
        Ok(())
    }

    fn read(&mut self, line: &str) {
        if let Some(what) = line.trim().strip_prefix("skipped: ") {
            self.skipped.insert(what.into());
        }
        match line {
            "failures:" => self.in_failures = true,
            _ if line.starts_with("test result: ") => self.in_failures = false,
            _ => {}
        }
        let failed = line.starts_with("test ") && line.ends_with("FAILED");
        if (failed || self.in_failures) && self.failures.len() < FAILURE_LINES {
            self.failures.push(line.into());
        }
        // test result: ok. 7 passed; 0 failed; 0 ignored; …
        if let Some(rest) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                rest.split(['.', ';'])
                    .find_map(|part| part.trim().strip_suffix(what)?.trim().parse::<u64>().ok())
                    .unwrap_or(0)
            };
            self.passed += count(" passed");
            self.failed += count(" failed");
        }
    }

    fn close(self) -> Result<()> {
        if !self.failures.is_empty() {
            println!("== what failed");
            self.failures.iter().for_each(|line| println!("{line}"));
        }
        for what in &self.skipped {
            println!("skipped: {what}");
        }
        let failed = self.failed.max(u64::from(!self.broken.is_empty()));
        let line = format!("{} passed, {failed} failed", self.passed);
        if self.skipped.is_empty() {
            println!("{line}");
        } else {
            println!("{line}, {} skipped", self.skipped.len());
        }
        if !self.broken.is_empty() {
            bail!("failed: {}", self.broken.join(", "));
        }
        if self.passed == 0 {
            bail!("no test ran");
        }
        if !self.skipped.is_empty() && std::env::var_os("CI").is_some() {
            bail!("a test was skipped, which CI does not allow");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_skips_are_counted() {
        let mut tally = Tally::default();
        tally.read("test result: ok. 7 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out");
        tally.read("skipped: sgdisk");
        tally.read("skipped: sgdisk");
        assert_eq!((tally.passed, tally.failed, tally.skipped.len()), (7, 2, 1));
    }

    #[test]
    fn what_failed_tests_said_is_kept() {
        let mut tally = Tally::default();
        let lines = "test a ... ok\ntest b ... FAILED\n\nsuccesses:\n    a\n\nfailures:\n\n\
            ---- b stdout ----\nwhy\n\ntest result: FAILED. 1 passed; 1 failed\ntest c ... ok";
        lines.lines().for_each(|line| tally.read(line));
        let kept = ["test b ... FAILED", "failures:", "", "---- b stdout ----", "why", ""];
        assert_eq!(tally.failures, kept);
    }
}
