//! Our steps, as a user runs them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::bootstrap::run;
use crate::{Result, machine};

use super::Source;

/// The chain.
pub const STEPS: [&str; 3] = ["init", "disk", "virtualbox"];
/// Files that the chain is given, as KurmaOS' was: by the steps that make them.
const GIVEN: [(&str, &str); 6] = [
    ("cli", "kurma-cli-linux-amd64.tar.gz"),
    ("kernel", "kernel.deb"),
    ("console", "console.aci"),
    ("kurma-api", "kurma-api.aci"),
    ("ntp", "ntp.aci"),
    ("udev", "udev.aci"),
];

/// `kurma build` of a copy of the workspace.
#[derive(Debug)]
pub struct Ours {
    program: PathBuf,
    work: PathBuf,
}

impl Ours {
    /// Compiles everything, fetches all packages, and runs all steps of the chain and those that it needs.
    ///
    /// # Errors
    /// Those of the compiler and of the steps.
    pub fn new(source: &Source, work: &Path) -> Result<Self> {
        let ours = Self { program: source.kurma()?, work: work.to_owned() };
        ours.run(source, &ours.out(), &machine::cache(), &[])?;
        Ok(ours)
    }

    /// Where the steps have their outputs.
    #[must_use]
    pub fn out(&self) -> PathBuf {
        self.work.join("out")
    }

    fn cache(&self) -> PathBuf {
        self.work.join("cache")
    }

    fn fresh(&self) -> PathBuf {
        self.work.join("fresh")
    }

    /// Leaves nothing but packages in the cache, and nothing in the directory for outputs that
    /// [`Ours::alone`] and [`Ours::with_all`] use.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn forget(&self) -> Result<()> {
        for directory in [self.fresh(), self.cache()] {
            if directory.exists() {
                fs::remove_dir_all(directory)?;
            }
        }
        fs::create_dir_all(self.cache())?;
        let kept = machine::cache().join("debian");
        machine::run("cp", |it| it.args(["--archive", "--link"]).arg(kept).arg(self.cache()))
    }

    /// The chain where nothing is kept, given the outputs of the steps before it.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn alone(&self, source: &Source) -> Result<()> {
        let given = GIVEN.map(|(step, file)| format!("{step}={}", self.out().join(file).display()));
        self.run(source, &self.fresh(), &self.cache(), &given)
    }

    /// The chain and all that it needs, where nothing is kept.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn with_all(&self, source: &Source) -> Result<()> {
        self.run(source, &self.fresh(), &self.cache(), &[])
    }

    /// The chain where everything is kept.
    ///
    /// # Errors
    /// Those of the steps.
    pub fn again(&self, source: &Source) -> Result<()> {
        self.run(source, &self.out(), &self.cache(), &[])
    }

    fn run(&self, source: &Source, out: &Path, cache: &Path, given: &[String]) -> Result<()> {
        let mut command = source.command(&self.program);
        command.env("KILN_CACHE", cache).arg("build").args(STEPS).arg("--out").arg(out);
        for file in given {
            command.arg("--use").arg(file);
        }
        run(&mut command)
    }
}
