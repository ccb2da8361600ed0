//! What builds and runs the RancherOS-like system: what it is made of is in `image.toml`, `images/` and
//! `etc/`, what it does in `ros/`.

pub mod drive;
pub mod key;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use kiln::build::{self, Report};
use kiln::definition::{Definition, Format};
use kiln::{Progress, cache};

/// What the initramfs, its kernel and its release are called.
pub const NAME: &str = "rancheros";
/// The installer's image, as `docker load` reads it.
pub const INSTALLER: &str = "os.docker.tar";
/// Words of the command line of a machine whose disk becomes the one that is kept when nobody has written
/// to it.
pub const AUTOFORMAT: &str = "rancher.state.autoformat=[/dev/sda,/dev/vda]";

/// The definition of this workspace.
#[must_use]
pub fn definition_file() -> PathBuf {
    cache::workspace_root().join("examples/rancheros/image.toml")
}

/// What is built, and as what.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The artifacts; those of the definition when empty.
    pub formats: Vec<Format>,
    /// Whether the installer's image is made too. It needs the initramfs.
    pub installer: bool,
    /// Another version than the definition's.
    pub version: Option<String>,
}

/// Builds the system.
///
/// # Errors
/// As [`build::build`].
pub fn build(options: &Options, out: &Path, progress: &Progress) -> Result<Report> {
    let mut definition = Definition::read(&definition_file())?;
    if let Some(version) = &options.version {
        definition.version = Some(version.clone());
    }
    let mut choice = build::Options::default();
    choice.formats.clone_from(&options.formats);
    let report = build::build(&definition, &choice, out, progress)?;
    if options.installer {
        let version = definition.version.as_deref().unwrap_or("latest");
        installer(version, out, progress).context("the installer's image")?;
    }
    Ok(report)
}

/// Builds the image that puts the system of a directory on disks.
fn installer(version: &str, out: &Path, progress: &Progress) -> Result<Report> {
    let file = definition_file().with_file_name("images/installer/image.toml");
    let mut definition = Definition::read(&file)?;
    definition.version = Some(version.to_owned());
    if let Some(reference) = &mut definition.container.reference {
        reference.value = format!("rancher/os:{version}");
    }
    let mut options = build::Options::default();
    options.formats = vec![Format::Docker];
    let inputs = [("kernel", "vmlinuz"), ("initramfs", "initramfs"), ("release", "release")];
    for (input, ending) in inputs {
        options.inputs.insert(input.into(), out.join(format!("{NAME}.{ending}")));
    }
    // its manifest is not that of the system
    let beside = out.join("installer");
    let report = build::build(&definition, &options, &beside, progress)?;
    let made = beside.join(INSTALLER);
    std::fs::rename(&made, out.join(INSTALLER))
        .with_context(|| format!("move {}", made.display()))?;
    Ok(report)
}
