//! `kurma build`: the images of the system and what they are made of, step by step.
//!
//! What a step is and how steps are run is kiln's; what is made of what is here.

mod dist;
mod steps;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use kiln::pipeline::{Options, Pipeline, Run};
use kiln::{Error, Progress, Result, cache};

pub use steps::Choices;

/// What is called all of them.
const ALL: &str = "all";

/// What `kurma build` is told.
#[derive(Debug, Args)]
pub struct Build {
    /// Steps, or `all`; see --list
    #[arg(required_unless_present = "list")]
    steps: Vec<String>,
    /// Where everything goes; what is there is used again where nothing has changed
    #[arg(long, value_name = "DIR", required_unless_present_any = ["list", "graph"])]
    out: Option<PathBuf>,
    /// A file in place of what a step makes, which then does not run; may be repeated
    #[arg(long = "use", value_name = "STEP=FILE", value_parser = supplied)]
    supplied: Vec<(String, PathBuf)>,
    /// Says why each step ran or was left out
    #[arg(long)]
    explain: bool,
    /// Lists the steps
    #[arg(long)]
    list: bool,
    /// Draws the steps and what they need as SVG, without --out and nothing else
    #[arg(long, value_name = "FILE")]
    graph: Option<PathBuf>,
    /// How many steps run at once [default: as many as there are processors]
    #[arg(long, short, value_name = "N")]
    jobs: Option<usize>,
    /// Only these steps: what they need has to be there
    #[arg(long)]
    alone: bool,
    /// Runs these steps even where nothing has changed
    #[arg(long)]
    force: bool,
    /// The key of those who make the system (Ed25519, PEM): the system takes no other's versions, and `dist` is
    /// signed with it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Makes the key where there is none
    #[arg(long, requires = "key")]
    new_key: bool,
    /// The version of the system, in place of the one that its definition says
    #[arg(long, value_name = "VERSION")]
    set_version: Option<String>,
    /// Fetches nothing
    #[arg(long)]
    offline: bool,
}

fn supplied(text: &str) -> Result<(String, PathBuf), String> {
    let (step, path) = text.split_once('=').ok_or("give it as STEP=FILE")?;
    Ok((step.to_owned(), path.into()))
}

impl Build {
    /// Does it.
    ///
    /// # Errors
    /// What a step says, or what speaks against the steps.
    pub fn run(&self, json: bool) -> Result<()> {
        if let (Some(key), true) = (&self.key, self.new_key)
            && !key.exists()
        {
            kiln::sign::Key::make(key)?;
        }
        let pipeline = self.pipeline()?;
        if self.list {
            return print(&listed(&pipeline, json));
        }
        let wanted: Vec<&str> = match self.steps.iter().any(|step| step == ALL) {
            // Without a key there is nothing to sign with.
            true => pipeline
                .steps()
                .iter()
                .map(|step| step.name())
                .filter(|name| self.key.is_some() || *name != dist::STEP)
                .collect(),
            false => self.steps.iter().map(String::as_str).collect(),
        };
        let done = self.out.as_ref().map(|out| self.steps(&pipeline, &wanted, out, json));
        if let Some(path) = &self.graph {
            let run = match &done {
                Some(Ok(run)) => Some(run),
                Some(Err(Error::Steps(run))) => Some(run.as_ref()),
                _ => None,
            };
            let picture = pipeline.picture("How Kurma is built", &wanted, run)?;
            cache::write_file(path, picture.as_bytes())?;
        }
        let run = match done {
            None => return Ok(()),
            Some(Err(Error::Steps(run))) => {
                self.tell(&run, json)?;
                return Err(Error::Steps(run));
            }
            Some(done) => done?,
        };
        self.tell(&run, json)
    }

    fn steps(&self, pipeline: &Pipeline, wanted: &[&str], out: &Path, json: bool) -> Result<Run> {
        let progress = if json { Progress::quiet() } else { Progress::on_stderr() };
        let mut options = Options::default();
        options.supplied = self.supplied.iter().cloned().collect();
        (options.jobs, options.alone, options.forced) = (self.jobs, self.alone, self.force);
        pipeline.run(wanted, out, &options, &progress)
    }

    fn tell(&self, run: &Run, json: bool) -> Result<()> {
        if json {
            return print(&format!("{:#}\n", run.to_json()));
        }
        if self.explain {
            return print(&format!("{run}\n"));
        }
        let made = run.made();
        let made = if made.is_empty() { "nothing has changed".to_owned() } else { made.join(", ") };
        print(&format!("{made} ({:.1} s)\n", run.took.as_secs_f64()))
    }

    fn pipeline(&self) -> Result<Pipeline> {
        pipeline(&Choices {
            offline: self.offline,
            key: self.key.clone(),
            version: self.set_version.clone(),
        })
    }
}

/// The steps, for who runs them.
///
/// # Errors
/// [`Error::Input`] for a key that is none.
pub fn pipeline(choices: &Choices) -> Result<Pipeline> {
    let mut pipeline = steps::pipeline(choices)?;
    dist::add(&mut pipeline, choices.key.as_deref())?;
    Ok(pipeline)
}

/// The steps, one in a line.
fn listed(pipeline: &Pipeline, json: bool) -> String {
    if json {
        let steps = pipeline.steps().iter().map(|step| {
            serde_json::json!({
                "step": step.name(), "about": step.what(),
                "makes": step.outputs(), "needs": step.needed(),
            })
        });
        return format!("{:#}\n", steps.collect::<serde_json::Value>());
    }
    let mut text = String::new();
    for step in pipeline.steps() {
        let makes = match step.outputs() {
            [one] => one.clone(),
            more => format!("{} files", more.len()),
        };
        text += &format!("{:12} {makes:34} {}\n", step.name(), step.what());
    }
    text
}

/// A reader that has seen enough is no error.
fn print(text: &str) -> Result<()> {
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
