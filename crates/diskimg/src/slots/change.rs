//! Which sectors are written, in which order.
//!
//! A slot is only written while nothing names it that starts a machine: first both loaders are turned
//! to the other one, then it is told to be empty, then its content is written, and only when that is on
//! the disk, read back and right it is told to be full and started once. Each of these is kept before
//! the next begins, so that of two parts of a change no later one is there without an earlier one.

use super::entries::{self, Try};
use super::read::Found;
use super::record::{Record, VERSION_LEN};
use super::text::{self, Entries};
use super::{Firmware, Release, Slot};
use crate::boot::bls::compare_versions;
use crate::error::Problems;
use crate::units::SECTOR;
use crate::{Error, Result};

/// A part of a change. Without a [`Step::Flush`] between them, steps may reach the disk in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// These bytes go to a byte of the volume.
    Write {
        /// The byte.
        at: u64,
        /// Whole sectors.
        bytes: Vec<u8>,
    },
    /// A part of the new kernel goes to a byte of the volume.
    Kernel(Copy),
    /// A part of the new initramfs goes to a byte of the volume.
    Initrd(Copy),
    /// All before this is kept before anything after it is written.
    Flush,
    /// What was written into a slot is read back, and has to be this.
    Verify {
        /// The slot.
        slot: Slot,
        /// What it should hold.
        record: Box<Record>,
    },
}

/// Bytes that are copied to the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copy {
    /// Where they begin in what is copied.
    pub from: u64,
    /// How many they are.
    pub len: u64,
    /// The byte of the volume.
    pub at: u64,
    /// Bytes there that are written: zeroes follow what is copied.
    pub room: u64,
}

fn refused(problems: Vec<String>) -> Error {
    Error::Plan { what: "upgrade", problems: Problems(problems) }
}

/// What replaces the system that does not run, and has it started once.
///
/// # Errors
/// [`Error::Plan`] with everything that speaks against it: a system that is older than what runs, or
/// does not fit; a system that runs and has not been [marked good](mark_good), because the other one is
/// the only one of which is known that it starts.
pub fn upgrade(found: &Found, running: Option<Slot>, release: &Release) -> Result<Vec<Step>> {
    let mut problems = Vec::new();
    let keep = kept(found, running, &mut problems);
    check(found, keep, release, &mut problems);
    let (Some(keep), []) = (keep, problems.as_slice()) else { return Err(refused(problems)) };
    let target = keep.other();
    let places = &found.places;
    let made =
        Entries::new(places, target, &release.version, &release.command_line, release.initrd.len)?;
    let generations = found.records.iter().flatten().map(|record| record.generation);
    let there = |bytes: &[u8], is: bool| if is { bytes.to_vec() } else { Vec::new() };
    let (bios, uefi) =
        (there(&made.bios, found.bios.is_some()), there(&made.uefi, found.uefi.is_some()));
    let record = Record {
        version: release.version.clone(),
        generation: generations.max().unwrap_or(0).saturating_add(1),
        good: false,
        kernel: release.kernel,
        initrd: release.initrd,
        entries: text::digest(&bios, &uefi),
    };

    let mut steps = Steps::default();
    steps.turn_to(found, keep)?;
    steps.disarm(found)?;
    steps.write(places.record(target), vec![0; 512]);
    steps.entries(found, target, &Entries::none());
    steps.flush();
    let place = places.slot(target).kernel;
    let (len, room) = (release.kernel.len, place.len());
    steps.0.push(Step::Kernel(Copy { from: 0, len, at: place.offset(), room }));
    let mut from = 0_u64;
    for (_, run) in places.initrd_of(target, release.initrd.len).unwrap_or_default() {
        let len = run.len().min(release.initrd.len.saturating_sub(from));
        steps.0.push(Step::Initrd(Copy { from, len, at: run.offset(), room: run.len() }));
        from = from.saturating_add(len);
    }
    steps.entries(found, target, &made);
    steps.flush();
    steps.0.push(Step::Verify { slot: target, record: Box::new(record.clone()) });
    steps.write(places.record(target), record.emit(target).to_vec());
    steps.flush();
    steps.arm(found, target)?;
    Ok(steps.0)
}

/// The slot that stays as it is: the one that runs, or else the one that is started.
fn kept(found: &Found, running: Option<Slot>, problems: &mut Vec<String>) -> Option<Slot> {
    let mut defaults = found.firmware().into_iter().filter_map(|it| found.default_of(it));
    let keep = running.or_else(|| defaults.next());
    let Some(keep) = keep else {
        problems.push("which slot is started cannot be told, nor which one runs".to_owned());
        return None;
    };
    match found.record(keep) {
        None => problems.push(format!("slot {keep}, which would stay, holds nothing whole")),
        Some(record) if !record.good => problems.push(format!(
            "slot {keep} has not said that it is healthy: mark it good, or roll back"
        )),
        Some(_) => {}
    }
    Some(keep)
}

fn check(found: &Found, keep: Option<Slot>, release: &Release, problems: &mut Vec<String>) {
    let places = &found.places;
    for (what, part, room) in
        [("kernel", release.kernel, places.kernel), ("initramfs", release.initrd, places.initrd)]
    {
        if part.len > room {
            problems.push(format!("the {what} has {} bytes, a slot has room for {room}", part.len));
        }
    }
    let version = &release.version;
    if version.is_empty() || version.len() > VERSION_LEN || version.chars().any(char::is_control) {
        problems.push(format!(
            "the version {version:?}: expected 1 to {VERSION_LEN} bytes without controls"
        ));
    }
    let record = keep.and_then(|keep| found.record(keep));
    if let Some(record) = record.filter(|_| !release.allow_older)
        && compare_versions(version, &record.version).is_lt()
    {
        problems.push(format!("version {version} is older than {}, which runs", record.version));
    }
    if places.initrd_of(Slot::A, release.initrd.len).is_some()
        && let Err(error) =
            Entries::new(places, Slot::A, version, &release.command_line, release.initrd.len)
    {
        problems.push(error.to_string());
    }
}

/// What makes the system that runs the one that is always started. No step, when it is.
///
/// # Errors
/// [`Error::Plan`] when its slot holds nothing whole.
pub fn mark_good(found: &Found, running: Slot) -> Result<Vec<Step>> {
    let Some(record) = found.record(running) else {
        return Err(refused(vec![format!("slot {running} holds nothing whole")]));
    };
    let mut steps = Steps::default();
    if !record.good {
        let record = Record { good: true, ..record.clone() };
        steps.write(found.places.record(running), record.emit(running).to_vec());
        steps.flush();
    }
    steps.turn_to(found, running)?;
    steps.disarm(found)?;
    Ok(steps.0)
}

/// What goes back. A slot that is to be started once no longer is; if there is none, the other slot is
/// the one that is always started from then on.
///
/// # Errors
/// [`Error::Plan`] when the other slot holds nothing whole, or nothing that ever was healthy, unless
/// that is `forced`.
pub fn roll_back(found: &Found, running: Option<Slot>, forced: bool) -> Result<Vec<Step>> {
    let mut problems = Vec::new();
    let mut defaults = found.firmware().into_iter().filter_map(|it| found.default_of(it));
    let default = defaults.next();
    let mut steps = Steps::default();
    if found.is_armed() && (running.is_none() || running == default) {
        steps.disarm(found)?;
        return Ok(steps.0);
    }
    let Some(from) = running.or(default) else {
        return Err(refused(vec!["which slot is started cannot be told".to_owned()]));
    };
    let to = from.other();
    match found.record(to) {
        None => problems.push(format!("slot {to} holds nothing whole")),
        Some(record) if !record.good && !forced => {
            problems.push(format!("slot {to} never said that it is healthy"));
        }
        Some(_) => {}
    }
    if !problems.is_empty() {
        return Err(Error::Plan { what: "roll-back", problems: Problems(problems) });
    }
    steps.turn_to(found, to)?;
    steps.disarm(found)?;
    Ok(steps.0)
}

/// What a system does about a try that one loader has made and the other still would, when it finds
/// itself to be another one than what was tried. No step, where nothing is to be done.
///
/// # Errors
/// Those of a disk that is not ours.
pub fn settle(found: &Found, running: Slot) -> Result<Vec<Step>> {
    let tries: Vec<Option<Slot>> = found.firmware().iter().map(|it| found.once(*it)).collect();
    let mut steps = Steps::default();
    if tries.contains(&None) && tries.contains(&Some(running.other())) {
        steps.disarm(found)?;
    }
    Ok(steps.0)
}

#[derive(Default)]
struct Steps(Vec<Step>);

impl Steps {
    fn write(&mut self, at: u64, bytes: Vec<u8>) {
        self.0.push(Step::Write { at, bytes });
    }

    /// Nothing is flushed twice.
    fn flush(&mut self) {
        if self.0.last().is_some_and(|last| *last != Step::Flush) {
            self.0.push(Step::Flush);
        }
    }

    /// Has both loaders always start a slot. Each is sound before and after.
    fn turn_to(&mut self, found: &Found, slot: Slot) -> Result<()> {
        let foreign = |at: u64| {
            Error::malformed(super::FORMAT, at, "a configuration that names no slot to start")
        };
        let places = &found.places;
        if let (Some(bios), Some(place)) = (&found.bios, places.bios)
            && found.default_of(Firmware::Bios) != Some(slot)
        {
            let at = place.config.offset();
            let config = text::with_bios_default(&bios.config, slot);
            self.write(at, config.ok_or_else(|| foreign(at))?);
        }
        if let (Some(uefi), Some(place)) = (&found.uefi, places.uefi)
            && found.default_of(Firmware::Uefi) != Some(slot)
        {
            let at = place.config.offset();
            let config = text::with_uefi_default(&uefi.config, slot);
            self.write(at, config.ok_or_else(|| foreign(at))?);
        }
        self.flush();
        Ok(())
    }

    /// Has nothing be started once.
    fn disarm(&mut self, found: &Found) -> Result<()> {
        let places = &found.places;
        if let (Some(bios), Some(place)) = (&found.bios, places.bios)
            && (bios.vector.boot_once().is_some() || !bios.agree)
        {
            let vector = bios.vector.with_boot_once(None).unwrap_or_default().emit();
            self.write(place.vector.offset(), vector.to_vec());
            self.write(place.vector.offset() + SECTOR, vector.to_vec());
        }
        if let (Some(uefi), Some(place)) = (&found.uefi, places.uefi) {
            let sector = entries::sector(places, &found.geometry, false)?;
            if uefi.once != Try::Spent || uefi.entries != sector {
                self.write(place.entries.offset(), sector.to_vec());
            }
        }
        self.flush();
        Ok(())
    }

    /// Has both loaders start a slot once.
    fn arm(&mut self, found: &Found, slot: Slot) -> Result<()> {
        let places = &found.places;
        if let (Some(bios), Some(place)) = (&found.bios, places.bios) {
            let once = bios.vector.with_boot_once(Some(&text::label(slot)));
            let vector = once.ok_or_else(|| {
                Error::malformed(super::FORMAT, place.vector.offset(), "the vector is full")
            })?;
            self.write(place.vector.offset(), vector.emit().to_vec());
            self.write(place.vector.offset() + SECTOR, vector.emit().to_vec());
        }
        if let Some(place) = places.uefi {
            let sector = entries::sector(places, &found.geometry, true)?;
            self.write(place.entries.offset(), sector.to_vec());
        }
        self.flush();
        Ok(())
    }

    /// Replaces the entries of a slot, and that which is started once.
    fn entries(&mut self, found: &Found, slot: Slot, made: &Entries) {
        let place = found.places.slot(slot);
        if found.bios.is_some() {
            self.write(place.bios_entry.offset(), made.bios.clone());
        }
        if let Some(uefi) = found.places.uefi {
            self.write(place.uefi_entry.offset(), made.uefi.clone());
            self.write(uefi.once.offset(), made.once.clone());
        }
    }
}
