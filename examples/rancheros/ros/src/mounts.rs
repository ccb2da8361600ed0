//! `mounts` of the configuration: done before services start, and seen in those that have the media.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kiln_cloudconfig::schema::Mount;
use kiln_guest::mounts::Entry;
use kiln_oci::bundle;

use crate::boot::Problems;
use crate::units::Unit;

/// How long a drive may take to be there.
const PATIENCE: Duration = Duration::from_secs(3);
/// Who has these sees what is mounted.
const MEDIA: [&str; 2] = ["/media", "/mnt"];

fn entry(mount: &Mount) -> Entry {
    Entry::new(&*mount.what, &*mount.target, &*mount.fstype, &*mount.options)
}

/// Mounts what the configuration says. What cannot be is told, and nobody waits for it longer than a
/// drive takes to spin up.
pub(crate) fn perform(mounts: &[Mount], problems: &mut Problems) {
    let entries: Vec<Entry> = mounts.iter().map(entry).collect();
    let began = Instant::now();
    while entries.iter().any(Entry::is_missing) && began.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(50));
    }
    for entry in &entries {
        problems.take("mounts", entry.perform());
    }
}

/// Shares what is mounted with the containers that have the media: below their volumes it is there
/// already, any other place becomes a volume more.
pub(crate) fn share(units: &mut [Unit], mounts: &[Mount]) {
    for unit in units {
        let volumes = &mut unit.options.mounts;
        let has = |volumes: &[bundle::Mount], path: &str| {
            volumes.iter().any(|volume| volume.destination == path)
        };
        if !MEDIA.iter().all(|path| has(volumes, path)) {
            continue;
        }
        for mount in mounts.iter().filter(|mount| !entry(mount).is_swap()) {
            let target = Path::new(&mount.target);
            let below = |volume: &bundle::Mount| {
                volume.source == volume.destination && target.starts_with(&volume.destination)
            };
            let is_there = fs::metadata(target).is_ok_and(|it| it.is_dir());
            if mount.target != "/" && is_there && !volumes.iter().any(below) {
                let volume = bundle::Mount::bind(&*mount.target, &*mount.target, false);
                volumes.push(volume.shared());
            }
        }
        volumes.sort_by(|a, b| a.destination.cmp(&b.destination));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{configuration, units};

    #[test]
    fn those_who_have_the_media_see_what_is_mounted() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().display().to_string();
        let file = directory.path().join("more.yml");
        let text = format!(
            "mounts:\n- [/dev/vdb, /mnt/s, ext4]\n- [/dev/vdc, {place}, ext4]\n- [/dev/vdd, '', swap]\n\
             - [/dev/vde, /no-such-place, ext4]\n"
        );
        fs::write(&file, text).unwrap();
        let built_in = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/os-config.yml");
        let found = configuration::load_from(&[built_in.into(), file], "");
        assert_eq!(found.findings.to_string(), "");
        let before = units::units(&found.rancher).system;
        let mut after = before.clone();
        share(&mut after, &found.cloud.mounts);
        for (before, after) in before.iter().zip(&after) {
            let added: Vec<&bundle::Mount> = after
                .options
                .mounts
                .iter()
                .filter(|mount| !before.options.mounts.contains(mount))
                .collect();
            let has_media = ["console", "docker"].contains(&after.spec.name.as_str());
            assert_eq!(added.len(), usize::from(has_media), "{}: {added:?}", after.spec.name);
            if let [mount] = added.as_slice() {
                assert_eq!((&mount.source, &mount.destination), (&place, &place));
                assert!(mount.options.contains(&"rshared".to_owned()));
            }
        }
    }
}
