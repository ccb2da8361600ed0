//! The programs of ours that go into an image: static, small, built by cargo on the host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Error, Progress, Result, cache, command};

/// What the programs are built for. Naming it keeps the flags away from what runs while building:
/// a procedural macro cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How long the build of a guest program may take.
const BUILD: Duration = Duration::from_secs(30 * 60);

/// Builds the binary `name` of the workspace's package `package` statically, under the `guest`
/// profile, with the paths of this machine taken out of it. Cargo decides what is up to date.
///
/// # Errors
/// [`Error::Command`] with the compiler's last lines.
pub fn build(package: &str, name: &str, progress: &Progress) -> Result<PathBuf> {
    build_with_features(package, name, &[], progress)
}

/// As [`build`], with features of the package beside its default ones.
///
/// # Errors
/// As [`build`].
pub fn build_with_features(
    package: &str,
    name: &str,
    features: &[&str],
    progress: &Progress,
) -> Result<PathBuf> {
    let root = cache::workspace_root();
    let target = target_directory(&root).join("guest-static");
    let step = progress.step(format!("building {name} (static)"));
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--locked", "--profile", "guest", "--package", package])
        .args(["--bin", name, "--features", &features.join(",")])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(&root)
        .env("RUSTFLAGS", flags(&root))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET_DIR");
    command::run(&mut build, BUILD)?;
    step.done();
    let binary = target.join(TARGET).join("guest").join(name);
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(Error::input(binary.display().to_string(), "cargo did not make it"))
    }
}

/// Where cargo puts its output for this workspace.
fn target_directory(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |path| root.join(path))
}

fn flags(root: &Path) -> String {
    let home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
        PathBuf::from,
    );
    format!(
        "-C target-feature=+crt-static --remap-path-prefix={}=/kiln --remap-path-prefix={}=/cargo",
        root.display(),
        home.display()
    )
}
