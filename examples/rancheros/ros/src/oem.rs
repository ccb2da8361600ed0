//! The partition of whoever sells the machine: a layer of the configuration, and files beside it.

use kiln_guest::mounts::{Done, Entry};

use crate::{configuration, places};

/// Mounts it, read-only, where it is there: before the state disk, of which it may say something, and once
/// more after it, for a drive that is slow. Nobody waits for what most machines have not.
pub(crate) fn mount() {
    let state = configuration::early().state;
    let Some(device) = state.oem_dev.filter(|device| !device.is_empty()) else { return };
    let fstype = state.oem_fstype.unwrap_or_else(|| "auto".into());
    let entry = Entry::new(device, places::OEM, fstype, "ro,nosuid,nodev,noexec");
    if entry.is_missing() {
        return;
    }
    let what = match entry.perform() {
        Ok(Done::Done) => format!("{} is at {}", entry.what, places::OEM),
        Ok(_) => return,
        Err(why) => why,
    };
    kiln_supervisor::unix::console_line(format_args!("oem: {what}"));
}
