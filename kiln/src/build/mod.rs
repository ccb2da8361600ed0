//! From a definition to images: everything that could be wrong is found first and told at once;
//! then the images are written.

mod base;
mod inputs;
pub mod packages;
mod plan;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kiln_diskimg::{Layout, Seed, container};
use kiln_initramfs::Compression;
use kiln_tree::Source;

pub use plan::{Plan, plan};
pub use tree::{NETWORK, SERVICES, is_elf};

use crate::definition::{Definition, Format};
use crate::disk::Boot;
use crate::manifest::{Artifact, Manifest};
use crate::quantity;
use crate::{Cache, Error, Progress, Result, cache, image};

/// How a definition is built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What is made; what the definition says when empty.
    pub formats: Vec<Format>,
    /// Files in place of the definition's inputs, by name.
    pub inputs: BTreeMap<String, PathBuf>,
    /// Nothing but what the lock says goes in; the lock is not changed.
    pub locked: bool,
    /// Nothing is fetched.
    pub offline: bool,
    /// The lock file, in place of the one beside the definition.
    pub lock: Option<PathBuf>,
    /// What the caller has found wrong already, to be told with everything else.
    pub found: Vec<String>,
    /// Where what can be made again is kept.
    pub cache: Cache,
    /// How the initramfs is compressed (the kernel must be able to read it).
    pub compression: Compression,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            formats: Vec::new(),
            inputs: BTreeMap::new(),
            locked: false,
            offline: false,
            lock: None,
            found: Vec::new(),
            cache: Cache::of_workspace(),
            compression: Compression::ZSTD,
        }
    }
}

impl Options {
    /// The lock file of a definition.
    #[must_use]
    pub fn lock_file(&self, definition: &Definition) -> PathBuf {
        self.lock.clone().unwrap_or_else(|| packages::lock_file(&definition.file))
    }

    /// What is made of a definition.
    #[must_use]
    pub fn formats(&self, definition: &Definition) -> Vec<Format> {
        let mut formats = self.formats.clone();
        if formats.is_empty() {
            formats.extend(definition.formats.iter().map(|format| format.value));
        }
        formats.sort_unstable();
        formats.dedup();
        formats
    }
}

/// What was built.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The manifest, as it was written.
    pub manifest: Manifest,
    /// Where.
    pub out: PathBuf,
    /// What would be better otherwise.
    pub advice: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// The first artifact that can be run.
    #[must_use]
    pub fn bootable(&self) -> Option<PathBuf> {
        let artifact = self.manifest.artifacts.iter().find(|artifact| artifact.kind != "kernel")?;
        Some(self.out.join(&artifact.path))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for artifact in &self.manifest.artifacts {
            let path = self.out.join(&artifact.path);
            writeln!(out, "{:>10}  {}", quantity::size(artifact.size), path.display())?;
        }
        writeln!(
            out,
            "built in {:.1} s: Linux {}, {} files (manifest.json says why each is there)",
            self.took.as_secs_f64(),
            self.manifest.kernel,
            self.manifest.files.len()
        )?;
        self.advice.iter().try_for_each(|advice| writeln!(out, "advice: {advice}"))
    }
}

/// Builds into a directory.
///
/// # Errors
/// Everything that is wrong with definition and inputs at once, before anything is written to the
/// directory; then what the host refuses.
pub fn build(
    definition: &Definition,
    options: &Options,
    out: &Path,
    progress: &Progress,
) -> Result<Report> {
    let started = Instant::now();
    let plan = plan(definition, options, progress)?;
    let step = progress.step("packing the files");
    let records = &plan.records;
    let initramfs: Arc<[u8]> =
        image::initramfs(&options.cache, &plan.tree, records, options.compression, progress)?
            .into();
    step.done();
    let mut manifest = plan.manifest.clone();
    let disk = match &plan.inputs.loader {
        Some(loader) => {
            let kernel = &plan.inputs.kernel.image;
            let len = std::fs::metadata(kernel).map_err(Error::io("stat", kernel))?.len();
            let kernel = Source::File { path: kernel.clone(), len };
            let name = definition.name.as_str();
            let line = &definition.kernel.command_line;
            let mut boot = Boot::new(name, kernel, Arc::clone(&initramfs), line, loader);
            boot.seed = Seed::new(definition.seed.as_deref().unwrap_or(name));
            Some(boot.layout(definition)?)
        }
        None => None,
    };
    std::fs::create_dir_all(out).map_err(Error::io("create directory", out))?;
    for format in options.formats(definition) {
        let made = artifact(definition, &plan, &initramfs, disk.as_ref(), format, out, progress)?;
        manifest.artifacts.extend(made);
    }
    manifest.write(out)?;
    let advice = plan.advice.clone();
    Ok(Report { manifest, out: out.to_path_buf(), advice, took: started.elapsed() })
}

fn artifact(
    definition: &Definition,
    plan: &Plan,
    initramfs: &[u8],
    disk: Option<&Layout>,
    format: Format,
    out: &Path,
    progress: &Progress,
) -> Result<Vec<Artifact>> {
    let name = format!("{}.{}", *definition.name, format.name());
    let container = match format {
        Format::Initramfs => {
            let kernel = &plan.inputs.kernel.image;
            let bytes = std::fs::read(kernel).map_err(Error::io("read", kernel))?;
            let kernel = format!("{}.vmlinuz", *definition.name);
            cache::write_file(&out.join(&name), initramfs)?;
            cache::write_file(&out.join(&kernel), &bytes)?;
            let initramfs = Artifact::of(out, &name, "initramfs")?;
            return Ok(vec![initramfs, Artifact::of(out, &kernel, "kernel")?]);
        }
        Format::Raw => container::Format::Raw,
        Format::Qcow2 => container::Format::Qcow2,
        Format::Vmdk => container::Format::Vmdk,
    };
    let step = progress.step(format!("writing the {container} disk"));
    let layout = disk.ok_or_else(|| Error::input(name.clone(), "the boot loader was not read"))?;
    container::write_file(container, layout, out.join(&name))?;
    let made = Artifact::of(out, &name, container.name())?;
    step.done();
    Ok(vec![made])
}
