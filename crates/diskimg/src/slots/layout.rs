//! A partition with one system in its first slot.

use kiln_tree::{Metadata, Node, Source, Tree, TreePath};

use super::pieces::{self, UNIT};
use super::places::{BiosPlaces, Places, TITLE_LEN, UefiPlaces, run};
use super::record::{Record, VERSION_LEN};
use super::text::{self, CONFIG, ENTRY, Entries};
use super::{Part, Slot, SlotPlaces, entries};
use crate::boot::bls::LoaderConf;
use crate::boot::esp::{Architecture, Esp};
use crate::boot::syslinux::Loader;
use crate::error::Problems;
use crate::fat::{self, Volume};
use crate::units::{ByteLen, SECTOR};
use crate::{Error, Result};

/// Bytes of the file with places and records.
const STATE: usize = 4096;
/// 1980-01-01, the time that FAT counts from.
const TIME: u32 = 315_532_800;

/// What a partition with slots should be.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Which disk this is, for a system that runs from one of several. Default: 1.
    pub id: u32,
    /// What menus show: up to 64 bytes. Default: `system`.
    pub title: String,
    /// Room of each slot, for kernel and initramfs together.
    pub size: ByteLen,
    /// Of this, room for the kernel. Default: half as much again as the first one takes, at least 16
    /// MiB.
    pub kernel: ByteLen,
    /// The serial console of SYSLINUX: its number and speed. Default: the first at 115200.
    pub serial: Option<(u8, u32)>,
    /// The volume. Its times are 1980-01-01, whatever it says.
    pub fat: fat::Options,
}

impl Options {
    /// Slots of this size.
    #[must_use]
    pub fn new(size: ByteLen) -> Self {
        Self {
            id: 1,
            title: "system".to_owned(),
            size,
            kernel: ByteLen::ZERO,
            serial: Some((0, 115_200)),
            fat: fat::Options::default(),
        }
    }
}

/// The system in the first slot.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct System {
    /// Its version, by which later ones are compared: up to 128 bytes, no control characters.
    pub version: String,
    /// The kernel.
    pub kernel: Source,
    /// Its initramfs.
    pub initrd: Source,
    /// Its command line. A word that says which slot it is comes after it.
    pub command_line: String,
}

impl System {
    /// A system from its parts.
    #[must_use]
    pub fn new(
        version: impl Into<String>,
        kernel: impl Into<Source>,
        initrd: impl Into<Source>,
        command_line: impl Into<String>,
    ) -> Self {
        let (version, command_line) = (version.into(), command_line.into());
        Self { version, kernel: kernel.into(), initrd: initrd.into(), command_line }
    }
}

/// A partition that is to be made.
#[derive(Debug, Clone)]
pub struct Plan {
    options: Options,
    system: System,
    bios: Option<Loader>,
    uefi: Option<Source>,
}

impl Plan {
    /// With this system in its first slot, and nothing yet that starts it.
    #[must_use]
    pub fn new(options: Options, system: System) -> Self {
        Self { options, system, bios: None, uefi: None }
    }

    /// The same, started by SYSLINUX.
    #[must_use]
    pub fn syslinux(mut self, loader: Loader) -> Self {
        self.bios = Some(loader);
        self
    }

    /// The same, started by systemd-boot.
    #[must_use]
    pub fn systemd_boot(mut self, program: impl Into<Source>) -> Self {
        self.uefi = Some(program.into());
        self
    }

    /// Where everything will be that does not depend on the volume.
    fn places(&self, kernel: &Part) -> Places {
        let mib = ByteLen::mib(1).0;
        let usual = (kernel.len.saturating_mul(3) / 2).next_multiple_of(mib);
        let room = match self.options.kernel {
            ByteLen::ZERO => usual.max(ByteLen::mib(16).0),
            given => given.0.next_multiple_of(SECTOR),
        };
        let rest = self.options.size.0.saturating_sub(room);
        // A small room has small pieces.
        let unit = if rest < UNIT { pieces::WHOLE * SECTOR } else { UNIT };
        Places {
            id: self.options.id,
            title: self.options.title.clone(),
            kernel: room,
            initrd: rest / unit * unit,
            state: super::Run::default(),
            slots: [SlotPlaces::default(); 2],
            bios: None,
            uefi: None,
        }
    }

    fn check(&self, places: &Places, kernel: &Part, initrd: &Part) -> Result<()> {
        let mut problems = Problems(Vec::new());
        let mut say = |text: String| problems.0.push(text);
        if self.bios.is_none() && self.uefi.is_none() {
            say("nothing starts it: neither SYSLINUX nor systemd-boot".to_owned());
        }
        for (what, part, room) in
            [("kernel", kernel, places.kernel), ("initramfs", initrd, places.initrd)]
        {
            if part.len > room {
                let missing = part.len.saturating_sub(room);
                say(format!(
                    "the {what} has {} bytes, {missing} more than a slot has room for; raise the \
                     size of the slots, which is {}",
                    part.len, self.options.size
                ));
            }
        }
        if places.initrd > ByteLen::gib(8).0 {
            say(format!("slots of {}, a file on FAT has at most 4 GiB", self.options.size));
        }
        for (what, text, most) in [
            ("version", &self.system.version, VERSION_LEN),
            ("title", &self.options.title, TITLE_LEN),
        ] {
            if text.is_empty() || text.len() > most || text.chars().any(char::is_control) {
                say(format!("the {what} {text:?}: expected 1 to {most} bytes without controls"));
            }
        }
        problems.check(super::FORMAT)
    }

    /// The volume, with the second slot empty.
    ///
    /// # Errors
    /// [`Error::Plan`] with everything that is wrong; [`Error::Io`] when kernel or initramfs cannot
    /// be read.
    pub fn volume(&self) -> Result<Volume> {
        let part = |source: &Source, what: &str| {
            let mut reader = source.open().map_err(Error::io(format!("open the {what}")))?;
            Part::of_reader(&mut reader).map_err(Error::io(format!("read the {what}")))
        };
        let kernel = part(&self.system.kernel, "kernel")?;
        let initrd = part(&self.system.initrd, "initramfs")?;
        let mut places = self.places(&kernel);
        self.check(&places, &kernel, &initrd)?;
        let (version, line) = (&self.system.version, &self.system.command_line);
        let made = Entries::new(&places, Slot::A, version, line, initrd.len)?;
        let mut options = self.options.fat.clone();
        options.mtime = Some(TIME);
        let mut tree = self.loaders()?;
        self.slots(&mut tree, &mut options, &places, &made)?;
        let mut volume = Volume::plan(&tree, &options)?;
        if let Some(loader) = &self.bios {
            volume = loader.install(volume, text::SYSLINUX)?;
        }
        self.find(&volume, &mut places)?;
        let record = Record {
            version: version.clone(),
            generation: 1,
            good: true,
            kernel,
            initrd,
            entries: self.digest(&made),
        };
        let mut state = vec![0; STATE];
        crate::field::put(&mut state, 0, &places.emit());
        crate::field::put(&mut state, 512, &record.emit(Slot::A));
        volume.set_content(&TreePath::new(text::STATE)?, state)?;
        Ok(volume)
    }

    fn digest(&self, made: &Entries) -> [u8; 32] {
        let there = |bytes: &[u8], is: bool| if is { bytes.to_vec() } else { Vec::new() };
        let (bios, uefi) = (self.bios.is_some(), self.uefi.is_some());
        text::digest(&there(&made.bios, bios), &there(&made.uefi, uefi))
    }

    /// What loaders have of their own.
    fn loaders(&self) -> Result<Tree> {
        let mut esp = Esp::new(Architecture::X64);
        let full = |text: Option<Vec<u8>>| {
            text.ok_or_else(|| Error::malformed(super::FORMAT, 0, "a configuration is too long"))
        };
        if self.bios.is_some() {
            let config = full(text::bios_config(self.options.serial, Slot::A))?;
            esp.file(text::SYSLINUX_CONFIG, config);
        }
        let Some(program) = &self.uefi else { return esp.tree() };
        esp.systemd_boot(program.clone(), &LoaderConf::default());
        let mut tree = esp.tree()?;
        let config = full(text::uefi_config(Slot::A))?;
        tree.replace(text::LOADER_CONFIG.as_bytes(), Node::file(config))?;
        Ok(tree)
    }

    /// The slots' files.
    fn slots(
        &self,
        tree: &mut Tree,
        options: &mut fat::Options,
        places: &Places,
        made: &Entries,
    ) -> Result<()> {
        let none = Entries::none();
        let mut file = |path: String, content: Source, len: u64| -> Result<()> {
            options.lengths.insert(TreePath::new(&path)?, len);
            tree.insert(path, Node::file(content).with(Metadata::new(0o644)))?;
            Ok(())
        };
        file(text::STATE.to_owned(), vec![0; STATE].into(), STATE as u64)?;
        if self.uefi.is_some() {
            file(entries::spent(), none.once.clone().into(), ENTRY)?;
        }
        for slot in Slot::ALL {
            let (system, made) = match slot {
                Slot::A => (Some(&self.system), made),
                Slot::B => (None, &none),
            };
            let empty = || Source::from(Vec::new());
            let kernel = system.map_or_else(empty, |system| system.kernel.clone());
            file(text::kernel(slot), kernel, places.kernel)?;
            let initrd = system.map_or_else(empty, |system| system.initrd.clone());
            let chosen = pieces::chosen(places.initrd, initrd.len()).unwrap_or_default();
            let mut done = 0;
            for (piece, room) in pieces::lengths(places.initrd).into_iter().enumerate() {
                let len = if chosen.contains(&piece) {
                    room.min(initrd.len().saturating_sub(done))
                } else {
                    0
                };
                file(text::piece(slot, piece), slice(&initrd, done, len), room)?;
                done = done.saturating_add(len);
            }
            if self.bios.is_some() {
                file(text::bios_entry(slot), made.bios.clone().into(), ENTRY)?;
            }
            if self.uefi.is_some() {
                file(text::uefi_entry(slot), made.uefi.clone().into(), ENTRY)?;
            }
        }
        Ok(())
    }

    /// Fills in where everything came to lie.
    fn find(&self, volume: &Volume, places: &mut Places) -> Result<()> {
        let at = |path: &str| -> Result<super::Run> {
            let missing = || Error::NotFound { what: path.to_owned(), place: "the volume".into() };
            let extent = volume.extent(&TreePath::new(path)?).ok_or_else(missing)?;
            Ok(run(extent.first_sector, extent.len))
        };
        places.state = at(text::STATE)?;
        for (place, slot) in places.slots.iter_mut().zip(Slot::ALL) {
            place.kernel = at(&text::kernel(slot))?;
            for (index, piece) in place.pieces.iter_mut().enumerate() {
                *piece = at(&text::piece(slot, index))?;
            }
            if self.bios.is_some() {
                place.bios_entry = at(&text::bios_entry(slot))?;
            }
            if self.uefi.is_some() {
                place.uefi_entry = at(&text::uefi_entry(slot))?;
            }
        }
        if self.bios.is_some() {
            let sys = at(text::LDLINUX)?;
            let first = u64::from(sys.first) + u64::from(sys.sectors) - 2;
            let vector = run(first, 2 * SECTOR);
            places.bios = Some(BiosPlaces { config: at(text::SYSLINUX_CONFIG)?, vector });
        }
        if self.uefi.is_some() {
            let directory = |path: &str| -> Result<u64> {
                let missing =
                    || Error::NotFound { what: path.to_owned(), place: "the volume".into() };
                volume.first_cluster(&TreePath::new(path)?).ok_or_else(missing)
            };
            let first = volume.geometry().sector_of(directory(text::ENTRIES)?);
            places.uefi = Some(UefiPlaces {
                config: at(text::LOADER_CONFIG)?,
                entries: run(first, SECTOR),
                once: at(&entries::spent())?,
                parent: crate::field::narrow32(directory("loader")?),
            });
        }
        Ok(())
    }
}

/// A part of a source.
fn slice(source: &Source, offset: u64, len: u64) -> Source {
    let end = offset.saturating_add(len);
    match source {
        Source::Bytes(bytes) => {
            let range = crate::field::index(offset)..crate::field::index(end);
            bytes.get(range).unwrap_or_default().to_vec().into()
        }
        Source::File { path, .. } => Source::Range { path: path.clone(), offset, len },
        Source::Range { path, offset: start, .. } => {
            Source::Range { path: path.clone(), offset: start.saturating_add(offset), len }
        }
        Source::Concat(parts) => {
            let (mut pieces, mut before) = (Vec::new(), 0_u64);
            for part in parts.iter() {
                let after = before.saturating_add(part.len());
                let (from, to) = (offset.max(before), end.min(after));
                if from < to {
                    pieces.push(slice(part, from.saturating_sub(before), to.saturating_sub(from)));
                }
                before = after;
            }
            Source::Concat(pieces.into())
        }
        // a kind that this crate does not know yet is left as it is, and its length is checked
        other => other.clone(),
    }
}

const _: () = assert!(CONFIG == SECTOR, "a configuration is one sector");
