//! A system put on a disk: a boot partition with two slots, the system in the first one, and a partition
//! for what is kept.
//!
//! Nothing is written before it is known that all of it fits, that the disk is nobody's, and that kernel
//! and initramfs are what they are said to be. The tables come last: whatever interrupts an installation,
//! the disk starts nothing, or the whole system.
//!
//! ```no_run
//! use std::path::Path;
//! use kiln_diskimg::boot::syslinux::Loader;
//! use kiln_guest::install::{Disk, Plan};
//! use kiln_guest::release::Directory;
//!
//! let release = Directory::open("/media/cd")?;
//! let mut plan = Plan::new(release, [7; 32]);
//! plan.bios = Some(Loader::from_package("/usr/share/boot")?);
//! let mut disk = Disk::open(Path::new("/dev/vda"))?;
//! if let Some(what) = disk.content() {
//!     return Err(format!("/dev/vda has {what}").into());
//! }
//! disk.install(&plan)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use kiln_diskimg::boot::syslinux::Loader;
use kiln_diskimg::container::{self, Window};
use kiln_diskimg::ext4::{self, VolumeSize};
use kiln_diskimg::fat::{self, Kind};
use kiln_diskimg::gpt::{self, GROW_FILE_SYSTEM, PartitionType};
use kiln_diskimg::mbr::Mbr;
use kiln_diskimg::slots::{self, Options, Slot, System};
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Limits, Partition, SECTOR, Seed, Size, Table};
use kiln_supervisor::pid1::block;
use kiln_tree::{Source, Tree};

use crate::exclusive::Exclusive;
use crate::files;
use crate::release::{self, Directory};

/// The data partition's file system at first; it grows when it is mounted.
const DATA: ByteLen = ByteLen::mib(64);
/// What of a disk's beginning and end must be zero for it to be blank.
const LOOK: u64 = 1 << 20;

/// Why a system was not installed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot be opened.
    #[error("{}: {source}", disk.display())]
    Open {
        /// The disk.
        disk: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is no disk.
    #[error("{}: it is {what}; name a whole disk", disk.display())]
    NoDisk {
        /// The path.
        disk: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// It is in use.
    #[error("{}: it is in use: a file system of it is mounted, or somebody else has it", .0.display())]
    Busy(PathBuf),
    /// The system runs from it.
    #[error("{}: this system was started from it; upgrade it instead", .0.display())]
    Running(PathBuf),
    /// The system is not what it is said to be.
    #[error("{0}")]
    Release(#[from] release::Error),
    /// It cannot be, all reasons at once. Nothing was written.
    #[error("{0}")]
    Plan(kiln_diskimg::Error),
    /// The disk failed. Nothing starts from it.
    #[error("{0}")]
    Disk(kiln_diskimg::Error),
}

/// What goes on a disk.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The system.
    pub release: Directory,
    /// Words that its command line has besides. Default: none.
    pub arguments: String,
    /// The partition table. Default: GPT.
    pub table: Table,
    /// What menus show. Default: `system`.
    pub title: String,
    /// The room of each slot. Default: 256 MiB.
    pub slots: ByteLen,
    /// What starts it from a BIOS. Default: nothing.
    pub bios: Option<Loader>,
    /// What starts it from UEFI: systemd-boot. Default: nothing.
    pub uefi: Option<Source>,
    /// The label of the partition for what is kept, which has the rest of the disk, and what is in it at
    /// first. Default: there is none.
    pub data: Option<(String, Tree)>,
    /// What identifiers follow from: no other disk of the machine may have the same.
    pub seed: [u8; 32],
}

impl Plan {
    /// A system, and nothing yet that starts it.
    #[must_use]
    pub fn new(release: Directory, seed: [u8; 32]) -> Self {
        Self {
            release,
            arguments: String::new(),
            table: Table::Gpt,
            title: "system".into(),
            slots: ByteLen::mib(256),
            bios: None,
            uefi: None,
            data: None,
            seed,
        }
    }

    /// What a disk of this length would hold.
    ///
    /// # Errors
    /// [`kiln_diskimg::Error::Plan`] with everything that cannot be.
    pub fn layout(&self, len: ByteLen) -> kiln_diskimg::Result<Layout> {
        let seed = Seed::new(self.seed);
        let mut options = Options::new(self.slots);
        (options.id, options.title) = (seed.number("slots"), self.title.clone());
        let mut volume = fat::Options::default();
        (volume.label, volume.volume_id) = (Some("BOOT".into()), seed.number("volume"));
        // Firmware and SYSLINUX read both; a large FAT16 has clusters that some firmware does not.
        volume.kind = (self.slots > ByteLen::mib(64)).then_some(Kind::Fat32);
        options.fat = volume;
        let line = slots::restarting(&self.release.command_line(&self.arguments));
        let version = self.release.release().version.as_str();
        let system = System::new(version, self.release.kernel(), self.release.initrd(), line);
        let mut slots = slots::Plan::new(options, system);
        let mut plan = DiskPlan::new(self.table, seed);
        plan.size = Some(ByteLen(len.0 / SECTOR * SECTOR));
        if let Some(loader) = &self.bios {
            plan.boot_code = Some(loader.mbr_code(self.table));
            slots = slots.syslinux(loader.clone());
        }
        if let Some(program) = &self.uefi {
            slots = slots.systemd_boot(program.clone());
        }
        let mut boot = Partition::new("boot", PartitionType::EFI_SYSTEM, slots.volume()?);
        boot.bootable = self.bios.is_some();
        plan.partitions.push(boot);
        if let Some((label, tree)) = &self.data {
            let mut options = ext4::Options::default();
            (options.label, options.seed) = (Some(label.clone()), seed);
            options.size = VolumeSize::Fixed(DATA);
            let volume = ext4::Volume::plan(tree, &options)?;
            let mut data = Partition::new(label, PartitionType::LINUX, volume).sized(Size::Rest);
            data.attributes = GROW_FILE_SYSTEM;
            plan.partitions.push(data);
        }
        plan.layout()
    }
}

/// A disk that nobody else has.
#[derive(Debug)]
pub struct Disk {
    file: Exclusive,
    path: PathBuf,
    len: u64,
}

impl Disk {
    /// Opens a disk, or a file that is to hold the image of one.
    ///
    /// # Errors
    /// [`Error::Open`], [`Error::NoDisk`], [`Error::Busy`], [`Error::Running`].
    pub fn open(path: &Path) -> Result<Self, Error> {
        let open = |source| Error::Open { disk: path.to_owned(), source };
        let kind = std::fs::metadata(path).map_err(open)?.file_type();
        let name = path.canonicalize().map_err(open)?;
        let name = name.file_name().unwrap_or_default();
        let no_disk = |what| Err(Error::NoDisk { disk: path.to_owned(), what });
        if !kind.is_block_device() && !kind.is_file() {
            return no_disk("no block device");
        }
        let class = Path::new("/sys/class/block").join(name);
        if kind.is_block_device() && class.join("partition").exists() {
            return no_disk("a partition");
        }
        let mut file = Exclusive::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::ResourceBusy => Error::Busy(path.to_owned()),
            _ => open(error),
        })?;
        let len = file.seek(SeekFrom::End(0)).map_err(open)?;
        let disk = Self { file, path: path.to_owned(), len };
        // its boot partition is not mounted, so that nothing else says that it is in use
        if let Some((_, id)) = slots::running(&files::command_line())
            && disk.slots().is_some_and(|found| found.places.id == id)
        {
            return Err(Error::Running(path.to_owned()));
        }
        Ok(disk)
    }

    /// Its length in bytes.
    #[must_use]
    pub fn len(&self) -> ByteLen {
        ByteLen(self.len)
    }

    /// Whether it has no room at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What is on it, for people; `None` for a disk that is blank.
    #[must_use]
    pub fn content(&self) -> Option<String> {
        let mut file = self.again().ok()?;
        if let Ok(table) = gpt::read_device(&mut file, &Limits::default()) {
            return Some(format!("a GUID partition table with {}", counted(table.entries.len())));
        }
        if let Some(found) = block::look_at(&self.path) {
            return Some(format!("a file system ({})", found.fstype));
        }
        let entries = self.mbr().map_or(0, |table| table.entries.iter().flatten().count());
        if entries > 0 {
            return Some(format!("an MBR with {}", counted(entries)));
        }
        let len = LOOK.min(self.len);
        for at in [0, self.len.saturating_sub(len)] {
            let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
            match self.read_at(at, &mut bytes) {
                Ok(()) if bytes.iter().all(|byte| *byte == 0) => {}
                Ok(()) => return Some("data of a kind that is not known here".into()),
                Err(error) => return Some(format!("something that cannot be read: {error}")),
            }
        }
        None
    }

    /// Installs a system, over whatever is there.
    ///
    /// # Errors
    /// [`Error::Release`] and [`Error::Plan`], with nothing written; [`Error::Disk`].
    pub fn install(&mut self, plan: &Plan) -> Result<(), Error> {
        plan.release.check()?;
        let layout = plan.layout(self.len()).map_err(Error::Plan)?;
        kiln_diskimg::install(&layout, &mut self.file).map_err(Error::Disk)?;
        self.verify(&layout)
    }

    /// Reads back what a start needs.
    fn verify(&self, layout: &Layout) -> Result<(), Error> {
        let Some(boot) = layout.partitions.first() else { return Ok(()) };
        let (start, len) =
            (boot.first.0.saturating_mul(SECTOR), boot.sectors.saturating_mul(SECTOR));
        let limits = Limits::default();
        let file =
            self.again().map_err(|source| Error::Open { disk: self.path.clone(), source })?;
        let mut image = container::open(file, &limits).map_err(Error::Disk)?;
        let mut volume = Window::new(&mut image, start, len);
        let found = slots::read(&mut volume, &limits).map_err(Error::Disk)?;
        slots::verify(&found, Slot::A, &mut volume).map_err(Error::Disk)
    }

    /// The slots that are on it now.
    fn slots(&self) -> Option<slots::Found> {
        let limits = Limits::default();
        let table = gpt::read_device(&mut self.again().ok()?, &limits);
        let starts: Vec<(u64, u64)> = match table {
            Ok(table) => table.entries.iter().map(|(_, it)| (it.first, it.last)).collect(),
            Err(_) => {
                let end = |first: u32, sectors: u32| u64::from(first) + u64::from(sectors);
                let entries = self.mbr()?.entries;
                let placed = entries.iter().flatten();
                placed.map(|it| (it.first.into(), end(it.first, it.sectors))).collect()
            }
        };
        let mut image = container::open(self.again().ok()?, &limits).ok()?;
        starts.into_iter().find_map(|(first, last)| {
            let (start, end) = (first.checked_mul(SECTOR)?, last.checked_mul(SECTOR)?);
            let mut volume = Window::new(&mut image, start, end.checked_sub(start)?);
            slots::read(&mut volume, &limits).ok()
        })
    }

    fn mbr(&self) -> Option<Mbr> {
        let mut first = [0; 512];
        self.read_at(0, &mut first).ok()?;
        Mbr::parse(&first)
    }

    /// The same file, for somebody who reads.
    fn again(&self) -> io::Result<File> {
        let mut file = self.file.0.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    fn read_at(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut file = self.again()?;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(buffer)
    }
}

fn counted(partitions: usize) -> String {
    match partitions {
        1 => "one partition".into(),
        other => format!("{other} partitions"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;

    use kiln_diskimg::slots::{Part, Release};
    use kiln_tree::Node;

    use super::*;

    static KERNEL: [u8; 300_000] = [3; 300_000];
    static INITRD: [u8; 400_000] = [4; 400_000];

    fn plan(directory: &Path) -> Plan {
        fs::write(directory.join(release::KERNEL), KERNEL).unwrap();
        fs::write(directory.join(release::INITRD), INITRD).unwrap();
        let release = Release::new("1", Part::of(&KERNEL), Part::of(&INITRD));
        fs::write(directory.join(release::RELEASE), release.to_string()).unwrap();
        let mut plan = Plan::new(Directory::open(directory).unwrap(), [1; 32]);
        plan.slots = ByteLen::mib(20);
        plan.uefi = Some(vec![7; 5000].into());
        let mut tree = Tree::new();
        tree.insert("conf/a.yml", Node::file("hostname: a\n")).unwrap();
        plan.data = Some(("KEPT".into(), tree));
        plan
    }

    fn disk(directory: &Path, len: u64) -> PathBuf {
        let path = directory.join("disk");
        File::create(&path).unwrap().set_len(len).unwrap();
        path
    }

    #[test]
    fn what_is_on_a_disk_is_told_and_what_is_installed_can_be_started() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = plan(directory.path());
        for (table, told) in [
            (Table::Gpt, "a GUID partition table with 2 partitions"),
            (Table::Mbr, "an MBR with 2 partitions"),
        ] {
            let path = disk(directory.path(), 160 << 20);
            plan.table = table;
            let mut disk = Disk::open(&path).unwrap();
            assert_eq!(disk.content(), None);
            assert!(matches!(Disk::open(&path), Err(Error::Busy(_))));
            disk.install(&plan).unwrap();
            assert_eq!(disk.content().unwrap(), told);
            let found = disk.slots().unwrap();
            let record = found.record(Slot::A).unwrap();
            assert_eq!((record.version.as_str(), record.good), ("1", true));
        }
        let path = disk(directory.path(), 160 << 20);
        let mut file = File::options().write(true).open(&path).unwrap();
        file.seek(SeekFrom::End(-1)).unwrap();
        file.write_all(b"x").unwrap();
        let found = Disk::open(&path).unwrap().content();
        assert_eq!(found.unwrap(), "data of a kind that is not known here");
    }

    #[test]
    fn what_cannot_be_writes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let plan = plan(directory.path());
        let path = disk(directory.path(), 80 << 20);
        let mut disk = Disk::open(&path).unwrap();
        let error = disk.install(&plan).unwrap_err();
        assert!(matches!(error, Error::Plan(_)), "{error}");
        fs::write(directory.path().join(release::INITRD), [5; 400_000]).unwrap();
        let error = disk.install(&plan).unwrap_err();
        assert!(error.to_string().contains("initramfs: the new initramfs: its digest"), "{error}");
        assert_eq!(disk.content(), None);
        drop(disk);
        let error = Disk::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("no block device"), "{error}");
        let error = Disk::open(&directory.path().join("none")).unwrap_err();
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }
}
