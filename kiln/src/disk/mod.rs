//! From a definition's partitions to a disk that firmware starts.

mod stored;
mod volume;

use kiln_diskimg::fat::{Volume, VolumeSize};
use kiln_diskimg::gpt::{self, PartitionType};
use kiln_diskimg::{ByteLen, DiskPlan, Layout, Partition, SECTOR, Seed, Size, Table, slots};
use kiln_tree::Tree;

use crate::boot::{Programs, SecureBoot, System};
use crate::definition::{
    Definition, Disk, Files, Filesystem, Firmware, PartitionContent, PartitionEntry, PartitionSize,
    Root,
};
use crate::{Error, Result};
pub use stored::Stored;
use volume::Wanted;
pub(crate) use volume::{fat_options, lz4_high};

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
    /// The image's files, for a partition that is the root file system.
    pub files: Option<&'a Tree>,
    /// The programs that start it.
    pub programs: &'a Programs,
    /// Which firmware can. Default: all.
    pub firmware: Vec<Firmware>,
    /// What UEFI verifies. Default: nothing.
    pub secure: &'a SecureBoot,
    /// The size of each of two slots for systems. Default: there are none.
    pub slots: Option<ByteLen>,
}

/// One or two partitions of the table for one of a definition, and what they add to the kernel's
/// command line.
#[derive(Default)]
struct Made {
    partitions: Vec<Partition>,
    argument: Option<String>,
}

impl<'a> Boot<'a> {
    /// A system that all firmware starts.
    #[must_use]
    pub fn new(system: System<'a>, programs: &'a Programs) -> Self {
        let (seed, firmware) = (Seed::new(system.name), Firmware::ALL.to_vec());
        let secure = &SecureBoot::Off;
        Self { seed, system, files: None, programs, firmware, secure, slots: None }
    }

    /// A disk with one partition: what it is started from, with a little room.
    ///
    /// # Errors
    /// Those of `kiln_diskimg`.
    pub fn only(&self) -> Result<Layout> {
        Ok(self.plan().with(self.whole()?).layout()?)
    }

    /// A definition's disk.
    ///
    /// # Errors
    /// [`Error::Plan`] with the place of a size that cannot hold its content; those of
    /// `kiln_diskimg`, all problems at once.
    pub fn layout(&self, definition: &Definition) -> Result<Layout> {
        let disk = &definition.disk;
        let mut plan = self.plan();
        plan.size = disk.size.as_ref().map(|size| size.value);
        if disk.partitions.is_empty() {
            plan.partitions.push(self.whole()?);
            return plan.layout().map_err(|error| too_small(definition, disk, error));
        }
        plan.partitions = self.partitions(definition)?;
        let layout = plan.layout().map_err(|error| too_small(definition, disk, error))?;
        // A file system on the rest of the disk is made once it is known how much that is.
        let (Some(entry), Some(placed)) = (disk.partitions.last(), layout.partitions.last()) else {
            return Ok(layout);
        };
        let grows = matches!(&entry.content.value, PartitionContent::Files { filesystem, .. }
            if filesystem.is_sized());
        if entry.size.value != PartitionSize::Rest || !grows {
            return Ok(layout);
        }
        let rest = Some(ByteLen(placed.sectors.saturating_mul(SECTOR)));
        let made = self.entry(definition, entry, &self.system, rest);
        let made = made.map_err(|error| Error::Plan(vec![place(definition, entry, &error)]))?;
        plan.partitions.pop();
        plan.partitions.extend(made.partitions);
        Ok(plan.layout()?)
    }

    /// The partitions of the table. What is started comes last: its command line may have to say
    /// what the others are.
    fn partitions(&self, definition: &Definition) -> Result<Vec<Partition>> {
        let entries = &definition.disk.partitions;
        let mut problems = Vec::new();
        let mut made: Vec<Made> = Vec::new();
        let mut system = self.system.clone();
        made.resize_with(entries.len(), Made::default);
        for boots in [false, true] {
            let wanted =
                |entry: &PartitionEntry| (entry.content.value == PartitionContent::Boot) == boots;
            let slots = made.iter_mut().zip(entries).filter(|(_, entry)| wanted(entry));
            for (slot, entry) in slots {
                match self.entry(definition, entry, &system, None) {
                    Ok(found) => *slot = found,
                    Err(error) => problems.push(place(definition, entry, &error)),
                }
            }
            for argument in made.iter_mut().filter_map(|made| made.argument.take()) {
                system.command_line = format!("{} {argument}", system.command_line);
            }
        }
        if problems.is_empty() {
            Ok(made.into_iter().flat_map(|made| made.partitions).collect())
        } else {
            Err(Error::Plan(problems))
        }
    }

    fn plan(&self) -> DiskPlan {
        let mut plan = DiskPlan::new(Table::Gpt, self.seed);
        if self.firmware.contains(&Firmware::Bios) {
            plan.boot_code = Some(self.programs.syslinux.mbr_code(Table::Gpt));
        }
        plan
    }

    /// What one entry becomes; `rest` is the length of what is left of the disk, once that is known.
    fn entry(
        &self,
        definition: &Definition,
        entry: &PartitionEntry,
        system: &System<'_>,
        rest: Option<ByteLen>,
    ) -> Result<Made> {
        let (name, label) = (entry.name.as_str(), entry.label.as_ref().map(|it| it.as_str()));
        let volume_size = match (entry.size.value, rest) {
            (PartitionSize::Fixed(len), _) | (PartitionSize::Rest, Some(len)) => {
                VolumeSize::Fixed(len)
            }
            (PartitionSize::Content { headroom }, _) => VolumeSize::FromContent { headroom },
            (PartitionSize::Rest, None) => VolumeSize::FromContent { headroom: ByteLen::ZERO },
        };
        let size = match entry.size.value {
            PartitionSize::Fixed(len) => Some(Size::Fixed(len)),
            PartitionSize::Content { .. } => None,
            PartitionSize::Rest => Some(Size::Rest),
        };
        let kind = entry.kind.value;
        let sized = |partition: Partition| match size {
            Some(size) => partition.sized(size),
            None => partition,
        };
        let only = |partition| Made { partitions: vec![sized(partition)], argument: None };
        let (filesystem, files, root) = match &entry.content.value {
            PartitionContent::Boot => {
                return Ok(only(self.bootable(system, name, label, volume_size, kind)?));
            }
            PartitionContent::Empty => {
                let none = Size::FromContent { headroom: ByteLen::ZERO };
                return Ok(only(Partition::empty(name, kind, none)));
            }
            PartitionContent::Files { filesystem, files, root } => (*filesystem, files, *root),
        };
        // Its size is found out first.
        if rest.is_none() && size == Some(Size::Rest) && *files == Files::None {
            return Ok(only(Partition::empty(name, kind, Size::Rest)));
        }
        let tree = volume::files(definition, files, self.files)?;
        let time = u32::try_from(definition.epoch).unwrap_or(u32::MAX);
        let wanted = Wanted { seed: self.seed, name, label, filesystem, size: volume_size, time };
        let content = wanted.make(&tree)?;
        let mut partition = sized(Partition::new(name, kind, content.clone()));
        match filesystem {
            // It takes what the disk has won when the guest mounts it.
            Filesystem::Ext4 if root != Some(Root::Verified) => {
                partition.attributes |= gpt::GROW_FILE_SYSTEM;
            }
            _ if root.is_some() => partition.attributes |= gpt::READ_ONLY,
            _ => {}
        }
        let guid = self.seed.guid(&format!("root {name}"));
        Ok(match root {
            None => Made { partitions: vec![partition], argument: None },
            Some(Root::Plain) => {
                partition.guid = Some(guid);
                let argument = Some(format!("kiln.root={guid}"));
                Made { partitions: vec![partition], argument }
            }
            Some(Root::Verified) => {
                let verity = volume::verified(content, self.seed, name)?;
                let hash = verity.root_hash()?;
                let (data, hashes) = hash.partition_guids();
                let kind = match kind {
                    PartitionType::LINUX_ROOT_X86_64 => PartitionType::LINUX_ROOT_X86_64_VERITY,
                    _ => PartitionType::LINUX,
                };
                let tree = format!("{name}-verity");
                let mut tree = Partition::new(&tree, kind, verity.tree());
                tree.guid = Some(hashes);
                partition.content = Some(std::sync::Arc::new(verity.data()));
                partition.guid = Some(data);
                for partition in [&mut partition, &mut tree] {
                    partition.attributes |= gpt::READ_ONLY;
                }
                let argument = Some(format!("roothash={hash}"));
                Made { partitions: vec![partition, tree], argument }
            }
        })
    }

    /// The only partition of a disk.
    fn whole(&self) -> Result<Partition> {
        let size = VolumeSize::FromContent { headroom: HEADROOM };
        let (name, kind) = (self.system.name, PartitionType::EFI_SYSTEM);
        self.bootable(&self.system, name, None, size, kind)
    }

    /// The partition that is started from.
    fn bootable(
        &self,
        system: &System<'_>,
        name: &str,
        label: Option<&str>,
        size: VolumeSize,
        kind: PartitionType,
    ) -> Result<Partition> {
        let label = label.unwrap_or(system.name);
        let fat = fat_options(self.seed, "volume", Some(label), size);
        let bios = self.firmware.contains(&Firmware::Bios);
        let volume = if let Some(room) = self.slots {
            if !matches!(self.secure, SecureBoot::Off) {
                let problem = "slots go without Secure Boot: what starts them verifies nothing";
                return Err(Error::input("slots", problem));
            }
            let mut options = slots::Options::new(room);
            system.title.clone_into(&mut options.title);
            (options.id, options.fat) = (self.seed.number("slots"), fat);
            system.slots(self.programs, &self.firmware, options)?
        } else {
            let tree = system.partition(self.programs, &self.firmware, self.secure)?;
            let volume = Volume::plan(&tree, &fat)?;
            if bios { self.programs.syslinux.install(volume, "syslinux")? } else { volume }
        };
        let partition = Partition::new(name, kind, volume);
        Ok(if bios { partition.bootable() } else { partition })
    }
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
