//! Machines of a kernel and one archive: no disk, no network, nothing of an image.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kiln::qemu::{DirectKernel, Machine};
use kiln_initramfs::{Compression, write_image};
use kiln_tree::Tree;

/// What such a machine's kernel is told.
pub const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1";

/// A machine that finds this tree as its root; the archive is made in the directory, which has to stay.
///
/// # Errors
/// The tree cannot be packed, or written there.
pub fn machine(kernel: PathBuf, tree: &Tree, directory: &Path) -> Result<Machine> {
    let initramfs = directory.join("initramfs");
    std::fs::write(&initramfs, write_image(tree, &Compression::None, Vec::new())?)?;
    let mut machine = Machine::default();
    (machine.network, machine.nic) = (false, None);
    machine.kernel = Some(DirectKernel { kernel, initramfs, command_line: COMMAND_LINE.into() });
    Ok(machine)
}
