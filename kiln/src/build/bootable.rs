//! Everything that is made of a kernel and an initramfs.

use std::io::BufWriter;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kiln_diskimg::bundle::{self, Machine, Nic};
use kiln_diskimg::container::{self, Adapter};
use kiln_diskimg::slots::Release;
use kiln_diskimg::{Content, Layout, iso};
use kiln_tree::{Source, Tree};
use tempfile::NamedTempFile;

use super::base::os_release;
use super::{Options, Plan, ramroot, stage};
use crate::boot::System;
use crate::definition::{self, Definition, Firmware, Format};
use crate::disk::Boot;
use crate::kernel::Kernel;
use crate::{Error, Progress, Result, cache, image};

/// What is booted: by a loader from a disk or CD, by UEFI, by QEMU itself.
pub(super) struct Bootable<'a> {
    pub(super) kernel: &'a Kernel,
    /// All files, when something boots from memory.
    initramfs: Option<Arc<[u8]>>,
    /// When a disk is made.
    disk: Option<Layout>,
    /// When a CD is made.
    cd: Option<iso::Volume>,
    /// When it can be installed into slots: what it is.
    release: Option<Release>,
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
        plan: &Plan,
        progress: &Progress,
    ) -> Result<Self> {
        let seed = definition.seed();
        let firmware = options.firmware(definition);
        let formats = options.formats(definition);
        let pack = |tree: &Tree| -> Result<Arc<[u8]>> {
            let step = progress.step("packing the files");
            let (cache, compression) = (&options.cache, options.compression);
            let image = image::initramfs(cache, tree, &plan.records, compression, progress)?;
            step.done();
            Ok(image.into())
        };
        let is_disk = formats.iter().any(|format| format.is_disk());
        // Beside a disk with the root on it, everything else still carries all files.
        let from_disk = definition.root().is_some();
        let in_memory = formats.iter().any(|format| !format.is_archive() && !format.is_disk());
        // Where the root is fetched, what boots only leads to it.
        let leads = match &definition.ramroot {
            Some(wanted) => Some(ramroot::stage(definition, wanted, options, &plan.tree)?),
            None => None,
        };
        let tree = leads.as_ref().unwrap_or(&plan.tree);
        let initramfs = match &options.initramfs {
            Some(path) => Some(std::fs::read(path).map_err(Error::io("read", path))?.into()),
            None if in_memory || (is_disk && !from_disk) => Some(pack(tree)?),
            None => None,
        };
        let mut written = container::Options::default();
        written.seed = seed;
        let mut made = Self {
            kernel,
            initramfs: initramfs.clone(),
            disk: None,
            cd: None,
            release: None,
            unified: None,
            machine: machine(definition, &firmware),
            options: written,
        };
        let path = &kernel.image;
        let len = std::fs::metadata(path).map_err(Error::io("stat", path))?.len();
        let source = Source::File { path: path.clone(), len };
        let system = |initramfs: &Arc<[u8]>| {
            let (source, initramfs) = (source.clone(), Arc::clone(initramfs));
            let line = wanted.command_line.as_str();
            let mut system = System::new(&definition.name, source, initramfs, line);
            system.title = definition.title();
            system.os_release = os_release(definition);
            system.version = definition.version.clone();
            system
        };
        if let Some(initramfs) = initramfs.as_ref().filter(|_| definition.disk.slots.is_some()) {
            made.release = Some(system(initramfs).release()?);
        }
        let Some(programs) = &plan.inputs.programs else { return Ok(made) };
        let secure = &plan.inputs.secure;
        if let Some(text) = secure.refusal(&source)? {
            return Err(Error::input(path.display().to_string(), text));
        }
        if let Some(initramfs) = &initramfs {
            if formats.contains(&Format::Uki) {
                made.unified = Some(system(initramfs).unified(programs, secure)?);
            }
            if formats.contains(&Format::Iso) {
                let time = u32::try_from(definition.epoch).unwrap_or(u32::MAX);
                let mut system = system(initramfs);
                system.carried.clone_from(&made.release);
                made.cd = Some(system.cd(programs, &firmware, secure, seed, time)?);
            }
        }
        if is_disk {
            let first = if from_disk { Some(pack(&stage::first(&plan.tree)?)?) } else { initramfs };
            if let Some(initramfs) = first {
                let mut boot = Boot::new(system(&initramfs), programs);
                (boot.seed, boot.firmware, boot.secure) = (seed, firmware, secure);
                boot.files = Some(&plan.tree);
                boot.slots = definition.disk.slots.as_ref().map(|slots| slots.value);
                made.disk = Some(boot.layout(definition)?);
            }
        }
        Ok(made)
    }

    /// What a slot is filled with, where there are slots: what goes beside kernel and initramfs.
    pub(super) fn release(&self) -> Option<String> {
        self.release.as_ref().map(Release::to_string)
    }

    /// Writes one artifact.
    pub(super) fn write(&self, format: Format, path: &Path) -> Result<()> {
        let unread =
            || Error::input(path.display().to_string(), "the programs that start it were not read");
        match format {
            Format::Initramfs | Format::Netboot => {
                cache::write_file(path, self.initramfs.as_ref().ok_or_else(unread)?)
            }
            Format::Iso => {
                let volume = self.cd.as_ref().ok_or_else(unread)?;
                Ok(container::write_file(container::Format::Raw, volume, path)?)
            }
            Format::Uki => {
                let image = self.unified.as_ref().ok_or_else(unread)?;
                Ok(container::write_file(container::Format::Raw, image, path)?)
            }
            disk => {
                let layout = self.disk.as_ref().ok_or_else(unread)?;
                write_disk(layout, &self.machine, disk, &self.options, path)
            }
        }
    }
}

/// Writes a disk, or what has one in it.
pub(super) fn write_disk(
    disk: &dyn Content,
    machine: &Machine,
    format: Format,
    options: &container::Options,
    path: &Path,
) -> Result<()> {
    match format {
        Format::Ova => bundled(path, |file| Ok(bundle::write_ova(machine, disk, file, options)?)),
        Format::VboxZip => {
            bundled(path, |file| Ok(bundle::write_vbox_zip(machine, disk, file, options)?))
        }
        Format::VmxZip => {
            bundled(path, |file| Ok(bundle::write_vmx_zip(machine, disk, file, options)?))
        }
        Format::Gce => bundled(path, |file| {
            let file = bundle::write_gce(disk, BufWriter::new(file), options)?.into_inner();
            file.map_err(|error| Error::io("write", path)(error.into_error()))
        }),
        Format::RawZst => {
            let mut map = String::new();
            bundled(path, |file| {
                let (file, text) = bundle::write_raw_zst(disk, file, options)?;
                map = text;
                Ok(file)
            })?;
            cache::write_file(&map_beside(path), map.as_bytes())
        }
        other => {
            let no_disk = || Error::input(path.display().to_string(), "it is no disk");
            let container = other.container().ok_or_else(no_disk)?;
            Ok(container::write_file_with(container, disk, path, options)?)
        }
    }
}

/// Where the map of a compressed disk is that says which of its blocks have something in them.
pub(super) fn map_beside(disk: &Path) -> PathBuf {
    disk.with_extension("bmap")
}

/// Makes a file beside its place first.
fn bundled(path: &Path, write: impl FnOnce(NamedTempFile) -> Result<NamedTempFile>) -> Result<()> {
    cache::persist(write(cache::beside(path)?)?, path)
}

/// The machine that an appliance describes.
pub(super) fn machine(definition: &Definition, firmware: &[Firmware]) -> Machine {
    let mut machine = Machine::new(definition.name.as_str());
    definition.title().clone_into(&mut machine.product);
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
