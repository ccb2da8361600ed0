//! NomadOS with its root on the disk.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kiln::Progress;
use kiln::build::Options;
use kiln::definition::{Definition, Format, SecureBoot};
use nomados::build;

/// Builds the disk into a directory; `root` is what the definition says of the root's partition
/// beyond its name, as TOML.
///
/// # Errors
/// When it cannot be built.
pub fn rooted(out: &Path, root: &str, secure: Option<SecureBoot>) -> Result<PathBuf> {
    let file = build::Options::new(out).definition;
    let mut text = std::fs::read_to_string(&file)?;
    text += "\n[[disk.partition]]\nname = \"boot\"\nboot = true\n";
    text += &format!("\n[[disk.partition]]\nname = \"root\"\nroot = true\n{root}\n");
    let definition = Definition::parse(&text, &file)?;
    let mut options = Options::default();
    options.formats = vec![Format::Raw];
    options.secure_boot = secure;
    kiln::build::build(&definition, &options, out, &Progress::on_stderr())?;
    Ok(out.join("nomados.raw"))
}
