//! Programs of a later Debian, unpacked into the cache where the host's are too old.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use kiln_debroot::fetch::AptHelper;
use kiln_debroot::{Lock, Request, archive, download, resolve};

use crate::{Result, machine};

/// The release.
pub const SUITE: &str = "trixie";
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A directory with a package unpacked, by itself or with all that it needs.
///
/// # Errors
/// What the archive and the file system refuse.
pub fn unpacked(package: &str, with_all: bool) -> Result<PathBuf> {
    let directory = machine::cache().join(format!("{package}-{SUITE}"));
    if directory.is_dir() {
        return Ok(directory);
    }
    let keyring = fs::read(KEYRING).map_err(|error| format!("{KEYRING}: {error}"))?;
    let archives = archive::debian(SUITE, "amd64", &keyring);
    let store = machine::cache().join("debroot");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let fetch = AptHelper::default();
    let index = archive::read(&archives, now, &store.join("indexes"), &fetch)?;
    let request = Request::new([package]);
    let mut lock = Lock::new(&archives, &request, &resolve(&index, &request)?);
    lock.packages.retain(|locked| with_all || locked.name == package);
    let place = download::by_digest(store.join("packages"));
    let beside = directory.with_extension("part");
    let _ = fs::remove_dir_all(&beside);
    for file in download::download(&lock, &place, Some(&fetch))? {
        machine::run("dpkg-deb", |it| it.arg("--extract").arg(file).arg(&beside))?;
    }
    fs::rename(&beside, &directory)?;
    Ok(directory)
}
