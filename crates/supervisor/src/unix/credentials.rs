//! Secrets as files that only the service can read.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::process::Uid;

use super::spawn::unprepared;
use crate::spec::ServiceSpec;
use crate::vocabulary::SpawnError;

/// Copies a service's credentials into a directory of its own below `base`, and gives that.
pub(super) fn provide(
    spec: &ServiceSpec,
    base: &Path,
    uid: Option<Uid>,
) -> Result<Option<PathBuf>, SpawnError> {
    if spec.isolation.credentials.is_empty() {
        return Ok(None);
    }
    let place = place(base, &spec.name);
    let owner = uid.map(Uid::as_raw);
    copy(spec, base, &place, owner).map_err(|(path, error)| {
        withdraw(base, &spec.name);
        unprepared(format!("credential {}", path.display()), &error)
    })?;
    Ok(Some(place))
}

fn copy(
    spec: &ServiceSpec,
    base: &Path,
    place: &Path,
    owner: Option<u32>,
) -> Result<(), (PathBuf, std::io::Error)> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| (path, error)
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o755).create(base).map_err(at(base))?;
    // what an earlier run has left
    withdraw(base, &spec.name);
    std::fs::DirBuilder::new().mode(0o700).create(place).map_err(at(place))?;
    for (name, from) in &spec.isolation.credentials {
        let bytes = std::fs::read(from).map_err(at(from))?;
        let to = place.join(name);
        let mut options = std::fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o400).open(&to);
        let mut file = file.map_err(at(&to))?;
        file.write_all(&bytes).map_err(at(&to))?;
        std::os::unix::fs::fchown(&file, owner, None).map_err(at(&to))?;
    }
    std::os::unix::fs::chown(place, owner, None).map_err(at(place))
}

/// Takes them away again.
pub(super) fn withdraw(base: &Path, service: &str) {
    let _ = std::fs::remove_dir_all(place(base, service));
}

fn place(base: &Path, service: &str) -> PathBuf {
    base.join(service)
}
