//! Debian packages beside any definition, for programs of this workspace that need files of them: an
//! oracle, a boot loader, a kernel to try something on. As of an image, they are locked once (in the
//! cache), checked each time, and unpacked with all that they depend on; nothing is installed.

use std::path::PathBuf;

use crate::build::{self, Options, inputs, packages};
use crate::definition::Definition;
use crate::kernel::Kernel;
use crate::{Cache, Error, Progress, Result, digest, linux};

/// Packages and what they depend on as one directory tree, with Debian's merged `/usr`. No
/// maintainer script runs.
///
/// # Errors
/// Those of the archive and of the packages.
pub fn sysroot(cache: &Cache, names: &[&str]) -> Result<PathBuf> {
    let (definition, options) = definition(cache, &format!("[packages]\npick = {names:?}"))?;
    Ok(packages::get(&definition, &options, &Progress::quiet())?.root.directory)
}

/// As [`sysroot`], of another release of Debian than the default one, by its code name.
///
/// # Errors
/// As [`sysroot`].
pub fn sysroot_of(cache: &Cache, suite: &str, names: &[&str]) -> Result<PathBuf> {
    let sections = format!("[debian]\nsuite = {suite:?}\n[packages]\npick = {names:?}");
    let (definition, options) = definition(cache, &sections)?;
    Ok(packages::get(&definition, &options, &Progress::quiet())?.root.directory)
}

/// The kernel of a package, or of the one that a meta-package such as `linux-image-amd64` stands for.
///
/// # Errors
/// As [`sysroot`]; [`Error::Input`] when the package holds no kernel.
pub fn kernel(cache: &Cache, package: &str) -> Result<Kernel> {
    let (definition, options) = definition(cache, &format!("[kernel]\npackage = {package:?}"))?;
    let mut packages = packages::get(&definition, &options, &Progress::quiet())?;
    let inputs = inputs::get(&definition, &options, &mut packages, &Progress::quiet())?;
    inputs.kernel.ok_or_else(|| Error::input(package, "it holds no kernel"))
}

/// The source of a kernel in a package such as `linux-source-6.1`.
///
/// # Errors
/// As [`sysroot`]; [`Error::Input`] when there is no such package.
pub fn kernel_source(cache: &Cache, package: &str) -> Result<linux::Source> {
    let (definition, options) = definition(cache, &format!("[kernel]\nsource = {package:?}"))?;
    let packages = packages::get(&definition, &options, &Progress::quiet())?;
    inputs::kernel_source(&definition, &options, &packages, package, &Progress::quiet())
}

/// A definition that is its packages alone, with its lock in the cache.
fn definition(cache: &Cache, sections: &str) -> Result<(Definition, build::Options)> {
    let key = digest::of_bytes(sections.as_bytes());
    let file = cache.path(format!("debian/locks/{key}.toml"))?;
    let text = format!("name = \"packages\"\nformats = [\"tar\"]\n{sections}\n");
    let options = Options { cache: cache.clone(), ..Options::default() };
    Ok((Definition::parse(&text, &file)?, options))
}
