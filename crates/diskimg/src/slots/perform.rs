//! Writes what was planned, and reads it back.

use std::io::{Read, Seek, SeekFrom};

use sha2::{Digest as _, Sha256};

use super::change::{Copy, Step};
use super::places::Run;
use super::read::{Found, read};
use super::{FORMAT, Record, Slot};
use crate::container::BlockSource;
use crate::device::{Device, Readable, seek_write};
use crate::field::index;
use crate::{Error, Limits, Result};

/// How much is copied at once.
const CHUNK: u64 = 1 << 20;

/// Something that can be read at any place: a file, bytes in memory.
pub trait ReadSeek: Read + Seek {}

impl<T: Read + Seek + ?Sized> ReadSeek for T {}

/// Performs a change of a volume that begins at the device's first byte. The new kernel and initramfs
/// are given by whoever planned an upgrade, and are not looked at otherwise.
///
/// # Errors
/// [`Error::Io`]; [`Error::Malformed`] when what is read back is something else than was planned, in
/// which case nothing starts it.
pub fn perform(
    steps: &[Step],
    device: &mut dyn Device,
    kernel: &mut dyn ReadSeek,
    initrd: &mut dyn ReadSeek,
) -> Result<()> {
    for step in steps {
        match step {
            Step::Write { at, bytes } => seek_write(device, *at, bytes)?,
            Step::Kernel(part) => copy(device, kernel, *part)?,
            Step::Initrd(part) => copy(device, initrd, *part)?,
            Step::Flush => {
                let persisted = device.flush().and_then(|()| device.persist());
                persisted.map_err(Error::io("wait for the disk"))?;
            }
            Step::Verify { slot, record } => {
                let len = crate::device::len(device)?;
                let mut source = Readable { device: &mut *device, len };
                let found = read(&mut source, &Limits::default())?;
                against(&found, *slot, record, &mut source)?;
            }
        }
    }
    Ok(())
}

/// Reads a whole slot and compares it with its record.
///
/// # Errors
/// [`Error::NotFound`] when there is no record; [`Error::Malformed`] when something is not as it says.
pub fn verify(found: &Found, slot: Slot, volume: &mut dyn BlockSource) -> Result<()> {
    let missing =
        || Error::NotFound { what: "a whole system".into(), place: format!("slot {slot}") };
    against(found, slot, found.record(slot).ok_or_else(missing)?, volume)
}

fn against(found: &Found, slot: Slot, record: &Record, volume: &mut dyn BlockSource) -> Result<()> {
    let places = &found.places;
    let place = places.slot(slot);
    let initrd = places.initrd_of(slot, record.initrd.len).unwrap_or_default();
    let initrd: Vec<Run> = initrd.into_iter().map(|(_, run)| run).collect();
    let mut entries = Vec::new();
    entries.extend(found.bios.as_ref().map(|_| place.bios_entry));
    entries.extend(found.uefi.as_ref().map(|_| place.uefi_entry));
    let whole = entries.iter().map(|run| run.len()).sum();
    for (what, runs, len, expected) in [
        ("kernel", &[place.kernel][..], record.kernel.len, record.kernel.sha256),
        ("initramfs", &initrd, record.initrd.len, record.initrd.sha256),
        ("entries", &entries, whole, record.entries),
    ] {
        let mut hash = Sha256::new();
        let mut left = len;
        let mut zeroes = true;
        for run in runs {
            let (mut at, end) = (run.offset(), run.offset().saturating_add(run.len()));
            let mut buffer = vec![0; index(CHUNK.min(run.len()))];
            while at < end {
                let count = index((end - at).min(buffer.len() as u64));
                let chunk = buffer.get_mut(..count).unwrap_or_default();
                volume.read_at(at, chunk)?;
                let (data, rest) = chunk.split_at(index(left).min(count));
                hash.update(data);
                zeroes &= rest.iter().all(|byte| *byte == 0);
                left = left.saturating_sub(data.len() as u64);
                at = at.saturating_add(count as u64);
            }
        }
        let found: [u8; 32] = hash.finalize().into();
        if left > 0 || found != expected || !zeroes {
            let at = runs.first().map_or(0, |run| run.offset());
            let reason = format!("the {what} of slot {slot} is not what was written there");
            return Err(Error::malformed(FORMAT, at, reason));
        }
    }
    Ok(())
}

fn copy(device: &mut dyn Device, source: &mut dyn ReadSeek, part: Copy) -> Result<()> {
    let read = |source: &mut dyn ReadSeek, from: u64, buffer: &mut [u8]| {
        source.seek(SeekFrom::Start(from))?;
        source.read_exact(buffer)
    };
    let mut done = 0_u64;
    let mut buffer = vec![0; index(CHUNK.min(part.room))];
    while done < part.room {
        let count = (part.room - done).min(buffer.len() as u64);
        let data = part.len.saturating_sub(done).min(count);
        let chunk = buffer.get_mut(..index(count)).unwrap_or_default();
        let (filled, rest) = chunk.split_at_mut(index(data));
        if !filled.is_empty() {
            let from = part.from.saturating_add(done);
            read(source, from, filled).map_err(Error::io("read the new system"))?;
        }
        rest.fill(0);
        seek_write(device, part.at.saturating_add(done), chunk)?;
        done = done.saturating_add(count);
    }
    Ok(())
}
