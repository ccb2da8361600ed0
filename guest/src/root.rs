//! A root on a disk, for images whose initramfs only leads there.
//!
//! | on the kernel's command line | the root is |
//! |---|---|
//! | `roothash=HEX` | the partition whose identifier is the first half of the hash, every block of it vouched for by the partition whose identifier is the last half (Discoverable Partitions Specification) |
//! | `kiln.root=GUID` | the partition of this identifier |
//!
//! A file system that cannot be written gets a tmpfs on top, which forgets at every boot. What is
//! not as the command line says ends the boot: a system that was to be verified must not start as
//! another one.

use std::convert::Infallible;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kiln_diskimg::Guid;
use kiln_diskimg::verity::{BLOCK, Parameters, RootHash};
use kiln_supervisor::pid1::{Boot, Loader, block, device_mapper, switch_root};
use rustix::mount::{MountFlags, mount};

use crate::System;
use crate::console::say;
use crate::{disks, grow};

/// How long disks may take to appear.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where the root is mounted before it is the root.
pub(crate) const PLACE: &str = "/.root";

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    Verified(RootHash),
    Partition(Guid),
}

impl Wanted {
    /// `None` where the root is where this process already is.
    ///
    /// # Errors
    /// A word whose value is none.
    pub(crate) fn of(boot: &Boot) -> Result<Option<Self>, String> {
        if !switch_root::needed() {
            return Ok(None);
        }
        Self::from_words(boot.argument("roothash"), boot.argument("kiln.root"))
    }

    fn from_words(hash: Option<&str>, partition: Option<&str>) -> Result<Option<Self>, String> {
        match (hash, partition) {
            (Some(text), _) => {
                let hash = text.parse();
                Ok(Some(Self::Verified(hash.map_err(|error| format!("roothash: {error}"))?)))
            }
            (None, Some(text)) => {
                let guid = text.parse();
                let guid = guid.map_err(|error| format!("kiln.root={text}: {error}"))?;
                Ok(Some(Self::Partition(guid)))
            }
            (None, None) => Ok(None),
        }
    }
}

/// Finds, mounts and enters the root, and executes its `/init`.
pub(crate) fn enter(system: &System, wanted: &Wanted) -> Result<Infallible, String> {
    let mut loader = Loader::loadable_of_running_kernel().ok();
    if let Some(loader) = &mut loader {
        let report = loader.cold_plug(16);
        say(&system.name, &report);
    }
    // A kernel may have a driver built in; what is missing shows when it is used.
    let mut need = |names: &[&str]| {
        if let Some(loader) = &mut loader {
            let _ = loader.load(names);
        }
    };
    let device = match wanted {
        Wanted::Partition(guid) => waited_for(*guid)?,
        Wanted::Verified(hash) => {
            need(&["dm-mod", "dm-verity", "sha256"]);
            let (data, hashes) = hash.partition_guids();
            let (data, hashes) = (waited_for(data)?, waited_for(hashes)?);
            device_mapper::open("root", &table(&data, &hashes, *hash)?)?
        }
    };
    let found = block::look_at(&device)
        .ok_or_else(|| format!("{}: no file system that is known", device.display()))?;
    need(&[found.fstype]);
    let verified = matches!(wanted, Wanted::Verified(_));
    let writable = found.fstype == "ext4" && !verified;
    let base = Path::new(PLACE).join("base");
    let flags = if writable { MountFlags::NOATIME } else { MountFlags::RDONLY };
    if writable {
        grow::partitions();
    }
    mounted(&found.device, &base, found.fstype, flags, "")?;
    let root = if writable {
        grow::file_system(&found.device, &base);
        base
    } else {
        need(&["overlay"]);
        written_over(&base)?
    };
    let kind = if verified { "verified " } else { "" };
    say(&system.name, format_args!("root: {kind}{} on {}", found.fstype, device.display()));
    switch_root::enter(&root, Path::new("/init"))
}

/// What forgets at every boot what is written, over what is only read.
pub(crate) fn written_over(base: &Path) -> Result<PathBuf, String> {
    let over = Path::new(PLACE).join("over");
    mounted(Path::new("root"), &over, "tmpfs", MountFlags::empty(), "mode=0755")?;
    for name in ["upper", "work"] {
        let path = over.join(name);
        std::fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let layers = format!(
        "lowerdir={},upperdir={over}/upper,workdir={over}/work",
        base.display(),
        over = over.display()
    );
    let root = Path::new(PLACE).join("root");
    mounted(Path::new("root"), &root, "overlay", MountFlags::NOATIME, &layers)?;
    Ok(root)
}

/// What the device mapper is told. What the hashes' own device says of them is not trusted: with other
/// values no block has the hash that it should have.
fn table(data: &Path, hashes: &Path, root: RootHash) -> Result<String, String> {
    let about = |error: &dyn std::fmt::Display| format!("{}: {error}", hashes.display());
    let mut superblock = vec![0; usize::try_from(BLOCK).map_err(|error| about(&error))?];
    let mut file = File::open(hashes).map_err(|error| about(&error))?;
    file.read_exact(&mut superblock).map_err(|error| about(&error))?;
    let parameters = Parameters::read(&mut superblock, 0).map_err(|error| about(&error))?;
    Ok(parameters.table(&data.to_string_lossy(), &hashes.to_string_lossy(), root))
}

fn waited_for(guid: Guid) -> Result<PathBuf, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(path) = disks::partition(guid) {
            return Ok(path);
        }
        if Instant::now() >= deadline {
            return Err(format!("no disk has a partition {guid}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn mounted(
    source: &Path,
    target: &Path,
    fstype: &str,
    flags: MountFlags,
    data: &str,
) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| {
        format!("mount {} ({fstype}) on {}: {error}", source.display(), target.display())
    };
    std::fs::create_dir_all(target).map_err(|error| fail(&error))?;
    let data = CString::new(data).map_err(|error| fail(&error))?;
    mount(source, target, fstype, flags, data.as_c_str()).map_err(|error| fail(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line() {
        let hash: String = (0..32).map(|byte| format!("{byte:02x}")).collect();
        let wanted = Wanted::from_words(Some(&hash), None).unwrap().unwrap();
        let Wanted::Verified(hash) = &wanted else { panic!("{wanted:?}") };
        let (data, hashes) = hash.partition_guids();
        assert_eq!(data.to_string().to_lowercase(), "00010203-0405-0607-0809-0a0b0c0d0e0f");
        assert_eq!(hashes.to_string().to_lowercase(), "10111213-1415-1617-1819-1a1b1c1d1e1f");
        let guid = "10111213-1415-1617-1819-1a1b1c1d1e1f";
        let partition = Wanted::from_words(None, Some(guid)).unwrap();
        assert_eq!(partition, Some(Wanted::Partition(hashes)));
        assert_eq!(Wanted::from_words(None, None), Ok(None));
        for bad in ["", "00", "xyz", &"+1".repeat(32), &"a".repeat(63)] {
            assert!(Wanted::from_words(Some(bad), None).is_err(), "{bad}");
        }
        assert!(Wanted::from_words(None, Some("disk")).is_err());
    }
}
