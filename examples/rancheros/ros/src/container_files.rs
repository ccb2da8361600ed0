//! `write_files` for containers of the system other than the console, which writes its own.

use std::fs;
use std::path::Path;

use kiln_cloudconfig::apply::Root;
use kiln_cloudconfig::plan::Action;
use kiln_cloudconfig::schema::WriteFile;

use crate::boot::Problems;
use crate::console;
use crate::units::Unit;

/// The container that a file is for, if that is not the console.
pub(crate) fn container(file: &WriteFile) -> Option<&str> {
    file.container.as_deref().filter(|name| *name != console::NAME)
}

/// Files for containers that are not there.
pub(crate) fn unknown(units: &[Unit], files: &[WriteFile]) -> impl Iterator<Item = String> {
    files.iter().filter_map(|file| {
        let name = container(file)?;
        let is_there = units.iter().any(|unit| unit.spec.name == name);
        (!is_there)
            .then(|| format!("write_files: {}: the system has no container {name:?}", file.path))
    })
}

/// Writes the files of a container into its root, before it starts. `notes` keeps for this boot who has got
/// them: what goes behind what is there goes there once.
pub(crate) fn write(
    unit: &Unit,
    bundle: &Path,
    files: &[WriteFile],
    notes: &Path,
    problems: &mut Problems,
) {
    let name = unit.spec.name.as_str();
    let own: Vec<&WriteFile> = files.iter().filter(|file| container(file) == Some(name)).collect();
    if own.is_empty() {
        return;
    }
    let Some(root) = problems.take(name, Root::open(&bundle.join("rootfs"))) else { return };
    let done = notes.join(format!("files-of-{name}"));
    let again = done.exists();
    for file in own {
        let volumes = unit.options.mounts.iter();
        let hidden =
            volumes.map(|it| &it.destination).find(|it| Path::new(&file.path).starts_with(it));
        if let Some(volume) = hidden {
            problems.note(format_args!(
                "write_files: {}: not written: {name} has a volume at {volume}",
                file.path
            ));
            continue;
        }
        if again && file.append {
            continue;
        }
        let mut file = file.clone();
        file.container = None;
        problems.take(format_args!("write_files: {name}"), root.perform(&Action::WriteFile(file)));
    }
    problems.take(done.display(), fs::write(&done, ""));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{configuration, units};

    #[test]
    fn each_container_gets_its_files_once_and_nobody_those_of_others() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("more.yml");
        let text = "write_files:\n- {path: /etc/ntp.conf, container: ntp, content: a}\n\
                    - {path: /etc/more, container: ntp, append: true, content: b}\n\
                    - {path: /var/log/x, container: ntp, content: c}\n\
                    - {path: /etc/own, content: d}\n\
                    - {path: /etc/x, container: nobody, content: e}\n";
        fs::write(&file, text).unwrap();
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/os-config.yml");
        let found = configuration::load_from(&[built_in.into(), file], "");
        assert_eq!(found.findings.to_string(), "");
        let units = units::units(&found.rancher).system;
        let files = &found.cloud.write_files;
        assert_eq!(
            unknown(&units, files).collect::<Vec<_>>(),
            ["write_files: /etc/x: the system has no container \"nobody\""]
        );
        let bundle = directory.path().join("bundle");
        let root = bundle.join("rootfs");
        fs::create_dir_all(root.join("etc")).unwrap();
        // whose files they are is the container's to say
        fs::write(root.join("etc/passwd"), "root:x:0:0::/:/bin/sh\n").unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
        let is_root = rustix::process::geteuid().is_root();
        for _ in 0..2 {
            let mut problems = Problems::default();
            for unit in &units {
                if unit.spec.name == "ntp" && is_root {
                    write(unit, &bundle, files, directory.path(), &mut problems);
                }
            }
        }
        if is_root {
            assert_eq!(fs::read_to_string(root.join("etc/ntp.conf")).unwrap(), "a");
            assert_eq!(fs::read_to_string(root.join("etc/more")).unwrap(), "b");
            assert!(!root.join("etc/own").exists() && !root.join("var/log/x").exists());
        }
    }
}
