//! Copies of one image become machines of their own, once.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use kiln::qemu::{Disk, Format};
use kiln_diskimg::{Guid, Limits, dump, gpt};
use kiln_e2e::{LONG, Variant, images, report, said, tool};

/// Everything that tells one disk from another.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ids {
    disk: Guid,
    partitions: Vec<Guid>,
    volume: String,
}

fn ids(disk: &Path) -> Result<Ids> {
    let table = gpt::read_device(&mut File::open(disk)?, &Limits::default())?;
    assert!(table.complaints.is_empty(), "{:?}", table.complaints);
    let report = dump::inspect(File::open(disk)?, &Limits::default())?.to_string();
    let volume =
        report.lines().find(|line| line.trim().starts_with("FAT32")).context("no FAT volume")?;
    Ok(Ids {
        disk: table.header.disk_guid,
        partitions: table.entries.iter().map(|(_, entry)| entry.guid).collect(),
        volume: volume.trim().to_owned(),
    })
}

/// A copy of the image's disk and a disk for its data.
struct Machine {
    disk: PathBuf,
    data: PathBuf,
}

impl Machine {
    fn new(directory: &Path, name: &str, mkfs: &Path) -> Result<Self> {
        let disk = directory.join(format!("{name}.raw"));
        std::fs::copy(images()?.join("nomados.raw"), &disk)?;
        let data = directory.join(format!("{name}-data.raw"));
        File::create(&data)?.set_len(64 << 20)?;
        let made = Command::new(mkfs).args(["-q", "-L", "nomad-data"]).arg(&data).status()?;
        if !made.success() {
            bail!("mkfs.ext4: {made}");
        }
        Ok(Self { disk, data })
    }

    fn disks(&self) -> Vec<Disk> {
        let disk = |path: &PathBuf| {
            let mut disk = Disk::new(path, Format::Raw);
            disk.snapshot = false;
            disk
        };
        vec![disk(&self.disk), disk(&self.data)]
    }

    /// Boots, and gives what the first-boot service says.
    fn boot(&self, words: &str) -> Result<Vec<String>> {
        let services = report(&["first-boot"], "");
        let mut variant = Variant::new(&[("etc/kiln/services.toml", services.as_str())], words)?;
        variant.machine.disks = self.disks();
        let mut vm = variant.start()?;
        vm.wait_for("report: end", LONG)?;
        vm.power_button()?;
        vm.wait_exit(LONG)?;
        Ok(said(&vm, "first-boot: "))
    }
}

fn machine_id(said: &[String]) -> Result<&str> {
    let found = said.iter().find_map(|line| line.strip_prefix("machine-id "));
    found.with_context(|| format!("no machine-id: {said:?}"))
}

#[test]
fn two_copies_get_identifiers_of_their_own_and_keep_them() -> Result<()> {
    let (Some(mkfs), Some(sgdisk)) = (tool("mkfs.ext4"), tool("sgdisk")) else { return Ok(()) };
    let directory = tempfile::tempdir()?;
    let [a, b] = ["a", "b"].map(|name| Machine::new(directory.path(), name, &mkfs));
    let (a, b) = (a?, b?);
    let image = ids(&a.disk)?;
    assert_eq!(image, ids(&b.disk)?);

    let first = a.boot("kiln.randomize=disk")?;
    let other = b.boot("kiln.randomize=disk")?;
    let again = a.boot("kiln.randomize=disk")?;

    let named = machine_id(&first)?;
    assert_eq!((named.len(), named.as_bytes()[12]), (32, b'4'));
    assert_ne!(named, machine_id(&other)?);
    assert_eq!(named, machine_id(&again)?);
    assert!(first.iter().any(|line| line.contains("the disk is now")), "{first:?}");
    assert!(!again.iter().any(|line| line.contains("the disk is now")), "{again:?}");
    assert!(first.iter().any(|line| line.contains("first random seed is kept")), "{first:?}");
    assert!(again.iter().any(|line| line.contains("seed of the boot before")), "{again:?}");

    let (a_ids, b_ids) = (ids(&a.disk)?, ids(&b.disk)?);
    let all = |of: fn(&Ids) -> String| {
        [&image, &a_ids, &b_ids].map(of).into_iter().collect::<BTreeSet<_>>().len()
    };
    assert_eq!(all(|ids| ids.disk.to_string()), 3);
    assert_eq!(all(|ids| format!("{:?}", ids.partitions)), 3);
    assert_eq!(all(|ids| ids.volume.clone()), 3, "{image:?} {a_ids:?} {b_ids:?}");
    let checked = Command::new(sgdisk).arg("-v").arg(&a.disk).output()?;
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(text.contains("No problems found"), "{text}");

    // The disk still boots by itself, keeps its identifiers, and without being asked nothing changes.
    let mut machine = kiln::qemu::Machine::default();
    machine.disks = a.disks();
    let mut vm = machine.start()?;
    vm.wait_for(&format!("machine-id {named}"), LONG)?;
    vm.power_button()?;
    vm.wait_exit(LONG)?;
    assert_eq!(ids(&a.disk)?, a_ids);
    Ok(())
}
