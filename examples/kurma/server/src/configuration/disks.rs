//! Disks that something of the machine is kept on.

use kiln_cloudconfig::Cursor;

/// A disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Disk {
    /// `LABEL=`, `PARTLABEL=` or `UUID=` and what it says, or a path.
    pub device: String,
    /// Its file system. Default: ext4.
    pub fstype: String,
    /// mount(8)'s words.
    pub options: String,
    /// What is kept on it.
    pub usage: Vec<Usage>,
    /// Whether it takes all the room there is.
    pub resize: bool,
}

/// What can be kept on a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Usage {
    /// Images.
    Images,
    /// Pods.
    Pods,
    /// Directories of the machine that pods have as volumes.
    Volumes,
}

impl Usage {
    /// The name, which is that of the directory too.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Pods => "pods",
            Self::Volumes => "volumes",
        }
    }
}

fn usage(at: &Cursor<'_>) -> Option<Usage> {
    let all = [Usage::Images, Usage::Pods, Usage::Volumes];
    at.one_of(&all.map(|usage| (usage.as_str(), usage)))
}

fn disk(at: &Cursor<'_>) -> Option<Disk> {
    let mut fields = at.fields()?;
    let device = fields.required("device", |at| {
        let text = at.text()?;
        let said =
            ["LABEL=", "PARTLABEL=", "UUID="].iter().find_map(|kind| text.strip_prefix(kind));
        match said {
            Some("") => at.expected("what is after the equals sign"),
            None if !text.starts_with('/') => at.expected("LABEL=, PARTLABEL=, UUID=, or a path"),
            _ => Some(text.to_owned()),
        }
    });
    let disk = Disk {
        device: device.unwrap_or_default(),
        fstype: fields
            .get("fstype", |at| {
                at.one_of(&["ext4", "xfs", "btrfs", "vfat"].map(|name| (name, name)))
            })
            .unwrap_or("ext4")
            .to_owned(),
        options: fields.get("options", |at| at.text().map(str::to_owned)).unwrap_or_default(),
        usage: fields.list("usage", usage),
        resize: fields.get("resize", Cursor::bool).unwrap_or_default(),
    };
    fields.not_supported(&["format"]);
    fields.finish();
    (!disk.device.is_empty()).then_some(disk)
}

/// Reads `disks`: each usage is on one disk alone.
pub(super) fn disks(at: &Cursor<'_>) -> Option<Vec<Disk>> {
    let disks = at.list(|at| at.whole(disk));
    let mut used = Vec::new();
    for usage in disks.iter().flat_map(|disk| &disk.usage) {
        if used.contains(usage) {
            return at.wrong(format_args!("{} are kept on two disks", usage.as_str()));
        }
        used.push(*usage);
    }
    Some(disks)
}
