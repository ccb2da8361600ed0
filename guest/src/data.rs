//! The disk that keeps what the system writes.

use std::path::Path;
use std::process::ExitCode;

use kiln_supervisor::pid1::block;

use crate::console::say;
use crate::{System, first_boot, format, grow};

/// Mounts the disk, or a tmpfs where there is none. What a copy of an image changes about its disk is
/// changed before: a partition of it may be the one that is mounted.
pub(crate) fn mount(system: &System) -> ExitCode {
    first_boot::disks();
    grow::partitions();
    let Some(data) = &system.data else { return ExitCode::SUCCESS };
    if let Some(done) = format::if_blank(&data.label, &data.blank) {
        say(&system.name, done.unwrap_or_else(|problem| problem));
    }
    match block::mount_labelled_or_tmpfs(&data.label, &data.directory) {
        Ok(()) => {
            if let Some(found) = block::find_labelled(&data.label) {
                // One that was made here is smaller than its disk at first.
                match data.grow || data.blank.contains(&found.device) {
                    true => grow::whole(&data.directory),
                    false => grow::file_system(&found.device, &data.directory),
                }
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            say(&system.name, error);
            ExitCode::FAILURE
        }
    }
}

/// Whether what is written below a directory is still there after a restart.
pub(crate) fn is_kept(directory: &Path) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(directory).is_ok_and(|found| !IN_MEMORY.contains(&found.f_type))
}
