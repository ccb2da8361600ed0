//! The directory of systemd-boot's entries, which is one sector: what is started once is so by a name
//! in it.

use kiln_tree::TreePath;

use super::places::{Places, Run};
use super::text::{ENTRIES, ENTRY, uefi_entry};
use super::{FORMAT, Slot};
use crate::boot::bls::FileName;
use crate::fat::{DirectoryFile, Geometry, directory_sector};
use crate::field::narrow32;
use crate::{Error, Result};

/// The name of the entry that is started once, without what is counted in it.
const ONCE: &str = "slot-try";

/// What its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Try {
    /// It has a try left, and is started next.
    Armed,
    /// It has none left.
    Spent,
    /// It is not there: firmware was interrupted while it renamed it.
    Lost,
}

fn once(left: u32, done: u32) -> String {
    let mut name = FileName::conf(ONCE).with_tries(left);
    name.tries_done = Some(done);
    name.to_string()
}

/// The path of the entry while it has no try left: that of a new disk.
pub(super) fn spent() -> String {
    format!("{ENTRIES}/{}", once(0, 1))
}

/// What a file in the directory says about the try, if it does.
pub(super) fn of_name(path: &TreePath) -> Option<Try> {
    let name = std::str::from_utf8(path.file_name()?).ok()?;
    let name = FileName::parse(name).ok().filter(|name| name.id == ONCE)?;
    Some(if name.tries_left == Some(0) { Try::Spent } else { Try::Armed })
}

/// The directory's sector with the entry that is started once armed, or not.
pub(super) fn sector(places: &Places, geometry: &Geometry, armed: bool) -> Result<[u8; 512]> {
    let Some(uefi) = places.uefi else {
        return Err(Error::malformed(FORMAT, 0, "nothing for systemd-boot is on this disk"));
    };
    let cluster = |run: Run| {
        let sectors = u64::from(run.first).saturating_sub(geometry.data_start());
        narrow32(sectors / geometry.cluster.max(1) + 2)
    };
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let file = |name: String, run: Run| DirectoryFile {
        name,
        cluster: cluster(run),
        len: narrow32(ENTRY),
    };
    let mut files: Vec<DirectoryFile> =
        Slot::ALL.map(|slot| file(name(&uefi_entry(slot)), places.slot(slot).uefi_entry)).into();
    let (left, done) = if armed { (1, 0) } else { (0, 1) };
    files.push(file(once(left, done), uefi.once));
    directory_sector(cluster(uefi.entries), uefi.parent, &files)
        .ok_or_else(|| Error::malformed(FORMAT, uefi.entries.offset(), "more than one sector"))
}
