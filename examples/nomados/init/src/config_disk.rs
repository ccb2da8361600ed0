//! What a node is told at boot by a small disk: its certificate and keys, its place in a cluster.
//! Secrets come neither with the image, which many share, nor by the kernel's command line, which
//! every process can read.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;

use kiln_supervisor::pid1::block;
use kiln_supervisor::unix;

/// The file system's label: FAT has room for 11 letters.
const LABEL: &str = "NOMAD-CONF";
/// Or the partition's name.
const PARTITION: &str = "nomad-config";
/// Where the files are afterwards, in memory; Nomad reads all `*.json` and `*.hcl` of it.
const DIRECTORY: &str = "/run/nomad-config";
/// A file of this name takes the place of the image's own configuration: settings such as
/// `server.enabled` cannot be taken back by a further file.
const INIT: &str = "init.json";
const IMAGES_INIT: &str = "/etc/nomad/init.json";
/// More than this is no configuration.
const MOST_FILES: usize = 64;
const LARGEST: u64 = 1 << 20;

/// The service: takes what the disk has, and says so on the console.
pub(crate) fn run() -> ExitCode {
    match take() {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(taken)) => {
            unix::console_line(format_args!("config: {taken}"));
            ExitCode::SUCCESS
        }
        // Without its keys a node would be another one than it is meant to be.
        Err(error) => {
            unix::console_line(format_args!("config: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Copies the disk's files into memory, readable by root alone. Says what it took; `None` when
/// there is no such disk.
fn take() -> Result<Option<String>, String> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(DIRECTORY)
        .map_err(|error| format!("make {DIRECTORY}: {error}"))?;
    let found = block::find_labelled(LABEL).or_else(|| block::find_labelled(PARTITION));
    let Some(found) = found else { return Ok(None) };
    let names = block::look_into(&found, Path::new("/run/nomad-config.disk"), |disk| {
        copy_all(disk, Path::new(DIRECTORY), Path::new(IMAGES_INIT))
    })?;
    Ok(Some(format!("{} from {}", names.join(", "), found.device.display())))
}

/// Copies the files of a directory, those of its subdirectories not.
fn copy_all(from: &Path, to: &Path, images_init: &Path) -> Result<Vec<String>, String> {
    let entries = std::fs::read_dir(from).map_err(|error| format!("read the disk: {error}"))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| format!("read the disk: {error}"))?;
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let name = entry.file_name().to_string_lossy().into_owned();
        if names.len() == MOST_FILES {
            return Err(format!("there are more than {MOST_FILES} files on it"));
        }
        let target = if name == INIT { images_init.to_owned() } else { to.join(&name) };
        copy(&entry.path(), &target).map_err(|error| format!("copy {name}: {error}"))?;
        names.push(name);
    }
    names.sort();
    Ok(names)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    File::open(from)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(std::io::Error::other("it is larger than 1 MiB"));
    }
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    file.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_copied_for_root_alone_and_init_json_replaces_the_images() {
        let dir = tempfile::tempdir().unwrap();
        let (disk, to) = (dir.path().join("disk"), dir.path().join("to"));
        let images = dir.path().join("images.json");
        std::fs::create_dir_all(disk.join("below")).unwrap();
        std::fs::create_dir(&to).unwrap();
        for (name, text) in [("key.pem", "secret"), ("init.json", "{}"), ("below/x", "no")] {
            std::fs::write(disk.join(name), text).unwrap();
        }
        std::fs::write(&images, "old").unwrap();
        assert_eq!(copy_all(&disk, &to, &images).unwrap(), ["init.json", "key.pem"]);
        assert_eq!(std::fs::read_to_string(&images).unwrap(), "{}");
        assert_eq!(std::fs::read_dir(&to).unwrap().count(), 1);
        for path in [images.clone(), to.join("key.pem")] {
            assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        std::fs::write(disk.join("big"), vec![0; (1 << 20) + 1]).unwrap();
        assert!(copy_all(&disk, &to, &images).unwrap_err().contains("big"));
    }
}
