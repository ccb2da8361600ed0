//! What is on a block device, by its first bytes: type, label and identifier.
//!
//! [`block`](kiln_supervisor::pid1::block) knows the types that a system starts from; here is what else a
//! line of fstab may name. Documentation/filesystems/ext4/super.rst; xfs_format.h, `struct xfs_dsb`; btrfs's
//! on-disk format, the superblock at 64 KiB; Microsoft's specification of FAT, section 3; mkswap(8), linux/swap.h.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kiln_supervisor::pid1::block;

/// Bytes from the start of a device within which all superblocks are that are looked at.
const HEAD: u64 = 68 << 10;

/// What is on a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Superblock {
    /// The type, as mount(2) takes it; `swap`.
    pub(crate) fstype: &'static str,
    pub(crate) label: Vec<u8>,
    /// As blkid(8) shows it.
    pub(crate) uuid: String,
}

/// What a device begins with, where anybody knows it.
pub(crate) fn parse(head: &[u8]) -> Option<Superblock> {
    let at = |offset: usize, len: usize| {
        head.get(offset..offset.saturating_add(len)).unwrap_or_default()
    };
    let found = |fstype, label: &[u8], uuid: String| {
        let label = label.split(|byte| *byte == 0).next().unwrap_or_default();
        Some(Superblock { fstype, label: label.trim_ascii_end().to_vec(), uuid })
    };
    if at(1024 + 0x38, 2) == [0x53, 0xef] {
        return found("ext4", at(1024 + 0x78, 16), uuid(at(1024 + 0x68, 16)));
    }
    // Pages of 4 KiB, which amd64 has.
    if at(4086, 10) == b"SWAPSPACE2" {
        return found("swap", at(1052, 16), uuid(at(1036, 16)));
    }
    if at(0, 4) == b"XFSB" {
        return found("xfs", at(108, 12), uuid(at(32, 16)));
    }
    if at(0x1_0040, 8) == b"_BHRfS_M" {
        return found("btrfs", at(0x1_012b, 256), uuid(at(0x1_0020, 16)));
    }
    if at(510, 2) == [0x55, 0xaa] {
        if at(0x52, 5) == b"FAT32" {
            return found("vfat", at(0x47, 11), serial(at(0x43, 4)));
        }
        if at(0x36, 5) == b"FAT12" || at(0x36, 5) == b"FAT16" {
            return found("vfat", at(0x2b, 11), serial(at(0x27, 4)));
        }
    }
    None
}

fn uuid(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text += &format!("{byte:02x}");
    }
    text
}

/// The number of a FAT volume: two halves, the high one first.
fn serial(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().rev().map(|byte| format!("{byte:02X}")).collect();
    let (high, low) = digits.split_at_checked(4).unwrap_or((&digits, ""));
    format!("{high}-{low}")
}

/// What a device says of itself.
pub(crate) fn of(device: &Path) -> Option<Superblock> {
    let mut head = Vec::new();
    File::open(device).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    parse(&head)
}

/// The type of the file system on a device.
pub(crate) fn fstype(device: &Path) -> Option<&'static str> {
    block::look_at(device).map(|found| found.fstype).or_else(|| Some(of(device)?.fstype))
}

/// A device as fstab(5) names it: a path, `LABEL=`, `UUID=` or `PARTLABEL=`. None where it is not there.
///
/// # Errors
/// A sentence: nobody knows this way to name one.
pub(crate) fn find(what: &str) -> Result<Option<PathBuf>, String> {
    find_in(Path::new("/sys/class/block"), Path::new("/dev"), what)
}

fn find_in(class: &Path, dev: &Path, what: &str) -> Result<Option<PathBuf>, String> {
    let Some((tag, value)) = what.split_once('=').filter(|_| !what.starts_with('/')) else {
        let path = PathBuf::from(what);
        return Ok(path.exists().then_some(path));
    };
    let value = value.trim_matches('"');
    let mut names: Vec<_> = fs::read_dir(class)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name())
        .collect();
    names.sort();
    let partition = |name: &Path| {
        let text = fs::read_to_string(class.join(name).join("uevent")).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("PARTNAME=") == Some(value))
    };
    let is = |test: &dyn Fn(&Superblock) -> bool| {
        let mut paths = names.iter().map(|name| dev.join(name));
        paths.find(|path| of(path).is_some_and(|found| test(&found)))
    };
    match tag {
        "LABEL" => {
            let own = is(&|found| found.label == value.as_bytes());
            // CDs and others that have labels alone
            Ok(own.or_else(|| Some(block::find_labelled(value)?.device)))
        }
        "UUID" => Ok(is(&|found| found.uuid.eq_ignore_ascii_case(value))),
        "PARTLABEL" => {
            let mut names = names.iter().map(Path::new);
            Ok(names.find(|name| partition(name)).map(|name| dev.join(name)))
        }
        _ => Err(format!("{tag}= is not known here: a path, LABEL=, UUID= or PARTLABEL= is")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    const UUID: &str = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0";

    /// A file that a program of the field has made a file system of; none where the program is not there.
    fn made(directory: &Path, program: &str, arguments: &[&str]) -> Option<PathBuf> {
        let file = directory.join(program);
        File::create(&file).unwrap().set_len(320 << 20).unwrap();
        let place = ["/usr/sbin", "/sbin"].iter().map(|it| Path::new(it).join(program));
        let Some(path) = place.into_iter().find(|path| path.exists()) else {
            println!("skipped: {program}");
            return None;
        };
        let output = Command::new(path).args(arguments).arg(&file).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Some(file)
    }

    #[test]
    fn what_mkfs_and_mkswap_make_is_known_by_label_and_identifier() {
        let dir = tempfile::tempdir().unwrap();
        let expected = |fstype, uuid: &str| {
            Some(Superblock { fstype, label: b"pasture".to_vec(), uuid: uuid.to_owned() })
        };
        for (program, arguments, fstype) in [
            ("mkswap", &["-q", "-L", "pasture", "-U", UUID][..], "swap"),
            ("mkfs.ext4", &["-q", "-F", "-L", "pasture", "-U", UUID], "ext4"),
            ("mkfs.xfs", &["-q", "-f", "-L", "pasture", "-m", &format!("uuid={UUID}")], "xfs"),
            ("mkfs.btrfs", &["-q", "-f", "-L", "pasture", "-U", UUID], "btrfs"),
        ] {
            if let Some(file) = made(dir.path(), program, arguments) {
                assert_eq!(of(&file), expected(fstype, UUID), "{program}");
            }
        }
        let fat = made(dir.path(), "mkfs.vfat", &["-F", "32", "-n", "pasture", "-i", "1234abcd"]);
        if let Some(file) = fat {
            assert_eq!(of(&file), expected("vfat", "1234-ABCD"));
        }
        assert_eq!(parse(&[0; 8192]), None);
        assert_eq!(parse(b"XFSB").map(|found| found.label), Some(Vec::new()));
    }

    #[test]
    fn devices_are_found_by_what_fstab_calls_them() {
        let dir = tempfile::tempdir().unwrap();
        let (class, dev) = (dir.path().join("class"), dir.path().join("dev"));
        fs::create_dir_all(&dev).unwrap();
        let mut swap = vec![0; 8192];
        swap[4086..4096].copy_from_slice(b"SWAPSPACE2");
        swap[1036..1052].copy_from_slice(&[0x11; 16]);
        swap[1052..1056].copy_from_slice(b"pond");
        for (name, uevent, head) in [
            ("vda", "DEVNAME=vda\n", vec![0; 8192]),
            ("vdb", "DEVNAME=vdb\n", swap),
            ("vdb1", "DEVNAME=vdb1\nPARTNAME=meadow\n", Vec::new()),
        ] {
            fs::create_dir_all(class.join(name)).unwrap();
            fs::write(class.join(name).join("uevent"), uevent).unwrap();
            fs::write(dev.join(name), head).unwrap();
        }
        let found = |what: &str| find_in(&class, &dev, what);
        let vda = dev.join("vda").display().to_string();
        assert_eq!(found(&vda), Ok(Some(dev.join("vda"))));
        assert_eq!(found("/dev/nothing-of-this-name"), Ok(None));
        assert_eq!(found("LABEL=pond"), Ok(Some(dev.join("vdb"))));
        assert_eq!(found("UUID=11111111-1111-1111-1111-111111111111"), Ok(Some(dev.join("vdb"))));
        assert_eq!(found("PARTLABEL=meadow"), Ok(Some(dev.join("vdb1"))));
        assert_eq!(found("LABEL=no-such-label-here"), Ok(None));
        assert!(found("PARTUUID=1").unwrap_err().contains("PARTUUID= is not known"));
    }
}
