//! Everything that is made of a kernel and an initramfs.

use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;

use kiln_diskimg::bundle::{self, Machine, Nic};
use kiln_diskimg::container::{self, Adapter};
use kiln_diskimg::{Layout, Seed};
use kiln_tree::Source;
use tempfile::NamedTempFile;

use super::{Options, Plan};
use crate::boot::System;
use crate::definition::{self, Definition, Firmware, Format};
use crate::disk::Boot;
use crate::kernel::Kernel;
use crate::{Error, Result, cache};

/// What is booted: by a loader from a disk, by UEFI, by QEMU itself.
pub(super) struct Bootable<'a> {
    pub(super) kernel: &'a Kernel,
    initramfs: Arc<[u8]>,
    /// When a disk is made.
    disk: Option<Layout>,
    /// When UEFI is to start the kernel itself.
    unified: Option<kiln_diskimg::boot::pe::Image>,
    /// The machine that an appliance describes.
    machine: Machine,
    options: container::Options,
}

impl<'a> Bootable<'a> {
    pub(super) fn new(
        definition: &Definition,
        options: &Options,
        wanted: &definition::Kernel,
        kernel: &'a Kernel,
        initramfs: Arc<[u8]>,
        plan: &Plan,
    ) -> Result<Self> {
        let name = definition.name.as_str();
        let title = definition.title.as_deref().unwrap_or(name);
        let seed = Seed::new(definition.seed.as_deref().unwrap_or(name));
        let firmware = options.firmware(definition);
        let mut written = container::Options::default();
        written.seed = seed;
        let mut made = Self {
            kernel,
            initramfs: Arc::clone(&initramfs),
            disk: None,
            unified: None,
            machine: machine(definition, title, &firmware),
            options: written,
        };
        let Some(programs) = &plan.inputs.programs else { return Ok(made) };
        let image = &kernel.image;
        let len = std::fs::metadata(image).map_err(Error::io("stat", image))?.len();
        let source = Source::File { path: image.clone(), len };
        let mut system = System::new(name, source, initramfs, &wanted.command_line);
        system.title = title;
        let (signer, formats) = (plan.inputs.signer.as_ref(), options.formats(definition));
        if formats.contains(&Format::Uki) {
            made.unified = Some(system.unified(programs, signer)?);
        }
        if formats.iter().any(|format| format.is_disk()) {
            let mut boot = Boot::new(system, programs);
            (boot.seed, boot.firmware, boot.signer) = (seed, firmware, signer);
            made.disk = Some(boot.layout(definition)?);
        }
        Ok(made)
    }

    /// Writes one artifact.
    pub(super) fn write(&self, format: Format, path: &Path) -> Result<()> {
        let unread =
            || Error::input(path.display().to_string(), "the programs that start it were not read");
        let disk = || self.disk.as_ref().ok_or_else(unread);
        let options = &self.options;
        match format {
            Format::Initramfs => cache::write_file(path, &self.initramfs),
            Format::Uki => {
                let image = self.unified.as_ref().ok_or_else(unread)?;
                Ok(container::write_file(container::Format::Raw, image, path)?)
            }
            Format::Ova => {
                bundled(path, |file| Ok(bundle::write_ova(&self.machine, disk()?, file, options)?))
            }
            Format::VboxZip => bundled(path, |file| {
                Ok(bundle::write_vbox_zip(&self.machine, disk()?, file, options)?)
            }),
            Format::Gce => bundled(path, |file| {
                let file = bundle::write_gce(disk()?, BufWriter::new(file), options)?.into_inner();
                file.map_err(|error| Error::io("write", path)(error.into_error()))
            }),
            Format::RawZst => {
                let mut map = String::new();
                bundled(path, |file| {
                    let (file, text) = bundle::write_raw_zst(disk()?, file, options)?;
                    map = text;
                    Ok(file)
                })?;
                cache::write_file(&path.with_extension("bmap"), map.as_bytes())
            }
            other => {
                let no_disk = || Error::input(path.display().to_string(), "it is no disk");
                let container = other.container().ok_or_else(no_disk)?;
                Ok(container::write_file_with(container, disk()?, path, options)?)
            }
        }
    }
}

/// Makes a file beside its place first.
fn bundled(path: &Path, write: impl FnOnce(NamedTempFile) -> Result<NamedTempFile>) -> Result<()> {
    cache::persist(write(cache::beside(path)?)?, path)
}

/// The machine that an appliance describes.
fn machine(definition: &Definition, title: &str, firmware: &[Firmware]) -> Machine {
    let mut machine = Machine::new(definition.name.as_str());
    title.clone_into(&mut machine.product);
    // What every hypervisor has, and every kernel a driver for.
    (machine.nic, machine.controller) = (Some(Nic::E1000), Adapter::Ide);
    if let Some(memory) = &definition.run.memory {
        machine.memory_mib = u32::try_from(memory.0 >> 20).unwrap_or(machine.memory_mib);
    }
    if !firmware.contains(&Firmware::Bios) {
        machine.firmware = bundle::Firmware::Uefi;
    }
    machine
}
