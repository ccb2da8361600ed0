//! The boot sector with its BIOS parameter block, and FSInfo.
//!
//! Microsoft's "FAT: General Overview of On-Disk Format", sections "Boot Sector and BPB" and "FSInfo
//! Sector Structure"; numbers are little-endian.

use super::names::ShortName;
use super::{Geometry, Kind};
use crate::field::{array, narrow16, narrow32, put, u16_le, u32_le};

/// Sector of FSInfo on FAT32.
pub(crate) const FSINFO: u64 = 1;
/// First sector of the backup on FAT32.
pub(crate) const BACKUP: u64 = 6;
/// First cluster of the root directory on FAT32.
pub(crate) const ROOT_CLUSTER: u32 = 2;

/// What a boot loader puts into the boot sector: all but the parameter block between the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BootCode {
    /// Jump and OEM name, bytes 0 to 10.
    pub(crate) head: [u8; 11],
    /// The whole sector, of which the code after the parameter block is taken.
    pub(crate) sector: [u8; 512],
}

/// What a boot sector says beyond the geometry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) label: Option<ShortName>,
    pub(crate) volume_id: u32,
    pub(crate) hidden_sectors: u32,
}

/// Where a loader's code begins: SYSLINUX has one boot sector for all kinds, so that the code begins
/// after the longest parameter block, that of FAT32.
const LOADER_CODE: usize = 90;

/// INT 18h (let the BIOS try the next device), then halt for good.
const NO_LOADER: [u8; 5] = [0xcd, 0x18, 0xf4, 0xeb, 0xfd];

/// The boot sector's bytes.
pub(crate) fn emit(geometry: &Geometry, identity: &Identity, code: Option<&BootCode>) -> [u8; 512] {
    let mut sector = [0; 512];
    let fat32 = geometry.kind == Kind::Fat32;
    // Where the extended part of the parameter block begins, and where it ends and code may be.
    let (extended, code_at) = if fat32 { (64, 90) } else { (36, 62) };
    match code {
        Some(code) => {
            put(&mut sector, LOADER_CODE, code.sector.get(LOADER_CODE..).unwrap_or_default());
            put(&mut sector, 0, &code.head);
        }
        None => {
            put(&mut sector, 0, &[0xeb, if fat32 { 0x58 } else { 0x3c }, 0x90]);
            put(&mut sector, 3, b"MSWIN4.1");
            put(&mut sector, code_at, &NO_LOADER);
        }
    }
    let small = if fat32 { 0 } else { u16::try_from(geometry.sectors).unwrap_or(0) };
    let large = if small == 0 { narrow32(geometry.sectors) } else { 0 };
    put(&mut sector, 11, &512_u16.to_le_bytes());
    put(&mut sector, 13, &[narrow16(geometry.cluster).to_le_bytes()[0]]);
    put(&mut sector, 14, &narrow16(geometry.reserved).to_le_bytes());
    put(&mut sector, 16, &[2]);
    put(&mut sector, 17, &narrow16(geometry.root_entries).to_le_bytes());
    put(&mut sector, 19, &small.to_le_bytes());
    put(&mut sector, 21, &[0xf8]);
    put(&mut sector, 24, &63_u16.to_le_bytes());
    put(&mut sector, 26, &255_u16.to_le_bytes());
    put(&mut sector, 28, &identity.hidden_sectors.to_le_bytes());
    put(&mut sector, 32, &large.to_le_bytes());
    if fat32 {
        put(&mut sector, 36, &narrow32(geometry.fat).to_le_bytes());
        put(&mut sector, 44, &ROOT_CLUSTER.to_le_bytes());
        put(&mut sector, 48, &narrow16(FSINFO).to_le_bytes());
        put(&mut sector, 50, &narrow16(BACKUP).to_le_bytes());
    } else {
        put(&mut sector, 22, &narrow16(geometry.fat).to_le_bytes());
    }
    put(&mut sector, extended, &[0x80, 0, 0x29]);
    put(&mut sector, extended + 3, &identity.volume_id.to_le_bytes());
    put(&mut sector, extended + 7, &identity.label.unwrap_or(*b"NO NAME    "));
    put(&mut sector, extended + 18, geometry.kind.signature());
    put(&mut sector, 510, &[0x55, 0xaa]);
    sector
}

/// FSInfo: how many clusters are free and where to look for one.
pub(crate) fn fsinfo(free: u32, next: u32) -> [u8; 512] {
    let mut sector = [0; 512];
    put(&mut sector, 0, b"RRaA");
    put(&mut sector, 484, b"rrAa");
    put(&mut sector, 488, &free.to_le_bytes());
    put(&mut sector, 492, &next.to_le_bytes());
    put(&mut sector, 508, &[0, 0, 0x55, 0xaa]);
    sector
}

/// What a reader learns from a boot sector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    pub(crate) geometry: Geometry,
    pub(crate) root_cluster: u32,
    pub(crate) volume_id: u32,
    pub(crate) hidden_sectors: u32,
    pub(crate) label: [u8; 11],
    pub(crate) oem: [u8; 8],
    pub(crate) fsinfo: u64,
}

/// Reads a boot sector; says at which byte it is no FAT volume's.
pub(crate) fn parse(sector: &[u8]) -> Result<Parsed, (u64, String)> {
    let half = |at: usize| u64::from(u16_le(sector, at).unwrap_or(0));
    let word = |at: usize| u64::from(u32_le(sector, at).unwrap_or(0));
    if half(510) != 0xaa55 {
        return Err((510, "expected 55 AA at the end of the boot sector".to_owned()));
    }
    if half(11) != 512 {
        return Err((11, format!("sectors of {} bytes, expected 512", half(11))));
    }
    let cluster = u64::from(sector.get(13).copied().unwrap_or(0));
    if !cluster.is_power_of_two() {
        return Err((13, format!("{cluster} sectors per cluster, expected a power of two")));
    }
    let (reserved, fats, root_entries) = (half(14), sector.get(16).copied().unwrap_or(0), half(17));
    if reserved == 0 || fats != 2 {
        return Err((
            14,
            format!("{reserved} reserved sectors and {fats} tables, expected 1 and 2"),
        ));
    }
    let sectors = if half(19) == 0 { word(32) } else { half(19) };
    let fat = if half(22) == 0 { word(36) } else { half(22) };
    let before = reserved + 2 * fat + (root_entries * 32).div_ceil(512);
    let clusters = match sectors.checked_sub(before) {
        Some(data) if fat > 0 => data / cluster,
        _ => {
            return Err((32, format!("{sectors} sectors, of which {before} come before the data")));
        }
    };
    // The number of clusters alone decides ("FAT Type Determination").
    let kind = match clusters {
        0..=4084 => Kind::Fat12,
        4085..=65_524 => Kind::Fat16,
        _ => Kind::Fat32,
    };
    if (kind == Kind::Fat32) != (half(22) == 0) || kind.table_sectors(clusters) > fat {
        return Err((22, format!("{clusters} clusters do not suit tables of {fat} sectors")));
    }
    let extended = if kind == Kind::Fat32 { 64 } else { 36 };
    Ok(Parsed {
        geometry: Geometry { kind, sectors, reserved, fat, root_entries, cluster, clusters },
        root_cluster: if kind == Kind::Fat32 { narrow32(word(44)) } else { 0 },
        volume_id: narrow32(word(extended + 3)),
        hidden_sectors: narrow32(word(28)),
        label: array(sector, extended + 7).unwrap_or_default(),
        oem: array(sector, 3).unwrap_or_default(),
        fsinfo: if kind == Kind::Fat32 { half(48) } else { 0 },
    })
}
