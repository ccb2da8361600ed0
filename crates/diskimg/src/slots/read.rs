//! What is on a partition with slots.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use kiln_tree::TreePath;

use super::entries::{self, Try};
use super::places::{Places, Run, run};
use super::record::Record;
use super::text::{self, ENTRY};
use super::{FORMAT, Firmware, Slot};
use crate::boot::syslinux::Adv;
use crate::container::BlockSource;
use crate::device::Readable;
use crate::fat::{self, Geometry};
use crate::field::index;
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

/// What is on a partition with slots.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Found {
    /// Where everything is.
    pub places: Places,
    /// What is in slot a and slot b, where something whole is.
    pub records: [Option<Record>; 2],
    pub(super) geometry: Geometry,
    pub(super) bios: Option<Bios>,
    pub(super) uefi: Option<Uefi>,
}

/// What SYSLINUX finds.
#[derive(Debug, Clone)]
pub(super) struct Bios {
    pub(super) config: Vec<u8>,
    pub(super) vector: Adv,
    /// Whether both copies of the vector are whole and the same.
    pub(super) agree: bool,
}

/// What systemd-boot finds.
#[derive(Debug, Clone)]
pub(super) struct Uefi {
    pub(super) config: Vec<u8>,
    pub(super) once: Try,
    /// What the entry that is started once would start.
    pub(super) target: Option<Slot>,
    /// The sector of the directory.
    pub(super) entries: [u8; 512],
}

impl Found {
    /// What is in a slot; `None` where nothing whole is.
    #[must_use]
    pub fn record(&self, slot: Slot) -> Option<&Record> {
        let [a, b] = &self.records;
        match slot {
            Slot::A => a.as_ref(),
            Slot::B => b.as_ref(),
        }
    }

    /// What can start this disk.
    #[must_use]
    pub fn firmware(&self) -> Vec<Firmware> {
        let there = [(Firmware::Bios, self.bios.is_some()), (Firmware::Uefi, self.uefi.is_some())];
        there.into_iter().filter(|(_, there)| *there).map(|(firmware, _)| firmware).collect()
    }

    /// The slot that is always started, as far as the configuration can be read.
    #[must_use]
    pub fn default_of(&self, firmware: Firmware) -> Option<Slot> {
        match firmware {
            Firmware::Bios => text::bios_default(&self.bios.as_ref()?.config),
            Firmware::Uefi => text::uefi_default(&self.uefi.as_ref()?.config),
        }
    }

    /// The slot that is started once, before it is again the default.
    #[must_use]
    pub fn once(&self, firmware: Firmware) -> Option<Slot> {
        match firmware {
            Firmware::Bios => {
                let label = self.bios.as_ref()?.vector.boot_once()?.to_owned();
                Slot::ALL.into_iter().find(|slot| text::label(*slot) == label)
            }
            Firmware::Uefi => self.uefi.as_ref().filter(|uefi| uefi.once == Try::Armed)?.target,
        }
    }

    /// The slot that is started next.
    #[must_use]
    pub fn next(&self, firmware: Firmware) -> Option<Slot> {
        self.once(firmware).or_else(|| self.default_of(firmware))
    }

    /// Whether some loader is to start something once.
    pub(super) fn is_armed(&self) -> bool {
        let bios = self.bios.as_ref().is_some_and(|bios| bios.vector.boot_once().is_some());
        bios || self.uefi.as_ref().is_some_and(|uefi| uefi.once == Try::Armed)
    }
}

/// Reads a partition, and checks that its file system has everything where it was put.
///
/// # Errors
/// [`Error::NotFound`] when it is no partition with slots; [`Error::Malformed`] when one of its files
/// has moved, or a configuration is not ours.
pub fn read(volume: &mut dyn BlockSource, limits: &Limits) -> Result<Found> {
    let mut reader = fat::Reader::open(volume, limits)?;
    let geometry = *reader.geometry();
    let listed = reader.list()?;
    let mut files = BTreeMap::new();
    let mut once = Vec::new();
    for found in &listed {
        let extents = reader.extents(found)?;
        let len =
            if found.directory { extents.iter().map(|extent| extent.len).sum() } else { found.len };
        let place = match extents.as_slice() {
            [one] => Some(run(one.first_sector, len)),
            _ => None,
        };
        if let Some(state) = entries::of_name(&found.path)
            && found.path.parent().is_some_and(|path| path.as_bytes() == text::ENTRIES.as_bytes())
        {
            once.push((found.path.clone(), state));
        }
        files.insert(found.path.clone(), place);
    }
    let missing = || Error::NotFound { what: text::STATE.to_owned(), place: "the volume".into() };
    let state = files.get(&TreePath::new(text::STATE)?).copied().flatten().ok_or_else(missing)?;
    let places = Places::parse(&sector(volume, state.offset())?, state.offset())?;
    let checked = Checked { files: &files, places: &places };
    checked.all(&once, volume.len())?;

    let mut records = [None, None];
    for (record, slot) in records.iter_mut().zip(Slot::ALL) {
        *record = Record::parse(slot, &sector(volume, places.record(slot))?);
    }
    let bios = match places.bios {
        Some(bios) => {
            let config = sector(volume, bios.config.offset())?.to_vec();
            let (one, two) = (bios.vector.offset(), bios.vector.offset() + SECTOR);
            let copies = [sector(volume, one)?, sector(volume, two)?];
            let vector = Adv::parse([&copies[0], &copies[1]]);
            let agree = vector.as_ref().is_some_and(|it| copies == [it.emit(), it.emit()]);
            Some(Bios { config, vector: vector.unwrap_or_default(), agree })
        }
        None => None,
    };
    let uefi = match places.uefi {
        Some(uefi) => {
            let config = sector(volume, uefi.config.offset())?.to_vec();
            let mut entry = vec![0; index(ENTRY)];
            volume.read_at(uefi.once.offset(), &mut entry)?;
            // Firmware that was interrupted may leave the old name beside the new one.
            let once = once.iter().map(|(_, state)| *state).min().unwrap_or(Try::Lost);
            let entries = sector(volume, uefi.entries.offset())?;
            Some(Uefi { config, once, target: text::started_by(&entry), entries })
        }
        None => None,
    };
    Ok(Found { places, records, geometry, bios, uefi })
}

/// [`read`] of a block device, or of a file with the volume in it.
///
/// # Errors
/// As [`read`].
pub fn read_device<D: Read + Seek + ?Sized>(device: &mut D, limits: &Limits) -> Result<Found> {
    let len = crate::device::len(device)?;
    read(&mut Readable { device, len }, limits)
}

pub(super) fn sector(volume: &mut dyn BlockSource, at: u64) -> Result<[u8; 512]> {
    let mut sector = [0; 512];
    volume.read_at(at, &mut sector)?;
    Ok(sector)
}

struct Checked<'a> {
    /// Where the file system has every file that is in one run.
    files: &'a BTreeMap<TreePath, Option<Run>>,
    places: &'a Places,
}

impl Checked<'_> {
    fn one(&self, path: &str, expected: Run) -> Result<()> {
        let found = self.files.get(&TreePath::new(path)?).copied().flatten();
        if found == Some(expected) {
            return Ok(());
        }
        let reason = format!(
            "{path} should be {} sectors from {} on, and the file system has it elsewhere",
            expected.sectors, expected.first
        );
        Err(Error::malformed(FORMAT, expected.offset(), reason))
    }

    fn all(&self, once: &[(TreePath, Try)], len: u64) -> Result<()> {
        let places = self.places;
        self.one(text::STATE, places.state)?;
        for slot in Slot::ALL {
            let place = places.slot(slot);
            self.one(&text::kernel(slot), place.kernel)?;
            for (piece, run) in place.pieces.iter().enumerate() {
                self.one(&text::piece(slot, piece), *run)?;
            }
            if places.bios.is_some() {
                self.one(&text::bios_entry(slot), place.bios_entry)?;
            }
            if places.uefi.is_some() {
                self.one(&text::uefi_entry(slot), place.uefi_entry)?;
            }
        }
        if let Some(bios) = places.bios {
            self.one(text::SYSLINUX_CONFIG, bios.config)?;
            let sys = self.files.get(&TreePath::new(text::LDLINUX)?).copied().flatten();
            let end = |run: Run| u64::from(run.first) + u64::from(run.sectors);
            if sys.map(end) != Some(end(bios.vector)) || bios.vector.sectors != 2 {
                let reason = "ldlinux.sys does not end in its vector";
                return Err(Error::malformed(FORMAT, bios.vector.offset(), reason));
            }
        }
        let Some(uefi) = places.uefi else { return Ok(()) };
        self.one(text::LOADER_CONFIG, uefi.config)?;
        let directory = self.files.get(&TreePath::new(text::ENTRIES)?).copied().flatten();
        if directory.map(|run| run.first) != Some(uefi.entries.first) {
            let reason = format!("{} is elsewhere, or in several places", text::ENTRIES);
            return Err(Error::malformed(FORMAT, uefi.entries.offset(), reason));
        }
        for (path, _) in once {
            self.one(&path.to_string(), uefi.once)?;
        }
        if uefi.once.offset().saturating_add(ENTRY) > len {
            return Err(Error::malformed(FORMAT, uefi.once.offset(), "beyond the volume's end"));
        }
        let in_it = |path: &&TreePath| {
            path.parent().is_some_and(|parent| parent.as_bytes() == text::ENTRIES.as_bytes())
        };
        let ours = 2 + once.len();
        if self.files.keys().filter(in_it).count() != ours {
            let reason = format!("{} has entries that are not of slots", text::ENTRIES);
            return Err(Error::malformed(FORMAT, uefi.entries.offset(), reason));
        }
        Ok(())
    }
}
