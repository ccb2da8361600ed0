//! What several test binaries need: modules made on the spot, and a real kernel's modules.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// A minimal relocatable ELF file with a `.modinfo` section.
pub(crate) fn ko(records: &[&str]) -> Vec<u8> {
    elf(true, false, records)
}

/// The same in either class and byte order (System V ABI, chapter 4).
pub(crate) fn elf(wide: bool, big: bool, records: &[&str]) -> Vec<u8> {
    let modinfo: Vec<u8> = records.iter().flat_map(|r| r.bytes().chain([0])).collect();
    let names = b"\0.modinfo\0.shstrtab\0";
    let number = |value: u64, width: usize| -> Vec<u8> {
        let bytes = value.to_le_bytes();
        let mut bytes = bytes[..width].to_vec();
        if big {
            bytes.reverse();
        }
        bytes
    };
    let word = if wide { 8 } else { 4 };
    let (head, entry) = if wide { (64, 64) } else { (52, 40) };
    let names_at = head + modinfo.len() as u64;
    let headers_at = names_at + names.len() as u64;

    let mut file = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1 + u8::from(big), 1];
    file.resize(16, 0);
    for (value, width) in [
        (1, 2),
        (if wide { 62 } else { 20 }, 2),
        (1, 4),
        (0, word),
        (0, word),
        (headers_at, word),
        (0, 4),
        (head, 2),
        (0, 2),
        (0, 2),
        (entry, 2),
        (3, 2),
        (2, 2),
    ] {
        file.extend(number(value, width));
    }
    assert_eq!(file.len() as u64, head);
    file.extend(&modinfo);
    file.extend(names);
    for (name, kind, offset, size) in
        [(0, 0, 0, 0), (1, 1, head, modinfo.len()), (10, 3, names_at, names.len())]
    {
        for (value, width) in [
            (name, 4),
            (kind, 4),
            (0, word),
            (0, word),
            (offset, word),
            (size as u64, word),
            (0, 4),
            (0, 4),
            (1, word),
            (0, word),
        ] {
            file.extend(number(value, width));
        }
    }
    file
}

/// Says that a test cannot run here; that is a failure in CI.
pub(crate) fn skip(what: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} is needed in CI");
    println!("skipped: {what}");
}

/// Whether a program can be started.
pub(crate) fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// `/lib/modules/RELEASE` of an unpacked kernel package, with the release.
pub(crate) fn kernel_tree() -> Option<(PathBuf, String)> {
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _guard = LOCK.lock().ok()?;
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).parent()?.join("cache/kernel");
    let root = match std::env::var_os("KILN_KERNEL_TREE") {
        Some(root) => PathBuf::from(root),
        None => cache,
    };
    release(&root).or_else(|| {
        download(&root)?;
        release(&root)
    })
}

fn release(root: &Path) -> Option<(PathBuf, String)> {
    let mut releases: Vec<_> = std::fs::read_dir(root.join("lib/modules"))
        .ok()?
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let name = entry.file_name().into_string().ok()?;
            entry.path().join("kernel").is_dir().then(|| (entry.path(), name))
        })
        .collect();
    releases.sort();
    releases.pop()
}

/// Unpacks the package that `linux-image-amd64` depends on, beside `root`, then moves it there.
fn download(root: &Path) -> Option<()> {
    let parent = root.parent()?;
    std::fs::create_dir_all(parent).ok()?;
    let work = tempfile::tempdir_in(parent).ok()?;
    let depends = Command::new("apt-cache").args(["depends", "linux-image-amd64"]).output().ok()?;
    let depends = String::from_utf8(depends.stdout).ok()?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "))?;
    let downloaded = Command::new("timeout")
        .args(["300", "apt-get", "download", package])
        .current_dir(work.path())
        .status()
        .ok()?;
    let deb = std::fs::read_dir(work.path()).ok()?.next()?.ok()?.path();
    let tree = work.path().join("tree");
    let unpacked = Command::new("dpkg-deb").arg("-x").args([&deb, &tree]).status().ok()?;
    (downloaded.success() && unpacked.success()).then_some(())?;
    // Another test process may have been quicker: then its tree is as good.
    let _ = std::fs::rename(&tree, root);
    Some(())
}
