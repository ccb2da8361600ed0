//! The system built twice: what comes out does not know where, when, in which time zone, with which umask and
//! with which cache it was built. `/init` is cargo's output, and the same file in both. None of this boots.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use kiln::{Cache, digest};

/// All artifacts, the installer's image among them.
const ARTIFACTS: [&str; 8] = [
    "manifest.json",
    "os.docker.tar",
    "rancheros.initramfs",
    "rancheros.iso",
    "rancheros.qcow2",
    "rancheros.release",
    "rancheros.vbox.zip",
    "rancheros.vmlinuz",
];

fn succeeds(command: &mut Command) {
    let output = command.output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn digests(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).expect("the output directory").flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    files
        .map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            (name, digest::of_file(&entry.path()).expect("a digest"))
        })
        .collect()
}

#[test]
fn the_same_build_anywhere_at_any_time_gives_the_same_bytes() {
    let program = env!("CARGO_BIN_EXE_rancheros");
    let directory = tempfile::tempdir().expect("a directory");
    let place = |name: &str| directory.path().join(name);
    succeeds(Command::new(program).arg("build").arg("--out").arg(place("here")));

    // Nothing but downloads is known there.
    std::fs::create_dir(place("cache")).expect("a cache");
    let packages = Cache::of_workspace().root().join("debian");
    std::os::unix::fs::symlink(packages, place("cache/debian")).expect("a link");
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$@\"", "sh", program, "build", "--out"]);
    command.arg(place("there")).current_dir("/").env("KILN_CACHE", place("cache"));
    command.env("TZ", "Pacific/Kiritimati").env("LC_ALL", "C").env("SOURCE_DATE_EPOCH", "1");
    succeeds(&mut command);

    let (here, there) = (digests(&place("here")), digests(&place("there")));
    assert_eq!(here.keys().collect::<Vec<_>>(), ARTIFACTS);
    assert_eq!(here, there);
}
