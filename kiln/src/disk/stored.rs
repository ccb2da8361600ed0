//! A disk that is in a file already, whatever it is stored in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_diskimg::container::{self, BlockSource};
use kiln_diskimg::fat::VolumeSize;
use kiln_diskimg::{ByteLen, Content, Limits, SECTOR, Sink, gpt};

use super::volume::{self, Wanted};
use crate::definition::{Definition, PartitionContent, hint};
use crate::{Error, Result};

/// How much is copied at once.
const CHUNK: usize = 1 << 20;

/// A disk in a file, with other content in some places.
#[derive(Debug)]
pub struct Stored {
    path: PathBuf,
    len: u64,
    /// By the byte at which it begins.
    replaced: BTreeMap<u64, Arc<dyn Content>>,
}

impl Stored {
    /// Opens a disk in any format.
    ///
    /// # Errors
    /// Those of `kiln_diskimg` for what is none.
    pub fn open(path: &Path) -> Result<Self> {
        let len = container::open_file(path, &Limits::default())?.len();
        Ok(Self { path: path.to_path_buf(), len, replaced: BTreeMap::new() })
    }

    /// Puts the files of a directory in place of those of a partition, in a new file system of the kind
    /// and label that the definition says, as large as the partition.
    ///
    /// # Errors
    /// [`Error::Input`] when disk or definition have no such partition, or one without a file system;
    /// those of `kiln_diskimg` for files that do not fit.
    pub fn replace(&mut self, definition: &Definition, name: &str, files: &Path) -> Result<()> {
        let limits = Limits::default();
        let mut disk = container::open_file(&self.path, &limits)?;
        let table = gpt::read(&mut disk, &limits)?;
        let found = table.entries.iter().find(|(_, entry)| entry.name == name);
        let wanted = definition.disk.partitions.iter().find(|it| it.name.value == name);
        let (Some((_, found)), Some(wanted)) = (found, wanted) else {
            let known = table.entries.iter().map(|(_, entry)| entry.name.as_str());
            let text = format!("it has no partition {name:?}{}", hint(name, known));
            return Err(Error::input(self.path.display().to_string(), text));
        };
        let PartitionContent::Files { filesystem, .. } = &wanted.content.value else {
            let text = format!("partition {name:?} has no files");
            return Err(Error::input(definition.file.display().to_string(), text));
        };
        let sectors = found.last.saturating_sub(found.first).saturating_add(1);
        let size = VolumeSize::Fixed(ByteLen(sectors.saturating_mul(SECTOR)));
        let made = Wanted {
            seed: definition.seed(),
            name,
            label: wanted.label.as_ref().map(|label| label.as_str()),
            filesystem: *filesystem,
            size,
            time: u32::try_from(definition.epoch).unwrap_or(u32::MAX),
        };
        let content = made.make(&volume::directory(files)?)?;
        self.replaced.insert(found.first.saturating_mul(SECTOR), content);
        Ok(())
    }
}

impl Content for Stored {
    fn len(&self) -> u64 {
        self.len
    }

    fn write_to(&self, sink: &mut dyn Sink) -> kiln_diskimg::Result<()> {
        let mut disk = container::open_file(&self.path, &Limits::default())?;
        let mut at = 0;
        for (start, content) in &self.replaced {
            copy(&mut disk, at, *start, sink)?;
            content.write_to(sink)?;
            at = start.saturating_add(content.len());
        }
        copy(&mut disk, at, self.len, sink)
    }
}

/// Gives a sink the bytes from one offset to another.
fn copy(
    disk: &mut dyn BlockSource,
    mut at: u64,
    end: u64,
    sink: &mut dyn Sink,
) -> kiln_diskimg::Result<()> {
    let mut buffer = vec![0; CHUNK];
    while at < end {
        let (data, len) = match disk.next_data(at)? {
            Some((data, len)) if data < end => (data, len),
            _ => break,
        };
        sink.hole(data.saturating_sub(at))?;
        at = data;
        let stop = data.saturating_add(len).min(end);
        while at < stop {
            let count = usize::try_from(stop - at).unwrap_or(CHUNK).min(CHUNK);
            let part = buffer.get_mut(..count).unwrap_or_default();
            disk.read_at(at, part)?;
            sink.data(part)?;
            at = at.saturating_add(part.len() as u64);
        }
    }
    sink.hole(end.saturating_sub(at))
}

#[cfg(test)]
mod tests {
    use kiln_diskimg::gpt::PartitionType;
    use kiln_diskimg::{DiskPlan, Partition, Seed, Size, Table, ext4};
    use kiln_tree::{Node, Tree};

    use super::*;

    const DEFINITION: &str = r#"
name = "test"
[kernel]
package = "linux-image-amd64"
[init]
cargo = "some-init"
[[disk.partition]]
name = "boot"
boot = true
[[disk.partition]]
name = "OEM"
filesystem = "ext4"
size = "8MiB"
"#;

    #[test]
    fn a_partition_gets_other_files_and_everything_else_stays() {
        let work = tempfile::tempdir().unwrap();
        let raw = work.path().join("disk.raw");
        let mut tree = Tree::new();
        tree.insert("old.txt", Node::file("old content")).unwrap();
        let mut options = ext4::Options::default();
        options.size = VolumeSize::Fixed(ByteLen::mib(8));
        let volume = ext4::Volume::plan(&tree, &options).unwrap();
        let mut plan = DiskPlan::new(Table::Gpt, Seed::new("test"));
        let zeroes = Size::Fixed(ByteLen::mib(1));
        let (first, last) = (vec![7_u8; 5000], vec![9_u8; 5000]);
        plan.partitions = vec![
            Partition::new("boot", PartitionType::LINUX, first).sized(zeroes),
            Partition::new("OEM", PartitionType::LINUX, volume),
            Partition::new("ROOT", PartitionType::LINUX, last).sized(zeroes),
        ];
        let layout = plan.layout().unwrap();
        container::write_file(container::Format::Raw, &layout, &raw).unwrap();
        let files = work.path().join("files");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("new.json"), "what is new").unwrap();

        let definition = Definition::parse(DEFINITION, "image.toml".as_ref()).unwrap();
        let mut stored = Stored::open(&raw).unwrap();
        stored.replace(&definition, "OEM", &files).unwrap();
        let made = work.path().join("made.raw");
        container::write_file(container::Format::Raw, &stored, &made).unwrap();
        let (before, after) = (std::fs::read(&raw).unwrap(), std::fs::read(&made).unwrap());
        assert_eq!(before.len(), after.len());
        let placed = &layout.partitions[1];
        let start = usize::try_from(placed.first.0 * SECTOR).unwrap();
        let end = start + (8 << 20);
        assert!(before[..start] == after[..start] && before[end..] == after[end..]);
        let has = |bytes: &[u8], text: &str| {
            bytes[start..end].windows(text.len()).any(|part| part == text.as_bytes())
        };
        assert!(has(&before, "old content") && !has(&after, "old content"));
        assert!(has(&after, "what is new") && has(&after, "new.json"));

        // Other formats read the same, and what is not there is named.
        let qcow2 = work.path().join("disk.qcow2");
        container::write_file(container::Format::Qcow2, &Stored::open(&raw).unwrap(), &qcow2)
            .unwrap();
        let back = work.path().join("back.raw");
        container::write_file(container::Format::Raw, &Stored::open(&qcow2).unwrap(), &back)
            .unwrap();
        assert!(before == std::fs::read(back).unwrap());
        let error = stored.replace(&definition, "OEN", &files).unwrap_err().to_string();
        assert!(error.contains("it has no partition \"OEN\"; did you mean \"OEM\"?"), "{error}");
        let error = stored.replace(&definition, "boot", &files).unwrap_err().to_string();
        assert!(error.contains("partition \"boot\" has no files"), "{error}");
    }
}
