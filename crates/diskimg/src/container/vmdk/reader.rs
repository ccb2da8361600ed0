//! Hosted sparse extents in one file, with grains as they are or compressed.

use std::io::{Read, Seek};

use super::{AT_END, COMPRESSED, MARKERS, MAX_LEN};
use crate::container::codec::{Unpacker, Wrapping};
use crate::container::source::{BlockSource, check_range, read_exact_at};
use crate::field::{array, index, u16_le, u32_le, u64_le};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

pub(crate) struct Reader<R> {
    reader: R,
    file_len: u64,
    len: u64,
    /// Bytes of a grain.
    grain: u64,
    gtes: u64,
    /// Where the grain tables are, in sectors.
    directory: Vec<u32>,
    table: Option<(u32, Vec<u8>)>,
    /// Whether grains are compressed and have a header.
    is_packed: bool,
    unpacker: Unpacker,
    packed: Vec<u8>,
    /// The grain that was decompressed last: its sector and its bytes.
    unpacked: Option<(u64, Vec<u8>)>,
}

fn malformed(offset: u64, reason: impl Into<String>) -> Error {
    Error::malformed("vmdk", offset, reason)
}

impl<R: Read + Seek> Reader<R> {
    pub(crate) fn open(mut reader: R, file_len: u64, limits: &Limits) -> Result<Self> {
        let mut header = [0; 512];
        if file_len < 512 {
            return Err(malformed(file_len, "the image ends inside of its header of 512 bytes"));
        }
        read_exact_at(&mut reader, 0, &mut header)?;
        let word = |at| u32_le(&header, at).unwrap_or(0);
        let number = |at| u64_le(&header, at).unwrap_or(0);
        let (version, flags) = (word(4), word(8));
        if !(1..=3).contains(&version) {
            return Err(Error::unsupported("vmdk", format!("version {version}")));
        }
        let is_packed = flags & COMPRESSED != 0;
        let algorithm = u16_le(&header, 77).unwrap_or(0);
        if algorithm != u16::from(is_packed) {
            return Err(Error::unsupported("vmdk", format!("compression algorithm {algorithm}")));
        }
        if is_packed && flags & MARKERS == 0 {
            return Err(Error::unsupported("vmdk", "compression without markers"));
        }
        if flags & 1 != 0 && array(&header, 73) != Some(*b"\n \r\n") {
            return Err(malformed(73, "the line end check bytes were changed by a text transfer"));
        }
        let (capacity, grain, gtes) = (number(12), number(20), u64::from(word(44)));
        if !(8..=2048).contains(&grain) || !grain.is_power_of_two() {
            return Err(malformed(20, format!("grains of {grain} sectors, expected 8 to 2048")));
        }
        if !(1..=4096).contains(&gtes) {
            return Err(malformed(44, format!("grain tables of {gtes} entries, expected 512")));
        }
        let Some(len) = capacity.checked_mul(SECTOR).filter(|len| *len <= MAX_LEN) else {
            return Err(malformed(12, format!("a capacity of {capacity} sectors")));
        };
        let mut directory_at = number(56);
        if directory_at == AT_END {
            // Footer and the end-of-stream marker are the file's last two sectors.
            let at = file_len.checked_sub(2 * SECTOR).filter(|at| at.is_multiple_of(SECTOR));
            let mut footer = [0; 512];
            if let Some(at) = at {
                read_exact_at(&mut reader, at, &mut footer)?;
            }
            let found = array(&footer, 0) == Some(*super::MAGIC);
            directory_at = u64_le(&footer, 56).filter(|_| found).ok_or_else(|| {
                malformed(at.unwrap_or(0), "no footer is here, the image is cut short")
            })?;
        }
        let tables = capacity.div_ceil(grain * gtes);
        let (found, limit) = (tables * 4, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "vmdk", what: "grain directory", found, limit });
        }
        let grain = grain * SECTOR;
        let mut reader = Self {
            reader,
            file_len,
            len,
            grain,
            gtes,
            directory: Vec::new(),
            table: None,
            is_packed,
            unpacker: Unpacker::default(),
            packed: Vec::new(),
            unpacked: None,
        };
        let mut bytes = vec![0; index(reader.inside("the grain directory", directory_at, found)?)];
        read_exact_at(&mut reader.reader, directory_at.saturating_mul(SECTOR), &mut bytes)?;
        reader.directory = bytes.chunks_exact(4).filter_map(|entry| u32_le(entry, 0)).collect();
        Ok(reader)
    }

    /// The length, when the file has so many bytes from that sector on.
    fn inside(&self, what: &str, sector: u64, len: u64) -> Result<u64> {
        let offset = sector.checked_mul(SECTOR);
        let end = offset.and_then(|offset| offset.checked_add(len));
        if end.is_some_and(|end| end <= self.file_len) {
            return Ok(len);
        }
        let reason = format!(
            "{what} of {len} bytes should be here, but the image is cut short: it has {} bytes",
            self.file_len
        );
        Err(malformed(offset.unwrap_or(u64::MAX), reason))
    }

    /// The sector of a grain in the file; `None` when it is all zeroes.
    fn locate(&mut self, grain: u64) -> Result<Option<u64>> {
        let (table, slot) = (grain / self.gtes, grain % self.gtes);
        let at = self.directory.get(index(table)).copied().unwrap_or(0);
        if at == 0 {
            return Ok(None);
        }
        if self.table.as_ref().is_none_or(|(held, _)| *held != at) {
            let len = self.inside("a grain table", u64::from(at), self.gtes * 4)?;
            let mut bytes = vec![0; index(len)];
            read_exact_at(&mut self.reader, u64::from(at) * SECTOR, &mut bytes)?;
            self.table = Some((at, bytes));
        }
        let entry = self.table.as_ref().and_then(|(_, bytes)| u32_le(bytes, index(slot * 4)));
        // 1 means a grain of zeroes where the header allows it, and would be the descriptor else.
        Ok(entry.filter(|entry| *entry > 1).map(u64::from))
    }
}

impl<R: Read + Seek> Reader<R> {
    /// Whether its grains are compressed.
    pub(crate) fn is_packed(&self) -> bool {
        self.is_packed
    }

    /// Where a compressed grain's data begins and how long it is; its header is checked.
    fn packed_range(&mut self, grain: u64, sector: u64) -> Result<(u64, u64)> {
        self.inside("a grain's marker", sector, 12)?;
        let at = sector * SECTOR;
        let mut marker = [0; 12];
        read_exact_at(&mut self.reader, at, &mut marker)?;
        let (lba, len) = (u64_le(&marker, 0), u64::from(u32_le(&marker, 8).unwrap_or(0)));
        let expected = grain * (self.grain / SECTOR);
        if lba != Some(expected) {
            let found = lba.unwrap_or(0);
            return Err(malformed(at, format!("a grain of LBA {found}, expected {expected}")));
        }
        // Deflate makes nothing much longer.
        if len == 0 || len > self.grain * 2 {
            return Err(malformed(at + 8, format!("a compressed grain of {len} bytes")));
        }
        self.inside("a compressed grain", sector, 12 + len)?;
        Ok((at + 12, len))
    }

    /// The bytes of a compressed grain.
    fn unpack(&mut self, grain: u64, sector: u64) -> Result<&[u8]> {
        if self.unpacked.as_ref().is_none_or(|(held, _)| *held != sector) {
            let (at, len) = self.packed_range(grain, sector)?;
            self.packed.resize(index(len), 0);
            read_exact_at(&mut self.reader, at, &mut self.packed)?;
            let (_, mut bytes) = self.unpacked.take().unwrap_or_default();
            bytes.clear();
            bytes.resize(index(self.grain), 0);
            let found = self.unpacker.unpack(Wrapping::Zlib, &self.packed, &mut bytes)?;
            // The disk's last grain may have only what is left of the disk.
            let expected = self.len.saturating_sub(grain * self.grain).min(self.grain);
            match found {
                Ok(found) if found as u64 >= expected => self.unpacked = Some((sector, bytes)),
                Ok(found) => {
                    let reason =
                        format!("a compressed grain has {found} bytes, expected {expected}");
                    return Err(malformed(at, reason));
                }
                Err(error) => return Err(malformed(at, format!("a compressed grain: {error}"))),
            }
        }
        Ok(self.unpacked.as_ref().map(|(_, bytes)| bytes.as_slice()).unwrap_or_default())
    }
}

impl<R: Read + Seek> BlockSource for Reader<R> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range("vmdk disk", offset, buffer.len(), self.len)?;
        let mut position = offset;
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = position % self.grain;
            let count = index(self.grain - within).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            let grain = position / self.grain;
            match self.locate(grain)? {
                Some(sector) if self.is_packed => {
                    let start = index(within);
                    let bytes = self.unpack(grain, sector)?.get(start..start + now.len());
                    if let Some(bytes) = bytes {
                        now.copy_from_slice(bytes);
                    }
                }
                Some(sector) => {
                    self.inside("a grain", sector, within + now.len() as u64)?;
                    read_exact_at(&mut self.reader, sector * SECTOR + within, now)?;
                }
                None => now.fill(0),
            }
            position += count as u64;
            rest = later;
        }
        Ok(())
    }

    fn next_data(&mut self, offset: u64) -> Result<Option<(u64, u64)>> {
        // The disk may end inside of its last grain.
        if offset >= self.len {
            return Ok(None);
        }
        let last = self.len.div_ceil(self.grain);
        let mut grain = offset / self.grain;
        while grain < last {
            if let Some(sector) = self.locate(grain)? {
                let start = (grain * self.grain).max(offset);
                let end = ((grain + 1) * self.grain).min(self.len);
                // What a table promises must be there, also for those who only look at the map.
                if self.is_packed {
                    self.packed_range(grain, sector)?;
                } else {
                    self.inside("a grain", sector, end - grain * self.grain)?;
                }
                return Ok(Some((start, end.saturating_sub(start))));
            }
            grain += 1;
        }
        Ok(None)
    }
}
