//! El Torito: what BIOS and UEFI start from a CD.

use super::SECTOR_LEN;
use super::descriptor::{TYPE_BOOT, blank};
use crate::field::{narrow16, narrow32, put, u16_le, u32_le};

/// What a boot record is known by (El Torito 1.0, section 2.0).
pub(super) const SYSTEM_ID: &[u8; 23] = b"EL TORITO SPECIFICATION";
/// Where a boot record says where the catalog is.
pub(super) const CATALOG_AT: usize = 71;
/// The platform of BIOS.
pub(super) const PLATFORM_BIOS: u8 = 0;
/// The platform of UEFI (UEFI 2.10, 13.3.2.1).
pub(super) const PLATFORM_EFI: u8 = 0xef;
/// Bytes of every entry of the catalog.
pub(super) const ENTRY_LEN: usize = 32;
pub(super) const BOOTABLE: u8 = 0x88;
/// A header of entries of a platform, and the last one.
pub(super) const HEADER: u8 = 0x90;
pub(super) const LAST_HEADER: u8 = 0x91;

/// The longest EFI system partition whose length the boot catalog can hold: 65,535 sectors of 512
/// bytes, a little less than 32 MiB. A longer one has the length 0 there, which says that it goes on
/// to the end of the CD (UEFI 2.10, 13.3.2.1); so the ISO volume then ends with it. EDK II starts such
/// a CD; not every firmware has been tried.
pub const MAX_EFI: u64 = 0xffff * 512;

/// The descriptor that leads to the catalog.
pub(super) fn record(catalog: u64) -> [u8; SECTOR_LEN] {
    let mut sector = blank(TYPE_BOOT);
    put(&mut sector, 7, SYSTEM_ID);
    put(&mut sector, CATALOG_AT, &narrow32(catalog).to_le_bytes());
    sector
}

/// An image that firmware loads.
pub(super) struct Image {
    pub(super) platform: u8,
    /// First sector of the CD.
    pub(super) sector: u64,
    /// Sectors of 512 bytes.
    pub(super) count: u64,
}

impl Image {
    /// El Torito figure 3 and 5: bootable, no emulation, the usual segment.
    fn entry(&self) -> [u8; ENTRY_LEN] {
        let mut entry = [0; ENTRY_LEN];
        put(&mut entry, 0, &[BOOTABLE]);
        put(&mut entry, 6, &narrow16(self.count).to_le_bytes());
        put(&mut entry, 8, &narrow32(self.sector).to_le_bytes());
        entry
    }
}

/// The catalog: the first image, and each other one under a header of its own.
pub(super) fn catalog(images: &[Image]) -> [u8; SECTOR_LEN] {
    let mut sector = [0; SECTOR_LEN];
    let Some((first, others)) = images.split_first() else { return sector };
    let mut validation = [0; ENTRY_LEN];
    put(&mut validation, 0, &[1, first.platform]);
    put(&mut validation, 30, &[0x55, 0xaa]);
    // All words together are zero.
    let sum = (0..ENTRY_LEN)
        .step_by(2)
        .filter_map(|at| u16_le(&validation, at))
        .fold(0_u16, u16::wrapping_add);
    put(&mut validation, 28, &sum.wrapping_neg().to_le_bytes());
    put(&mut sector, 0, &validation);
    put(&mut sector, ENTRY_LEN, &first.entry());
    for (number, image) in others.iter().enumerate() {
        let at = ENTRY_LEN * (2 + 2 * number);
        let kind = if number + 1 == others.len() { LAST_HEADER } else { HEADER };
        put(&mut sector, at, &[kind, image.platform, 1, 0]);
        put(&mut sector, at + ENTRY_LEN, &image.entry());
    }
    sector
}

/// Bytes of the image before those that are summed.
const INFO_END: usize = 64;

/// Tells a boot image where it is: at byte 8 the primary descriptor's sector, its own, its length
/// and the sum of what follows byte 64, then zeroes (mkisofs, `-boot-info-table`).
pub(super) fn set_info_table(image: &mut [u8], sector: u64) {
    let len = narrow32(image.len() as u64);
    let rest = image.get(INFO_END..).unwrap_or_default();
    let sum = rest
        .chunks(4)
        .map(|word| {
            let mut whole = [0; 4];
            put(&mut whole, 0, word);
            u32::from_le_bytes(whole)
        })
        .fold(0_u32, u32::wrapping_add);
    put(image, 8, &narrow32(super::SYSTEM_AREA).to_le_bytes());
    put(image, 12, &narrow32(sector).to_le_bytes());
    put(image, 16, &len.to_le_bytes());
    put(image, 20, &sum.to_le_bytes());
    put(image, 24, &[0; 40]);
}

/// The shortest image with room for the table.
pub(super) const MIN_WITH_TABLE: usize = INFO_END;

/// Whether this is an ISOLINUX that also starts from a disk (`isohybrid`'s mark at byte 64).
pub(super) fn is_hybrid_isolinux(image: &[u8]) -> bool {
    u32_le(image, INFO_END) == Some(0x7078_c0fb)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_catalog() {
        let images = [
            Image { platform: PLATFORM_BIOS, sector: 40, count: 4 },
            Image { platform: PLATFORM_EFI, sector: 512, count: 0x1234 },
        ];
        let sector = catalog(&images);
        assert_eq!(sector[..2], [1, 0]);
        assert_eq!(sector[28..32], [0xaa, 0x55, 0x55, 0xaa]);
        assert_eq!(sector[32..44], [0x88, 0, 0, 0, 0, 0, 4, 0, 40, 0, 0, 0]);
        assert_eq!(sector[64..68], [0x91, 0xef, 1, 0]);
        assert_eq!(sector[96..108], [0x88, 0, 0, 0, 0, 0, 0x34, 0x12, 0, 2, 0, 0]);
        let only = catalog(&images[1..]);
        assert_eq!(only[..2], [1, 0xef]);
        assert_eq!(only[28..32], [0xaa, 0x66, 0x55, 0xaa]);
    }

    #[test]
    fn golden_info_table() {
        let mut image = vec![0xff; 70];
        image[64..].copy_from_slice(&[1, 0, 0, 0, 2, 0]);
        set_info_table(&mut image, 33);
        assert_eq!(image[8..24], [16, 0, 0, 0, 33, 0, 0, 0, 70, 0, 0, 0, 3, 0, 0, 0]);
        assert_eq!(image[24..64], [0; 40]);
        assert_eq!(image[..8], [0xff; 8]);
    }
}
