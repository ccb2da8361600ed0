//! A configuration: merged by us, resolved by the source, compared with what was asked for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kiln_kconfig::{Declarations, DotConfig, MergeOptions, Merged, Provenance, dropped};

use super::make::{Make, Toolchain};
use super::{Base, Recipe, Unpacked, read_config, write};
use crate::{Cache, Error, Progress, Result, digest};

/// The architecture, as the folder below `arch/` is called.
const ARCH: &str = "x86";
/// What the resolved configuration is called in messages.
const RESULT: &str = "the resulting .config";

/// A configuration that is what was asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Configured {
    /// The source it is for.
    pub source: Unpacked,
    /// As the source resolved it.
    pub config: DotConfig,
    /// For each option that the base or a fragment sets, which line does.
    pub provenance: BTreeMap<String, Provenance>,
    /// What was dropped of the source's own fragments, and what the source warned of, each in a
    /// sentence.
    pub notes: Vec<String>,
    /// What it would be better with, each in a sentence.
    pub advice: Vec<String>,
}

/// Makes a recipe's configuration and checks it. Takes seconds, and less when nothing has changed.
///
/// # Errors
/// Those of [`Source::unpack`](super::Source::unpack); [`Error::MissingTool`];
/// [`Error::Plan`] with every malformed line of a fragment, every option that the source dropped
/// (who asked for it, what it became and why) and every requirement that is not met;
/// [`Error::Command`] when the source's `make` fails.
pub fn configure(cache: &Cache, recipe: &Recipe, progress: &Progress) -> Result<Configured> {
    let fragments: Vec<DotConfig> = recipe
        .fragments
        .iter()
        .map(|(name, text)| DotConfig::parse(text.as_bytes(), name.clone()))
        .collect();
    let malformed: Vec<String> = fragments
        .iter()
        .flat_map(|fragment| fragment.problems().iter().map(ToString::to_string))
        .collect();
    let source = recipe.source.unpack(cache, progress)?;
    let toolchain = Toolchain::find()?;

    let mut parts = vec![source.digest.as_bytes(), toolchain.identity.as_bytes()];
    let base = match &recipe.base {
        Base::AllNo => ["allnoconfig", "", ""],
        Base::Default => ["defconfig", "", ""],
        Base::File { name, text } => ["file", name.as_str(), text.as_str()],
    };
    parts.extend(base.map(str::as_bytes));
    parts.extend(recipe.tree_fragments.iter().map(String::as_bytes));
    parts.push(b"fragments");
    for (name, text) in &recipe.fragments {
        parts.extend([name.as_bytes(), text.as_bytes()]);
    }
    let key = digest::of_parts(parts);
    let name = format!("linux/config-{}", key.get(..16).unwrap_or(&key));
    let made = cache.get_or_make(name, |made| {
        let step = progress.step(format!("configuring Linux from {}", recipe.source));
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let outcome = resolve(&source, recipe, &fragments, made)?;
        let mut problems = malformed.clone();
        problems.extend(outcome.problems);
        if !problems.is_empty() {
            // What the requirements miss is often the same mistake, seen from the other side.
            problems.extend(unmet(recipe, &outcome.config).0);
            return Err(Error::Plan(problems));
        }
        write(&made.join("notes"), outcome.notes.join("\n").as_bytes())?;
        step.done();
        Ok(())
    })?;

    let config = read_config(&made.join("config"), RESULT)?;
    let (problems, advice) = unmet(recipe, &config);
    if !problems.is_empty() {
        return Err(Error::Plan(problems));
    }
    let merged = merge(&source, recipe, &fragments, &made.join("base"))?;
    let notes = made.join("notes");
    let notes = std::fs::read_to_string(&notes).map_err(Error::io("read", &notes))?;
    let notes = notes.lines().map(str::to_owned).collect();
    Ok(Configured { source, config, provenance: merged.provenance, notes, advice })
}

/// What the source made of a recipe.
struct Outcome {
    config: DotConfig,
    problems: Vec<String>,
    notes: Vec<String>,
}

fn resolve(
    source: &Unpacked,
    recipe: &Recipe,
    fragments: &[DotConfig],
    made: &Path,
) -> Result<Outcome> {
    let objects = made.with_file_name("objects");
    std::fs::create_dir(&objects).map_err(Error::io("create directory", &objects))?;
    let make = Make { source: &source.path, objects: &objects, jobs: recipe.jobs };
    let (config, base) = (objects.join(".config"), made.join("base"));
    match &recipe.base {
        Base::AllNo => drop(make.run(&["-s", "allnoconfig"], None)?),
        Base::Default => drop(make.run(&["-s", "defconfig"], None)?),
        Base::File { text, .. } => write(&config, text.as_bytes())?,
    }
    std::fs::copy(&config, &base).map_err(Error::io("copy", &config))?;
    let merged = merge(source, recipe, fragments, &base)?;
    write(&config, merged.config.as_bytes())?;
    let mut notes: Vec<String> = make
        .run(&["-s", "olddefconfig"], None)?
        .into_iter()
        // Members of a choice are set one by one; what became of each is compared below.
        .filter(|line| !line.contains("changes choice state"))
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let resolved = made.join("config");
    std::fs::copy(&config, &resolved).map_err(Error::io("copy", &config))?;
    let config = read_config(&resolved, RESULT)?;

    // The base is a point to start from; requests are what the fragments say.
    let nothing = DotConfig::parse(b"", "");
    let mut all = tree_fragments(source, recipe)?;
    let own: Vec<String> = all.iter().map(|fragment| fragment.origin().to_owned()).collect();
    all.extend(fragments.iter().cloned());
    let requested = kiln_kconfig::merge(&nothing, &all).config;
    let declarations = Declarations::read(&source.path, ARCH)?;
    let mut problems = Vec::new();
    for dropped in dropped(&requested, &config, &declarations) {
        if own.iter().any(|name| **name == *dropped.requested.site.file) {
            notes.push(dropped.to_string());
        } else {
            problems.push(dropped.to_string());
        }
    }
    Ok(Outcome { config, problems, notes })
}

/// The base with all fragments.
fn merge(
    source: &Unpacked,
    recipe: &Recipe,
    fragments: &[DotConfig],
    base: &Path,
) -> Result<Merged> {
    let name = match &recipe.base {
        Base::AllNo => "allnoconfig",
        Base::Default => "defconfig",
        Base::File { name, .. } => name,
    };
    let base = read_config(base, name)?;
    let mut all = tree_fragments(source, recipe)?;
    all.extend(fragments.iter().cloned());
    Ok(MergeOptions::default().merge(&base, &all))
}

/// The source's own fragments, where its `make NAME.config` looks for them: those for all
/// architectures, then ours.
fn tree_fragments(source: &Unpacked, recipe: &Recipe) -> Result<Vec<DotConfig>> {
    let mut found = Vec::new();
    for name in &recipe.tree_fragments {
        let places =
            [PathBuf::from("kernel/configs"), Path::new("arch").join(ARCH).join("configs")];
        let before = found.len();
        for place in places.map(|place| place.join(name)) {
            if source.path.join(&place).is_file() {
                found.push(read_config(&source.path.join(&place), &place.to_string_lossy())?);
            }
        }
        if found.len() == before {
            return Err(Error::input(
                source.path.display().to_string(),
                format!("there is no {name} in kernel/configs or arch/{ARCH}/configs"),
            ));
        }
    }
    Ok(found)
}

/// What of the requirements is not met, and what of the recommendations.
fn unmet(recipe: &Recipe, config: &DotConfig) -> (Vec<String>, Vec<String>) {
    let Some(requirements) = &recipe.requirements else { return Default::default() };
    let report = requirements.check(config);
    (
        report.missing().map(ToString::to_string).collect(),
        report.recommended().map(ToString::to_string).collect(),
    )
}
