//! The disk that keeps what the system writes.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use kiln_supervisor::pid1::block;

use crate::console::say;
use crate::{System, first_boot, format, grow};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Mounts the disk, or a tmpfs where there is none. What a copy of an image changes about its disk is
/// changed before: a partition of it may be the one that is mounted.
pub(crate) fn mount(system: &System) -> ExitCode {
    first_boot::disks();
    grow::partitions();
    let Some(data) = &system.data else { return ExitCode::SUCCESS };
    if !until(data.patience, || block::find_labelled(&data.label).is_some()) {
        say(&system.name, format_args!("no {} in {} s", data.label, data.patience.as_secs()));
    }
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

/// Whether something comes about in time; it is looked at once at least where anybody waits.
fn until(patience: Duration, mut is: impl FnMut() -> bool) -> bool {
    let began = Instant::now();
    while !patience.is_zero() && !is() {
        if began.elapsed() >= patience {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
    true
}

/// Whether what is written below a directory is still there after a restart.
pub(crate) fn is_kept(directory: &Path) -> bool {
    /// `TMPFS_MAGIC` and `RAMFS_MAGIC` of linux/magic.h.
    const IN_MEMORY: [i64; 2] = [0x0102_1994, 0x8584_58f6];
    rustix::fs::statfs(directory).is_ok_and(|found| !IN_MEMORY.contains(&found.f_type))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_waited_for_as_long_as_asked_for() {
        let mut looks = 0;
        let long = Duration::from_secs(600);
        let mut third = || {
            looks += 1;
            looks == 3
        };
        assert!(until(long, &mut third));
        assert_eq!(looks, 3);
        let short = Duration::from_millis(120);
        let began = Instant::now();
        assert!(!until(short, || false));
        assert!(began.elapsed() >= short);
        // nobody waits, nobody looks
        assert!(until(Duration::ZERO, || unreachable!()));
    }
}
