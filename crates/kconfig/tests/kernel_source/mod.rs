//! The kernel's own scripts and fragments, from Debian's linux-source-6.1 (GPL-2.0, so fetched at
//! test time and never kept in the repository).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// What the tests want of the source package.
const WANTED: [&str; 5] = [
    "*/scripts/kconfig/merge_config.sh",
    "*/scripts/diffconfig",
    "*/kernel/configs/*",
    "*/arch/*/configs/*.config",
    "*/arch/x86/configs/*",
];

/// The unpacked source, or nothing where it cannot be had (which is a failure in CI).
pub(crate) fn kernel_source() -> Option<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(path) => Some(path),
        Err(why) => {
            println!("skipped: linux-source-6.1 ({why})");
            assert!(std::env::var_os("CI").is_none(), "linux-source-6.1 is not there: {why}");
            None
        }
    }
}

fn find() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("KILN_KERNEL_SOURCE") {
        return Ok(path.into());
    }
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cache");
    let cached = target.join("linux-source-6.1");
    if cached.join("scripts/kconfig/merge_config.sh").is_file() {
        return Ok(cached);
    }
    fetch(&target, &cached).map_err(|error| error.to_string())?;
    Ok(cached)
}

/// Fetches 139 MB and keeps 3. Several test processes may do so at once: the last rename wins, and
/// all of them are the same.
fn fetch(target: &Path, cached: &Path) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let work = tempfile::Builder::new().prefix("linux-source-").tempdir_in(target)?;
    run(Command::new("timeout")
        .args(["300", "apt-get", "download", "-qq", "linux-source-6.1"])
        .current_dir(work.path()))?;
    let package = fs::read_dir(work.path())?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|e| e == "deb"))
        .ok_or_else(|| io::Error::other("apt-get download left no package"))?;
    run(Command::new("timeout")
        .args(["300", "sh", "-c"])
        .arg(
            "dpkg-deb --fsys-tarfile \"$1\" | tar -xO ./usr/src/linux-source-6.1.tar.xz \
             | tar -xJ --wildcards \"$2\" \"$3\" \"$4\" \"$5\" \"$6\"",
        )
        .arg("sh")
        .arg(&package)
        .args(WANTED)
        .current_dir(work.path()))?;
    match fs::rename(work.path().join("linux-source-6.1"), cached) {
        Err(_) if cached.join("scripts/kconfig/merge_config.sh").is_file() => Ok(()),
        outcome => outcome,
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let output = command.stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(io::Error::other(format!("{command:?}: {} {words}", output.status)))
}

/// All fragments of the kernel (`*.config`), sorted by path.
pub(crate) fn fragments(source: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![source.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "config") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}
