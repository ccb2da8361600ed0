//! The programs of ours that go into an image: static, small, built by cargo on the host.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::definition::hint;
use crate::{Error, Progress, Result, cache, command};

/// What the programs are built for. Naming it keeps the flags away from what runs while building:
/// a procedural macro cannot be static.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// How long the build of a guest program may take.
const BUILD: Duration = Duration::from_secs(30 * 60);
/// Cargo lets one of them into the directory; the others would spend their time with waiting.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

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
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let step = progress.step(format!("building {name} (static)"));
    let (mut build, binary) =
        compilation(&root, &target_directory(&root), (package, name), features);
    command::run(&mut build, BUILD)?;
    step.done();
    if binary.is_file() {
        Ok(binary)
    } else {
        Err(Error::input(binary.display().to_string(), "cargo did not make it"))
    }
}

/// What [`build_with_features`] runs, in a copy of the workspace at `root` that has its output below
/// `target`, and the file that it makes.
#[must_use]
pub fn compilation(
    root: &Path,
    target: &Path,
    (package, name): (&str, &str),
    features: &[&str],
) -> (Command, PathBuf) {
    let target = target.join("guest-static");
    let cargo = std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from);
    let mut build = Command::new(cargo);
    build
        .args(["build", "--quiet", "--locked", "--profile", "guest", "--package", package])
        .args(["--bin", name, "--features", &features.join(",")])
        .args(["--target", TARGET, "--target-dir"])
        .arg(&target)
        .current_dir(root)
        .env("RUSTFLAGS", flags(root))
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_BUILD_TARGET_DIR");
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_the_caller) {
            build.env_remove(name);
        }
    }
    (build, target.join(TARGET).join("guest").join(name))
}

/// Whether a variable is about who calls: what Cargo says to a program of a package that it runs, and of when
/// this is to be. Build scripts look at them (those of `cc` and `ring` do), so that each caller would
/// build everything anew, and not the same.
fn is_of_the_caller(name: &str) -> bool {
    const EACH: [&str; 5] = [
        "CARGO_CRATE_NAME",
        "CARGO_BIN_NAME",
        "CARGO_PRIMARY_PACKAGE",
        "CARGO_TARGET_TMPDIR",
        "SOURCE_DATE_EPOCH",
    ];
    let begins = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_EXE_"];
    EACH.contains(&name) || begins.iter().any(|begin| name.starts_with(begin))
}

/// What a program of the workspace is made of: the directories of its package and of those of the
/// workspace that it depends upon (with these features), and what counts for all of them. So it can be known that nothing has
/// changed without asking cargo, which takes its time.
///
/// # Errors
/// [`Error::Input`] without a package of that name, [`Error::Io`], and what is no TOML.
pub fn sources(package: &str, features: &[&str]) -> Result<Vec<PathBuf>> {
    let root = cache::workspace_root();
    let workspace = toml_of(&root.join("Cargo.toml"))?;
    let members = members(&root, &workspace)?;
    let shared = workspace.get("workspace").and_then(|it| it.get("dependencies"));
    let Some(first) = members.get(package) else {
        let hint = hint(package, members.keys().map(String::as_str));
        return Err(Error::input(package, format!("the workspace has no such package{hint}")));
    };
    // Of the others nobody knows here which features they are asked for.
    let has_default = |manifest: &toml::Table| {
        manifest.get("features").is_some_and(|features| features.get("default").is_some())
    };
    let is_plain = features.is_empty() && !has_default(&toml_of(&first.join("Cargo.toml"))?);
    let mut found = BTreeSet::new();
    let mut left = vec![first.clone()];
    while let Some(directory) = left.pop() {
        if !found.insert(directory.clone()) {
            continue;
        }
        let manifest = toml_of(&directory.join("Cargo.toml"))?;
        let mut tables = vec![&manifest];
        let targets = manifest.get("target").and_then(toml::Value::as_table);
        tables.extend(
            targets.iter().flat_map(|targets| targets.values()).filter_map(|it| it.as_table()),
        );
        for table in tables {
            for kind in ["dependencies", "build-dependencies"] {
                let dependencies = table.get(kind).and_then(toml::Value::as_table);
                for (name, value) in dependencies.into_iter().flatten() {
                    let is_optional = value.get("optional").and_then(toml::Value::as_bool);
                    if is_optional == Some(true) && directory == *first && is_plain {
                        continue;
                    }
                    let is_shared = value.get("workspace").is_some();
                    let (from, value) = match shared.and_then(|shared| shared.get(name)) {
                        Some(shared) if is_shared => (&root, shared),
                        _ => (&directory, value),
                    };
                    if let Some(path) = value.get("path").and_then(toml::Value::as_str) {
                        left.push(plain(&from.join(path)));
                    }
                }
            }
        }
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for directory in found {
        // Tests and other packages below it are not in the program.
        let parts = ["Cargo.toml", "build.rs", "src", "etc", "README.md"];
        paths.extend(parts.map(|part| directory.join(part)));
    }
    let whole = ["Cargo.toml", "Cargo.lock", "rust-toolchain.toml", ".cargo/config.toml"];
    paths.extend(whole.map(|part| root.join(part)));
    Ok(paths)
}

/// The compiler, by what it says of itself.
///
/// # Errors
/// [`Error::Command`].
pub fn compiler() -> Result<String> {
    let rustc = std::env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let mut version = Command::new(rustc);
    version.arg("-vV").current_dir(cache::workspace_root());
    let output = command::run(&mut version, Duration::from_secs(60))?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The packages of the workspace and their directories.
fn members(root: &Path, workspace: &toml::Table) -> Result<BTreeMap<String, PathBuf>> {
    let mut members = BTreeMap::new();
    let listed = workspace.get("workspace").and_then(|it| it.get("members"));
    for member in listed.and_then(toml::Value::as_array).into_iter().flatten() {
        let Some(member) = member.as_str() else { continue };
        let mut directories = vec![root.join(member)];
        if let Some(parent) = member.strip_suffix("/*") {
            let parent = root.join(parent);
            let entries =
                std::fs::read_dir(&parent).map_err(Error::io("read directory", &parent))?;
            directories = entries.flatten().map(|entry| entry.path()).collect();
        }
        for directory in directories.into_iter().filter(|it| it.join("Cargo.toml").is_file()) {
            let manifest = toml_of(&directory.join("Cargo.toml"))?;
            let name = manifest.get("package").and_then(|it| it.get("name"));
            if let Some(name) = name.and_then(toml::Value::as_str) {
                members.insert(name.to_owned(), plain(&directory));
            }
        }
    }
    Ok(members)
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

fn toml_of(path: &Path) -> Result<toml::Table> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    let broken =
        |error: toml::de::Error| Error::input(path.display().to_string(), error.to_string());
    text.parse().map_err(broken)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_calls_is_left_out_and_what_people_set_is_not() {
        for name in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "SOURCE_DATE_EPOCH"] {
            assert!(is_of_the_caller(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_BUILD_JOBS", "RUSTFLAGS", "PATH"] {
            assert!(!is_of_the_caller(name), "{name}");
        }
        // this very test is run by Cargo
        assert!(std::env::vars_os().any(|(name, _)| name.to_str().is_some_and(is_of_the_caller)));
    }

    #[test]
    fn a_program_is_made_of_its_package_and_those_that_it_depends_upon() {
        let root = cache::workspace_root();
        let sources = sources("kurma-server", &[]).unwrap();
        for has in
            ["examples/kurma/server/src", "examples/kurma/client/src", "guest/src", "Cargo.lock"]
        {
            assert!(sources.contains(&root.join(has)), "{has}: {sources:?}");
        }
        // by way of others, and what it has nothing to do with
        assert!(sources.contains(&root.join("crates/kmod/src")), "{sources:?}");
        assert!(!sources.contains(&root.join("crates/debroot/src")), "{sources:?}");
        // what only a feature needs
        let with = |features: &[&str]| super::sources("kurma", features).unwrap();
        assert!(with(&["build"]).contains(&root.join("kiln/src")));
        assert!(!with(&[]).contains(&root.join("kiln/src")));
        let error = super::sources("kurma-sever", &[]).unwrap_err().to_string();
        assert!(error.contains("kurma-server"), "{error}");
    }
}
