//! From a definition to images: everything that could be wrong is found first and told at once;
//! then the images are written.

mod base;
mod bootable;
mod container;
pub(crate) mod inputs;
pub mod packages;
mod plan;
mod ramroot;
mod stage;
mod tree;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bootable::Bootable;
use kiln_initramfs::Compression;

pub use plan::{Plan, plan};
pub use tree::{NETWORK, SERVICES, is_elf};

use crate::definition::{Definition, Firmware, Format, KernelSource, SecureBoot};
use crate::disk::Stored;
use crate::manifest::{Artifact, Manifest};
use crate::quantity;
use crate::{Cache, Error, Progress, Result, archive, cache, image};

/// How a definition is built.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// What is made; what the definition says when empty.
    pub formats: Vec<Format>,
    /// Files in place of the definition's inputs, by name.
    pub inputs: BTreeMap<String, PathBuf>,
    /// A Debian package (.deb) in place of that of the definition's kernel.
    pub kernel: Option<PathBuf>,
    /// An archive (tar, tar.gz) of the tree that a container image begins with, in place of its base.
    pub base: Option<PathBuf>,
    /// An initramfs in place of the one that would be made. See [`boot()`].
    pub(crate) initramfs: Option<PathBuf>,
    /// Nothing but what the lock says goes in; the lock is not changed.
    pub locked: bool,
    /// Nothing is fetched.
    pub offline: bool,
    /// The lock file, in place of the one beside the definition.
    pub lock: Option<PathBuf>,
    /// What starts disks; what the definition says when empty.
    pub firmware: Vec<Firmware>,
    /// What UEFI verifies, in place of what the definition says.
    pub secure_boot: Option<SecureBoot>,
    /// The key (Ed25519, PEM) that roots which are fetched at boot are signed with, and that initramfs believe.
    pub key: Option<PathBuf>,
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
            kernel: None,
            base: None,
            initramfs: None,
            locked: false,
            offline: false,
            lock: None,
            firmware: Vec::new(),
            secure_boot: None,
            key: None,
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

    /// What starts the disks of a definition.
    #[must_use]
    pub fn firmware(&self, definition: &Definition) -> Vec<Firmware> {
        let mut firmware = self.firmware.clone();
        if firmware.is_empty() {
            firmware.extend(definition.disk.firmware.iter().map(|firmware| firmware.value));
        }
        // A BIOS verifies nothing.
        let keys = matches!(self.secure_boot(definition), Some(SecureBoot::Keys(_)));
        if firmware.is_empty() {
            firmware.extend(Firmware::ALL.into_iter().filter(|it| !keys || *it == Firmware::Uefi));
        }
        firmware
    }

    /// What UEFI verifies.
    #[must_use]
    pub fn secure_boot(&self, definition: &Definition) -> Option<SecureBoot> {
        let of_definition = || match &definition.disk.secure_boot.as_ref()?.value {
            SecureBoot::Keys(path) => Some(SecureBoot::Keys(definition.host_path(path))),
            SecureBoot::Shim => Some(SecureBoot::Shim),
        };
        self.secure_boot.clone().or_else(of_definition)
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
        Some(self.out.join(&self.manifest.bootable()?.path))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for artifact in &self.manifest.artifacts {
            let path = self.out.join(&artifact.path);
            writeln!(out, "{:>10}  {}", quantity::size(artifact.size), path.display())?;
        }
        write!(out, "built in {:.1} s: ", self.took.as_secs_f64())?;
        if let Some(kernel) = &self.manifest.kernel {
            write!(out, "Linux {kernel}, ")?;
        }
        let files = self.manifest.files.len();
        writeln!(out, "{files} files (manifest.json says why each is there)")?;
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
    let formats = options.formats(definition);
    let boot = match (&definition.kernel, &plan.inputs.kernel) {
        (Some(wanted), Some(kernel)) if formats.iter().any(|format| !format.is_archive()) => {
            Some(Bootable::new(definition, options, wanted, kernel, &plan, progress)?)
        }
        _ => None,
    };
    std::fs::create_dir_all(out).map_err(Error::io("create directory", out))?;
    let mut manifest = plan.manifest.clone();
    for format in formats {
        let name = format.file_name(&definition.name);
        let step = progress.step(format!("writing {name}"));
        let path = out.join(&name);
        match (&boot, format.is_archive()) {
            (_, true) if format.is_container() => {
                container::write(definition, options, &plan, format, &path, progress)?;
            }
            (_, true) if format.root().is_some() => {
                ramroot::write(definition, options, &plan, format, &path, progress)?;
            }
            (_, true) => write_archive(&plan, &options.cache, format, &path)?,
            (Some(boot), false) => boot.write(format, &path)?,
            (None, false) => return Err(Error::input(name, "there is no kernel")),
        }
        manifest.artifacts.push(Artifact::of(out, &name, format.name())?);
        if let (Format::Initramfs, Some(boot)) = (format, &boot) {
            let kernel = format!("{}.vmlinuz", *definition.name);
            cache::copy_file(&boot.kernel.image, &out.join(&kernel))?;
            manifest.artifacts.push(Artifact::of(out, &kernel, "kernel")?);
            if let Some(text) = boot.release() {
                let release = format!("{}.release", *definition.name);
                cache::write_file(&out.join(&release), text.as_bytes())?;
                manifest.artifacts.push(Artifact::of(out, &release, "release")?);
            }
        }
        if let (Format::Netboot, Some(boot)) = (format, &boot) {
            let kernel = ramroot::kernel_name(&definition.name);
            cache::copy_file(&boot.kernel.image, &out.join(&kernel))?;
            manifest.artifacts.push(Artifact::of(out, &kernel, "kernel")?);
            let script = format!("{}.ipxe", *definition.name);
            let text = ramroot::script(definition, &options.formats(definition))?;
            cache::write_file(&out.join(&script), text.as_bytes())?;
            manifest.artifacts.push(Artifact::of(out, &script, "ipxe")?);
        }
        if format.root().is_some() {
            let list = kiln_ramroot::list_beside(&name);
            manifest.artifacts.push(Artifact::of(out, &list, "chunks")?);
        }
        if format == Format::RawZst {
            let map = bootable::map_beside(Path::new(&name));
            manifest.artifacts.push(Artifact::of(out, &map.to_string_lossy(), "bmap")?);
        }
        step.done();
    }
    manifest.write(out)?;
    let advice = plan.advice.clone();
    Ok(Report { manifest, out: out.to_path_buf(), advice, took: started.elapsed() })
}

/// Builds what boots a kernel and an initramfs that were made before: disks, programs for UEFI. Of the
/// definition counts what it says of these: name, command line, disk.
///
/// # Errors
/// As [`build()`]; for a disk with the root on it, which is not in an initramfs.
pub fn boot(
    definition: &Definition,
    (kernel, initramfs): (&Path, &Path),
    options: &Options,
    out: &Path,
    progress: &Progress,
) -> Result<Report> {
    let has_root = definition.root().is_some();
    let mut definition = definition.clone();
    // Nothing is asked of what is there already.
    let config = tempfile::NamedTempFile::new();
    let config = config.map_err(Error::io("create a file in", &std::env::temp_dir()))?;
    let refused = match &mut definition.kernel {
        None => Some("it has no kernel"),
        Some(_) if has_root => Some("its root is on the disk, and not in an initramfs"),
        Some(wanted) => {
            let (image, config) = (kernel.to_path_buf(), Some(config.path().to_path_buf()));
            wanted.source.value = KernelSource::Files { image, modules: None, config };
            wanted.requirements.clear();
            wanted.modules.clear();
            None
        }
    };
    if let Some(text) = refused {
        return Err(Error::input(definition.file.display().to_string(), text));
    }
    // What is in the initramfs is there.
    definition.inputs.clear();
    definition.files.clear();
    definition.services.clear();
    (definition.init, definition.network) = (None, None);
    let mut options = options.clone();
    options.initramfs = Some(initramfs.to_path_buf());
    build(&definition, &options, out, progress)
}

/// Stores a disk that was made before in another format. `files` is the name of a partition and a
/// directory that takes the place of what is in it.
///
/// # Errors
/// [`Error::Input`] for what is no format of disks, or without such a partition; those of
/// `kiln_diskimg`.
pub fn convert(
    definition: &Definition,
    disk: &Path,
    files: Option<(&str, &Path)>,
    format: Format,
    options: &Options,
    path: &Path,
) -> Result<()> {
    let mut stored = Stored::open(disk)?;
    if let Some((partition, directory)) = files {
        stored.replace(definition, partition, directory)?;
    }
    let mut written = kiln_diskimg::container::Options::default();
    written.seed = definition.seed();
    let machine = bootable::machine(definition, &options.firmware(definition));
    bootable::write_disk(&stored, &machine, format, &written, path)
}

/// Writes the tree as an archive, by way of the cache.
fn write_archive(plan: &Plan, cache: &Cache, format: Format, path: &Path) -> Result<()> {
    let compression = match format {
        Format::TarGz => Compression::GZIP,
        Format::TarZst => Compression::ZSTD,
        _ => Compression::None,
    };
    // What is not compressed is made as quickly as it would be copied.
    if compression == Compression::None {
        return archive::write_file(&plan.tree, compression, path).map(drop);
    }
    let key = image::key(&plan.tree, &plan.records, compression);
    let kept = cache.get_or_make(format!("archive/{key}.{}", format.name()), |made| {
        archive::write_file(&plan.tree, compression, made).map(drop)
    })?;
    cache::copy_file(&kept, path)
}
