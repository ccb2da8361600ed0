//! What builds and runs the RancherOS-like system: what it is made of is in `image.toml`, `images/` and
//! `etc/`, what it does in `ros/`.

pub mod drive;
pub mod key;

use std::path::{Path, PathBuf};

use anyhow::Result;
use kiln::build::{self, Report};
use kiln::definition::{Definition, Format};
use kiln::{Progress, cache};

/// The definition of this workspace.
#[must_use]
pub fn definition_file() -> PathBuf {
    cache::workspace_root().join("examples/rancheros/image.toml")
}

/// Builds the system.
///
/// # Errors
/// As [`build::build`].
pub fn build(formats: &[Format], out: &Path, progress: &Progress) -> Result<Report> {
    let definition = Definition::read(&definition_file())?;
    let mut options = build::Options::default();
    options.formats = formats.to_vec();
    Ok(build::build(&definition, &options, out, progress)?)
}
