//! Microsoft's Virtual Hard Disk, "Virtual Hard Disk Image Format Specification", version 1.0. Numbers
//! are big-endian.
//!
//! Written dynamic: copy of the footer, dynamic header, block table, blocks of 2 MiB in the disk's
//! order with a sector before each that says which of its sectors are there (all), footer. Blocks
//! begin so that their data is at a multiple of 4 KiB. Written fixed: the disk, then the footer; the
//! disk is filled up to a whole number of MiB, without which Azure refuses it.

use std::io::{Read, Seek, SeekFrom, Write};

use super::blocks::{BLOCK as STEP, Store};
use super::mapped::{self, Mapped, Shape};
use super::options::Options;
use super::out::Out;
use super::source::{BlockSource, check_range, read_exact_at};
use crate::field::{index, narrow16, narrow32, put, u32_be, u64_be};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

pub(crate) const COOKIE: &[u8; 8] = b"conectix";
const DYNAMIC_COOKIE: &[u8; 8] = b"cxsparse";
const VERSION: u32 = 0x0001_0000;
const FIXED: u32 = 2;
const DYNAMIC: u32 = 3;
const BLOCK: u64 = 2 << 20;
const TABLE_AT: u64 = 1536;
const UNALLOCATED: u32 = 0xffff_ffff;
/// What a block takes: its bitmap's sector, its data, and what aligns the next one.
const STRIDE: u64 = BLOCK + 4096;
/// 2040 GiB: beyond it sectors no longer fit into the block table.
const MAX_LEN: u64 = 0xff00_0000 * SECTOR;
/// Seconds from 1970 to 2000, the format's epoch.
const EPOCH: u64 = 946_684_800;
/// What Azure counts in.
const MIB: u64 = 1 << 20;

/// The ones' complement of the sum of all bytes, the field itself taken as zero.
fn checksum(block: &[u8], field: usize) -> u32 {
    let field = field..field.saturating_add(4);
    let bytes = block.iter().enumerate().filter(|(at, _)| !field.contains(at));
    !bytes.fold(0_u32, |sum, (_, byte)| sum.wrapping_add(u32::from(*byte)))
}

/// Cylinders, heads and sectors per track: the specification's appendix.
fn geometry(sectors: u64) -> (u16, u8, u8) {
    let sectors = sectors.min(65_535 * 16 * 255);
    let (mut heads, mut per_track, mut tracks);
    if sectors >= 65_535 * 16 * 63 {
        (heads, per_track, tracks) = (16, 255, sectors / 255);
    } else {
        (per_track, tracks) = (17, sectors / 17);
        heads = tracks.div_ceil(1024).max(4);
        if tracks >= heads * 1024 || heads > 16 {
            (heads, per_track, tracks) = (16, 31, sectors / 31);
        }
        if tracks >= heads * 1024 {
            (heads, per_track, tracks) = (16, 63, sectors / 63);
        }
    }
    let byte = |value| u8::try_from(value).unwrap_or(u8::MAX);
    (narrow16(tracks / heads), byte(heads), byte(per_track))
}

fn footer(len: u64, kind: u32, options: &Options) -> [u8; 512] {
    let mut footer = [0; 512];
    put(&mut footer, 0, COOKIE);
    // Reserved, always set.
    put(&mut footer, 8, &2_u32.to_be_bytes());
    put(&mut footer, 12, &VERSION.to_be_bytes());
    let header_at = if kind == FIXED { u64::MAX } else { 512 };
    put(&mut footer, 16, &header_at.to_be_bytes());
    let created = narrow32(options.created.saturating_sub(EPOCH));
    put(&mut footer, 24, &created.to_be_bytes());
    // Hyper-V's name: readers take the length below from its images, and the geometry from others'.
    put(&mut footer, 28, b"win ");
    put(&mut footer, 32, &0x000a_0000_u32.to_be_bytes());
    put(&mut footer, 36, b"Wi2k");
    put(&mut footer, 40, &len.to_be_bytes());
    put(&mut footer, 48, &len.to_be_bytes());
    let (cylinders, heads, sectors) = geometry(len / SECTOR);
    put(&mut footer, 56, &cylinders.to_be_bytes());
    put(&mut footer, 58, &[heads, sectors]);
    put(&mut footer, 60, &kind.to_be_bytes());
    put(&mut footer, 68, &options.seed.guid("vhd").0);
    let sum = checksum(&footer, 64);
    put(&mut footer, 64, &sum.to_be_bytes());
    footer
}

fn io(source: std::io::Error) -> Error {
    Error::io("write the vhd image")(source)
}

fn check_len(len: u64) -> Result<()> {
    if len > MAX_LEN {
        return Err(Error::unsupported(
            "vhd",
            format!("a disk of {len} bytes, more than 2040 GiB,"),
        ));
    }
    Ok(())
}

/// Makes a fixed image of the raw one in `raw`, which has `len` bytes.
pub(crate) fn finish_fixed<W: Write + Seek>(
    raw: super::raw::Writer<W>,
    len: u64,
    options: &Options,
) -> Result<W> {
    let whole = len.next_multiple_of(MIB);
    check_len(whole)?;
    let mut writer = raw.finish(len)?;
    writer.seek(SeekFrom::Start(whole)).map_err(io)?;
    writer.write_all(&footer(whole, FIXED, options)).map_err(io)?;
    writer.flush().map_err(io)?;
    Ok(writer)
}

pub(crate) struct Writer<W: Write> {
    out: Out<W>,
    len: u64,
    options: Options,
    /// First sector of the first block's bitmap.
    first: u64,
    table: Vec<u32>,
    allocated: u64,
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(writer: W, len: u64, options: &Options) -> Result<Self> {
        check_len(len)?;
        let blocks = len.div_ceil(BLOCK);
        let table = (blocks * 4).next_multiple_of(SECTOR);
        // One sector before a multiple of 4 KiB.
        let first = ((TABLE_AT + table + SECTOR).next_multiple_of(4096) - SECTOR) / SECTOR;
        Ok(Self {
            out: Out::new(writer, "write the vhd image"),
            len: len.next_multiple_of(SECTOR),
            options: options.clone(),
            first,
            table: vec![UNALLOCATED; index(blocks)],
            allocated: 0,
        })
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        let end = self.first * SECTOR + self.allocated * STRIDE;
        let footer = footer(self.len, DYNAMIC, &self.options);
        self.out.write_at(end, &footer)?;
        let mut header = [0; 1024];
        put(&mut header, 0, DYNAMIC_COOKIE);
        put(&mut header, 8, &u64::MAX.to_be_bytes());
        put(&mut header, 16, &TABLE_AT.to_be_bytes());
        put(&mut header, 24, &VERSION.to_be_bytes());
        put(&mut header, 28, &narrow32(self.table.len() as u64).to_be_bytes());
        put(&mut header, 32, &narrow32(BLOCK).to_be_bytes());
        let sum = checksum(&header, 36);
        put(&mut header, 36, &sum.to_be_bytes());
        self.out.write_at(0, &footer)?;
        self.out.write(&header)?;
        let mut table: Vec<u8> = self.table.iter().flat_map(|entry| entry.to_be_bytes()).collect();
        // Entries that no block has are unused as well.
        table.resize(table.len().next_multiple_of(512), 0xff);
        self.out.write(&table)?;
        self.out.finish().map_err(io)
    }
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        for (block, within, part) in mapped::parts(block * STEP, bytes, BLOCK) {
            let Some(entry) = self.table.get_mut(index(block)) else { continue };
            if *entry == UNALLOCATED {
                let sector = self.first + self.allocated * (STRIDE / SECTOR);
                *entry = narrow32(sector);
                self.allocated += 1;
                self.out.write_at(sector * SECTOR, &[0xff; 512])?;
            }
            let at = (u64::from(*entry) + 1) * SECTOR + within;
            self.out.write_at(at, part)?;
        }
        Ok(())
    }
}

/// The length of the disk in a fixed image; `None` when there is no footer at the file's end that
/// says so.
pub(crate) fn fixed_len(reader: &mut (impl Read + Seek), file_len: u64) -> Result<Option<u64>> {
    let Some(disk) = file_len.checked_sub(512) else { return Ok(None) };
    let mut footer = [0; 512];
    read_exact_at(reader, disk, &mut footer)?;
    let is_fixed = footer.starts_with(COOKIE)
        && u32_be(&footer, 60) == Some(FIXED)
        && u32_be(&footer, 64) == Some(checksum(&footer, 64))
        && u64_be(&footer, 48) == Some(disk);
    Ok(is_fixed.then_some(disk))
}

pub(crate) struct Reader<R> {
    reader: R,
    shape: Shape,
    table: Vec<u8>,
    /// The bitmap that was read last: its sector and its bits.
    bitmap: Option<(u64, Vec<u8>)>,
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let malformed = |at, reason: String| Error::malformed("vhd", at, reason);
        let mut shape = Shape { format: "vhd", file_len, len: 0, block: BLOCK };
        shape.inside("the copy of the footer", 0, 512)?;
        let mut footer = [0; 512];
        read_exact_at(&mut reader, 0, &mut footer)?;
        if u32_be(&footer, 64) != Some(checksum(&footer, 64)) {
            return Err(malformed(64, "the footer's checksum does not match".to_owned()));
        }
        let kind = u32_be(&footer, 60).unwrap_or(0);
        if kind != DYNAMIC {
            return Err(Error::unsupported("vhd", format!("disk type {kind}")));
        }
        // Writers put it last, so that its absence tells an image that was cut short.
        let mut last = [0; 8];
        let end = file_len.saturating_sub(512);
        read_exact_at(&mut reader, end, &mut last)?;
        if last != *COOKIE {
            let reason = "no footer is here, the image is cut short".to_owned();
            return Err(malformed(end, reason));
        }
        shape.len = u64_be(&footer, 48).unwrap_or(0);
        if shape.len > MAX_LEN {
            return Err(malformed(48, format!("a disk of {} bytes", shape.len)));
        }
        let header_at = u64_be(&footer, 16).unwrap_or(0);
        shape.inside("the dynamic header", header_at, 1024)?;
        let mut header = [0; 1024];
        read_exact_at(&mut reader, header_at, &mut header)?;
        if !header.starts_with(DYNAMIC_COOKIE) || u32_be(&header, 36) != Some(checksum(&header, 36))
        {
            return Err(malformed(header_at, "this is no dynamic header".to_owned()));
        }
        let blocks = u64::from(u32_be(&header, 28).unwrap_or(0));
        shape.block = u64::from(u32_be(&header, 32).unwrap_or(0));
        if !shape.block.is_power_of_two() || !(4096..=256 << 20).contains(&shape.block) {
            let reason = format!("blocks of {} bytes, expected 2097152", shape.block);
            return Err(malformed(header_at + 32, reason));
        }
        let needed = shape.len.div_ceil(shape.block);
        if blocks < needed {
            let reason = format!("{blocks} blocks do not hold a disk of {} bytes", shape.len);
            return Err(malformed(header_at + 28, reason));
        }
        let (found, limit) = (needed * 4, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "vhd", what: "block table", found, limit });
        }
        let table_at = u64_be(&header, 16).unwrap_or(0);
        let mut table = vec![0; index(shape.inside("the block table", table_at, found)?)];
        read_exact_at(&mut reader, table_at, &mut table)?;
        Ok(Self { reader, shape, table, bitmap: None })
    }

    /// Bytes of a block's bitmap, whole sectors.
    fn bitmap_len(&self) -> u64 {
        (self.shape.block / SECTOR).div_ceil(8).next_multiple_of(SECTOR)
    }

    fn entry(&self, block: u64) -> Option<u64> {
        u32_be(&self.table, index(block.saturating_mul(4)))
            .filter(|entry| *entry != UNALLOCATED)
            .map(u64::from)
    }

    /// Sets those of a block's sectors to zero that its bitmap does not have.
    fn clear_absent(&mut self, entry: u64, within: u64, bytes: &mut [u8]) -> Result<()> {
        if self.bitmap.as_ref().is_none_or(|(held, _)| *held != entry) {
            let at = entry * SECTOR;
            let len = self.shape.inside("a block's bitmap", at, self.bitmap_len())?;
            let mut bits = vec![0; index(len)];
            read_exact_at(&mut self.reader, at, &mut bits)?;
            self.bitmap = Some((entry, bits));
        }
        let bits = self.bitmap.as_ref().map(|(_, bits)| bits.as_slice()).unwrap_or_default();
        for (sector, _, part) in parts_mut(within, bytes) {
            let bit = 0x80 >> (sector % 8);
            if bits.get(index(sector / 8)).is_none_or(|byte| byte & bit == 0) {
                part.fill(0);
            }
        }
        Ok(())
    }
}

/// Cuts bytes where a sector ends: its number, where in it, and the bytes.
fn parts_mut(start: u64, bytes: &mut [u8]) -> impl Iterator<Item = (u64, u64, &mut [u8])> {
    let mut position = start;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (sector, within) = (position / SECTOR, position % SECTOR);
        let count = index(SECTOR - within).min(rest.len());
        let (now, later) = std::mem::take(&mut rest).split_at_mut(count);
        position += now.len() as u64;
        rest = later;
        Some((sector, within, now))
    })
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
        Ok(self.entry(block).map(|entry| entry * SECTOR + self.bitmap_len()))
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.shape.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("vhd", offset, buffer.len(), self.shape.len)?;
        let block = self.shape.block;
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = position % block;
            let count = index(block - within).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            mapped::read_at(self, position, now)?;
            if let Some(entry) = self.entry(position / block) {
                self.clear_absent(entry, within, now)?;
            }
            position += count as u64;
            rest = later;
        }
        Ok(())
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        mapped::next_data(self, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn geometries_of_the_specification() {
        // What QEMU's calculate_geometry gives for a few lengths in sectors.
        assert_eq!(geometry(65_536), (963, 4, 17));
        assert_eq!(geometry(2_097_152), (2080, 16, 63));
        assert_eq!(geometry(u64::MAX), (65_535, 16, 255));
    }
}
