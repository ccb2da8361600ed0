//! The build of NomadOS: its definition file, `image.toml`, with what the command line says
//! differently, and what is known about Nomad's configuration alone.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kiln::build::{self, Report};
use kiln::definition::{
    Content, Definition, FileEntry, Firmware, Format, InitSource, KernelSource, Placed, SecureBoot,
};
use kiln::{Cache, Error, Progress};
use kiln_initramfs::Compression;
use kiln_kconfig::Requirements;

use crate::config;
use crate::linux::FRAGMENTS;

/// What the definition asks of kernels for machines without virtio.
const OTHER_MACHINES: &str = "etc/machine-requirements.toml";
/// Where the image has Nomad's configuration.
const CONFIG: &str = "/etc/nomad/init.json";
/// The word of the kernel's command line that brings a shell on the console.
const DEV: &str = "nomados.dev";

/// What to build, and of what.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The definition.
    pub definition: PathBuf,
    /// Where the images go.
    pub out: PathBuf,
    /// What is made; what the definition says when empty.
    pub formats: Vec<Format>,
    /// Nomad; found or built without.
    pub nomad: Option<PathBuf>,
    /// What starts disks; what the definition says when empty.
    pub firmware: Vec<Firmware>,
    /// What UEFI verifies; what the definition says without.
    pub secure_boot: Option<SecureBoot>,
    /// The kernel; the definition's without.
    pub kernel: Option<KernelSource>,
    /// Whether drivers for machines without virtio may be missing.
    pub virtio_only: bool,
    /// Nomad's configuration; ours without.
    pub config: Option<PathBuf>,
    /// Files of the host and their paths in the image.
    pub add: Vec<(PathBuf, String)>,
    /// Whether the configuration may hold secrets.
    pub allow_secrets: bool,
    /// Whether there is a shell on the console.
    pub dev: bool,
    /// The program that becomes `/init`; built without.
    pub init: Option<PathBuf>,
    /// A `svc` in place of the one that is built.
    pub svc: Option<PathBuf>,
    /// Nothing but what the lock says goes in.
    pub locked: bool,
    /// Nothing is fetched.
    pub offline: bool,
    /// How the initramfs is compressed (the kernel must be able to read it).
    pub compression: Compression,
    /// Where what can be made again is kept.
    pub cache: Cache,
}

impl Options {
    /// What the definition says, with everything got or built.
    #[must_use]
    pub fn new(out: impl Into<PathBuf>) -> Self {
        Self {
            definition: Path::new(env!("CARGO_MANIFEST_DIR")).join("image.toml"),
            out: out.into(),
            formats: Vec::new(),
            nomad: None,
            firmware: Vec::new(),
            secure_boot: None,
            kernel: None,
            virtio_only: false,
            config: None,
            add: Vec::new(),
            allow_secrets: false,
            dev: false,
            init: None,
            svc: None,
            locked: false,
            offline: false,
            compression: Compression::ZSTD,
            cache: Cache::of_workspace(),
        }
    }

    /// The definition with what these options say differently.
    ///
    /// # Errors
    /// What is wrong with the definition; a file that is not there.
    pub fn definition(&self) -> Result<Definition> {
        let mut definition = Definition::read(&self.definition)?;
        let kernel = definition.kernel.as_mut().context("the definition has no [kernel]")?;
        if let Some(source) = &self.kernel {
            kernel.source = Placed::nowhere(absolute(source)?);
            let from_source = matches!(source, KernelSource::Source(_) | KernelSource::Tree(_));
            kernel.fragments = match from_source {
                true => FRAGMENTS
                    .map(|(name, _)| Placed::nowhere(Path::new("etc/linux").join(name)))
                    .to_vec(),
                false => Vec::new(),
            };
        }
        if self.virtio_only {
            let others = Path::new(OTHER_MACHINES);
            kernel.requirements.retain(|path| path.value != others);
        }
        if self.dev {
            kernel.command_line += " ";
            kernel.command_line += DEV;
        }
        if let Some(file) = &self.init {
            let init = definition.init.as_mut().context("the definition has no [init]")?;
            init.source = Placed::nowhere(InitSource::File(std::path::absolute(file)?));
        }
        if let Some(config) = &self.config {
            let path = std::path::absolute(config)?;
            let entry = definition.files.iter_mut().find(|entry| has(entry, CONFIG));
            let entry = entry.with_context(|| format!("the definition has no {CONFIG}"))?;
            entry.content = Placed::nowhere(Content::File(path));
        }
        for (file, path) in &self.add {
            let found = std::fs::metadata(file)
                .with_context(|| format!("--add: read {}", file.display()))?;
            let from = std::path::absolute(file)?;
            let content = if found.is_dir() { Content::Tree(from) } else { Content::File(from) };
            let path = format!("/{}", path.trim_start_matches('/'));
            definition.files.push(FileEntry::new(path, content, "asked for with --add"));
        }
        Ok(definition)
    }
}

fn has(entry: &FileEntry, path: &str) -> bool {
    entry.paths.iter().any(|found| found.value == path)
}

/// Relative paths of a command line begin where it was given, not where the definition is.
fn absolute(kernel: &KernelSource) -> Result<KernelSource> {
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).with_context(|| format!("find {}", path.display()))
    };
    Ok(match kernel {
        KernelSource::Tree(path) => KernelSource::Tree(absolute(path)?),
        KernelSource::Files { image, modules, config } => KernelSource::Files {
            image: absolute(image)?,
            modules: modules.as_ref().map(absolute).transpose()?,
            config: config.as_ref().map(absolute).transpose()?,
        },
        other => other.clone(),
    })
}

/// Builds.
///
/// # Errors
/// Everything that is wrong with the inputs at once, before anything is written to the output
/// directory; then what the host refuses.
pub fn build(options: &Options, progress: &Progress) -> Result<Report> {
    let definition = options.definition()?;
    let mut how = build::Options::default();
    how.found = check_config(options, &definition)?;
    how.formats.clone_from(&options.formats);
    how.firmware.clone_from(&options.firmware);
    how.secure_boot.clone_from(&options.secure_boot);
    if let Some(nomad) = &options.nomad {
        if !build::is_elf(nomad).with_context(|| format!("--nomad: read {}", nomad.display()))? {
            how.found.push(format!("--nomad {}: it is no program (no ELF file)", nomad.display()));
        }
        how.inputs.insert("nomad".into(), nomad.clone());
    }
    how.inputs.extend(options.svc.iter().map(|svc| ("svc".into(), svc.clone())));
    // A kernel of the user's choice is no part of what the definition's lock answers.
    if matches!(options.kernel, Some(KernelSource::Package(_) | KernelSource::Source(_))) {
        std::fs::create_dir_all(&options.out)
            .with_context(|| format!("create directory {}", options.out.display()))?;
        how.lock = Some(options.out.join("kiln.lock"));
    }
    how.locked = options.locked;
    how.offline = options.offline;
    how.compression = options.compression;
    how.cache = options.cache.clone();
    Ok(build::build(&definition, &how, &options.out, progress)?)
}

/// What Nomad itself would only say when it starts.
fn check_config(options: &Options, definition: &Definition) -> Result<Vec<String>> {
    let Some(entry) = definition.files.iter().find(|entry| has(entry, CONFIG)) else {
        return Ok(Vec::new());
    };
    let Content::File(path) = &entry.content.value else { return Ok(Vec::new()) };
    let path = definition.host_path(path);
    let text = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    let shown = options.config.as_ref().unwrap_or(&path).display().to_string();
    Ok(config::problems(&shown, &text, options.allow_secrets))
}

/// What NomadOS asks of a kernel.
///
/// # Errors
/// None: the file is part of this program, and a test reads it.
pub fn requirements() -> Result<Requirements> {
    let mut all = Requirements::new(Vec::new(), "etc/*-requirements.toml");
    for (name, text) in [
        ("etc/kernel-requirements.toml", include_str!("../etc/kernel-requirements.toml")),
        (OTHER_MACHINES, include_str!("../etc/machine-requirements.toml")),
    ] {
        all.extend(Requirements::parse(text, name).map_err(Error::from)?);
    }
    Ok(all)
}
