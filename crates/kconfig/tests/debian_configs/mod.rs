//! The configurations of Debian's kernels, from its linux-config-6.1 (1.4 MB).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The configuration of a Debian kernel (`amd64` or `cloud-amd64`), or nothing where it cannot be
/// had (which is a failure in CI).
pub(crate) fn debian_config(flavour: &str) -> Option<PathBuf> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOUND.get_or_init(find) {
        Ok(folder) => Some(folder.join(format!("config.amd64_none_{flavour}"))),
        Err(why) => {
            println!("skipped: linux-config-6.1 ({why})");
            assert!(std::env::var_os("CI").is_none(), "linux-config-6.1 is not there: {why}");
            None
        }
    }
}

fn find() -> Result<PathBuf, String> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/cache");
    let cached = target.join("linux-config-6.1");
    if cached.is_dir() {
        return Ok(cached);
    }
    let fetch = || -> std::io::Result<()> {
        fs::create_dir_all(&target)?;
        let work = tempfile::Builder::new().prefix("linux-config-").tempdir_in(&target)?;
        let output = Command::new("timeout")
            .args(["120", "sh", "-ec"])
            .arg(
                "apt-get download -qq linux-config-6.1 && dpkg-deb -x linux-config-6.1_*.deb . \
                 && mv usr/src/linux-config-6.1 found && unxz found/config.amd64_none_*amd64.xz",
            )
            .current_dir(work.path())
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            return Err(std::io::Error::other(words));
        }
        match fs::rename(work.path().join("found"), &cached) {
            Err(_) if cached.is_dir() => Ok(()),
            outcome => outcome,
        }
    };
    fetch().map_err(|error| error.to_string())?;
    Ok(cached)
}
