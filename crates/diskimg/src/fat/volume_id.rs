//! Gives a volume another serial number, in place.

use super::Kind;
use super::boot_sector::parse;
use crate::Result;
use crate::device::{self, Device};
use crate::field::{put, u16_le};
use crate::units::SECTOR;

/// Sets the serial number of the FAT volume that begins at a byte of a device, and gives the one that
/// it had; `None`, and nothing written, where there is no FAT volume. The copy that FAT32 keeps of
/// its boot sector comes first, each in one write of one sector.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) when the device cannot be read or written.
pub fn set_volume_id(device: &mut dyn Device, offset: u64, id: u32) -> Result<Option<u32>> {
    let mut boot = [0; 512];
    device::read_at(device, offset, &mut boot)?;
    let Ok(parsed) = parse(&boot) else { return Ok(None) };
    let fat32 = parsed.geometry.kind == Kind::Fat32;
    let at = if fat32 { 67 } else { 39 };
    // BPB_BkBootSec; 0 or all ones where there is none.
    let copy = u16_le(&boot, 50).filter(|sector| fat32 && !matches!(sector, 0 | 0xffff));
    if let Some(sector) = copy.filter(|sector| u64::from(*sector) < parsed.geometry.reserved) {
        let place = offset.saturating_add(u64::from(sector).saturating_mul(SECTOR));
        let mut backup = [0; 512];
        device::read_at(device, place, &mut backup)?;
        if parse(&backup).is_ok() {
            put(&mut backup, at, &id.to_le_bytes());
            device::write_at(device, place, &backup)?;
        }
    }
    put(&mut boot, at, &id.to_le_bytes());
    device::write_at(device, offset, &boot)?;
    Ok(Some(parsed.volume_id))
}
