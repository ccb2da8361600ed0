//! From a definition's partitions to a disk that firmware starts.

use kiln_diskimg::boot::sign::Signer;
use kiln_diskimg::fat::{self, Volume, VolumeSize};
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Partition, SECTOR, Seed, Size, Table};
use kiln_tree::{Tree, host};

use crate::boot::{Programs, System};
use crate::definition::{
    Definition, Disk, Firmware, PartitionContent, PartitionEntry, PartitionSize,
};
use crate::{Error, Result};

/// 1980-01-01 00:00:00 UTC, the time that FAT counts from: it has none before.
const FAT_EPOCH: u32 = 315_532_800;
/// Room that a boot partition keeps by default, for a second kernel or a changed configuration.
const HEADROOM: ByteLen = ByteLen::mib(4);

/// What is started from a disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct Boot<'a> {
    /// What identifiers are derived from.
    pub seed: Seed,
    /// The system. Its name is the default partition's and, in capitals, the volume's label.
    pub system: System<'a>,
    /// The programs that start it.
    pub programs: &'a Programs,
    /// Which firmware can. Default: BIOS.
    pub firmware: Vec<Firmware>,
    /// Who signs what UEFI starts. Default: nobody.
    pub signer: Option<&'a Signer>,
}

impl<'a> Boot<'a> {
    /// A system that a BIOS starts.
    #[must_use]
    pub fn new(system: System<'a>, programs: &'a Programs) -> Self {
        let (seed, firmware) = (Seed::new(system.name), vec![Firmware::Bios]);
        Self { seed, system, programs, firmware, signer: None }
    }

    /// A disk with one partition: what it is started from, with a little room.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn only(&self) -> Result<Layout> {
        let size = VolumeSize::FromContent { headroom: HEADROOM };
        let plan = self.plan().with(self.partition(self.system.name, None, size, None)?);
        Ok(plan.layout()?)
    }

    /// A definition's disk.
    ///
    /// # Errors
    /// [`Error::Plan`] with the place of a size that cannot hold its content; those of
    /// `kiln_diskimg`, all problems at once.
    pub fn layout(&self, definition: &Definition) -> Result<Layout> {
        let disk = &definition.disk;
        if disk.partitions.is_empty() && disk.size.is_none() {
            return self.only();
        }
        let mut problems = Vec::new();
        let mut plan = self.plan();
        plan.size = disk.size.as_ref().map(|size| size.value);
        if disk.partitions.is_empty() {
            let size = VolumeSize::FromContent { headroom: HEADROOM };
            plan.partitions.push(self.partition(self.system.name, None, size, None)?);
        }
        for entry in &disk.partitions {
            match self.entry(definition, entry, None) {
                Ok(partition) => plan.partitions.push(partition),
                Err(error) => problems.push(place(definition, entry, &error)),
            }
        }
        if !problems.is_empty() {
            return Err(Error::Plan(problems));
        }
        let layout = plan.layout().map_err(|error| too_small(definition, disk, error))?;
        // A file system on the rest of the disk is made once it is known how much that is.
        let rest = disk.partitions.len().checked_sub(1).and_then(|last| {
            let entry = disk.partitions.get(last)?;
            let placed = layout.partitions.get(last)?;
            let is_fat =
                matches!(entry.content.value, PartitionContent::Fat | PartitionContent::Tree(_));
            (is_fat && entry.size.value == PartitionSize::Rest).then_some((
                last,
                entry,
                ByteLen(placed.sectors.saturating_mul(SECTOR)),
            ))
        });
        let Some((last, entry, len)) = rest else { return Ok(layout) };
        let partition = self.entry(definition, entry, Some(len));
        let partition =
            partition.map_err(|error| Error::Plan(vec![place(definition, entry, &error)]))?;
        if let Some(slot) = plan.partitions.get_mut(last) {
            *slot = partition;
        }
        Ok(plan.layout()?)
    }

    fn plan(&self) -> DiskPlan {
        let mut plan = DiskPlan::new(Table::Gpt, self.seed);
        if self.firmware.contains(&Firmware::Bios) {
            plan.boot_code = Some(self.programs.syslinux.mbr_code(Table::Gpt));
        }
        plan
    }

    /// One partition; `rest` is the length of what is left of the disk, once that is known.
    fn entry(
        &self,
        definition: &Definition,
        entry: &PartitionEntry,
        rest: Option<ByteLen>,
    ) -> Result<Partition> {
        let (name, label) = (entry.name.as_str(), entry.label.as_ref().map(|it| it.as_str()));
        let volume_size = match (entry.size.value, rest) {
            (PartitionSize::Fixed(len), _) | (PartitionSize::Rest, Some(len)) => {
                VolumeSize::Fixed(len)
            }
            (PartitionSize::Content { headroom }, _) => VolumeSize::FromContent { headroom },
            (PartitionSize::Rest, None) => VolumeSize::FromContent { headroom: ByteLen::ZERO },
        };
        let size = match entry.size.value {
            PartitionSize::Fixed(len) => Size::Fixed(len),
            PartitionSize::Content { headroom } => Size::FromContent { headroom },
            PartitionSize::Rest => Size::Rest,
        };
        let mut tree = Tree::new();
        let partition = match &entry.content.value {
            PartitionContent::Boot => {
                self.partition(name, label, volume_size, Some(entry.kind.value))?
            }
            PartitionContent::Empty => Partition::empty(name, entry.kind.value, size),
            // Its size is found out first.
            PartitionContent::Fat if rest.is_none() && size == Size::Rest => {
                Partition::empty(name, entry.kind.value, size)
            }
            content => {
                if let PartitionContent::Tree(path) = content {
                    let from = definition.host_path(path);
                    import(&mut tree, &from)?;
                }
                let mut options = self.volume(name, label, volume_size);
                // Nothing is started from it, so it need not know where on the disk it is.
                options.hidden_sectors = 0;
                let volume = Volume::plan(&tree, &options)?;
                Partition::new(name, entry.kind.value, volume)
            }
        };
        Ok(match entry.size.value {
            PartitionSize::Content { .. } => partition,
            _ => partition.sized(size),
        })
    }

    /// The partition that is started from.
    fn partition(
        &self,
        name: &str,
        label: Option<&str>,
        size: VolumeSize,
        kind: Option<kiln_diskimg::gpt::PartitionType>,
    ) -> Result<Partition> {
        let tree = self.system.partition(self.programs, &self.firmware, self.signer)?;
        let label = label.unwrap_or(self.system.name);
        let volume = Volume::plan(&tree, &self.volume("volume", Some(label), size))?;
        let kind = kind.unwrap_or(kiln_diskimg::gpt::PartitionType::EFI_SYSTEM);
        if !self.firmware.contains(&Firmware::Bios) {
            return Ok(Partition::new(name, kind, volume));
        }
        let volume = self.programs.syslinux.install(volume, "syslinux")?;
        Ok(Partition::new(name, kind, volume).bootable())
    }

    fn volume(&self, purpose: &str, label: Option<&str>, size: VolumeSize) -> fat::Options {
        let mut options = fat::Options::default();
        options.label = label.map(str::to_uppercase);
        options.volume_id = self.seed.number(purpose);
        options.size = size;
        options.mtime = Some(FAT_EPOCH);
        options
    }
}

fn import(tree: &mut Tree, from: &std::path::Path) -> Result<()> {
    let entries = std::fs::read_dir(from).map_err(Error::io("read directory", from))?;
    for entry in entries {
        let entry = entry.map_err(Error::io("read directory", from))?;
        let name = entry.file_name();
        host::import(tree, &entry.path(), &name.to_string_lossy(), &host::Policy::default())?;
    }
    Ok(())
}

/// An error of a partition with the place of its size in the definition.
fn place(definition: &Definition, entry: &PartitionEntry, error: &Error) -> String {
    let at = entry.size.at.or(entry.name.at);
    let at = at.map(|at| format!(":{at}")).unwrap_or_default();
    format!("{}{at}: partition {:?}: {error}", definition.file.display(), entry.name.value)
}

/// An error of the whole disk with the place of its size.
fn too_small(definition: &Definition, disk: &Disk, error: kiln_diskimg::Error) -> Error {
    match disk.size.as_ref().and_then(|size| size.at) {
        Some(at) => Error::Plan(vec![format!("{}:{at}: {error}", definition.file.display())]),
        None => error.into(),
    }
}
