//! Steps that make files of files: each runs alone, is left out while nothing that it reads has changed,
//! and runs beside the others that it has nothing to do with.
//!
//! A step says what it reads (outputs of other steps, files and directories of the host, texts) and which
//! files it writes below the output directory. What it was made of is kept beside them, in `.steps/NAME.json`,
//! so that the next run knows what has changed, and can say so.
//!
//! ```
//! use kiln::Progress;
//! use kiln::pipeline::{Options, Pipeline, Step};
//!
//! let mut pipeline = Pipeline::new();
//! pipeline.add(Step::new("greeting", ["greeting.txt"], |place| {
//!     Ok(std::fs::write(place.output("greeting.txt")?, "hello\n").expect("it can be written"))
//! }));
//! let shout = Step::new("shout", ["shout.txt"], |place| {
//!     let text = std::fs::read_to_string(place.input("greeting", "greeting.txt")?);
//!     let text = text.expect("it was made before").to_uppercase();
//!     Ok(std::fs::write(place.output("shout.txt")?, text).expect("it can be written"))
//! });
//! pipeline.add(shout.needs("greeting"));
//!
//! let out = tempfile::tempdir()?;
//! let run = pipeline.run(&["shout"], out.path(), &Options::default(), &Progress::quiet())?;
//! assert_eq!(run.made(), ["greeting", "shout"]);
//! let run = pipeline.run(&["shout"], out.path(), &Options::default(), &Progress::quiet())?;
//! assert!(run.made().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod definition;
mod fingerprint;
mod graph;
mod run;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use run::{Done, Failed, Held, Run, Why};

use crate::picture;
use crate::{Error, Progress, Result};

/// What a step does.
type Make = Arc<dyn Fn(&Place<'_>) -> Result<()> + Send + Sync>;

/// Something that is made.
#[derive(Clone)]
pub struct Step {
    name: String,
    about: String,
    needs: Vec<String>,
    files: Vec<PathBuf>,
    kept: Vec<PathBuf>,
    texts: BTreeMap<String, String>,
    outputs: Vec<String>,
    make: Make,
}

impl fmt::Debug for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, needs, outputs, .. } = self;
        out.debug_struct("Step")
            .field("name", name)
            .field("needs", needs)
            .field("outputs", outputs)
            .finish_non_exhaustive()
    }
}

impl Step {
    /// A step that writes these files, by `make`. Their names are relative to the output directory.
    pub fn new<S: Into<String>>(
        name: impl Into<String>,
        outputs: impl IntoIterator<Item = S>,
        make: impl Fn(&Place<'_>) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            about: String::new(),
            needs: Vec::new(),
            files: Vec::new(),
            kept: Vec::new(),
            texts: BTreeMap::new(),
            outputs: outputs.into_iter().map(Into::into).collect(),
            make: Arc::new(make),
        }
    }

    /// The same, which reads the outputs of another step.
    #[must_use]
    pub fn needs(mut self, step: impl Into<String>) -> Self {
        self.needs.push(step.into());
        self
    }

    /// The same, which reads a file or all of a directory of the host. One that is not there is as good
    /// as any other content.
    #[must_use]
    pub fn reads(mut self, path: impl Into<PathBuf>) -> Self {
        self.files.push(path.into());
        self
    }

    /// The same, which reads a file that it may write too, such as a lock: the step runs again when it is
    /// another than the step has left it.
    #[must_use]
    pub fn keeps(mut self, path: impl Into<PathBuf>) -> Self {
        self.kept.push(path.into());
        self
    }

    /// The same, by another way to make it than before: what another version has made is made again.
    #[must_use]
    pub fn version(self, version: u32) -> Self {
        self.depends_on("version", version.to_string())
    }

    /// The same, which depends on a text: an option, a version.
    #[must_use]
    pub fn depends_on(mut self, what: impl Into<String>, text: impl Into<String>) -> Self {
        self.texts.insert(what.into(), text.into());
        self
    }

    /// The same, with what it does, in words.
    #[must_use]
    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = about.into();
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does, in words.
    #[must_use]
    pub fn what(&self) -> &str {
        &self.about
    }

    /// The steps whose outputs it reads.
    #[must_use]
    pub fn needed(&self) -> &[String] {
        &self.needs
    }

    /// What it writes.
    #[must_use]
    pub fn outputs(&self) -> &[String] {
        &self.outputs
    }
}

/// Where a step finds what it reads, and puts what it writes.
#[derive(Debug)]
pub struct Place<'run> {
    step: &'run Step,
    out: &'run Path,
    /// What is written goes here first.
    beside: &'run Path,
    progress: &'run Progress,
}

impl Place<'_> {
    /// An output of a step that this one needs.
    ///
    /// # Errors
    /// [`Error::Input`] for one that it does not need: a change of it would go unseen.
    pub fn input(&self, step: &str, output: &str) -> Result<PathBuf> {
        if self.step.needs.iter().any(|need| need == step) {
            return Ok(self.out.join(output));
        }
        let what = format!("step {}", self.step.name);
        Err(Error::input(what, format!("it reads {output} of {step}, which it does not need")))
    }

    /// Where an output is written. It is renamed into its place when the step is done.
    ///
    /// # Errors
    /// [`Error::Input`] for one that it does not have; [`Error::Io`].
    pub fn output(&self, name: &str) -> Result<PathBuf> {
        if !self.step.outputs.iter().any(|output| output == name) {
            let what = format!("step {}", self.step.name);
            return Err(Error::input(what, format!("it writes {name}, which it does not have")));
        }
        let path = self.beside.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(Error::io("create directory", parent))?;
        }
        Ok(path)
    }

    /// An empty directory for what else the step writes. It is gone when the step has ended.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn scratch(&self) -> Result<PathBuf> {
        let path = self.beside.join(fingerprint::DIRECTORY);
        std::fs::create_dir_all(&path).map_err(Error::io("create directory", &path))?;
        Ok(path)
    }

    /// Where the step says what it does.
    #[must_use]
    pub fn progress(&self) -> &Progress {
        self.progress
    }
}

/// How steps are run.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// Files in place of the outputs of a step, which does not run: by name of the output, or of the step
    /// where that has one output alone.
    pub supplied: BTreeMap<String, PathBuf>,
    /// How many run at once. Default: as many as there are processors.
    pub jobs: Option<usize>,
    /// Only the steps that are named: what they need has to be there. Default: no.
    pub alone: bool,
    /// Run what is named even where nothing has changed. Default: no.
    pub forced: bool,
}

/// Steps that need each other.
#[derive(Debug, Clone, Default)]
pub struct Pipeline {
    steps: Vec<Step>,
}

impl Pipeline {
    /// No steps.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more step.
    pub fn add(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// The steps, as they were added.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The steps that these need, with them, as a [picture](crate::picture::graph); with what a run did
    /// about each.
    ///
    /// # Errors
    /// As [`Pipeline::order`].
    pub fn picture(&self, title: &str, wanted: &[&str], run: Option<&Run>) -> Result<String> {
        let boxes = self.order(wanted)?.into_iter().map(|step| {
            let done = run.and_then(|run| run.done.iter().find(|done| done.step == step.name));
            picture::Node {
                name: step.name.clone(),
                below: step.outputs.clone(),
                about: match done {
                    Some(done) => format!("{}\n{}", step.about, done.why),
                    None => step.about.clone(),
                },
                from: step.needs.clone(),
                emphasised: done.is_some_and(|done| done.why.ran()),
            }
        });
        Ok(picture::graph(title, &boxes.collect::<Vec<_>>()))
    }
}
