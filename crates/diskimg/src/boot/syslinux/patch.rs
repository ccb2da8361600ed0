//! The numbers that SYSLINUX's boot sector and `ldlinux.sys` need.

use kiln_tree::TreePath;

use crate::error::Problems;
use crate::field::{index, narrow16, narrow32, put, u16_le, u32_le};
use crate::{Error, Result};

/// Begins the patch area, and ends the boot sector's code.
pub(super) const MAGIC: u32 = 0x3eb2_02fe;
/// Where the boot sector repeats the magic and, after it, the number of its build.
pub(super) const BOOT_MAGIC_AT: usize = 504;
const SECTOR: usize = 512;
/// Sectors that an extent has at most.
const EXTENT_SECTORS: u64 = 127;
const EXTENT_LEN: usize = 10;

fn malformed(offset: usize, reason: &str) -> Error {
    Error::malformed("ldlinux.sys", offset as u64, reason)
}

/// Where things are in `ldlinux.sys`.
struct Areas {
    patch: usize,
    extended: usize,
}

impl Areas {
    fn find(image: &[u8]) -> Result<Self> {
        let patch = (0..image.len().min(4096))
            .step_by(4)
            .find(|at| u32_le(image, *at) == Some(MAGIC))
            .ok_or_else(|| malformed(0, "no patch area: expected the magic 3eb202fe"))?;
        let extended = u16_le(image, patch + 22).map_or(0, usize::from);
        if extended + 20 > image.len() {
            return Err(malformed(patch + 22, "the extended patch area is not in the file"));
        }
        Ok(Self { patch, extended })
    }

    /// A field of the extended area, all of which are places or lengths.
    fn field(&self, image: &[u8], at: usize) -> usize {
        u16_le(image, self.extended + at).map_or(0, usize::from)
    }
}

/// Fails when the two are not of one build.
pub(super) fn check(boot_sector: &[u8; 512], image: &[u8]) -> Result<()> {
    let areas = Areas::find(image)?;
    if u16_le(boot_sector, 510) != Some(0xaa55) {
        return Err(Error::malformed("syslinux boot sector", 510, "expected 55 AA"));
    }
    // The boot sector ends in the low half of the magic and in the half of the build number that
    // `ldlinux.sys` is compared with at boot; the other bytes are 55 AA.
    if u32_le(boot_sector, BOOT_MAGIC_AT) != Some(MAGIC) {
        let at = BOOT_MAGIC_AT as u64;
        return Err(Error::malformed("syslinux boot sector", at, "expected the magic 3eb202fe"));
    }
    let (first, second) = (areas.field(image, 14), areas.field(image, 16));
    if first + 4 > 510 || second + 4 > 510 || first == 0 || second == 0 {
        return Err(malformed(areas.extended, "the boot sector's fields are not in the sector"));
    }
    Ok(())
}

/// Patches both for a file that lies in one run from a sector of the volume on. `image` is
/// `ldlinux.sys` filled up to whole sectors and two sectors of ADV; `len` its length before that.
pub(super) fn patch(
    boot_sector: &mut [u8; 512],
    image: &mut [u8],
    len: usize,
    first_sector: u64,
    directory: &TreePath,
) -> Result<()> {
    let areas = Areas::find(image)?;
    let sectors = len.div_ceil(SECTOR) as u64;
    let [low, high] = [first_sector, first_sector >> 32].map(|part| narrow32(part & 0xffff_ffff));
    put(boot_sector, areas.field(image, 14), &low.to_le_bytes());
    put(boot_sector, areas.field(image, 16), &high.to_le_bytes());

    let dwords = len / 4;
    put(image, areas.patch + 8, &narrow16(sectors).to_le_bytes());
    put(image, areas.patch + 10, &2_u16.to_le_bytes());
    put(image, areas.patch + 12, &narrow32(dwords as u64).to_le_bytes());
    put(image, areas.patch + 16, &0_u32.to_le_bytes());

    let (extents_at, room) = (areas.field(image, 10), areas.field(image, 12));
    // The first sector is the boot sector's to load.
    let extents = extents(first_sector + 1, sectors - 1);
    if extents.len() > room || extents_at + room * EXTENT_LEN > image.len() {
        return Err(malformed(areas.extended + 12, "it has no room for its extents"));
    }
    put(image, extents_at, &vec![0; room * EXTENT_LEN]);
    for (slot, (lba, count)) in extents.iter().enumerate() {
        put(image, extents_at + slot * EXTENT_LEN, &lba.to_le_bytes());
        put(image, extents_at + slot * EXTENT_LEN + 8, &narrow16(*count).to_le_bytes());
    }
    let adv_at = areas.field(image, 0);
    if adv_at + 16 > len {
        return Err(malformed(areas.extended, "the ADV pointers are not in the file"));
    }
    for copy in 0..2 {
        let sector = first_sector + sectors + copy;
        put(image, adv_at + index(copy) * 8, &sector.to_le_bytes());
    }
    let (name_at, name_room) = (areas.field(image, 2), areas.field(image, 4));
    let name = [directory.as_bytes(), b"\0"].concat();
    if name.len() > name_room || name_at + name_room > len {
        let most = name_room.saturating_sub(1);
        return Err(Error::Plan {
            what: "syslinux",
            problems: Problems(vec![format!(
                "{directory}: the directory's name has {} bytes, at most {most}",
                directory.as_bytes().len()
            )]),
        });
    }
    put(image, name_at, &name);

    let sum = image
        .chunks_exact(4)
        .take(dwords)
        .filter_map(|dword| u32_le(dword, 0))
        .fold(MAGIC, u32::wrapping_sub);
    put(image, areas.patch + 16, &sum.to_le_bytes());
    Ok(())
}

/// Divides a run of sectors into parts of less than 64 KiB, which is what one segment register can
/// reach when they are loaded.
fn extents(first: u64, sectors: u64) -> Vec<(u64, u64)> {
    (0..sectors)
        .step_by(index(EXTENT_SECTORS))
        .map(|done| (first + done, EXTENT_SECTORS.min(sectors - done)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_are_shorter_than_a_segment() {
        assert_eq!(extents(1000, 113), [(1000, 113)]);
        assert_eq!(extents(0, 300), [(0, 127), (127, 127), (254, 46)]);
        assert!(extents(7, 0).is_empty());
    }
}
