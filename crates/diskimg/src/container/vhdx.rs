//! Microsoft's newer format, MS-VHDX ("Virtual Hard Disk v2"). Numbers are little-endian.
//!
//! Written: file identifier, two headers, two region tables, an empty log at 1 MiB, metadata at
//! 2 MiB, the block table at 3 MiB, then blocks in the disk's order, everything at a multiple of
//! 1 MiB.

use std::io::{Read, Seek, Write};

use super::blocks::{BLOCK as STEP, Store};
use super::mapped::{self, Mapped, Shape};
use super::options::Options;
use super::out::Out;
use super::source::{BlockSource, read_exact_at};
use crate::field::{array, index, narrow32, put, u16_le, u32_le, u64_le};
use crate::guid::Guid;
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

pub(crate) const MAGIC: &[u8; 8] = b"vhdxfile";
const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const HEADERS_AT: [u64; 2] = [64 * KIB, 128 * KIB];
const REGIONS_AT: [u64; 2] = [192 * KIB, 256 * KIB];
const HEADER_LEN: usize = 4096;
const TABLE_LEN: usize = 64 << 10;
const LOG_AT: u64 = MIB;
const METADATA_AT: u64 = 2 * MIB;
const BAT_AT: u64 = 3 * MIB;
const MAX_LEN: u64 = 64 << 40;
/// Payload blocks before each entry of a sector bitmap: what 2²³ sectors make, by block size.
const CHUNK: u64 = (1 << 23) * SECTOR;
/// The block is in the file.
const PRESENT: u64 = 6;
/// Some sectors of the block are in the parent.
const PARTIAL: u64 = 7;
const STATE: u64 = 7;
const OFFSET: u64 = !(MIB - 1);

const BAT: Guid = Guid::from_u128(0x2DC27766_F623_4200_9D64_115E9BFD4A08);
const METADATA: Guid = Guid::from_u128(0x8B7CA206_4790_4B9A_B8FE_575F050F886E);
const FILE_PARAMETERS: Guid = Guid::from_u128(0xCAA16737_FA36_4D43_B3B6_33F0AA44E76B);
const DISK_SIZE: Guid = Guid::from_u128(0x2FA54224_CD1B_4876_B211_5DBED83BF4B8);
const DISK_ID: Guid = Guid::from_u128(0xBECA12AB_B2E6_4523_93EF_C309E000C746);
const LOGICAL_SECTOR: Guid = Guid::from_u128(0x8141BF1D_A96F_4709_BA47_F233A8FAAB5F);
const PHYSICAL_SECTOR: Guid = Guid::from_u128(0xCDA348C7_445D_4471_9CC9_E9885251C556);

/// The CRC-32C is the second word of a structure and counts as zero in itself.
fn seal(block: &mut [u8]) {
    put(block, 4, &[0; 4]);
    let sum = crc32c::crc32c(block);
    put(block, 4, &sum.to_le_bytes());
}

fn is_sealed(block: &mut [u8]) -> bool {
    let found = u32_le(block, 4);
    seal(block);
    u32_le(block, 4) == found
}

/// Entries of the block table for so many blocks: theirs, and one after every full chunk.
fn bat_entries(blocks: u64, block: u64) -> u64 {
    blocks + blocks.saturating_sub(1) / (CHUNK / block)
}

/// The table's entry for a block.
fn bat_index(number: u64, block: u64) -> u64 {
    number + number / (CHUNK / block)
}

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    len: u64,
    options: Options,
    block: u64,
    bat: Vec<u64>,
    data_at: u64,
    allocated: u64,
    end: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, options: &Options) -> Result<Self> {
        if len > MAX_LEN {
            return Err(Error::unsupported(
                "vhdx",
                format!("a disk of {len} bytes, more than 64 TiB,"),
            ));
        }
        // As small as the format has them, as long as the table has a million entries at most.
        let mut block = MIB;
        while len.div_ceil(block) > 1 << 20 {
            block *= 2;
        }
        let entries = bat_entries(len.div_ceil(block), block);
        Ok(Self {
            out: Out::new(writer, "write the vhdx image"),
            len: len.next_multiple_of(SECTOR),
            options: options.clone(),
            block,
            bat: vec![0; index(entries)],
            data_at: BAT_AT + (entries * 8).max(1).next_multiple_of(MIB),
            allocated: 0,
            end: 0,
        })
    }

    fn header(&self, sequence: u64) -> Vec<u8> {
        let mut header = vec![0; HEADER_LEN];
        put(&mut header, 0, b"head");
        put(&mut header, 8, &sequence.to_le_bytes());
        put(&mut header, 16, &self.options.seed.guid("vhdx file").to_disk());
        put(&mut header, 32, &self.options.seed.guid("vhdx data").to_disk());
        // The log's identifier stays zero: there is nothing in it. Then the format's version.
        put(&mut header, 66, &1_u16.to_le_bytes());
        put(&mut header, 68, &narrow32(MIB).to_le_bytes());
        put(&mut header, 72, &LOG_AT.to_le_bytes());
        seal(&mut header);
        header
    }

    fn regions(&self) -> Vec<u8> {
        let mut table = vec![0; TABLE_LEN];
        put(&mut table, 0, b"regi");
        put(&mut table, 8, &2_u32.to_le_bytes());
        let regions = [(BAT, BAT_AT, self.data_at - BAT_AT), (METADATA, METADATA_AT, MIB)];
        for (at, (guid, offset, len)) in (16..).step_by(32).zip(regions) {
            put(&mut table, at, &guid.to_disk());
            put(&mut table, at + 16, &offset.to_le_bytes());
            put(&mut table, at + 24, &narrow32(len).to_le_bytes());
            // Who does not know it must not open the file.
            put(&mut table, at + 28, &1_u32.to_le_bytes());
        }
        seal(&mut table);
        table
    }

    fn metadata(&self) -> Vec<u8> {
        let mut parameters = narrow32(self.block).to_le_bytes().to_vec();
        parameters.extend_from_slice(&[0; 4]);
        // 4: required; 2: of the disk, not of the file.
        let items = [
            (FILE_PARAMETERS, parameters, 4_u32),
            (DISK_SIZE, self.len.to_le_bytes().to_vec(), 6),
            (DISK_ID, self.options.seed.guid("vhdx disk").to_disk().to_vec(), 6),
            (LOGICAL_SECTOR, 512_u32.to_le_bytes().to_vec(), 6),
            (PHYSICAL_SECTOR, 4096_u32.to_le_bytes().to_vec(), 6),
        ];
        let mut region = vec![0; TABLE_LEN + 128];
        put(&mut region, 0, b"metadata");
        put(&mut region, 10, &5_u16.to_le_bytes());
        let mut place = TABLE_LEN;
        for (at, (guid, value, flags)) in (32..).step_by(32).zip(items) {
            put(&mut region, at, &guid.to_disk());
            put(&mut region, at + 16, &narrow32(place as u64).to_le_bytes());
            put(&mut region, at + 20, &narrow32(value.len() as u64).to_le_bytes());
            put(&mut region, at + 24, &flags.to_le_bytes());
            put(&mut region, place, &value);
            place += value.len();
        }
        region
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.out.set_len(self.end, self.data_at + self.allocated * self.block)?;
        let mut identifier = MAGIC.to_vec();
        identifier.extend("Kiln".encode_utf16().flat_map(u16::to_le_bytes));
        self.out.write_at(0, &identifier)?;
        for (sequence, at) in (0..).zip(HEADERS_AT) {
            let header = self.header(sequence);
            self.out.write_at(at, &header)?;
        }
        let regions = self.regions();
        for at in REGIONS_AT {
            self.out.write_at(at, &regions)?;
        }
        let metadata = self.metadata();
        self.out.write_at(METADATA_AT, &metadata)?;
        let bat: Vec<u8> = self.bat.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        self.out.write_at(BAT_AT, &bat)?;
        self.out.finish().map_err(Error::io("write the vhdx image"))
    }
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        for (block, within, part) in mapped::parts(block * STEP, bytes, self.block) {
            let Some(entry) = self.bat.get_mut(index(bat_index(block, self.block))) else {
                continue;
            };
            if *entry == 0 {
                *entry = (self.data_at + self.allocated * self.block) | PRESENT;
                self.allocated += 1;
            }
            let at = (*entry & OFFSET) + within;
            self.out.write_at(at, part)?;
            self.end = at + part.len() as u64;
        }
        Ok(())
    }
}

pub(crate) struct Reader<R> {
    reader: R,
    shape: Shape,
    bat: Vec<u8>,
}

fn malformed(at: u64, reason: impl Into<String>) -> Error {
    Error::malformed("vhdx", at, reason)
}

/// A region of the file, in bytes.
#[derive(Debug, Clone, Copy)]
struct Region {
    at: u64,
    len: u64,
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let mut shape = Shape { format: "vhdx", file_len, len: 0, block: MIB };
        shape.inside("headers and region tables", 0, REGIONS_AT[1] + TABLE_LEN as u64)?;
        let mut current: Option<(u64, Vec<u8>)> = None;
        for at in HEADERS_AT {
            let mut header = vec![0; HEADER_LEN];
            read_exact_at(&mut reader, at, &mut header)?;
            let sequence = u64_le(&header, 8).unwrap_or(0);
            let newer = current.as_ref().is_none_or(|(held, _)| sequence > *held);
            if header.starts_with(b"head") && is_sealed(&mut header) && newer {
                current = Some((sequence, header));
            }
        }
        let Some((_, header)) = current else {
            return Err(malformed(HEADERS_AT[0], "neither header has a checksum that matches"));
        };
        if u16_le(&header, 66) != Some(1) {
            return Err(Error::unsupported("vhdx", "a version other than 1"));
        }
        if array(&header, 48) != Some([0; 16]) {
            return Err(Error::unsupported("vhdx", "a log that has to be replayed"));
        }
        let (bat, metadata) = Self::regions(&mut reader, shape)?;
        Self::metadata(&mut reader, &mut shape, metadata)?;
        let entries = bat_entries(shape.len.div_ceil(shape.block), shape.block);
        let (found, limit) = (entries * 8, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "vhdx", what: "block table", found, limit });
        }
        if found > bat.len {
            let reason = format!("a block table of {} bytes, expected {found}", bat.len);
            return Err(malformed(bat.at, reason));
        }
        let mut table = vec![0; index(shape.inside("the block table", bat.at, found)?)];
        read_exact_at(&mut reader, bat.at, &mut table)?;
        Ok(Self { reader, shape, bat: table })
    }

    /// Block table and metadata, from the first region table that is whole.
    fn regions(reader: &mut R, shape: Shape) -> Result<(Region, Region)> {
        let mut table = vec![0; TABLE_LEN];
        let mut found = false;
        for at in REGIONS_AT {
            read_exact_at(reader, at, &mut table)?;
            found = table.starts_with(b"regi") && is_sealed(&mut table);
            if found {
                break;
            }
        }
        if !found {
            let reason = "neither region table has a checksum that matches";
            return Err(malformed(REGIONS_AT[0], reason));
        }
        let (mut bat, mut metadata) = (None, None);
        let count = u32_le(&table, 8).unwrap_or(0).min(2047) as usize;
        for entry in table.get(16..).unwrap_or_default().chunks_exact(32).take(count) {
            let guid = Guid::from_disk(array(entry, 0).unwrap_or_default());
            let at = u64_le(entry, 16).unwrap_or(0);
            let region = Region { at, len: u64::from(u32_le(entry, 24).unwrap_or(0)) };
            match guid {
                BAT => bat = Some(region),
                METADATA => metadata = Some(region),
                _ if u32_le(entry, 28).unwrap_or(0) & 1 != 0 => {
                    return Err(Error::unsupported("vhdx", format!("the required region {guid}")));
                }
                _ => {}
            }
        }
        let missing = || malformed(REGIONS_AT[0], "block table or metadata are missing");
        let (bat, metadata) = (bat.ok_or_else(missing)?, metadata.ok_or_else(missing)?);
        shape.inside("the metadata", metadata.at, metadata.len.max(TABLE_LEN as u64))?;
        Ok((bat, metadata))
    }

    /// Reads the disk's length and its blocks'.
    fn metadata(reader: &mut R, shape: &mut Shape, region: Region) -> Result<()> {
        let mut table = vec![0; TABLE_LEN];
        read_exact_at(reader, region.at, &mut table)?;
        if !table.starts_with(b"metadata") {
            return Err(malformed(region.at, "this is no metadata table"));
        }
        let count = usize::from(u16_le(&table, 10).unwrap_or(0)).min(2047);
        let (mut block, mut len, mut sector) = (None, None, None);
        for entry in table.get(32..).unwrap_or_default().chunks_exact(32).take(count) {
            let guid = Guid::from_disk(array(entry, 0).unwrap_or_default());
            let at = u64::from(u32_le(entry, 16).unwrap_or(0)) + region.at;
            let mut value = [0; 8];
            let wanted = match guid {
                FILE_PARAMETERS | DISK_SIZE => 8,
                LOGICAL_SECTOR => 4,
                DISK_ID | PHYSICAL_SECTOR => continue,
                _ if u32_le(entry, 24).unwrap_or(0) & 4 != 0 => {
                    return Err(Error::unsupported("vhdx", format!("the required item {guid}")));
                }
                _ => continue,
            };
            shape.inside("a metadata item", at, wanted)?;
            read_exact_at(reader, at, value.get_mut(..index(wanted)).unwrap_or_default())?;
            match guid {
                FILE_PARAMETERS => {
                    if u32_le(&value, 4).unwrap_or(0) & 2 != 0 {
                        return Err(Error::unsupported("vhdx", "a parent image"));
                    }
                    block = u32_le(&value, 0).map(u64::from);
                }
                DISK_SIZE => len = u64_le(&value, 0),
                _ => sector = u32_le(&value, 0).map(u64::from),
            }
        }
        let sector = sector.unwrap_or(SECTOR);
        if sector != SECTOR {
            return Err(Error::unsupported("vhdx", format!("sectors of {sector} bytes")));
        }
        let block = block.filter(|it| it.is_power_of_two() && (MIB..=256 * MIB).contains(it));
        shape.block = block.ok_or_else(|| malformed(region.at, "no block size of 1 to 256 MiB"))?;
        let len = len.filter(|len| *len <= MAX_LEN && len.is_multiple_of(SECTOR));
        shape.len = len.ok_or_else(|| malformed(region.at, "no disk size up to 64 TiB"))?;
        Ok(())
    }
}

impl<R: Read + Seek> Mapped for Reader<R> {
    type File = R;

    fn shape(&self) -> Shape {
        self.shape
    }

    fn file(&mut self) -> &mut R {
        &mut self.reader
    }

    fn locate(&mut self, block: u64) -> Result<Option<u64>> {
        let at = index(bat_index(block, self.shape.block).saturating_mul(8));
        let entry = u64_le(&self.bat, at).unwrap_or(0);
        match entry & STATE {
            PRESENT => Ok(Some(entry & OFFSET)),
            PARTIAL => Err(Error::unsupported("vhdx", "a block that is partly the parent's")),
            _ => Ok(None),
        }
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.shape.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        mapped::read_at(self, offset, buffer)
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        mapped::next_data(self, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_an_entry_more_after_each_chunk() {
        // 4096 blocks of 1 MiB to a chunk.
        assert_eq!((bat_entries(4096, MIB), bat_entries(4097, MIB)), (4096, 4098));
        assert_eq!((bat_index(4095, MIB), bat_index(4096, MIB)), (4095, 4097));
    }
}
