//! Block devices found by what is on them.
//!
//! A partition has a name in a GPT, which the kernel tells in its uevent
//! (`Documentation/admin-guide/devices`, `PARTNAME=`); a file system has a label in its superblock
//! (ext2 to ext4: `Documentation/filesystems/ext4/super.rst`, FAT: Microsoft's specification,
//! section 3; ISO 9660: ECMA-119, 8.4). Whatever is read from a device is bounded, and a device that cannot be read is none.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Bytes from the start of a device within which all superblocks are that are looked at.
const HEAD: u64 = 34 << 10;

/// A device with a file system that can be mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The device (`/dev/vdb1`).
    pub device: PathBuf,
    /// Its file system's type, as mount(2) takes it.
    pub fstype: &'static str,
}

/// The first device, in order of name, whose partition name or file system label is `label`.
#[must_use]
pub fn find_labelled(label: &str) -> Option<Found> {
    find_in(Path::new("/sys/class/block"), Path::new("/dev"), label)
}

fn find_in(class: &Path, dev: &Path, label: &str) -> Option<Found> {
    let entries = std::fs::read_dir(class).ok()?;
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let uevent = std::fs::read_to_string(class.join(&name).join("uevent")).unwrap_or_default();
        let device = dev.join(&name);
        let head = head(&device)?;
        let (fstype, own_label) = superblock(&head)?;
        let partition = uevent.lines().find_map(|line| line.strip_prefix("PARTNAME="));
        (partition == Some(label) || own_label == label.as_bytes())
            .then_some(Found { device, fstype })
    })
}

/// The file system on a device.
#[must_use]
pub fn look_at(device: &Path) -> Option<Found> {
    let head = head(device)?;
    let (fstype, _) = superblock(&head)?;
    Some(Found { device: device.to_path_buf(), fstype })
}

/// What a device begins with.
fn head(device: &Path) -> Option<Vec<u8>> {
    let mut head = Vec::new();
    File::open(device).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(head)
}

/// Type and label of the file system that begins with these bytes.
fn superblock(head: &[u8]) -> Option<(&'static str, &[u8])> {
    let at = |offset: usize, len: usize| {
        head.get(offset..offset.saturating_add(len)).unwrap_or_default()
    };
    if at(1024 + 0x38, 2) == [0x53, 0xef] {
        return Some(("ext4", until_nul(at(1024 + 0x78, 16))));
    }
    // EROFS: Documentation/filesystems/erofs.rst, fs/erofs/erofs_fs.h.
    if at(1024, 4) == 0xe0f5_e1e2_u32.to_le_bytes() {
        return Some(("erofs", until_nul(at(1024 + 64, 16))));
    }
    // The primary volume descriptor.
    if at(0x8000, 6) == b"\x01CD001" {
        return Some(("iso9660", at(0x8028, 32).trim_ascii_end()));
    }
    // squashfs has no label.
    if at(0, 4) == b"hsqs" {
        return Some(("squashfs", b""));
    }
    if at(510, 2) != [0x55, 0xaa] {
        return None;
    }
    if at(0x52, 5) == b"FAT32" {
        return Some(("vfat", at(0x47, 11).trim_ascii_end()));
    }
    // FAT12 and FAT16 have their shorter record where FAT32 has further fields.
    if at(0x36, 5) == b"FAT12" || at(0x36, 5) == b"FAT16" {
        return Some(("vfat", at(0x2b, 11).trim_ascii_end()));
    }
    None
}

fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Mounts the device that [`find_labelled`] finds, or an empty tmpfs where there is none.
///
/// # Errors
/// A sentence. A device of that label that cannot be mounted is an error and not replaced by a
/// tmpfs, but by nothing: what is written to a tmpfs is lost, and somebody expects it not to be.
pub fn mount_labelled_or_tmpfs(label: &str, target: &Path) -> Result<(), String> {
    std::fs::create_dir_all(target)
        .map_err(|error| format!("make {}: {error}", target.display()))?;
    match find_labelled(label) {
        Some(found) => mount(&found.device, target, found.fstype, MountFlags::NOATIME, c"")
            .map_err(|error| {
                let (device, target) = (found.device.display(), target.display());
                format!("mount {device} ({}) on {target}: {error}", found.fstype)
            }),
        None => mount("tmpfs", target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"")
            .map_err(|error| format!("mount a tmpfs on {}: {error}", target.display())),
    }
}

/// Looks into a file system: it is mounted read-only at `target`, which is made and removed, while
/// `look` runs.
///
/// # Errors
/// A sentence.
pub fn look_into<T>(
    found: &Found,
    target: &Path,
    look: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, String> {
    let at = target.display();
    std::fs::create_dir_all(target).map_err(|error| format!("make {at}: {error}"))?;
    let flags = MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount(&found.device, target, found.fstype, flags, c"").map_err(|error| {
        format!("mount {} ({}) on {at}: {error}", found.device.display(), found.fstype)
    })?;
    let seen = look(target);
    unmount(target, UnmountFlags::empty()).map_err(|error| format!("unmount {at}: {error}"))?;
    // It was made for this; left behind it would be an empty directory.
    let _ = std::fs::remove_dir(target);
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ext4(label: &[u8]) -> Vec<u8> {
        let mut head = vec![0; 2048];
        head[1024 + 0x38..1024 + 0x3a].copy_from_slice(&[0x53, 0xef]);
        head[1024 + 0x78..1024 + 0x78 + label.len()].copy_from_slice(label);
        head
    }

    #[test]
    fn found_by_partition_name_or_label_and_damaged_ones_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let (class, dev) = (dir.path().join("class"), dir.path().join("dev"));
        std::fs::create_dir(&dev).unwrap();
        let add = |name: &str, uevent: &str, head: Vec<u8>| {
            std::fs::create_dir_all(class.join(name)).unwrap();
            std::fs::write(class.join(name).join("uevent"), uevent).unwrap();
            std::fs::write(dev.join(name), head).unwrap();
        };
        add("vda", "DEVNAME=vda\n", vec![0; 2048]);
        add("vda1", "DEVNAME=vda1\nPARTNAME=data\n", vec![0; 100]);
        add("vda2", "DEVNAME=vda2\nPARTNAME=data\n", ext4(b"other"));
        add("vdb", "DEVNAME=vdb\n", ext4(b"sixteen-letters!"));
        let mut disc = vec![0; 0x8800];
        disc[0x8000..0x8006].copy_from_slice(b"\x01CD001");
        disc[0x8028..0x8048].copy_from_slice(b"config-2                        ");
        add("sr0", "DEVNAME=sr0\n", disc);
        let found = |label: &str| find_in(&class, &dev, label).map(|found| found.device);
        assert_eq!(found("data"), Some(dev.join("vda2")));
        assert_eq!(found("sixteen-letters!"), Some(dev.join("vdb")));
        assert_eq!(found("config-2"), Some(dev.join("sr0")));
        assert_eq!(found("none"), None);
    }

    #[test]
    fn a_real_file_system_is_known_by_its_label() {
        let dir = tempfile::tempdir().unwrap();
        for (make, fstype) in [
            (&["mkfs.ext4", "-q", "-L", "nomad-data"][..], "ext4"),
            (&["mkfs.vfat", "-F", "32", "-n", "nomad-data"][..], "vfat"),
            (&["mkfs.vfat", "-F", "16", "-n", "nomad-data"][..], "vfat"),
            (&["mkfs.vfat", "-F", "12", "-s", "64", "-n", "nomad-data"][..], "vfat"),
        ] {
            let image = dir.path().join("image");
            File::create(&image).unwrap().set_len(64 << 20).unwrap();
            let (program, arguments) = make.split_first().unwrap();
            let done = std::process::Command::new(program).args(arguments).arg(&image).output();
            match done {
                Ok(output) => assert!(output.status.success(), "{output:?}"),
                Err(_) => {
                    assert!(std::env::var_os("CI").is_none(), "{program} is missing");
                    println!("skipped: {program}");
                    continue;
                }
            }
            let head = head(&image).unwrap();
            let (kind, label) = superblock(&head).unwrap();
            assert_eq!((kind, label.to_ascii_lowercase().as_slice()), (fstype, &b"nomad-data"[..]));
        }
    }
}
