//! What a bench finds on this machine: programs of the peers, the workspace's cache, our examples.
//!
//! A peer that is not there is named (`skipped: udhcpc`) and left out; an example of ours that is
//! not there is an error, because a bench without ours says nothing.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;

/// The search path with the directories of the administrator's programs, which an ordinary user's
/// does not have.
fn search_path() -> OsString {
    let mut path = env::var_os("PATH").unwrap_or_default();
    path.push(":/usr/sbin:/sbin");
    path
}

/// Where a program is: on the search path, or at its path if `name` is one.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    // Joining an absolute path gives that path.
    env::split_paths(&search_path())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Whether all these programs are installed. Those that are not are named on stdout.
#[must_use]
pub fn are_installed(names: &[&str]) -> bool {
    let missing: Vec<&str> =
        names.iter().copied().filter(|name| find_program(name).is_none()).collect();
    missing.iter().for_each(|name| println!("skipped: {name}"));
    missing.is_empty()
}

/// A program to be run with the search path of [`find_program`].
#[must_use]
pub fn command(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

/// Runs a program of a peer to its end.
///
/// # Errors
/// It cannot be started; it fails, with what it said.
pub fn run(name: &str, arguments: impl FnOnce(&mut Command) -> &mut Command) -> Result<()> {
    run_with_input(name, "", arguments)
}

/// Runs a program of a peer that reads a few lines.
///
/// # Errors
/// As [`run`].
pub fn run_with_input(
    name: &str,
    input: &str,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<()> {
    let mut command = command(name);
    let command =
        arguments(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)).into())
}

/// An example of ours, built in the profile of the running bench: `examples/NAME` beside it.
///
/// # Errors
/// It is not there; the message has the command that builds it.
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    built(package, "example", "examples", name)
}

/// A program of ours, built in the profile of the running bench: `NAME` beside it.
///
/// # Errors
/// It is not there; the message has the command that builds it.
pub fn program(package: &str, name: &str) -> Result<PathBuf> {
    built(package, "bin", "", name)
}

fn built(package: &str, kind: &str, directory: &str, name: &str) -> Result<PathBuf> {
    let own = env::current_exe()?;
    let path = own.parent().ok_or("this program is in no directory")?.join(directory).join(name);
    if path.is_file() {
        return Ok(path);
    }
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    Err(format!(
        "{} is not there: build it with `cargo build{release} -p {package} --{kind} {name} \
         --all-features`",
        path.display()
    )
    .into())
}

/// The cache of the workspace: `$KILN_CACHE`, else its `target/cache`.
#[must_use]
pub fn cache() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    env::var_os("KILN_CACHE")
        .map_or_else(|| here.parent().unwrap_or(here).join("target/cache"), PathBuf::from)
}

/// The modules of a kernel package that is unpacked somewhere below `root`: a directory
/// `lib/modules/RELEASE` with a `kernel` in it. Of several, the last by path.
#[must_use]
pub fn kernel_modules(root: &Path) -> Option<PathBuf> {
    let mut found = Vec::new();
    collect_modules(root, 8, &mut found);
    found.into_iter().max()
}

/// Looks `depth` directories deep, and through no symbolic link.
fn collect_modules(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let is_modules = directory.ends_with("lib/modules");
    for entry in entries.filter_map(std::result::Result::ok) {
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let path = entry.path();
        if is_modules {
            if path.join("kernel").is_dir() {
                found.push(path);
            }
        } else if let Some(depth) = depth.checked_sub(1) {
            collect_modules(&path, depth, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_name_and_by_path() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("/bin/sh"), Some("/bin/sh".into()));
        // `are_installed` would print a line that a runner takes for a skipped test.
        assert_eq!(find_program("no-such-program"), None);
        assert!(are_installed(&["sh"]));
    }

    #[test]
    fn modules_of_the_last_release_are_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kernel_modules(dir.path()), None);
        for release in ["6.1.0-1", "6.1.0-2"] {
            let modules = dir.path().join("sysroot/x/usr/lib/modules").join(release);
            fs::create_dir_all(modules.join("kernel/drivers")).unwrap();
        }
        fs::create_dir_all(dir.path().join("usr/lib/modules/9-empty")).unwrap();
        let found = kernel_modules(dir.path()).unwrap();
        assert!(found.ends_with("sysroot/x/usr/lib/modules/6.1.0-2"), "{found:?}");
    }
}
