//! VMware's hosted sparse extent in one file with its descriptor inside (`monolithicSparse`),
//! "Virtual Disk Format 5.0", chapter "Hosted Sparse Extents". Numbers are little-endian, lengths
//! and places in sectors.
//!
//! Written: header, descriptor, redundant grain directory with its tables, grain directory with its
//! tables, then grains of 64 KiB in the disk's order. Both directories have tables of their own, as
//! VMware makes them.

use std::io::{Read, Seek, SeekFrom, Write};

use super::blocks::{BLOCK, Store};
use super::source::{BlockSource, check_range, read_exact_at};
use crate::field::{array, index, narrow32, put, u16_le, u32_le, u64_le};
use crate::units::SECTOR;
use crate::{Error, Limits, Result};

pub(crate) const MAGIC: &[u8; 4] = b"KDMV";
const GRAIN: u64 = BLOCK / SECTOR;
/// Entries of a grain table: one covers 32 MiB.
const GTES: u64 = 512;
const GT_SECTORS: u64 = GTES * 4 / SECTOR;
const DESCRIPTOR_AT: u64 = 1;
const DESCRIPTOR_SECTORS: u64 = 20;
/// Bit 0: the newline check bytes are valid; bit 1: the redundant tables are used.
const FLAGS: u32 = 0b11;
const COMPRESSED: u32 = 1 << 16;
/// What other tools accept at most; beyond it places no longer fit into 32 bits.
const MAX_LEN: u64 = 2 << 40;

/// Where things are in a file for a disk of so many grains, in sectors.
#[derive(Debug, Clone, Copy)]
struct Places {
    tables: u64,
    rgd: u64,
    gd: u64,
    data: u64,
}

impl Places {
    fn new(capacity: u64) -> Self {
        let tables = capacity.div_ceil(GRAIN * GTES);
        let directory = (tables * 4).div_ceil(SECTOR);
        let rgd = DESCRIPTOR_AT + DESCRIPTOR_SECTORS;
        let gd = rgd + directory + tables * GT_SECTORS;
        let end = gd + directory + tables * GT_SECTORS;
        Self { tables, rgd, gd, data: end.next_multiple_of(GRAIN) }
    }

    /// First sector of a table of the directory that begins there.
    fn table(self, directory: u64, table: u64) -> u64 {
        directory + (self.tables * 4).div_ceil(SECTOR) + table * GT_SECTORS
    }
}

pub(crate) struct Writer<W> {
    writer: W,
    len: u64,
    places: Places,
    /// Next free sector.
    next: u64,
    /// The grain table in the making: its number and its entries.
    table: Option<(u64, Vec<u8>)>,
}

fn io(source: std::io::Error) -> Error {
    Error::io("write the vmdk image")(source)
}

impl<W: Write + Seek> Writer<W> {
    pub(crate) fn new(mut writer: W, len: u64) -> Result<Self> {
        if len > MAX_LEN {
            let what = format!("a sparse disk of {len} bytes, more than 2 TiB,");
            return Err(Error::unsupported("vmdk", what));
        }
        let places = Places::new(len.div_ceil(SECTOR));
        writer.seek(SeekFrom::Start(places.data * SECTOR)).map_err(io)?;
        Ok(Self { writer, len, places, next: places.data, table: None })
    }

    fn write_at(&mut self, sector: u64, bytes: &[u8]) -> Result<()> {
        self.writer.seek(SeekFrom::Start(sector * SECTOR)).map_err(io)?;
        self.writer.write_all(bytes).map_err(io)
    }

    /// Writes the table to both places and comes back to the grains.
    fn finish_table(&mut self) -> Result<()> {
        if let Some((number, entries)) = self.table.take() {
            for directory in [self.places.rgd, self.places.gd] {
                self.write_at(self.places.table(directory, number), &entries)?;
            }
            self.writer.seek(SeekFrom::Start(self.next * SECTOR)).map_err(io)?;
        }
        Ok(())
    }

    pub(crate) fn finish(mut self) -> Result<W> {
        self.finish_table()?;
        let places = self.places;
        for start in [places.rgd, places.gd] {
            let directory: Vec<u8> = (0..places.tables)
                .flat_map(|table| narrow32(places.table(start, table)).to_le_bytes())
                .collect();
            self.write_at(start, &directory)?;
        }
        if self.next == places.data {
            // Without a grain the file would end inside of its tables.
            self.write_at(places.data - 1, &[0; 512])?;
        }
        let capacity = self.len.div_ceil(SECTOR);
        let mut head = vec![0; index((DESCRIPTOR_AT + DESCRIPTOR_SECTORS) * SECTOR)];
        put(&mut head, 0, MAGIC);
        put(&mut head, 4, &1_u32.to_le_bytes());
        put(&mut head, 8, &FLAGS.to_le_bytes());
        put(&mut head, 12, &capacity.to_le_bytes());
        put(&mut head, 20, &GRAIN.to_le_bytes());
        put(&mut head, 28, &DESCRIPTOR_AT.to_le_bytes());
        put(&mut head, 36, &DESCRIPTOR_SECTORS.to_le_bytes());
        put(&mut head, 44, &narrow32(GTES).to_le_bytes());
        put(&mut head, 48, &places.rgd.to_le_bytes());
        put(&mut head, 56, &places.gd.to_le_bytes());
        put(&mut head, 64, &places.data.to_le_bytes());
        // A transfer that changed line ends would change these.
        put(&mut head, 73, b"\n \r\n");
        put(&mut head, index(DESCRIPTOR_AT * SECTOR), descriptor(capacity).as_bytes());
        self.write_at(0, &head)?;
        self.writer.flush().map_err(io)?;
        Ok(self.writer)
    }
}

/// The text that describes the disk. The content identifier is fixed: it only has to differ from
/// `ffffffff` ("no parent") and to change when a base disk is changed.
fn descriptor(capacity: u64) -> String {
    let (heads, sectors) = (16, 63);
    let cylinders = (capacity / (heads * sectors)).min(16_383);
    format!(
        "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID=ffffffff\n\
         createType=\"monolithicSparse\"\n\n# Extent description\n\
         RW {capacity} SPARSE \"disk.vmdk\"\n\n# The Disk Data Base\n#DDB\n\n\
         ddb.virtualHWVersion = \"4\"\nddb.geometry.cylinders = \"{cylinders}\"\n\
         ddb.geometry.heads = \"{heads}\"\nddb.geometry.sectors = \"{sectors}\"\n\
         ddb.adapterType = \"ide\"\n"
    )
}

impl<W: Write + Seek> Store for Writer<W> {
    fn put(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let (mut block, mut bytes) = (block, bytes);
        while !bytes.is_empty() {
            let number = block / GTES;
            if self.table.as_ref().is_some_and(|(at, _)| *at != number) {
                self.finish_table()?;
            }
            let room = index(((number + 1) * GTES - block) * BLOCK);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let grains = (now.len() as u64).div_ceil(BLOCK);
            let (_, entries) = self.table.get_or_insert_with(|| (number, vec![0; index(GTES * 4)]));
            for grain in 0..grains {
                let at = index((block + grain) % GTES * 4);
                put(entries, at, &narrow32(self.next + grain * GRAIN).to_le_bytes());
            }
            self.writer.write_all(now).map_err(io)?;
            let padding = grains * BLOCK - now.len() as u64;
            self.writer.write_all(&vec![0; index(padding)]).map_err(io)?;
            self.next += grains * GRAIN;
            block += grains;
            bytes = later;
        }
        Ok(())
    }
}

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
        if flags & COMPRESSED != 0 || u16_le(&header, 77).unwrap_or(0) != 0 {
            return Err(Error::unsupported("vmdk", "a compressed (stream-optimized) extent"));
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
        let directory_at = number(56);
        let tables = capacity.div_ceil(grain * gtes);
        let (found, limit) = (tables * 4, limits.tables);
        if found > limit {
            return Err(Error::Limit { format: "vmdk", what: "grain directory", found, limit });
        }
        let grain = grain * SECTOR;
        let mut reader =
            Self { reader, file_len, len, grain, gtes, directory: Vec::new(), table: None };
        let mut bytes = vec![0; index(reader.inside("the grain directory", directory_at, found)?)];
        read_exact_at(&mut reader.reader, directory_at * SECTOR, &mut bytes)?;
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
            match self.locate(position / self.grain)? {
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
                self.inside("a grain", sector, end - grain * self.grain)?;
                return Ok(Some((start, end.saturating_sub(start))));
            }
            grain += 1;
        }
        Ok(None)
    }
}
